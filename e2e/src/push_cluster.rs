//! PushClusters as their users see them: a manifest, a status, pods, a key.

use std::time::Duration;

use anyhow::{Context, Result};
use crds::PushCluster;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, ListParams};

use crate::cluster::{Cluster, is_ready, name_of};
use crate::gateway::PodAddress;
use crate::wait::eventually;

/// Images are there; what takes long on a small machine is Redis, then probes.
pub const BECOMES_READY: Duration = Duration::from_secs(180);

/// Selects everything that the operator made for the PushCluster `name`.
pub fn owned_labels(name: &str) -> String {
    format!("app.kubernetes.io/instance={name},app.kubernetes.io/managed-by=pushcluster-operator")
}

/// Selects its gateway pods.
pub fn gateway_labels(name: &str) -> String {
    format!("{},app.kubernetes.io/component=gateway", owned_labels(name))
}

pub fn api(cluster: &Cluster, namespace: &str) -> Api<PushCluster> {
    Api::namespaced(cluster.client(), namespace)
}

/// One condition of its status.
pub fn condition<'a>(object: &'a PushCluster, kind: &str) -> Option<&'a Condition> {
    object
        .status
        .iter()
        .flat_map(|status| &status.conditions)
        .find(|condition| condition.type_ == kind)
}

/// Waits until the condition has this status for the generation that is there now; returns it.
pub async fn until_condition(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    (kind, status): (&str, &str),
) -> Result<Condition> {
    let objects = api(cluster, namespace);
    eventually(
        &format!("PushCluster {namespace}/{name} is {kind}={status}"),
        BECOMES_READY,
        async || {
            let object = objects.get(name).await?;
            let generation = object.metadata.generation;
            let found = condition(&object, kind)
                .with_context(|| format!("no condition {kind} in {:?}", object.status))?;
            anyhow::ensure!(
                found.status == status && found.observed_generation == generation,
                "generation {generation:?}, {found:?}"
            );
            Ok::<_, anyhow::Error>(found.clone())
        },
    )
    .await
}

pub async fn until_ready(cluster: &Cluster, namespace: &str, name: &str) -> Result<()> {
    until_condition(cluster, namespace, name, ("Ready", "True"))
        .await
        .map(drop)
}

/// All its gateway pods, also those that are starting or ending.
pub async fn gateway_pods(cluster: &Cluster, namespace: &str, name: &str) -> Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(cluster.client(), namespace);
    let listed = pods
        .list(&ListParams::default().labels(&gateway_labels(name)))
        .await;
    Ok(listed
        .with_context(|| format!("list gateway pods of {namespace}/{name}"))?
        .items)
}

/// Addresses of its gateway pods that are ready.
pub async fn ready_gateways(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
) -> Result<Vec<PodAddress>> {
    let pods = gateway_pods(cluster, namespace, name).await?;
    Ok(pods
        .iter()
        .filter(|pod| is_ready(pod))
        .map(|pod| PodAddress {
            cluster: cluster.clone(),
            namespace: namespace.to_owned(),
            pod: name_of(pod),
        })
        .collect())
}

/// The key of the HTTP API that the operator generated.
pub async fn api_key(cluster: &Cluster, namespace: &str, name: &str) -> Result<String> {
    let secrets: Api<Secret> = Api::namespaced(cluster.client(), namespace);
    let secret_name = format!("{name}-keys");
    let secret = secrets
        .get(&secret_name)
        .await
        .with_context(|| format!("read Secret {namespace}/{secret_name}"))?;
    let value = secret.data.unwrap_or_default().remove("api-key");
    let value =
        value.with_context(|| format!("Secret {namespace}/{secret_name} has no api-key"))?;
    Ok(String::from_utf8(value.0)?.trim().to_owned())
}
