//! Autoscaling by the number of connected clients, with nothing installed but the operator.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::gateway::CLIENTS_PORT;
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_client::PushClient;
use e2e::push_cluster::{self, ready_gateways, until_condition, until_ready};
use e2e::wait::eventually;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::Api;
use serde_json::Value;
use tokio::io::DuplexStream;

use crate::{NAME, made, operator_stays};

const LIMIT: Duration = Duration::from_secs(90);
const METRIC: &str = "websocket_connected_clients";
const SMALL_STEPS: &str = "
apiVersion: pushcluster.io/v1alpha1
kind: PushCluster
metadata:
  name: demo
spec:
  replicas: 2
  autoscaling:
    minReplicas: 2
    maxReplicas: 4
    targetConnectionsPerPod: 2
";

/// What the API server says that the operator says.
async fn raw(namespace: &Namespace, path: &str) -> Result<Value> {
    let request = http::Request::get(path).body(Vec::new())?;
    let client = namespace.cluster.client();
    client
        .request(request)
        .await
        .with_context(|| path.to_owned())
}

fn path(namespace: &Namespace, version: &str, object: &str) -> String {
    format!(
        "/apis/custom.metrics.k8s.io/{version}/namespaces/{}/{object}/{METRIC}",
        namespace.name
    )
}

pub(crate) async fn connect(
    namespace: &Namespace,
    clients: usize,
) -> Result<Vec<PushClient<DuplexStream>>> {
    let gateways = ready_gateways(&namespace.cluster, &namespace.name, NAME).await?;
    ensure!(gateways.len() >= 2, "{} gateways are ready", gateways.len());
    let mut connected = Vec::new();
    for gateway in gateways.iter().cycle().take(clients) {
        connected.push(PushClient::connect(gateway.stream(CLIENTS_PORT).await?).await?);
    }
    Ok(connected)
}

async fn until_told(namespace: &Namespace, version: &str, expected: &str) -> Result<()> {
    let of = path(
        namespace,
        version,
        &format!("pushclusters.pushcluster.io/{NAME}"),
    );
    eventually(
        &format!("{version} says that {expected} clients are connected"),
        LIMIT,
        async || {
            let told = raw(namespace, &of).await?;
            ensure!(told["items"][0]["value"] == expected, "{told}");
            Ok::<_, anyhow::Error>(())
        },
    )
    .await
}

#[tokio::test]
async fn a_cluster_grows_with_its_clients() {
    let _guard = operator_stays().await;
    in_namespace("autoscaling", async |namespace| {
        let (cluster, name) = (&namespace.cluster, &namespace.name);
        made(&namespace, SMALL_STEPS).await?;
        until_condition(cluster, name, NAME, ("MetricsApiRegistered", "True")).await?;
        let clients = connect(&namespace, 5).await?;
        for version in ["v1beta1", "v1beta2"] {
            until_told(&namespace, version, "5").await?;
        }
        pods_add_up(&namespace).await?;
        others_are_told(&namespace).await?;

        until_replicas(&namespace, 3).await?;
        until_condition(cluster, name, NAME, ("AutoscalerActive", "True")).await?;
        until_ready(cluster, name, NAME).await?;
        until_shown(&namespace).await?;
        drop(clients);
        until_told(&namespace, "v1beta2", "0").await
    })
    .await;
}

/// Each pod by its name, and all of them by their labels.
async fn pods_add_up(namespace: &Namespace) -> Result<()> {
    let labels = format!("?labelSelector=app.kubernetes.io%2Finstance%3D{NAME}");
    let all = raw(namespace, &(path(namespace, "v1beta2", "pods/*") + &labels)).await?;
    let items = all["items"].as_array().context("items")?;
    ensure!(items.len() >= 2, "{all}");
    let mut sum = 0;
    for item in items {
        let pod = item["describedObject"]["name"].as_str().context("a name")?;
        let one = path(namespace, "v1beta1", &format!("pods/{pod}"));
        let one = raw(namespace, &one).await?;
        ensure!(one["items"][0]["value"] == item["value"], "{one} {item}");
        sum += item["value"].as_str().context("a value")?.parse::<u32>()?;
    }
    ensure!(sum == 5, "{all}");
    let nobody = path(namespace, "v1beta2", "pushclusters.pushcluster.io/nobody");
    let refused = raw(namespace, &nobody).await;
    let refused = format!("{:#}", refused.expect_err("there is none of this name"));
    ensure!(
        refused.contains("there is no PushCluster nobody"),
        "{refused}"
    );
    Ok(())
}

/// What else one may scale by.
async fn others_are_told(namespace: &Namespace) -> Result<()> {
    let place = format!(
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/{}/pushclusters.pushcluster.io/{NAME}",
        namespace.name
    );
    let memory = raw(namespace, &format!("{place}/pushcluster_memory_used_bytes")).await?;
    let used = memory["items"][0]["value"].as_str().context("a value")?;
    ensure!(used.parse::<u64>()? > 1_000_000, "{memory}");
    let sent = raw(
        namespace,
        &format!("{place}/websocket_messages_sent_per_second"),
    )
    .await?;
    ensure!(
        sent["items"][0]["windowSeconds"].as_u64() >= Some(1),
        "{sent}"
    );
    Ok(())
}

async fn until_replicas(namespace: &Namespace, expected: i32) -> Result<()> {
    let objects = push_cluster::api(&namespace.cluster, &namespace.name);
    let autoscalers: Api<HorizontalPodAutoscaler> =
        Api::namespaced(namespace.cluster.client(), &namespace.name);
    eventually(
        &format!("the autoscaler asks for {expected} gateways"),
        LIMIT,
        async || {
            let object = objects.get(NAME).await?;
            if object.spec.replicas == expected {
                return Ok(());
            }
            let autoscaler = autoscalers.get(NAME).await?;
            anyhow::bail!("{}: {:?}", object.spec.replicas, autoscaler.status)
        },
    )
    .await
}

/// `kubectl get hpa` has clients for each pod: five of them on three.
async fn until_shown(namespace: &Namespace) -> Result<()> {
    let autoscalers: Api<HorizontalPodAutoscaler> =
        Api::namespaced(namespace.cluster.client(), &namespace.name);
    eventually(
        "the autoscaler shows clients for each pod",
        LIMIT,
        async || {
            let status = autoscalers.get(NAME).await?.status.context("a status")?;
            let metrics = status.current_metrics.unwrap_or_default();
            let object = metrics.into_iter().find_map(|metric| metric.object);
            let shown = object.and_then(|object| object.current.average_value);
            let shown = shown.map(|quantity| quantity.0);
            ensure!(shown.as_deref() == Some("1667m"), "{shown:?}");
            Ok::<_, anyhow::Error>(())
        },
    )
    .await
}
