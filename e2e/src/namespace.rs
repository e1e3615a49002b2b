//! A namespace for one test: made before it, removed after it, also when it fails or panics.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::PushCluster;
use futures::FutureExt;
use k8s_openapi::api::core::v1::{Namespace as NamespaceObject, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::json;

use crate::cluster::Cluster;
use crate::diagnosis;
use crate::wait::eventually;

/// Set to anything, a failed test leaves its namespace for a look at it.
pub const KEEP: &str = "PUSHCLUSTER_E2E_KEEP";

/// Each step until a namespace is gone with everything in it: pods with their grace periods, then finalizers.
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

/// The PushClusters of a namespace and their pods. A namespace in which there are pods is looked at again after half of
/// the time that the most patient of them has to end (`namespaced_resources_deleter.go` of Kubernetes), and a gateway has
/// minutes, although one without clients ends at once.
async fn empty(cluster: &Cluster, name: &str) -> Result<()> {
    let all = ListParams::default();
    let objects: Api<PushCluster> = Api::namespaced(cluster.client(), name);
    for object in objects.list(&all).await.context("list PushClusters")? {
        let deleted = objects
            .delete(&object.name_any(), &DeleteParams::default())
            .await;
        match deleted {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            deleted => drop(deleted.context("delete a PushCluster")?),
        }
    }
    let pods: Api<Pod> = Api::namespaced(cluster.client(), name);
    let ours = all.labels("app.kubernetes.io/name=pushcluster");
    eventually("no pod is left", REMOVAL, async || {
        let left = pods.list(&ours).await.context("list pods")?.items.len();
        ensure!(left == 0, "{left} are");
        Ok::<_, anyhow::Error>(())
    })
    .await
}

async fn remove(cluster: &Cluster, name: &str) -> Result<()> {
    // What is left goes with the namespace, later.
    if let Err(error) = empty(cluster, name).await {
        eprintln!("{name}: {error:#}");
    }
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
