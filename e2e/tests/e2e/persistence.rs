//! What Redis has on volumes outlives its pods.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::is_ready;
use e2e::fan_out::publish;
use e2e::gateway::{CLIENTS_PORT, PodAddress};
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_cluster::{self, BECOMES_READY, ready_gateways, until_ready};
use e2e::wait::eventually;
use http::Request;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::sentinel::delete;
use crate::{NAME, change, operator_stays};

mod full;

const SOON: Duration = Duration::from_secs(60);

/// Snapshots are rare: what is there after a pod has ended was written because it ended.
fn manifest(mode: &str) -> String {
    format!(
        "
apiVersion: pushcluster.io/v1alpha1
kind: PushCluster
metadata:
  name: demo
spec:
  replicas: 1
  autoscaling:
    enabled: false
  gateway:
    channels:
      - {{prefix: 'kept:', historyMessages: 100, historySeconds: 3600}}
  redis:
    mode: {mode}
    persistence:
      size: 64Mi
      snapshotSeconds: 86400
      whenDeleted: Delete
"
    )
}

/// A pod ends and what channels remember is there again. Then the volume grows, which replaces no pod, and is taken away,
/// which does. It goes with the PushCluster.
#[tokio::test]
async fn what_channels_remember_outlives_redis_and_its_volume_grows() {
    let _guard = operator_stays().await;
    in_namespace("persistence", async |namespace| {
        let cluster = &namespace.cluster;
        cluster
            .apply(&namespace.name, &manifest("Standalone"))
            .await?;
        until_ready(cluster, &namespace.name, NAME).await?;
        remember(&namespace, 0..3).await?;
        lose(&namespace, &["demo-redis-0"]).await?;
        until_remembered(&namespace, 0..3).await?;
        remember(&namespace, 3..5).await?;

        let pod = uids(&namespace, &["demo-redis-0"]).await?;
        let set = set_uid(&namespace).await?;
        spec(&namespace, &json!({"size": "128Mi"})).await?;
        eventually("the claim grows", SOON, async || {
            let sizes = sizes(&namespace).await?;
            ensure!(sizes == ["128Mi"], "{sizes:?}");
            let now = set_uid(&namespace).await?;
            ensure!(now != set, "the StatefulSet is the old one");
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        until_ready(cluster, &namespace.name, NAME).await?;
        let now = uids(&namespace, &["demo-redis-0"]).await?;
        ensure!(now == pod, "growing replaced the pod: {pod:?}, {now:?}");
        until_remembered(&namespace, 0..5).await?;

        push_cluster::api(cluster, &namespace.name)
            .delete(NAME, &DeleteParams::default())
            .await?;
        eventually("the volume goes with it", BECOMES_READY, async || {
            let sizes = sizes(&namespace).await?;
            ensure!(sizes.is_empty(), "{sizes:?}");
            Ok::<_, anyhow::Error>(())
        })
        .await
    })
    .await;
}

/// All three at once: nobody has anything in memory, and the Sentinels elect one of those that read it from their disks.
#[tokio::test]
async fn three_redis_that_are_lost_at_once_come_back_with_what_they_had() {
    let _guard = operator_stays().await;
    in_namespace("persistence-sentinel", async |namespace| {
        let cluster = &namespace.cluster;
        cluster
            .apply(&namespace.name, &manifest("Sentinel"))
            .await?;
        until_ready(cluster, &namespace.name, NAME).await?;
        remember(&namespace, 0..3).await?;
        let all = ["demo-redis-0", "demo-redis-1", "demo-redis-2"];
        // Ready is who has what the master has: what was published is everywhere.
        let ready = async || uids(&namespace, &all).await;
        eventually("all three follow", BECOMES_READY, ready).await?;
        lose(&namespace, &all).await?;
        until_remembered(&namespace, 0..3).await
    })
    .await;
}

/// Deletes these pods, as a drain of their nodes would, and waits until others are ready.
async fn lose(namespace: &Namespace, names: &[&str]) -> Result<()> {
    let before = uids(namespace, names).await?;
    delete(namespace, names).await?;
    eventually("other pods of Redis are ready", BECOMES_READY, async || {
        let now = uids(namespace, names).await?;
        for (name, uid) in &now {
            ensure!(before[name] != *uid, "{name} is the old one");
        }
        Ok::<_, anyhow::Error>(())
    })
    .await
}

async fn uids(namespace: &Namespace, names: &[&str]) -> Result<BTreeMap<String, String>> {
    let pods: Api<Pod> = Api::namespaced(namespace.cluster.client(), &namespace.name);
    let mut found = BTreeMap::new();
    for name in names {
        let pod = pods.get(name).await?;
        ensure!(is_ready(&pod), "{name} is not ready");
        found.insert((*name).to_owned(), pod.metadata.uid.unwrap_or_default());
    }
    Ok(found)
}

async fn set_uid(namespace: &Namespace) -> Result<Option<String>> {
    let sets: Api<StatefulSet> = Api::namespaced(namespace.cluster.client(), &namespace.name);
    Ok(sets.get("demo-redis").await?.metadata.uid)
}

/// What the claims of the namespace ask for.
async fn sizes(namespace: &Namespace) -> Result<Vec<String>> {
    let claims: Api<PersistentVolumeClaim> =
        Api::namespaced(namespace.cluster.client(), &namespace.name);
    let listed = claims.list(&ListParams::default()).await?.items;
    let size = |claim: PersistentVolumeClaim| {
        let requests = claim.spec?.resources?.requests?;
        Some(requests.get("storage")?.0.clone())
    };
    Ok(listed.into_iter().filter_map(size).collect())
}

async fn spec(namespace: &Namespace, persistence: &Value) -> Result<()> {
    change(namespace, json!({"redis": {"persistence": persistence}})).await
}

async fn gateway(namespace: &Namespace) -> Result<(PodAddress, String)> {
    let (cluster, name) = (&namespace.cluster, &namespace.name);
    let key = push_cluster::api_key(cluster, name, NAME).await?;
    let mut gateways = ready_gateways(cluster, name, NAME).await?;
    Ok((gateways.pop().context("no gateway is ready")?, key))
}

async fn remember(namespace: &Namespace, numbers: std::ops::Range<u32>) -> Result<()> {
    for number in numbers {
        eventually("a message is taken", BECOMES_READY, async || {
            let (gateway, key) = gateway(namespace).await?;
            publish(&gateway, &key, "kept:a", &json!(number)).await
        })
        .await?;
    }
    Ok(())
}

async fn until_remembered(namespace: &Namespace, numbers: std::ops::Range<u32>) -> Result<()> {
    let expected: Vec<Value> = numbers.map(|number| json!(number)).collect();
    eventually("the channel's history", BECOMES_READY, async || {
        let (gateway, key) = gateway(namespace).await?;
        let request = Request::get("/api/history?channel=kept:a&limit=100")
            .header("host", &gateway.pod)
            .header("authorization", format!("Bearer {key}"))
            .body(String::new())?;
        let answer = gateway.request(CLIENTS_PORT, request).await?;
        let page: Value = serde_json::from_str(answer.body())?;
        let messages = page["messages"].as_array();
        let found: Vec<&Value> = messages
            .into_iter()
            .flatten()
            .map(|message| &message["data"])
            .collect();
        ensure!(found.iter().copied().eq(&expected), "{page}");
        Ok::<_, anyhow::Error>(())
    })
    .await
}
