//! Runs `helm` on the chart and reads what it prints as objects.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The namespace and release of every rendering; neither occurs in the chart, so a name that is written
/// out instead of taken from the release shows.
pub(crate) const NAMESPACE: &str = "chosen-namespace";
pub(crate) const RELEASE: &str = "chosen-release";

pub(crate) fn chart() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests"))
        .join("../charts/pushcluster-operator")
}

/// `helm` from the environment variable HELM (`make chart` sets it), else from PATH.
fn helm(arguments: &[&str]) -> Output {
    let program = std::env::var_os("HELM").unwrap_or_else(|| "helm".into());
    Command::new(&program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "{} does not start ({error}); `make chart` provides it",
                program.display()
            )
        })
}

pub(crate) fn lint() -> Output {
    let chart = chart();
    helm(&["lint", "--strict", chart.to_str().expect("UTF-8 path")])
}

/// `helm template` with each of `values` as a `--set`; the error is what Helm prints.
pub(crate) fn render(values: &[&str]) -> Result<Objects, String> {
    render_where(&[], values)
}

/// The same in a cluster that has these kinds beside its own, each as `group/version/Kind`.
pub(crate) fn render_where(kinds: &[&str], values: &[&str]) -> Result<Objects, String> {
    let chart = chart();
    let mut arguments = vec!["template", RELEASE, chart.to_str().expect("UTF-8 path")];
    arguments.extend(["--namespace", NAMESPACE, "--kube-version", "1.34.0"]);
    for value in values {
        arguments.extend(["--set", value]);
    }
    for kind in kinds {
        arguments.extend(["--api-versions", kind]);
    }
    let output = helm(&arguments);
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8(output.stdout).expect("helm prints UTF-8");
    let objects = serde_yaml::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).expect("helm prints YAML"))
        .filter(|document| !document.is_null())
        .collect();
    Ok(Objects(objects))
}

#[derive(Debug)]
pub(crate) struct Objects(Vec<Value>);

impl Objects {
    pub(crate) fn all(&self) -> &[Value] {
        &self.0
    }

    /// Every object of a kind, as its type: a key that the type lacks, as a misspelt one, is a failure.
    pub(crate) fn of<K: DeserializeOwned + serde::Serialize>(&self, kind: &str) -> Vec<K> {
        self.0
            .iter()
            .filter(|object| object["kind"] == kind)
            .map(strictly)
            .collect()
    }

    /// The only object of a kind.
    pub(crate) fn one<K: DeserializeOwned + serde::Serialize>(&self, kind: &str) -> K {
        let mut found = self.of(kind);
        assert_eq!(
            found.len(),
            1,
            "the chart has {} objects of kind {kind}",
            found.len()
        );
        found.remove(0)
    }

    pub(crate) fn kinds(&self) -> Vec<&str> {
        self.0
            .iter()
            .filter_map(|object| object["kind"].as_str())
            .collect()
    }
}

/// The API server drops keys that it does not know, and says so to nobody.
fn strictly<K: DeserializeOwned + serde::Serialize>(object: &Value) -> K {
    let typed: K = serde_json::from_value(object.clone()).unwrap_or_else(|error| {
        panic!("{} {}: {error}", object["kind"], object["metadata"]["name"])
    });
    let back = serde_json::to_value(&typed).expect("an object is JSON");
    let lost = first_lost(object, &back, "");
    assert!(
        lost.is_none(),
        "{} has a key that its type does not know: {}",
        object["kind"],
        lost.unwrap_or_default()
    );
    typed
}

/// The path of the first key in `written` that is not in `understood`; empty maps and lists may vanish.
fn first_lost(written: &Value, understood: &Value, path: &str) -> Option<String> {
    match written {
        Value::Object(map) => map.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            match understood.get(key) {
                Some(found) => first_lost(value, found, &path),
                None if is_empty(value) => None,
                None => Some(path),
            }
        }),
        Value::Array(items) => items.iter().enumerate().find_map(|(index, item)| {
            first_lost(item, &understood[index], &format!("{path}[{index}]"))
        }),
        _ => None,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

#[test]
fn a_misspelt_key_is_found() {
    let written = serde_json::json!({"spec": {"replcias": 2, "ports": [{"port": 1, "prot": 2}], "empty": {}}});
    let understood = serde_json::json!({"spec": {"ports": [{"port": 1, "prot": 2}]}});
    assert_eq!(
        first_lost(&written, &understood, ""),
        Some(".spec.replcias".to_owned())
    );
    let understood = serde_json::json!({"spec": {"replcias": 2, "ports": [{"port": 1}]}});
    assert_eq!(
        first_lost(&written, &understood, ""),
        Some(".spec.ports[0].prot".to_owned())
    );
}
