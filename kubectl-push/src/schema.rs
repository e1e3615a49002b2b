//! A manifest against the schema of the definition, as the API server would look at it. Pure.
//!
//! Of OpenAPI v3 what the definition uses: types, enums, bounds of numbers, texts and lists, patterns, properties, and
//! `x-kubernetes-int-or-string`. Rules in CEL are `manifest.rs`'s.

use regex::Regex;
use serde_json::Value;

use crate::manifest::Problem;

/// Everything that is wrong with `value`, which stands at `path`.
pub fn breaches(schema: &Value, value: &Value, path: &str) -> Vec<Problem> {
    let mut found = Vec::new();
    check(schema, value, path, &mut found);
    found
}

fn check(schema: &Value, value: &Value, path: &str, found: &mut Vec<Problem>) {
    if value.is_null() {
        // The API server takes null for what is not there.
        return;
    }
    let mut wrong = |message: String| {
        found.push(Problem {
            field: path.to_owned(),
            message,
        });
    };
    let int_or_string = schema["x-kubernetes-int-or-string"] == true;
    let wanted = schema["type"].as_str();
    if !is_of(value, wanted, int_or_string) {
        let wanted = wanted.unwrap_or("integer or string");
        return wrong(format!("must be {}: it is {value}", with_article(wanted)));
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
        wrong(format!(
            "is {value}: it must be one of {}",
            allowed.join(", ")
        ));
    }
    match value {
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or_default();
            bounds(schema, ("minimum", "maximum"), number, "is", &mut wrong);
        }
        Value::String(text) => {
            #[expect(clippy::cast_precision_loss, reason = "texts are shorter than 2^53")]
            let length = text.chars().count() as f64;
            let says = "has a length of";
            bounds(schema, ("minLength", "maxLength"), length, says, &mut wrong);
            let pattern = schema["pattern"].as_str().and_then(|p| Regex::new(p).ok());
            if let Some(pattern) = pattern.filter(|pattern| !pattern.is_match(text)) {
                wrong(format!("is {value}, which does not look like {pattern}"));
            }
        }
        Value::Array(entries) => {
            #[expect(clippy::cast_precision_loss, reason = "lists are shorter than 2^53")]
            let length = entries.len() as f64;
            let says = "has this number of entries:";
            bounds(schema, ("minItems", "maxItems"), length, says, &mut wrong);
            for (place, entry) in entries.iter().enumerate() {
                check(&schema["items"], entry, &format!("{path}[{place}]"), found);
            }
        }
        Value::Object(fields) => check_fields(schema, fields, path, found),
        Value::Null | Value::Bool(_) => {}
    }
}

fn check_fields(
    schema: &Value,
    fields: &serde_json::Map<String, Value>,
    path: &str,
    found: &mut Vec<Problem>,
) {
    for (key, value) in fields {
        let path = format!("{path}.{key}");
        let known = &schema["properties"][key];
        let others = &schema["additionalProperties"];
        if known.is_object() {
            check(known, value, &path, found);
        } else if others.is_object() {
            check(others, value, &path, found);
        } else if schema["properties"].is_object() {
            found.push(Problem {
                field: path,
                message: "is no field of a PushCluster".into(),
            });
        }
    }
    for required in schema["required"].as_array().into_iter().flatten() {
        let key = required.as_str().unwrap_or_default();
        if fields.get(key).is_none_or(Value::is_null) {
            found.push(Problem {
                field: format!("{path}.{key}"),
                message: "is missing".into(),
            });
        }
    }
}

fn is_of(value: &Value, wanted: Option<&str>, int_or_string: bool) -> bool {
    if int_or_string {
        return value.is_i64() || value.is_u64() || value.is_string();
    }
    match wanted {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        _ => true,
    }
}

fn with_article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'i', 'o']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {kind}")
}

fn bounds(
    schema: &Value,
    (least, most): (&str, &str),
    value: f64,
    says: &str,
    wrong: &mut impl FnMut(String),
) {
    if let Some(least) = schema[least].as_f64().filter(|least| value < *least) {
        wrong(format!("{says} {value}: at least {least} is needed"));
    }
    if let Some(most) = schema[most].as_f64().filter(|most| value > *most) {
        wrong(format!("{says} {value}: at most {most} is allowed"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_its_field() {
        let schema = json!({"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 3, "pattern": "^[a-z]*$"},
            "count": {"type": "integer", "minimum": 1.0, "maximum": 9.0},
            "mode": {"type": "string", "enum": ["A", "B"]},
            "list": {"type": "array", "maxItems": 1, "items": {"type": "boolean"}},
            "amounts": {"type": "object", "additionalProperties": {"x-kubernetes-int-or-string": true, "pattern": "^[0-9]+m?$"}},
        }});
        for (value, expected) in [
            (json!({"name": "a"}), vec![]),
            (json!({"name": "a", "count": null}), vec![]),
            (json!({}), vec!["spec.name is missing"]),
            (json!([]), vec!["spec must be an object: it is []"]),
            (
                json!({"name": "a", "cuont": 1}),
                vec!["spec.cuont is no field of a PushCluster"],
            ),
            (
                json!({"name": ""}),
                vec!["spec.name has a length of 0: at least 1 is needed"],
            ),
            (
                json!({"name": "ABCD"}),
                vec![
                    "spec.name has a length of 4: at most 3 is allowed",
                    "spec.name is \"ABCD\", which does not look like ^[a-z]*$",
                ],
            ),
            (
                json!({"name": "a", "count": 0}),
                vec!["spec.count is 0: at least 1 is needed"],
            ),
            (
                json!({"name": "a", "count": 10}),
                vec!["spec.count is 10: at most 9 is allowed"],
            ),
            (
                json!({"name": "a", "count": "1"}),
                vec!["spec.count must be an integer: it is \"1\""],
            ),
            (
                json!({"name": "a", "count": 1.5}),
                vec!["spec.count must be an integer: it is 1.5"],
            ),
            (
                json!({"name": "a", "mode": "C"}),
                vec!["spec.mode is \"C\": it must be one of \"A\", \"B\""],
            ),
            (
                json!({"name": "a", "list": [true, 1]}),
                vec![
                    "spec.list has this number of entries: 2: at most 1 is allowed",
                    "spec.list[1] must be a boolean: it is 1",
                ],
            ),
            (
                json!({"name": "a", "amounts": {"cpu": 1, "memory": "1m"}}),
                vec![],
            ),
            (
                json!({"name": "a", "amounts": {"cpu": "lots"}}),
                vec!["spec.amounts.cpu is \"lots\", which does not look like ^[0-9]+m?$"],
            ),
        ] {
            let said: Vec<String> = breaches(&schema, &value, "spec")
                .iter()
                .map(Problem::to_string)
                .collect();
            assert_eq!(said, expected, "{value}");
        }
    }
}
