//! Objects as YAML. Pure. No value of a Secret is ever in it.

use operator::push_cluster::apply::plan::{APPLIED, Act, Write};
use serde_json::{Value, json};

/// In the place of what follows from passwords, which are not known here.
const COMPUTED: &str = "(computed by the operator)";

/// A YAML document for each.
pub fn documents(built: &[Write]) -> String {
    let mut text = String::new();
    for write in built {
        if let Act::Apply { manifest, .. } = &write.act {
            let manifest = without_hashes(without_secrets(manifest));
            let yaml = serde_yaml::to_string(&manifest).unwrap_or_else(|error| error.to_string());
            text.push_str("---\n");
            text.push_str(&yaml);
        }
    }
    text
}

fn without_secrets(manifest: &Value) -> Value {
    let mut manifest = manifest.clone();
    if manifest["kind"] == "Secret" {
        for part in ["data", "stringData"] {
            for value in manifest[part].as_object_mut().into_iter().flatten() {
                *value.1 = json!("(not shown)");
            }
        }
        // Indexing has made what was not there.
        if let Some(fields) = manifest.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
    }
    manifest
}

/// Annotations in which the operator keeps hashes, wherever they stand.
fn without_hashes(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            for (key, inner) in fields.iter_mut() {
                let is_hash =
                    key == APPLIED || key.starts_with("pushcluster.io/") && key.ends_with("-hash");
                *inner = if is_hash {
                    json!(COMPUTED)
                } else {
                    without_hashes(inner.take())
                };
            }
        }
        Value::Array(entries) => {
            for entry in entries {
                *entry = without_hashes(entry.take());
            }
        }
        _ => {}
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::preview;

    #[test]
    fn every_object_is_there_and_no_secret() {
        for spec in [json!({}), json!({"redis": {"mode": "Sentinel"}})] {
            let preview = preview(&spec);
            let text = documents(&preview.built);
            let kinds: Vec<String> = serde_yaml::Deserializer::from_str(&text)
                .map(|document| {
                    let value: Value = serde::Deserialize::deserialize(document).unwrap();
                    if value["kind"] == "Secret" {
                        let mut values = value["data"].as_object().unwrap().values();
                        assert!(values.all(|value| value == "(not shown)"), "{value}");
                    }
                    value["kind"].as_str().unwrap().to_owned()
                })
                .collect();
            assert_eq!(kinds.len(), preview.built.len());
            for kind in [
                "Deployment",
                "StatefulSet",
                "Secret",
                "Service",
                "ConfigMap",
            ] {
                assert!(
                    kinds.iter().any(|k| k == kind),
                    "{kind} is not in {kinds:?}"
                );
            }
            assert!(
                text.contains("pushcluster.io/config-hash: (computed"),
                "{text}"
            );
        }
    }
}
