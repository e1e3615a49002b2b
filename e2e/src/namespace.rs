//! A namespace for one test: made before it, removed after it, also when it fails or panics.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::FutureExt;
use k8s_openapi::api::core::v1::Namespace as NamespaceObject;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;

use crate::cluster::Cluster;
use crate::diagnosis;
use crate::wait::eventually;

/// Set to anything, a failed test leaves its namespace for a look at it.
pub const KEEP: &str = "PUSHCLUSTER_E2E_KEEP";

/// A namespace with everything in it gone: finalizers, then pods with their grace periods.
const REMOVAL: Duration = Duration::from_secs(180);

/// Where one test lives.
#[derive(Clone)]
pub struct Namespace {
    pub cluster: Cluster,
    pub name: String,
}

/// Runs `test` in a namespace of its own, which refuses every pod that is not *restricted*. When the test
/// fails or panics, what is in the namespace is printed before it is removed.
///
/// # Panics
/// When the test fails, with its error; when the cluster cannot be reached.
pub async fn in_namespace(label: &str, test: impl AsyncFnOnce(Namespace) -> Result<()>) {
    let cluster = Cluster::under_test()
        .await
        .unwrap_or_else(|error| panic!("{error:#}"));
    let name = create(&cluster, label)
        .await
        .unwrap_or_else(|error| panic!("{error:#}"));
    let namespace = Namespace {
        cluster: cluster.clone(),
        name: name.clone(),
    };
    // A panic ends here as a value, so that the namespace is still removed.
    let outcome = AssertUnwindSafe(test(namespace)).catch_unwind().await;
    let failure = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{error:#}")),
        // What it said is above already.
        Err(_) => Some("the test panicked".to_owned()),
    };
    if let Some(failure) = &failure {
        eprintln!(
            "\n---- {label} failed: {failure}\n{}",
            diagnosis::of_namespace(&cluster, &name).await
        );
        if std::env::var_os(KEEP).is_some() {
            panic!("{label}: {failure} (namespace {name} is kept)");
        }
    }
    let removal = remove(&cluster, &name).await;
    if let Some(failure) = failure {
        panic!("{label}: {failure}");
    }
    removal.unwrap_or_else(|error| panic!("{label}: {error:#}"));
}

async fn create(cluster: &Cluster, label: &str) -> Result<String> {
    let namespaces: Api<NamespaceObject> = Api::all(cluster.client());
    let wanted: NamespaceObject = serde_json::from_value(json!({
        "metadata": {
            "generateName": format!("e2e-{label}-"),
            "labels": {
                "pushcluster.io/e2e": label,
                "pod-security.kubernetes.io/enforce": "restricted",
                "pod-security.kubernetes.io/enforce-version": "latest",
            },
        },
    }))?;
    let made = namespaces
        .create(&PostParams::default(), &wanted)
        .await
        .context("create a namespace")?;
    made.metadata.name.context("a namespace has a name")
}

async fn remove(cluster: &Cluster, name: &str) -> Result<()> {
    let namespaces: Api<NamespaceObject> = Api::all(cluster.client());
    namespaces
        .delete(name, &DeleteParams::default())
        .await
        .with_context(|| format!("delete namespace {name}"))?;
    eventually(
        &format!("namespace {name} is gone"),
        REMOVAL,
        async || match namespaces.get_opt(name).await {
            Ok(None) => Ok(()),
            Ok(Some(namespace)) => Err(format!("{:?}", namespace.status)),
            Err(error) => Err(error.to_string()),
        },
    )
    .await
}
