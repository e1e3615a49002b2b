//! Fields that somebody applied before and applies no more: server-side apply removes them. Pure.
//!
//! Reads `metadata.managedFields` (FieldsV1, structured-merge-diff): `f:name` is a field, `k:{…}` the entry of a list with
//! these keys, `v:…` a value in a list that is a set.

use serde_json::Value;

/// The way to a field, as FieldsV1 writes its steps.
pub type Path = Vec<String>;

/// What `manager` has applied to `live`, and is in `applied` no more. What somebody else has set too stays, and is
/// not among them.
pub fn no_longer_applied(live: &Value, manager: &str, applied: &Value) -> Vec<Path> {
    let entries = || {
        live["metadata"]["managedFields"]
            .as_array()
            .into_iter()
            .flatten()
    };
    let is_ours = |entry: &Value| {
        entry["manager"] == manager
            && entry["operation"] == "Apply"
            && entry["subresource"].is_null()
    };
    let mut found = Vec::new();
    for entry in entries().filter(|entry| is_ours(entry)) {
        walk(&entry["fieldsV1"], applied, &mut Vec::new(), &mut found);
    }
    let others: Vec<&Value> = entries()
        .filter(|entry| !is_ours(entry))
        .map(|entry| &entry["fieldsV1"])
        .collect();
    found.retain(|path| !others.iter().any(|fields| has(fields, path)));
    found.sort();
    found
}

fn walk(fields: &Value, applied: &Value, path: &mut Path, found: &mut Vec<Path>) {
    for (step, below) in fields.as_object().into_iter().flatten() {
        if step == "." {
            continue;
        }
        path.push(step.clone());
        let has_parts = below
            .as_object()
            .is_some_and(|below| below.keys().any(|step| step != "."));
        match at(applied, step) {
            Some(value) => walk(below, value, path, found),
            // Part by part: some may have another owner, who keeps them. An entry of a list is one thing.
            None if has_parts && step.starts_with("f:") => {
                walk(below, &Value::Null, path, found);
            }
            None => found.push(path.clone()),
        }
        path.pop();
    }
}

fn at<'a>(value: &'a Value, step: &str) -> Option<&'a Value> {
    let (kind, rest) = step.split_once(':')?;
    let found = match kind {
        "f" => value.get(rest),
        "k" => {
            let keys: Value = serde_json::from_str(rest).ok()?;
            let has_keys = |entry: &&Value| {
                let mut keys = keys.as_object().into_iter().flatten();
                keys.all(|(key, wanted)| entry.get(key) == Some(wanted))
            };
            value.as_array()?.iter().find(has_keys)
        }
        _ => {
            let wanted: Value = serde_json::from_str(rest).ok()?;
            value.as_array()?.iter().find(|entry| **entry == wanted)
        }
    };
    found.filter(|value| !value.is_null())
}

fn has(fields: &Value, path: &Path) -> bool {
    let end = path
        .iter()
        .try_fold(fields, |fields, step| fields.get(step));
    end.is_some()
}

/// As people write it: `spec.containers[name=gateway].env`.
pub fn written(path: &Path) -> String {
    let mut text = String::new();
    for step in path {
        match step.split_once(':') {
            Some(("f", name)) if text.is_empty() => text.push_str(name),
            Some(("f", name)) => {
                text.push('.');
                text.push_str(name);
            }
            Some((_, keys)) => {
                let keys: Value = serde_json::from_str(keys).unwrap_or_default();
                let inside: Vec<String> = match &keys {
                    Value::Object(keys) => {
                        let keys = keys.iter();
                        keys.map(|(key, value)| format!("{key}={}", plain(value)))
                            .collect()
                    }
                    value => vec![plain(value)],
                };
                text.push_str(&format!("[{}]", inside.join(",")));
            }
            None => text.push_str(step),
        }
    }
    text
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Takes the field away. Entries of lists stay: the lists of a PushCluster are applied as a whole.
pub fn remove(value: &mut Value, path: &Path) {
    let Some((last, before)) = path.split_last() else {
        return;
    };
    let name = |step: &'_ String| step.strip_prefix("f:").map(str::to_owned);
    let mut inner = value;
    for step in before {
        match name(step).and_then(|name| inner.get_mut(name)) {
            Some(next) => inner = next,
            None => return,
        }
    }
    if let (Some(name), Some(fields)) = (name(last), inner.as_object_mut()) {
        fields.remove(&name);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn live() -> Value {
        json!({"metadata": {"managedFields": [
            {"manager": "us", "operation": "Apply", "fieldsV1": {
                "f:metadata": {"f:labels": {"f:a": {}, "f:shared": {}}},
                "f:spec": {"f:replicas": {}, "f:containers": {
                    "k:{\"name\":\"gateway\"}": {".": {}, "f:name": {}, "f:args": {}, "f:env": {
                        "k:{\"name\":\"X\"}": {".": {}, "f:name": {}}
                    }}
                }}
            }},
            {"manager": "us", "operation": "Apply", "subresource": "status", "fieldsV1": {"f:status": {"f:x": {}}}},
            {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {
                "f:metadata": {"f:labels": {"f:shared": {}}}
            }},
        ]}})
    }

    #[test]
    fn what_is_applied_no_more_is_told_unless_others_have_it_too() {
        for (applied, expected) in [
            (
                json!({
                    "metadata": {"labels": {"a": "1", "shared": "1"}},
                    "spec": {"replicas": 1, "containers": [
                        {"name": "gateway", "args": [], "env": [{"name": "X"}]}
                    ]},
                }),
                vec![],
            ),
            (
                json!({
                    "metadata": {"labels": {"a": "1"}},
                    "spec": {"containers": [{"name": "gateway", "args": [], "env": []}]},
                }),
                vec!["spec.containers[name=gateway].env[name=X]", "spec.replicas"],
            ),
            (
                json!({"spec": {"replicas": 1, "containers": [{"name": "other"}]}}),
                vec!["metadata.labels.a", "spec.containers[name=gateway]"],
            ),
        ] {
            let found = no_longer_applied(&live(), "us", &applied);
            let found: Vec<String> = found.iter().map(written).collect();
            assert_eq!(found, expected, "{applied}");
        }
        assert!(no_longer_applied(&live(), "nobody", &json!({})).is_empty());
    }

    #[test]
    fn a_field_is_taken_away() {
        let mut value = json!({"spec": {"a": {"b": 1, "c": 2}, "d": 3}});
        for path in [
            ["f:spec", "f:a", "f:b"].as_slice(),
            &["f:spec", "f:d"],
            &["f:x", "f:y"],
        ] {
            remove(&mut value, &path.iter().map(|s| (*s).to_owned()).collect());
        }
        assert_eq!(value, json!({"spec": {"a": {"c": 2}}}));
    }
}
