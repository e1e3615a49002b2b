//! A structural schema against a manifest, as far as the definition uses one (kubernetes.io: "Specifying a structural
//! schema"). An unknown field is a mistake, as with `kubectl apply`.

use kube::CustomResourceExt;
use regex::Regex;
use serde_json::{Value, json};

use crate::manifest;

/// Every mistake with its path.
pub fn mistakes(manifest: &Value) -> Vec<String> {
    let definition = crds::PushCluster::crd();
    let schema = definition.spec.versions[0].schema.as_ref();
    let schema = serde_json::to_value(schema.expect("a schema")).expect("a schema is JSON");
    let mut found = Vec::new();
    check(
        &schema["openAPIV3Schema"]["properties"]["spec"],
        &manifest["spec"],
        "spec",
        &mut found,
    );
    found
}

fn check(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let mut say = |what: String| found.push(format!("{path}: {what}"));
    let is = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64(),
        None if schema["x-kubernetes-int-or-string"] == true => value.is_i64() || value.is_string(),
        other => panic!("{path}: this test does not know the type {other:?}"),
    };
    if !is {
        return say(format!("{value} is no {}", schema["type"]));
    }
    if schema["enum"]
        .as_array()
        .is_some_and(|words| !words.contains(value))
    {
        say(format!("{value} is none of {}", schema["enum"]));
    }
    for fault in out_of_bounds(schema, value) {
        say(fault);
    }
    for required in schema["required"].as_array().into_iter().flatten() {
        if value.get(required.as_str().unwrap_or_default()).is_none() {
            say(format!("{required} is missing"));
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check(&schema["items"], item, &format!("{path}[{index}]"), found);
    }
    for (name, item) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match (&schema["properties"][name], &schema["additionalProperties"]) {
            (Value::Null, Value::Null) => found.push(format!("{path}: is no field")),
            (Value::Null, of_all) => check(of_all, item, &path, found),
            (field, _) => check(field, item, &path, found),
        }
    }
}

fn out_of_bounds(schema: &Value, value: &Value) -> Vec<String> {
    let size = match value {
        Value::String(text) => text.chars().count() as f64,
        Value::Array(items) => items.len() as f64,
        Value::Object(fields) => fields.len() as f64,
        other => other.as_f64().unwrap_or_default(),
    };
    let (least, most) = match value {
        Value::String(_) => ("minLength", "maxLength"),
        Value::Array(_) => ("minItems", "maxItems"),
        Value::Object(_) => ("minProperties", "maxProperties"),
        _ => ("minimum", "maximum"),
    };
    let mut faults = Vec::new();
    if schema[least].as_f64().is_some_and(|least| size < least) {
        faults.push(format!("{value} is under the {least} of {}", schema[least]));
    }
    if schema[most].as_f64().is_some_and(|most| size > most) {
        faults.push(format!("{value} is over the {most} of {}", schema[most]));
    }
    if let (Some(pattern), Some(text)) = (schema["pattern"].as_str(), value.as_str()) {
        let pattern = Regex::new(pattern).expect("the API server takes the pattern");
        if !pattern.is_match(text) {
            faults.push(format!("{value} does not match {pattern}"));
        }
    }
    faults
}

/// A guard on the checker, and on the bounds that only the schema has.
#[test]
fn what_no_rule_says_the_schema_refuses() {
    for (spec, expected) in [
        (json!({}), ""),
        (json!({"replcas": 2}), "spec.replcas: is no field"),
        (
            json!({"replicas": -1}),
            "spec.replicas: -1 is under the minimum",
        ),
        (
            json!({"replicas": "two"}),
            "spec.replicas: \"two\" is no \"integer\"",
        ),
        (
            json!({"service": {"type": "Public"}}),
            "spec.service.type: \"Public\" is none of",
        ),
        (
            json!({"autoscaling": {"behavior": {"scaleDown": {"selectPolicy": "Never"}}}}),
            "spec.autoscaling.behavior.scaleDown.selectPolicy: \"Never\" is none of",
        ),
        (
            json!({"autoscaling": {"behavior": {"scaleUp": {"policies": []}}}}),
            "spec.autoscaling.behavior.scaleUp.policies: [] is under the minItems",
        ),
        (
            json!({"gateway": {"tls": {}}}),
            "spec.gateway.tls: \"secretName\" is missing",
        ),
        (
            json!({"gateway": {"channels": [{}]}}),
            "spec.gateway.channels[0]: \"prefix\" is missing",
        ),
        (
            json!({"gateway": {"allowedOrigins": ["example.com"]}}),
            "spec.gateway.allowedOrigins[0]: \"example.com\" does not match",
        ),
        (
            json!({"gateway": {"trustedProxies": ["proxy"]}}),
            "spec.gateway.trustedProxies[0]: \"proxy\" does not match",
        ),
        (
            json!({"gateway": {"logFilter": " "}}),
            "spec.gateway.logFilter: \" \" does not match",
        ),
        (
            json!({"gateway": {"resources": {"limits": {"memory": "lots"}}}}),
            "spec.gateway.resources.limits.memory: \"lots\" does not match",
        ),
        (
            json!({"gateway": {"pods": {"nodeSelector": {"disk": 5}}}}),
            "spec.gateway.pods.nodeSelector.disk: 5 is no \"string\"",
        ),
        (
            json!({"gateway": {"pods": {"labels": {"team": "a b"}}}}),
            "spec.gateway.pods.labels.team: \"a b\" does not match",
        ),
        (
            json!({"redis": {"listen": ["ws:everything"]}}),
            "spec.redis.listen[0]: \"ws:everything\" does not match",
        ),
        (
            json!({"redis": {"external": {"hosts": ["sentinel"]}}}),
            "spec.redis.external.hosts[0]: \"sentinel\" does not match",
        ),
    ] {
        let found = mistakes(&manifest(&spec)).join("; ");
        assert!(found.starts_with(expected), "{spec}: {found}");
        assert_eq!(found.is_empty(), expected.is_empty(), "{spec}: {found}");
    }
}

#[test]
fn an_autoscaler_aims_at_something_and_knows_the_time() {
    for (spec, expected) in [
        (
            json!({"autoscaling": {"targetConnectionsPerPod": 0}}),
            "spec.autoscaling.targetConnectionsPerPod: 0 is under the minimum",
        ),
        (
            json!({"autoscaling": {"mode": "Builtin", "schedule": [{"from": "8:00", "until": "24:00", "minReplicas": 1}]}}),
            "spec.autoscaling.schedule[0].from: \"8:00\" does not match",
        ),
    ] {
        let found = mistakes(&manifest(&spec)).join("; ");
        assert!(found.starts_with(expected), "{spec}: {found}");
    }
}
