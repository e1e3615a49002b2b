//! Redis with Sentinels is made otherwise under a steady push: replicas first, the master last, after one failover.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::checker::run::{Fleet, run};
use e2e::cluster::is_ready;
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_cluster::{ready_gateways, until_condition, until_ready};
use e2e::redis::{Login, Role};
use e2e::wait::eventually;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use serde_json::json;

use crate::sentinel::{
    admin, cast, check, every_gateway_delivers, everybody_hears, fleet, pods, roles,
};
use crate::{NAME, change, made, operator_stays, told};

const MANIFEST: &str = "
apiVersion: pushcluster.io/v1alpha1
kind: PushCluster
metadata:
  name: demo
spec:
  replicas: 2
  gateway:
    channels: [{prefix: 'kept:', historyMessages: 10000, historySeconds: 3600}]
  redis:
    mode: Sentinel
    sentinel:
      downAfterSeconds: 3
";

const REDIS: [&str; 3] = ["demo-redis-0", "demo-redis-1", "demo-redis-2"];

/// Three pods one after the other, each of which starts, waits to be missed and copies what its master has.
const REPLACED: Duration = Duration::from_secs(400);

type Uids = BTreeMap<String, Option<String>>;

/// What was seen on the way.
#[derive(Debug, Default)]
struct Seen {
    /// One after the other, as often as there was exactly one.
    masters: Vec<String>,
    /// Pods that were missing, ending or not ready at once, at most.
    away: usize,
}

impl Seen {
    async fn look(&mut self, namespace: &Namespace, admin: &Login) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(namespace.cluster.client(), &namespace.name);
        let labels = ListParams::default().labels("app.kubernetes.io/component=redis");
        let listed = pods.list(&labels).await?.items;
        let there = listed
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none() && is_ready(pod));
        self.away = self.away.max(REDIS.len() - there.count());
        let mut masters = Vec::new();
        for name in REDIS {
            // One that is away has no role.
            let found = roles(namespace, &[name], admin).await;
            if found.is_ok_and(|found| found.get(name) == Some(&Role::Master)) {
                masters.push(name);
            }
        }
        // While one takes over from another, both say that they are it.
        if let [master] = masters[..]
            && self.masters.last().map(String::as_str) != Some(master)
        {
            self.masters.push(master.to_owned());
        }
        Ok(())
    }
}

async fn replaced(namespace: &Namespace, before: &Uids, admin: &Login) -> Result<Seen> {
    let mut seen = Seen::default();
    let begun = Instant::now();
    eventually("every pod of Redis is another one", REPLACED, async || {
        seen.look(namespace, admin).await?;
        let now = pods(namespace, &REDIS).await?;
        for name in REDIS {
            ensure!(now.get(name) != before.get(name), "{name} is the old one");
        }
        let roles = roles(namespace, &REDIS, admin).await?;
        let count = |wanted| roles.values().filter(|role| **role == wanted).count();
        ensure!(
            count(Role::Master) == 1 && count(Role::Replica) == 2,
            "{roles:?}"
        );
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    eprintln!("all are others after {:.1?}: {seen:?}", begun.elapsed());
    Ok(seen)
}

async fn failovers_told(namespace: &Namespace) -> Result<usize> {
    let notes = told(namespace, "RedisArranged").await?;
    let failovers = notes.iter().filter(|note| note.contains("gives its place"));
    Ok(failovers.count())
}

async fn replace(namespace: &Namespace, fleet: &Fleet) -> Result<()> {
    let (cluster, name) = (&namespace.cluster, &namespace.name);
    everybody_hears(fleet, "before").await?;
    let admin = admin(namespace).await?;
    let before = pods(namespace, &REDIS).await?;
    let resources = json!({"limits": {"memory": "300Mi"}});
    change(namespace, json!({"redis": {"resources": resources}})).await?;
    let seen = replaced(namespace, &before, &admin).await?;
    ensure!(
        seen.masters.len() == 2,
        "the master moved otherwise: {seen:?}"
    );
    ensure!(seen.away <= 1, "two were away at once: {seen:?}");
    let told = failovers_told(namespace).await?;
    ensure!(told == 1, "{told} failovers are told");
    until_condition(cluster, name, NAME, ("RedisAvailable", "True")).await?;
    until_ready(cluster, name, NAME).await?;
    everybody_hears(fleet, "after").await
}

#[tokio::test]
async fn redis_with_sentinels_is_replaced_replica_by_replica_and_the_master_moves_once() {
    let _guard = operator_stays().await;
    in_namespace("succession", async |namespace| {
        let (cluster, name) = (&namespace.cluster, &namespace.name);
        made(&namespace, MANIFEST).await?;
        let gateways = ready_gateways(cluster, name, NAME).await?;
        let key = every_gateway_delivers(&namespace, &gateways).await?;
        let (fleet, _tunnels) = fleet(&gateways, &key).await?;
        let played = run(
            "kept:succession",
            &fleet,
            cast(),
            replace(&namespace, &fleet),
        )
        .await?;
        check(&played)
    })
    .await;
}
