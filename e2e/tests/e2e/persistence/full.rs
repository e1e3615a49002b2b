//! A volume of Redis is full: everybody is pushed to, the status names it, and it passes with its cause.

use anyhow::{Context, Result, ensure};
use e2e::checker::run::{Fleet, run};
use e2e::machine::{Machine, Mounted};
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_cluster::{self, BECOMES_READY, condition, ready_gateways, until_ready};
use e2e::wait::eventually;
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;

use crate::sentinel::{cast, check, everybody_hears, fleet};
use crate::{NAME, made, operator_stays};

/// Where the volume is, whose pod goes there, too.
const NODE: &str = "node-1";

#[tokio::test]
async fn a_full_volume_of_redis_is_told_and_costs_no_message() {
    let _guard = operator_stays().await;
    in_namespace("volume-full", async |namespace| {
        let volume = Machine::under_test()?.mount(NODE, &namespace.name, "8m")?;
        let volumes: Api<PersistentVolume> = Api::all(namespace.cluster.client());
        volumes
            .create(
                &PostParams::default(),
                &persistent_volume(&namespace, &volume)?,
            )
            .await
            .context("create a PersistentVolume")?;
        let pushed = push_beside(&namespace, &volume).await;
        // Whose claim goes with the namespace.
        let removed = volumes
            .delete(&namespace.name, &DeleteParams::default())
            .await;
        pushed?;
        removed.map(drop).context("delete the PersistentVolume")
    })
    .await;
}

fn persistent_volume(namespace: &Namespace, volume: &Mounted) -> Result<PersistentVolume> {
    let on_node = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]});
    Ok(serde_json::from_value(json!({
        "metadata": {"name": namespace.name},
        "spec": {
            "capacity": {"storage": "8Mi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": namespace.name,
            "hostPath": {"path": volume.path()},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_node]}]}},
        },
    }))?)
}

async fn push_beside(namespace: &Namespace, volume: &Mounted) -> Result<()> {
    let (cluster, name) = (&namespace.cluster, &namespace.name);
    let manifest = format!(
        "
apiVersion: pushcluster.io/v1alpha1
kind: PushCluster
metadata:
  name: demo
spec:
  replicas: 2
  gateway:
    channels:
      - {{prefix: 'kept:', historyMessages: 10000, historySeconds: 3600}}
  redis:
    persistence:
      size: 8Mi
      storageClassName: {name}
      snapshotSeconds: 5
      whenDeleted: Delete
"
    );
    made(namespace, &manifest).await?;
    let gateways = ready_gateways(cluster, name, NAME).await?;
    let key = push_cluster::api_key(cluster, name, NAME).await?;
    let (fleet, _tunnels) = fleet(&gateways, &key).await?;
    let faults = fill(namespace, &fleet, volume);
    let played = run("kept:full", &fleet, cast(), faults).await?;
    check(&played)?;
    until_ready(cluster, name, NAME).await
}

async fn fill(namespace: &Namespace, fleet: &Fleet, volume: &Mounted) -> Result<()> {
    everybody_hears(fleet, "with room on the volume").await?;
    until_redis_is(namespace, "Ready").await?;
    volume.fill()?;
    let message = until_redis_is(namespace, "Impaired").await?;
    ensure!(message.contains("cannot write a snapshot"), "{message}");
    everybody_hears(fleet, "with a full volume").await?;
    volume.empty()?;
    until_redis_is(namespace, "Ready").await?;
    everybody_hears(fleet, "with room again").await
}

/// Waits until `RedisAvailable` holds for this reason; its message. All the time the PushCluster is Ready.
async fn until_redis_is(namespace: &Namespace, reason: &str) -> Result<String> {
    let objects = push_cluster::api(&namespace.cluster, &namespace.name);
    let what = format!("RedisAvailable for reason {reason}");
    eventually(&what, BECOMES_READY, async || {
        let object = objects.get(NAME).await?;
        let found = condition(&object, "RedisAvailable").context("no RedisAvailable")?;
        let ready = condition(&object, "Ready").context("no Ready")?;
        ensure!(
            found.reason == reason && found.status == "True" && ready.status == "True",
            "{found:?}, {ready:?}"
        );
        Ok::<_, anyhow::Error>(found.message.clone())
    })
    .await
}
