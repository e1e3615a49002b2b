//! Redis in shards: made by the operator, and made whole again by it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::checker::run::{Fleet, run};
use e2e::gateway::PodAddress;
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_cluster::{self, BECOMES_READY};
use e2e::redis::{Login, Role};
use e2e::wait::eventually;
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::{Api, ListParams};
use serde_json::json;

use crate::sentinel::{
    admin, cast, check, delete, every_gateway_delivers, everybody_hears, fleet, pods, roles,
    with_history,
};
use crate::{NAME, change, operator_stays};

const SHARDS: &str = "
apiVersion: pushcluster.io/v1alpha1
kind: PushCluster
metadata:
  name: demo
spec:
  replicas: 2
  redis:
    mode: Cluster
    cluster:
      downAfterSeconds: 3
";

const REDIS: [&str; 6] = [
    "demo-redis-0-0",
    "demo-redis-0-1",
    "demo-redis-1-0",
    "demo-redis-1-1",
    "demo-redis-2-0",
    "demo-redis-2-1",
];

/// A channel whose slot is among the first that a fourth shard gets: 15670, the CRC16 of `channel:kept:0`, its hash tag.
const MOVES: &str = "kept:0";

/// Six pods that are replaced one after the other, each when the one before has its part.
const PATIENCE: Duration = Duration::from_secs(400);

/// Uids of pods that were deleted.
pub type Deleted = BTreeMap<String, Option<String>>;

/// The masters' pods are deleted one after the other under a steady push, while the operator is paused: those that are
/// left elect. Then the operator is back, and gives the new pods their parts. It replaces all for a setting, one by one, and
/// makes the Cluster anew when all six are deleted.
#[tokio::test]
async fn a_cluster_of_redis_is_made_loses_a_master_and_is_made_whole() {
    let _guard = operator_stays().await;
    in_namespace("redis-cluster", async |namespace| {
        let cluster = &namespace.cluster;
        let (gateways, deleted) = outlives_its_masters(&namespace, SHARDS).await?;
        let admin = admin(&namespace).await?;
        change(&namespace, json!({"paused": false})).await?;
        let healed = until_whole(&namespace, &admin, &deleted, "masters deleted").await?;
        for lost in deleted.keys() {
            let role = healed.get(lost.as_str());
            ensure!(
                role == Some(&Role::Replica),
                "{lost} came back otherwise: {healed:?}"
            );
        }

        let all = pods(&namespace, &REDIS).await?;
        change(
            &namespace,
            json!({"redis": {"cluster": {"downAfterSeconds": 4}}}),
        )
        .await?;
        until_whole(&namespace, &admin, &all, "another setting").await?;
        every_gateway_delivers(&namespace, &gateways).await?;

        let all = pods(&namespace, &REDIS).await?;
        delete(&namespace, &REDIS).await?;
        until_whole(&namespace, &admin, &all, "all six deleted").await?;
        push_cluster::until_ready(cluster, &namespace.name, NAME).await?;
        eventually("every gateway delivers again", BECOMES_READY, async || {
            every_gateway_delivers(&namespace, &gateways).await
        })
        .await?;
        Ok(())
    })
    .await;
}

/// Until all masters were deleted and the operator is paused: the gateways that went on, and who was deleted.
pub async fn outlives_its_masters(
    namespace: &Namespace,
    manifest: &str,
) -> Result<(Vec<PodAddress>, Deleted)> {
    let cluster = &namespace.cluster;
    cluster.apply(&namespace.name, manifest).await?;
    push_cluster::until_ready(cluster, &namespace.name, NAME).await?;
    let admin = admin(namespace).await?;
    until_whole(namespace, &admin, &Deleted::new(), "made").await?;

    let gateways = with_history(namespace).await?;
    let key = every_gateway_delivers(namespace, &gateways).await?;
    let (fleet, _tunnels) = fleet(&gateways, &key).await?;
    let old = pods(namespace, &REDIS).await?;
    let mut deleted = Deleted::new();
    let faults = async {
        everybody_hears(&fleet, "shards: before").await?;
        for lost in lose_each_master(namespace, &admin, &fleet).await? {
            deleted.insert(lost.to_owned(), old[lost].clone());
        }
        Ok(())
    };
    check(&run("kept:shards", &fleet, cast(), faults).await?)?;
    Ok((gateways, deleted))
}

/// A fourth shard comes under a steady push, and goes again: the channel's slot moves twice while it is used.
#[tokio::test]
async fn a_shard_comes_and_goes_and_nothing_is_lost() {
    let _guard = operator_stays().await;
    in_namespace("shards", async |namespace| {
        let cluster = &namespace.cluster;
        cluster.apply(&namespace.name, SHARDS).await?;
        let history =
            json!({"prefix": "kept:", "historyMessages": 10_000, "historySeconds": 3_600});
        change(&namespace, json!({"gateway": {"channels": [history]}})).await?;
        push_cluster::until_ready(cluster, &namespace.name, NAME).await?;
        let gateways = push_cluster::ready_gateways(cluster, &namespace.name, NAME).await?;
        let key = every_gateway_delivers(&namespace, &gateways).await?;
        let (fleet, _tunnels) = fleet(&gateways, &key).await?;
        let moves = async {
            everybody_hears(&fleet, "shards: three").await?;
            shards(&namespace, 4).await?;
            everybody_hears(&fleet, "shards: four").await?;
            shards(&namespace, 3).await?;
            everybody_hears(&fleet, "shards: three again").await
        };
        check(&run(MOVES, &fleet, cast(), moves).await?)
    })
    .await;
}

/// Waits until there are so many StatefulSets of Redis, and the Cluster is whole.
async fn shards(namespace: &Namespace, count: usize) -> Result<()> {
    let begun = Instant::now();
    let (cluster, name) = (&namespace.cluster, &namespace.name);
    change(namespace, json!({"redis": {"cluster": {"shards": count}}})).await?;
    let sets: Api<StatefulSet> = Api::namespaced(cluster.client(), name);
    let labels = push_cluster::owned_labels(NAME);
    eventually("as many shards as asked for", PATIENCE, async || {
        let found = sets.list(&ListParams::default().labels(&labels)).await?;
        ensure!(found.items.len() == count, "{}", found.items.len());
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    let ready = eventually("Redis is whole", PATIENCE, async || {
        let object = push_cluster::api(cluster, name).get(NAME).await?;
        let found = push_cluster::condition(&object, "RedisAvailable");
        let found = found.context("no such condition")?;
        ensure!(
            found.status == "True"
                && found.observed_generation == object.metadata.generation
                && found.reason == "Ready",
            "{found:?}"
        );
        Ok::<_, anyhow::Error>(found.message.clone())
    });
    let message = ready.await?;
    eprintln!("shards: {count} after {:.1?}: {message}", begun.elapsed());
    Ok(())
}

/// One of them has the channel. The next is deleted when the one before has its heir, else half of them were gone.
async fn lose_each_master(
    namespace: &Namespace,
    admin: &Login,
    fleet: &Fleet,
) -> Result<Vec<&'static str>> {
    let before = roles(namespace, &REDIS, admin).await?;
    let mut lost = Vec::new();
    for shard in REDIS.chunks(2) {
        let is_master = |pod: &&&str| before[**pod] == Role::Master;
        let master = *shard.iter().find(is_master).context("a master")?;
        let heir: Vec<&str> = shard.iter().copied().filter(|pod| *pod != master).collect();
        delete(namespace, &[master]).await?;
        everybody_hears(fleet, &format!("shards: without {master}")).await?;
        eventually("its replica is master", BECOMES_READY, async || {
            let roles = roles(namespace, &heir, admin).await?;
            ensure!(
                roles.values().all(|role| *role == Role::Master),
                "{roles:?}"
            );
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        lost.push(master);
    }
    everybody_hears(fleet, "shards: with the heirs").await?;
    Ok(lost)
}

/// Waits until all pods are ready, and each shard has a master and a replica that follows it.
pub async fn until_whole(
    namespace: &Namespace,
    admin: &Login,
    deleted: &Deleted,
    what: &str,
) -> Result<BTreeMap<&'static str, Role>> {
    let begun = Instant::now();
    let whole = eventually(
        "a master and a replica in each shard",
        PATIENCE,
        async || {
            let now = pods(namespace, &REDIS).await?;
            for (name, uid) in deleted {
                ensure!(now.get(name) != Some(uid), "{name} is the old one");
            }
            let roles = roles(namespace, &REDIS, admin).await?;
            for shard in REDIS.chunks(2) {
                let found: Vec<Role> = shard.iter().map(|pod| roles[pod]).collect();
                ensure!(
                    found.contains(&Role::Master) && found.contains(&Role::Replica),
                    "{roles:?}"
                );
            }
            Ok::<_, anyhow::Error>(roles)
        },
    )
    .await?;
    eprintln!("shards: {what}, whole after {:.1?}", begun.elapsed());
    Ok(whole)
}
