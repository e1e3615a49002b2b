//! Whether a live object is as built. Pure.

use serde_json::Value;

/// Lists in which server-side apply owns entries, not the list: the entry of the same keys is compared, wherever it
/// stands. The API server's `x-kubernetes-list-map-keys`, for the lists that are built here.
const ENTRIES: &[(&str, &[&str])] = &[
    ("containers", &["name"]),
    ("env", &["name"]),
    ("initContainers", &["name"]),
    ("ownerReferences", &["uid"]),
    ("ports", &["containerPort", "port", "protocol"]),
    (
        "topologySpreadConstraints",
        &["topologyKey", "whenUnsatisfiable"],
    ),
    ("volumeMounts", &["mountPath"]),
    ("volumes", &["name"]),
];

/// One field that was built and is otherwise in the live object.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference<'a> {
    /// As in `spec.template.spec.containers[0].image`: the place is that of the entry as built.
    pub path: String,
    pub built: &'a Value,
    /// Null: it is not there.
    pub live: &'a Value,
}

/// Everything that was built and is otherwise in the live object, in the order of the fields' names.
///
/// What the live object has besides does not count: defaults, status, other people's labels, an environment variable
/// that somebody added. Server-side apply would leave it there, so to call it a difference would be to write for ever.
/// Quantities count as numbers: the API server writes `1024Mi` back as `1Gi`.
pub fn differences<'a>(built: &'a Value, live: &'a Value) -> Vec<Difference<'a>> {
    let mut found = Vec::new();
    compare(built, live, "", &mut found);
    found
}

/// The path of the first of them; None when all that was built is there.
pub fn difference(built: &Value, live: &Value) -> Option<String> {
    let first = differences(built, live).into_iter().next();
    first.map(|difference| difference.path)
}

fn compare<'a>(built: &'a Value, live: &'a Value, path: &str, found: &mut Vec<Difference<'a>>) {
    match (built, live) {
        // An empty map or list and none are the same to the API server.
        (Value::Object(fields), live) => {
            for (key, value) in fields {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                compare(value, live.get(key).unwrap_or(&Value::Null), &path, found);
            }
        }
        (Value::Array(entries), Value::Null) if entries.is_empty() => {}
        (Value::Array(entries), Value::Array(others)) => {
            let last = path.rsplit('.').next().unwrap_or_default();
            let keys = ENTRIES.iter().find(|(list, _)| *list == last);
            if keys.is_none() && entries.len() != others.len() {
                found.push(Difference {
                    path: path.to_owned(),
                    built,
                    live,
                });
                return;
            }
            for (index, entry) in entries.iter().enumerate() {
                let same = match keys {
                    Some((_, keys)) => entry_of_keys(entry, others, keys),
                    None => others.get(index),
                };
                let path = format!("{path}[{index}]");
                match same {
                    Some(other) => compare(entry, other, &path, found),
                    None => found.push(Difference {
                        path,
                        built: entry,
                        live: &Value::Null,
                    }),
                }
            }
        }
        (Value::String(text), Value::String(other))
            if is_quantity(path) && quantity(text) == quantity(other) => {}
        (built, live) if built == live => {}
        (built, live) => found.push(Difference {
            path: path.to_owned(),
            built,
            live,
        }),
    }
}

fn entry_of_keys<'a>(entry: &Value, others: &'a [Value], keys: &[&str]) -> Option<&'a Value> {
    others
        .iter()
        .find(|other| keys.iter().all(|key| other.get(key) == entry.get(key)))
}

/// Whether the value at this path is a Kubernetes quantity.
fn is_quantity(path: &str) -> bool {
    path.contains(".requests.") || path.contains(".limits.") || path.ends_with("averageValue")
}

/// In thousandths; what is no quantity stays text, so that it equals only itself.
pub(super) fn quantity(text: &str) -> Result<i128, &str> {
    let digits = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: i128 = match unit {
        "m" => 1,
        "" => 1_000,
        "k" => 1_000_000,
        "M" => 1_000_000_000,
        "G" => 1_000_000_000_000,
        "T" => 1_000_000_000_000_000,
        "Ki" => 1_000 << 10,
        "Mi" => 1_000 << 20,
        "Gi" => 1_000 << 30,
        "Ti" => 1_000 << 40,
        _ => return Err(text),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let scale = 10_i128
        .checked_pow(u32::try_from(fraction.len()).map_err(|_| text)?)
        .ok_or(text)?;
    let digits: i128 = format!("{whole}{fraction}").parse().map_err(|_| text)?;
    digits
        .checked_mul(factor)
        .map(|scaled| scaled / scale)
        .ok_or(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_was_built_counts() {
        for (built, live, expected) in [
            (json!({"a": 1}), json!({"a": 1, "b": 2}), None),
            (json!({"a": {}}), json!({}), None),
            (json!({"a": []}), json!({}), None),
            (json!({"a": {"b": {}}}), json!({"a": null}), None),
            (json!({"a": 1}), json!({"a": 2}), Some("a")),
            (json!({"a": 1}), json!({}), Some("a")),
            (
                json!({"a": {"b": "x"}}),
                json!({"a": {"b": "y"}}),
                Some("a.b"),
            ),
            (
                json!({"a": [{"b": 1}, {"b": 2}]}),
                json!({"a": [{"b": 1, "c": 3}, {"b": 3}]}),
                Some("a[1].b"),
            ),
            (json!({"a": [1]}), json!({"a": [1, 2]}), Some("a")),
            (json!({"a": [1]}), json!({}), Some("a")),
            // Of a list with keys, an entry is ours and the rest is not.
            (
                json!({"env": [{"name": "a", "value": "1"}]}),
                json!({"env": [{"name": "b"}, {"name": "a", "value": "1"}]}),
                None,
            ),
            (
                json!({"env": [{"name": "a", "value": "1"}]}),
                json!({"env": [{"name": "a", "value": "2"}]}),
                Some("env[0].value"),
            ),
            (
                json!({"env": [{"name": "a"}]}),
                json!({"env": [{"name": "b"}]}),
                Some("env[0]"),
            ),
            (
                json!({"ports": [{"port": 80, "protocol": "TCP"}]}),
                json!({"ports": [{"port": 81, "protocol": "TCP"}]}),
                Some("ports[0]"),
            ),
        ] {
            assert_eq!(
                difference(&built, &live).as_deref(),
                expected,
                "{built} in {live}"
            );
        }
    }

    #[test]
    fn every_difference_is_told_with_both_values() {
        let built = json!({"a": {"b": "x", "c": [1]}, "env": [{"name": "e", "value": "1"}]});
        let live = json!({"a": {"b": "y", "c": [1]}, "z": 1, "env": [{"name": "f"}]});
        let found: Vec<_> = differences(&built, &live)
            .into_iter()
            .map(|difference| {
                (
                    difference.path,
                    difference.built.clone(),
                    difference.live.clone(),
                )
            })
            .collect();
        let expected = [
            ("a.b".to_owned(), json!("x"), json!("y")),
            (
                "env[0]".to_owned(),
                json!({"name": "e", "value": "1"}),
                Value::Null,
            ),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn quantities_are_numbers_and_other_text_is_text() {
        for (built, live, same) in [
            ("1024Mi", "1Gi", true),
            ("0.5", "500m", true),
            ("1000m", "1", true),
            ("1.5Gi", "1536Mi", true),
            ("1k", "1000", true),
            ("1Gi", "1G", false),
            ("nonsense", "nonsense", true),
            ("nonsense", "other", false),
        ] {
            let resources = |value: &str| json!({"resources": {"limits": {"memory": value}}});
            let found = difference(&resources(built), &resources(live));
            assert_eq!(found.is_none(), same, "{built} and {live}");
            let labels = difference(
                &json!({"labels": {"a": built}}),
                &json!({"labels": {"a": live}}),
            );
            assert_eq!(
                labels.is_none(),
                built == live,
                "a label is text: {built} and {live}"
            );
        }
    }
}
