//! What users were promised, tried on a real cluster. `make e2e` starts one and runs this; a test here has a
//! namespace of its own, which refuses pods that are not *restricted*, and leaves nothing behind.

mod alone;
mod autoscaling;
mod autoscaling_modes;
mod changes;
mod deletion;
mod drift;
mod events;
mod faults;
mod install;
mod kubectl_push;
mod mistakes;
mod persistence;
mod push;
mod rbac;
mod redis_cluster;
mod redis_tls;
mod refusals;
mod rollback;
mod rollout;
mod sentinel;
mod spec;
mod succession;

use anyhow::{Context, Result, ensure};
use e2e::namespace::Namespace;
use e2e::push_cluster;
use e2e::wait::eventually;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams, Patch, PatchParams};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Tests run beside each other; one that takes the operator away needs it for itself, and is in `alone`.
static OPERATOR: RwLock<()> = RwLock::const_new(());

async fn operator_stays() -> RwLockReadGuard<'static, ()> {
    OPERATOR.read().await
}

async fn operator_is_mine() -> RwLockWriteGuard<'static, ()> {
    OPERATOR.write().await
}

/// Every test's PushCluster.
const NAME: &str = "demo";

/// From now on there are as many gateways as the spec says. An autoscaler that is still there would find that fewer will
/// do for so few clients, and write that.
async fn without_autoscaler(namespace: &Namespace) -> Result<()> {
    change(
        namespace,
        serde_json::json!({"autoscaling": {"enabled": false}}),
    )
    .await?;
    let (cluster, name) = (&namespace.cluster, &namespace.name);
    let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(cluster.client(), name);
    let what = "the autoscaler is gone";
    eventually(what, push_cluster::BECOMES_READY, async || {
        let found = autoscalers.get_opt(NAME).await?;
        ensure!(found.is_none(), "it is there");
        Ok::<_, anyhow::Error>(())
    })
    .await
}

/// The smallest PushCluster in which a message can cross pods.
const TWO_GATEWAYS: &str = "
apiVersion: pushcluster.io/v1alpha1
kind: PushCluster
metadata:
  name: demo
spec:
  replicas: 2
";

/// Applies [`TWO_GATEWAYS`] and waits until it is Ready.
async fn two_gateways(namespace: &Namespace) -> Result<()> {
    made(namespace, TWO_GATEWAYS).await
}

/// Applies this and waits until it is Ready.
async fn made(namespace: &Namespace, manifest: &str) -> Result<()> {
    let (cluster, name) = (&namespace.cluster, &namespace.name);
    cluster.apply(name, manifest).await?;
    push_cluster::until_ready(cluster, name, NAME).await
}

/// Waits for so many ready gateways, and until it is Ready with them.
async fn until_gateways(namespace: &Namespace, count: usize) -> Result<()> {
    let (cluster, name) = (&namespace.cluster, &namespace.name);
    let what = format!("{count} gateways are ready");
    eventually(&what, push_cluster::BECOMES_READY, async || {
        let ready = push_cluster::ready_gateways(cluster, name, NAME).await?;
        ensure!(ready.len() == count, "{} are", ready.len());
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    push_cluster::until_ready(cluster, name, NAME).await
}

/// Another spec, in those fields.
async fn change(namespace: &Namespace, spec: serde_json::Value) -> Result<()> {
    patch(namespace, serde_json::json!({"spec": spec})).await
}

/// `kubectl annotate --overwrite pcl/demo`.
async fn annotate(namespace: &Namespace, annotation: &str, value: &str) -> Result<()> {
    let annotations = serde_json::json!({"annotations": {annotation: value}});
    patch(namespace, serde_json::json!({"metadata": annotations})).await
}

/// `kubectl events --for pcl/demo`, those with this reason, the oldest first.
async fn events_of(namespace: &Namespace, reason: &str) -> Result<Vec<Event>> {
    let events: Api<Event> = Api::namespaced(namespace.cluster.client(), &namespace.name);
    let about = ListParams::default().fields(&format!(
        "involvedObject.kind=PushCluster,involvedObject.name={NAME},reason={reason}"
    ));
    let mut listed = events.list(&about).await.context("list Events")?.items;
    listed.sort_by_key(|event| event.event_time.as_ref().map(|time| time.0));
    Ok(listed)
}

/// What they say.
async fn told(namespace: &Namespace, reason: &str) -> Result<Vec<String>> {
    let events = events_of(namespace, reason).await?.into_iter();
    let notes = events.map(|event| event.message.unwrap_or_default());
    Ok(notes.collect())
}

/// `kubectl patch pcl/demo --type merge`.
async fn patch(namespace: &Namespace, change: serde_json::Value) -> Result<()> {
    let objects = push_cluster::api(&namespace.cluster, &namespace.name);
    let change = Patch::Merge(change);
    let patched = objects.patch(NAME, &PatchParams::default(), &change).await;
    patched.context("patch the PushCluster").map(drop)
}
