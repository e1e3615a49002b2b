//! What the API server makes of manifests: the definition's schema and its rules, without an API server.

mod examples;
mod rules;
mod schema;

use crds::PushCluster;
use serde_json::{Value, json};

fn manifest(spec: &Value) -> Value {
    json!({
        "apiVersion": "pushcluster.io/v1alpha1",
        "kind": "PushCluster",
        "metadata": {"name": "demo"},
        "spec": spec,
    })
}

fn cluster(spec: &Value) -> PushCluster {
    serde_json::from_value(manifest(spec)).unwrap_or_else(|error| panic!("{spec}: {error}"))
}

#[test]
fn an_empty_spec_is_the_default() {
    assert_eq!(cluster(&json!({})).spec, crds::PushClusterSpec::default());
}
