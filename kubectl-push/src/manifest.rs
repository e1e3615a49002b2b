//! A manifest as a file → a PushCluster, or every mistake in it with its field. Pure.

use std::fmt;

use crds::PushCluster;
use kube::CustomResourceExt;
use kube::core::cel::{ValidationErrors, validate_cel, validate_cel_update};
use serde::Deserialize;
use serde_json::Value;

use crate::schema::breaches;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// As in `spec.redis.mode`; empty where the message names it.
    pub field: String,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => f.write_str(&self.message),
            field => write!(f, "{field} {}", self.message),
        }
    }
}

fn problem(field: impl Into<String>, message: impl Into<String>) -> Vec<Problem> {
    vec![Problem {
        field: field.into(),
        message: message.into(),
    }]
}

/// The PushClusters in a file of one or several documents, as written.
pub fn documents(text: &str) -> Result<Vec<Value>, Vec<Problem>> {
    let mut found = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        // Not at once as JSON: that would take the last of two equal keys and say nothing.
        let value = serde_yaml::Value::deserialize(document)
            .map_err(|error| problem("", format!("the manifest is no YAML: {error}")))?;
        let value = serde_json::to_value(value)
            .map_err(|error| problem("", format!("the manifest is no JSON: {error}")))?;
        if !value.is_null() {
            is_push_cluster(&value)?;
            found.push(value);
        }
    }
    if found.is_empty() {
        return Err(problem("", "the manifest has no PushCluster"));
    }
    Ok(found)
}

fn is_push_cluster(value: &Value) -> Result<(), Vec<Problem>> {
    for (key, wanted) in [
        ("apiVersion", "pushcluster.io/v1alpha1"),
        ("kind", "PushCluster"),
    ] {
        if value[key] != wanted {
            let message = format!("is {}: only {wanted} is understood here", value[key]);
            return Err(problem(key, message));
        }
    }
    if !value["metadata"]["name"].is_string() {
        return Err(problem("metadata.name", "is missing"));
    }
    Ok(())
}

/// What the API server would say to a new object of this kind, as far as the definition decides it.
pub fn understood(value: &Value) -> Result<PushCluster, Vec<Problem>> {
    let empty = Value::Object(serde_json::Map::new());
    let spec = value.get("spec").unwrap_or(&empty);
    let found = breaches(&spec_schema(), spec, "spec");
    if !found.is_empty() {
        return Err(found);
    }
    let mut whole = value.clone();
    whole["spec"] = without_nulls(spec);
    let cluster: PushCluster = serde_path_to_error::deserialize(whole).map_err(|error| {
        let field = error.path().to_string();
        problem(field, error.into_inner().to_string())
    })?;
    broken_rules(validate_cel(&cluster))?;
    Ok(cluster)
}

/// What it would say to this change of one that is there.
pub fn may_follow(cluster: &PushCluster, before: &PushCluster) -> Result<(), Vec<Problem>> {
    broken_rules(validate_cel_update(cluster, before))
}

/// The messages of our rules name the field themselves.
fn broken_rules(result: Result<(), ValidationErrors>) -> Result<(), Vec<Problem>> {
    result.map_err(|errors| {
        let errors = errors.into_vec().into_iter();
        errors
            .flat_map(|error| problem("", error.message))
            .collect()
    })
}

fn spec_schema() -> Value {
    let definition = serde_json::to_value(PushCluster::crd()).expect("a definition is JSON");
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// A null means: not there, so the default.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), without_nulls(value)))
            .collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Vec<String> {
        let result = documents(text).and_then(|found| {
            let clusters = found.iter().map(understood);
            clusters.collect::<Result<Vec<_>, _>>()
        });
        let problems = result.err().unwrap_or_default();
        problems.iter().map(Problem::to_string).collect()
    }

    fn manifest(spec: &str) -> String {
        format!(
            "apiVersion: pushcluster.io/v1alpha1\nkind: PushCluster\nmetadata:\n  name: demo\nspec: {spec}\n"
        )
    }

    #[test]
    fn a_mistake_is_told_with_its_field() {
        for (text, expected) in [
            (manifest("{}"), ""),
            (manifest("{replicas: 3, autoscaling: {enabled: false}}"), ""),
            (manifest("{redis: null}"), ""),
            (
                manifest("{replcias: 3}"),
                "spec.replcias is no field of a PushCluster",
            ),
            (
                manifest("{replicas: -1}"),
                "spec.replicas is -1: at least 0 is needed",
            ),
            (
                manifest("{redis: {mode: Cluser}}"),
                "spec.redis.mode is \"Cluser\": it must be one of",
            ),
            (
                manifest("{redis: {mode: External}}"),
                "spec.redis.external is missing: mode External needs external.host",
            ),
            (
                manifest("{redis: {mode: External, external: {}}}"),
                "spec.redis.external: one Redis is named by host",
            ),
            (
                manifest("{gateway: {resources: {limits: {memory: lots}}}}"),
                "spec.gateway.resources.limits.memory is \"lots\"",
            ),
            (
                manifest("{}").replace("demo", "3demo"),
                "metadata.name cannot name a Service",
            ),
            (
                manifest("{}").replace("PushCluster", "Pod"),
                "kind is \"Pod\"",
            ),
            (
                manifest("{a: 1, a: 2}"),
                "the manifest is no YAML: spec: duplicate entry",
            ),
            ("---\n".into(), "the manifest has no PushCluster"),
        ] {
            let said = said(&text).join("; ");
            assert!(
                said.starts_with(expected) && said.is_empty() == expected.is_empty(),
                "{text}: {said}"
            );
        }
    }

    #[test]
    fn a_file_may_have_several() {
        let text = format!("{}---\n{}---\n", manifest("{}"), manifest("{replicas: 1}"));
        assert_eq!(documents(&text).unwrap().len(), 2);
    }

    #[test]
    fn a_change_that_cannot_be_done_says_what_to_do_instead() {
        let cluster = |spec: &str| understood(&documents(&manifest(spec)).unwrap()[0]).unwrap();
        let before = cluster("{}");
        assert_eq!(may_follow(&cluster("{replicas: 1}"), &before), Ok(()));
        let problems = may_follow(&cluster("{redis: {mode: Sentinel}}"), &before).unwrap_err();
        assert!(
            problems[0]
                .message
                .starts_with("spec.redis.mode cannot be changed"),
            "{problems:?}"
        );
    }
}
