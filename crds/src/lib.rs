//! The types users write, and the custom resource definition made from them.
//!
//! A field's documentation is what `kubectl explain` shows; its default and its rules are part of the schema,
//! so that the API server fills in the one and refuses a breach of the other with a message that names the field.

mod push_cluster;
mod reference;
mod status;

pub use push_cluster::*;
pub use reference::reference;
pub use status::*;

use kube::CustomResourceExt;

/// The definition as YAML, as the chart ships it.
pub fn definition_yaml() -> String {
    let definition = PushCluster::crd();
    serde_yaml::to_string(&definition).expect("a definition made of strings and numbers serialises")
}

#[cfg(test)]
mod tests {
    use kube::core::cel::{validate_cel, validate_cel_update};
    use serde_json::{Value, json};

    use super::*;

    fn cluster(spec: &Value) -> PushCluster {
        let manifest = json!({
            "apiVersion": "pushcluster.io/v1alpha1",
            "kind": "PushCluster",
            "metadata": {"name": "demo"},
            "spec": spec,
        });
        serde_json::from_value(manifest).expect("a spec of the right shape")
    }

    /// What the API server would say.
    fn refusal(result: Result<(), impl ToString>) -> String {
        result
            .err()
            .map_or_else(|| "accepted".into(), |errors| errors.to_string())
    }

    #[test]
    fn rules_name_the_field_and_what_to_do() {
        for (spec, expected) in [
            (json!({}), "accepted"),
            (
                json!({"redis": {"mode": "External", "external": {"host": "redis"}}}),
                "accepted",
            ),
            (
                json!({"redis": {"mode": "External"}}),
                "spec.redis.external is missing: mode External needs external.host",
            ),
            (
                json!({"redis": {"external": {"host": "redis"}}}),
                "spec.redis.external is set but not used",
            ),
            (json!({"redis": {"mode": "Sentinel"}}), "accepted"),
            (
                json!({"redis": {"mode": "Sentinel", "image": "redis:7.2", "sentinel": {"downAfterSeconds": 10}}}),
                "accepted",
            ),
            (
                json!({"redis": {"sentinel": {"downAfterSeconds": 10}}}),
                "spec.redis.sentinel is set but not used: set mode: Sentinel, or remove sentinel",
            ),
            (
                json!({"redis": {"mode": "Sentinel", "external": {"host": "redis"}}}),
                "spec.redis.external is set but not used",
            ),
            (
                json!({"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}),
                "spec.autoscaling.minReplicas is greater than spec.autoscaling.maxReplicas",
            ),
            (
                json!({"gateway": {"auth": {"anonymous": false}}}),
                "spec.gateway.auth: nobody could connect",
            ),
            (
                json!({"gateway": {"auth": {"anonymous": false, "hs256KeySecret": {"name": "jwt", "key": "key"}}}}),
                "accepted",
            ),
            (
                json!({"gateway": {"auth": {"anonymous": false, "jwksUrl": "https://id.example/keys"}}}),
                "accepted",
            ),
            (
                json!({"gateway": {"auth": {"anonymous": false, "keySecrets": [{"name": "jwt", "key": "pem"}]}}}),
                "accepted",
            ),
            (
                json!({"gateway": {"auth": {"anonymous": false, "keySecrets": []}}}),
                "spec.gateway.auth: nobody could connect",
            ),
        ] {
            let said = refusal(validate_cel(&cluster(&spec)));
            assert!(said.contains(expected), "{spec}: {said}");
        }
    }

    #[test]
    fn what_cannot_be_changed_says_what_to_do_instead() {
        let (standalone, external) = (
            cluster(&json!({})),
            cluster(&json!({"redis": {"mode": "External", "external": {"host": "redis"}}})),
        );
        assert_eq!(
            refusal(validate_cel_update(&standalone, &standalone)),
            "accepted"
        );
        let sentinel = cluster(&json!({"redis": {"mode": "Sentinel"}}));
        for (before, after) in [
            (&standalone, &external),
            (&standalone, &sentinel),
            (&sentinel, &standalone),
            (&external, &sentinel),
        ] {
            let said = refusal(validate_cel_update(after, before));
            assert!(
                said.contains("spec.redis.mode cannot be changed: make a second PushCluster"),
                "{said}"
            );
        }
    }

    #[test]
    fn a_name_makes_good_names_of_services_and_labels() {
        let (longest, too_long) = ("x".repeat(45), "x".repeat(46));
        for (name, expected) in [
            ("demo", "accepted"),
            ("d3-mo", "accepted"),
            (&longest, "accepted"),
            (&too_long, "metadata.name is longer than 45 characters"),
            ("3demo", "metadata.name cannot name a Service"),
            ("my.demo", "metadata.name cannot name a Service"),
        ] {
            let mut cluster = cluster(&json!({}));
            cluster.metadata.name = Some(name.into());
            let said = refusal(validate_cel(&cluster));
            assert!(said.contains(expected), "{name}: {said}");
        }
    }

    #[test]
    fn an_empty_spec_is_the_default() {
        assert_eq!(cluster(&json!({})).spec, PushClusterSpec::default());
    }
}
