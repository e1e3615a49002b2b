//! The reference of all fields, in Markdown, made from the definition that the API server is given.

use std::fmt::Write;

use kube::CustomResourceExt;
use serde_json::Value;

use crate::PushCluster;

/// A field of the `spec`. `path` begins with `spec.`; `schema` is its OpenAPI v3 schema.
struct Field {
    path: String,
    required: bool,
    schema: Value,
}

/// `docs/pushcluster.md`.
///
/// # Panics
/// If the definition has no schema, which the derive rules out.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from(
        "# PushCluster\n\n\
         <!-- Made from crds/src/push_cluster: UPDATE_DOCS=1 cargo test -p crds -->\n\n\
         `apiVersion: pushcluster.io/v1alpha1`. Every field may be left out unless it says *required*; `spec: {}` is\n\
         a working cluster. An unknown field, a number out of range or a broken rule is refused by the API server.\n\n\
         | field | takes | default | |\n|---|---|---|---|\n",
    );
    let fields = fields();
    for Field {
        path,
        required,
        schema,
    } in &fields
    {
        let default = match (&schema["default"], required) {
            (_, true) => "*required*".to_owned(),
            (Value::Null, false) => "unset".to_owned(),
            // Its fields have their own rows.
            (Value::Object(_), false) => String::new(),
            (other, false) => format!("`{other}`"),
        };
        let doc = description(schema).replace('|', "\\|");
        let _ = writeln!(
            text,
            "| `{path}` | {} | {default} | {doc} |",
            takes(path, schema)
        );
    }
    text.push_str("\n## Rules\n\n");
    for rule in rules(&fields) {
        let _ = writeln!(text, "- {rule}");
    }
    text
}

fn definition() -> Value {
    let definition = PushCluster::crd();
    let schema = definition.spec.versions[0].schema.as_ref();
    serde_json::to_value(schema.expect("the derive makes a schema"))
        .expect("a schema is JSON")["openAPIV3Schema"]
        .take()
}

fn description(schema: &Value) -> String {
    schema["description"]
        .as_str()
        .unwrap_or_default()
        .replace('\n', " ")
}

/// In the order of the alphabet, a field before what is in it.
fn fields() -> Vec<Field> {
    let mut found = Vec::new();
    collect("spec", &definition()["properties"]["spec"], &mut found);
    found
}

fn collect(path: &str, schema: &Value, found: &mut Vec<Field>) {
    let required = schema["required"].as_array();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        found.push(Field {
            path: path.clone(),
            required: required.is_some_and(|names| names.iter().any(|n| n == name)),
            schema: field.clone(),
        });
        collect(&path, field, found);
        collect(&format!("{path}[]"), &field["items"], found);
    }
}

fn takes(path: &str, schema: &Value) -> String {
    let bound = |name: &str| schema[name].as_f64().unwrap_or_default();
    match schema["type"].as_str() {
        Some("integer") => {
            let unit = if path.ends_with("Seconds") {
                " seconds"
            } else if path.ends_with("Bytes") {
                " bytes"
            } else {
                ""
            };
            format!("{} to {}{unit}", bound("minimum"), bound("maximum"))
        }
        Some("boolean") => "`true`, `false`".into(),
        Some("string") => schema["enum"].as_array().map_or_else(
            || "text".to_owned(),
            |words| {
                words
                    .iter()
                    // An optional one may also be null.
                    .filter_map(Value::as_str)
                    .map(|word| format!("`{word}`"))
                    .collect::<Vec<_>>()
                    .join(", ")
            },
        ),
        Some("array") if schema["items"]["type"] == "string" => {
            format!("list of texts, up to {}", bound("maxItems"))
        }
        Some("array") => format!("list, up to {}", bound("maxItems")),
        Some("object") if schema["properties"].is_object() => String::new(),
        _ => "map of texts".into(),
    }
}

/// What the API server says when a rule is broken.
fn rules(fields: &[Field]) -> Vec<String> {
    let root = definition();
    std::iter::once(&root)
        .chain(fields.iter().map(|field| &field.schema))
        .filter_map(|schema| schema["x-kubernetes-validations"].as_array())
        .flatten()
        .filter_map(|rule| rule["message"].as_str().map(ToOwned::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_reference_is_made_from_the_types() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/pushcluster.md");
        let made = reference();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &made).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == made,
            "{path} is stale: UPDATE_DOCS=1 cargo test -p crds"
        );
    }

    #[test]
    fn every_field_is_explained_and_every_number_has_bounds() {
        for Field { path, schema, .. } in fields() {
            assert!(
                !description(&schema).is_empty(),
                "{path} has no doc comment"
            );
            if schema["type"] == "integer" {
                assert!(
                    schema["minimum"].is_number() && schema["maximum"].is_number(),
                    "{path} has no range"
                );
            }
        }
    }

    /// A message that names no field leaves its reader with `spec.redis: Invalid value: "object"`.
    #[test]
    fn every_rule_names_a_field() {
        let rules = rules(&fields());
        assert!(!rules.is_empty());
        for rule in rules {
            assert!(
                rule.starts_with("spec.") || rule.starts_with("metadata."),
                "{rule}"
            );
        }
    }

    /// Free-form parts would let misspelt fields through.
    #[test]
    fn nothing_is_free_form() {
        let text = definition().to_string();
        assert!(!text.contains("x-kubernetes-preserve-unknown-fields"));
    }
}
