//! Who decides the size: the operator itself, a HorizontalPodAutoscaler, and what happens when there are two of them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_client::PushClient;
use e2e::push_cluster::{self, until_condition, until_ready};
use e2e::wait::eventually;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::json;
use tokio::io::DuplexStream;
use tokio::task::JoinSet;

use crate::autoscaling::connect;
use crate::{NAME, change, made, operator_stays, told};

pub(crate) const LIMIT: Duration = Duration::from_secs(90);
pub(crate) const ACTIVE: &str = "AutoscalerActive";
const BUILTIN: &str = "
apiVersion: pushcluster.io/v1alpha1
kind: PushCluster
metadata:
  name: demo
spec:
  replicas: 2
  autoscaling:
    mode: Builtin
    minReplicas: 2
    maxReplicas: 4
    targetConnectionsPerPod: 2
    behavior:
      scaleDown:
        stabilizationWindowSeconds: 0
";
const OF_KUBERNETES: &str = "
apiVersion: pushcluster.io/v1alpha1
kind: PushCluster
metadata:
  name: demo
spec:
  replicas: 2
  autoscaling:
    mode: HorizontalPodAutoscaler
    minReplicas: 2
    maxReplicas: 4
    targetConnectionsPerPod: 2
";

/// By the same clients, with one for each gateway: it would have as many as it may.
pub(crate) fn theirs(api_version: &str, kind: &str, name: &str) -> String {
    format!(
        "
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: mine
spec:
  scaleTargetRef: {{apiVersion: {api_version}, kind: {kind}, name: {name}}}
  minReplicas: 1
  maxReplicas: 9
  metrics:
    - type: Object
      object:
        describedObject: {{apiVersion: pushcluster.io/v1alpha1, kind: PushCluster, name: {NAME}}}
        metric: {{name: websocket_connected_clients}}
        target: {{type: AverageValue, averageValue: '1'}}
"
    )
}

pub(crate) fn autoscalers(namespace: &Namespace) -> Api<HorizontalPodAutoscaler> {
    Api::namespaced(namespace.cluster.client(), &namespace.name)
}

pub(crate) async fn until_autoscalers(namespace: &Namespace, expected: &[&str]) -> Result<()> {
    let what = format!("HorizontalPodAutoscalers: {expected:?}");
    eventually(&what, LIMIT, async || {
        let found = autoscalers(namespace).list(&ListParams::default()).await?;
        let found: Vec<String> = found.iter().map(ResourceExt::name_any).collect();
        ensure!(found == expected, "{found:?}");
        Ok::<_, anyhow::Error>(())
    })
    .await
}

pub(crate) async fn until_wished(namespace: &Namespace, expected: i32) -> Result<()> {
    let objects = push_cluster::api(&namespace.cluster, &namespace.name);
    let what = format!("{expected} gateways are wished");
    eventually(&what, LIMIT, async || {
        let object = objects.get(NAME).await?;
        let active = push_cluster::condition(&object, ACTIVE);
        let wished = object.spec.replicas;
        ensure!(wished == expected, "{wished}, {active:?}");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    until_ready(&namespace.cluster, &namespace.name, NAME).await
}

/// Until the condition is this one; its message.
pub(crate) async fn until_said(
    namespace: &Namespace,
    status: &str,
    reason: &str,
) -> Result<String> {
    until_told_of(namespace, (status, reason), "").await
}

/// Until the condition is False because of somebody who is named like this; its message.
pub(crate) async fn until_foreign(namespace: &Namespace, named: &str) -> Result<String> {
    until_told_of(namespace, ("False", "ForeignAutoscaler"), named).await
}

async fn until_told_of(
    namespace: &Namespace,
    expected: (&str, &str),
    part: &str,
) -> Result<String> {
    let objects = push_cluster::api(&namespace.cluster, &namespace.name);
    let what = format!("{ACTIVE} is {expected:?} and has {part:?}");
    eventually(&what, LIMIT, async || {
        let object = objects.get(NAME).await?;
        let found = push_cluster::condition(&object, ACTIVE).context(ACTIVE)?;
        let said = (found.status.as_str(), found.reason.as_str());
        ensure!(
            said == expected && found.message.contains(part),
            "{found:?}"
        );
        Ok::<_, anyhow::Error>(found.message.clone())
    })
    .await
}

#[tokio::test]
async fn the_operator_decides_the_size_itself() {
    let _guard = operator_stays().await;
    in_namespace("builtin", async |namespace| {
        let (cluster, name) = (&namespace.cluster, &namespace.name);
        made(&namespace, BUILTIN).await?;
        until_condition(cluster, name, NAME, (ACTIVE, "True")).await?;
        until_autoscalers(&namespace, &[]).await?;
        let clients = held(connect(&namespace, 5).await?);
        until_wished(&namespace, 3).await?;
        until_told(
            &namespace,
            "3 gateways are wished instead of 2: there are 5 clients",
        )
        .await?;

        // A size that is set by hand is its to take back.
        change(&namespace, json!({"replicas": 4})).await?;
        until_wished(&namespace, 3).await?;
        drop(clients);
        until_wished(&namespace, 2).await?;

        cluster
            .apply(
                name,
                &theirs("pushcluster.io/v1alpha1", "PushCluster", NAME),
            )
            .await?;
        until_foreign(
            &namespace,
            &format!("HorizontalPodAutoscaler mine scales PushCluster {NAME}"),
        )
        .await?;
        autoscalers(&namespace)
            .delete("mine", &DeleteParams::default())
            .await?;
        until_condition(cluster, name, NAME, (ACTIVE, "True")).await?;

        change(
            &namespace,
            json!({"autoscaling": {"mode": "HorizontalPodAutoscaler"}}),
        )
        .await?;
        until_autoscalers(&namespace, &[NAME]).await?;
        change(&namespace, json!({"autoscaling": {"mode": "Builtin"}})).await?;
        until_autoscalers(&namespace, &[]).await
    })
    .await;
}

/// They answer pings until this is dropped.
pub(crate) fn held(clients: Vec<PushClient<DuplexStream>>) -> JoinSet<()> {
    let mut held = JoinSet::new();
    for mut client in clients {
        held.spawn(async move { while client.next().await.is_ok() {} });
    }
    held
}

async fn until_told(namespace: &Namespace, expected: &str) -> Result<()> {
    eventually(&format!("an Event says: {expected}"), LIMIT, async || {
        let notes = told(namespace, "Autoscaled").await?;
        ensure!(
            notes.iter().any(|note| note.contains(expected)),
            "{notes:?}"
        );
        Ok::<_, anyhow::Error>(())
    })
    .await
}

/// Both would have more gateways, and none comes before the other one has gone.
#[tokio::test]
async fn beside_an_autoscaler_of_somebody_else_the_size_stays() {
    let _guard = operator_stays().await;
    in_namespace("two-autoscalers", async |namespace| {
        let (cluster, name) = (&namespace.cluster, &namespace.name);
        made(&namespace, OF_KUBERNETES).await?;
        until_condition(cluster, name, NAME, (ACTIVE, "True")).await?;
        let deployment = format!("{NAME}-gateway");
        cluster
            .apply(name, &theirs("apps/v1", "Deployment", &deployment))
            .await?;
        until_foreign(
            &namespace,
            &format!("HorizontalPodAutoscaler mine scales Deployment {deployment}"),
        )
        .await?;
        for autoscaler in [NAME, "mine"] {
            until_stopped(&namespace, autoscaler).await?;
        }
        let clients = held(connect(&namespace, 5).await?);
        for autoscaler in [NAME, "mine"] {
            until_stopped(&namespace, autoscaler).await?;
        }
        let deployments: Api<Deployment> = Api::namespaced(cluster.client(), name);
        let found = deployments.get(&deployment).await?;
        let size = found.spec.as_ref().and_then(|spec| spec.replicas);
        ensure!(size == Some(2), "{size:?}");

        autoscalers(&namespace)
            .delete("mine", &DeleteParams::default())
            .await?;
        until_wished(&namespace, 3).await?;
        until_condition(cluster, name, NAME, (ACTIVE, "True")).await?;
        drop(clients);
        Ok(())
    })
    .await;
}

/// Kubernetes found several autoscalers of the same pods.
async fn until_stopped(namespace: &Namespace, autoscaler: &str) -> Result<()> {
    eventually(
        &format!("HorizontalPodAutoscaler {autoscaler} is stopped"),
        LIMIT,
        async || {
            let found = autoscalers(namespace).get(autoscaler).await?;
            let conditions = found.status.and_then(|status| status.conditions);
            let mut conditions = conditions.into_iter().flatten();
            let active = conditions.find(|condition| condition.type_ == "ScalingActive");
            let reason = active.and_then(|active| active.reason);
            ensure!(reason.as_deref() == Some("AmbiguousSelector"), "{reason:?}");
            Ok::<_, anyhow::Error>(())
        },
    )
    .await
}
