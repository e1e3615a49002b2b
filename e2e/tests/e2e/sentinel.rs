//! Redis in three pods: what a lost one costs.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use e2e::checker::run::{Cast, Fleet, run};
use e2e::checker::{Channel, Heard, judge};
use e2e::cluster::{is_ready, name_of};
use e2e::fan_out::{publish_and_receive, subscribe_through};
use e2e::gateway::{CLIENTS_PORT, PodAddress};
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_cluster::{self, BECOMES_READY, gateway_pods, ready_gateways, until_condition};
use e2e::redis::{Login, Role, role};
use e2e::tunnel::Tunnel;
use e2e::wait::eventually;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::{NAME, change, operator_stays};

const SENTINELS: &str = "
apiVersion: pushcluster.io/v1alpha1
kind: PushCluster
metadata:
  name: demo
spec:
  replicas: 2
  redis:
    mode: Sentinel
    sentinel:
      downAfterSeconds: 3
";

const REDIS: [&str; 3] = ["demo-redis-0", "demo-redis-1", "demo-redis-2"];

/// Publishers and subscribers go on while the master's pod is deleted, and then all three. The operator is paused:
/// nothing of this needs it.
#[tokio::test]
async fn sentinels_replace_a_lost_master_and_lose_nothing_silently() {
    let _guard = operator_stays().await;
    in_namespace("sentinel", async |namespace| {
        outlives_its_master(&namespace, SENTINELS).await
    })
    .await;
}

pub async fn outlives_its_master(namespace: &Namespace, manifest: &str) -> Result<()> {
    namespace.cluster.apply(&namespace.name, manifest).await?;
    let gateways = with_history(namespace).await?;
    push_cluster::until_ready(&namespace.cluster, &namespace.name, NAME).await?;

    let key = every_gateway_delivers(namespace, &gateways).await?;
    let admin = admin(namespace).await?;
    let (fleet, _tunnels) = fleet(&gateways, &key).await?;
    let faults = lose_redis(namespace, &admin, &fleet);
    let played = run("kept:sentinel", &fleet, cast(), faults).await?;
    check(&played)
}

/// Publishes through each gateway, to subscribers of all. The API key.
pub async fn every_gateway_delivers(
    namespace: &Namespace,
    gateways: &[PodAddress],
) -> Result<String> {
    let key = push_cluster::api_key(&namespace.cluster, &namespace.name, NAME).await?;
    let mut subscribers = subscribe_through(gateways, "news").await?;
    for publisher in gateways {
        let message = ("news", &json!("three"));
        publish_and_receive(publisher, &key, message, &mut subscribers).await?;
    }
    Ok(key)
}

/// The gateways as the checker reaches them, for as long as the tunnels are kept.
pub async fn fleet(gateways: &[PodAddress], key: &str) -> Result<(Fleet, Vec<Tunnel>)> {
    let mut tunnels = Vec::new();
    for gateway in gateways {
        tunnels.push(Tunnel::open(gateway.clone(), CLIENTS_PORT).await?);
    }
    let fleet = Fleet::new(key);
    fleet.set(tunnels.iter().map(|tunnel| tunnel.address).collect());
    Ok((fleet, tunnels))
}

pub fn cast() -> Cast {
    Cast {
        publishers: 2,
        posters: 0,
        roaming: 1,
        staying: 2,
        seed: rand::random(),
    }
}

/// Everybody heard everything once and in order or was told, and who stayed kept the socket.
pub fn check(played: &Channel) -> Result<()> {
    let breaches = judge(played);
    ensure!(breaches.is_empty(), "{breaches:#?}");
    let staying = played
        .histories
        .iter()
        .filter(|h| h.name.starts_with("staying"));
    for history in staying {
        let ended = history.heard.contains(&Heard::Ended);
        ensure!(!ended, "{} lost its connection", history.name);
    }
    Ok(())
}

/// Waits until both staying subscribers hear something that is published from now on.
pub async fn everybody_hears(fleet: &Fleet, what: &str) -> Result<()> {
    let since = Instant::now();
    // One look has a minute, which on a busy machine an election may take.
    let heard = fleet.all_hear(2, since).await;
    let waited = match heard {
        Ok(waited) => waited,
        Err(_) => fleet.all_hear(2, since).await.context(what.to_owned())?,
    };
    eprintln!("{what}: everybody hears after {waited:.1?}");
    Ok(())
}

async fn lose_redis(namespace: &Namespace, admin: &Login, fleet: &Fleet) -> Result<()> {
    let everybody_hears = async |what| everybody_hears(fleet, what).await;
    everybody_hears("before").await?;

    let before = pods(namespace, &REDIS).await?;
    let roles = roles(namespace, &REDIS, admin).await?;
    let master = roles.iter().find(|(_, role)| **role == Role::Master);
    let (master, _) = master.with_context(|| format!("no master: {roles:?}"))?;
    delete(namespace, &[master]).await?;
    everybody_hears("without its master").await?;
    let after = until_all_follow(namespace, admin, &before, &[master]).await?;
    ensure!(
        after.get(master) == Some(&Role::Replica),
        "the deleted {master} came back otherwise: {after:?}"
    );

    let before = pods(namespace, &REDIS).await?;
    delete(namespace, &REDIS).await?;
    everybody_hears("without all three").await?;
    until_all_follow(namespace, admin, &before, &REDIS).await?;
    Ok(())
}

/// Uids of the pods of Redis.
pub async fn pods(
    namespace: &Namespace,
    names: &[&str],
) -> Result<BTreeMap<String, Option<String>>> {
    let pods: Api<Pod> = Api::namespaced(namespace.cluster.client(), &namespace.name);
    let mut found = BTreeMap::new();
    for name in names {
        let pod = pods.get(name).await?;
        ensure!(is_ready(&pod), "{name} is not ready");
        found.insert((*name).to_owned(), pod.metadata.uid);
    }
    Ok(found)
}

pub async fn delete(namespace: &Namespace, names: &[&str]) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(namespace.cluster.client(), &namespace.name);
    for name in names {
        let deleted = pods.delete(name, &DeleteParams::default()).await;
        deleted.with_context(|| format!("delete pod {name}"))?;
    }
    Ok(())
}

/// Waits until these pods are others, all three are ready, and two follow the third.
async fn until_all_follow(
    namespace: &Namespace,
    admin: &Login,
    before: &BTreeMap<String, Option<String>>,
    replaced: &[&str],
) -> Result<BTreeMap<&'static str, Role>> {
    let begun = Instant::now();
    let whole = eventually("one master and two replicas", BECOMES_READY, async || {
        let now = pods(namespace, &REDIS).await?;
        for name in replaced {
            ensure!(now.get(*name) != before.get(*name), "{name} is the old one");
        }
        let roles = roles(namespace, &REDIS, admin).await?;
        let count = |wanted| roles.values().filter(|role| **role == wanted).count();
        ensure!(
            count(Role::Master) == 1 && count(Role::Replica) == 2,
            "{roles:?}"
        );
        Ok::<_, anyhow::Error>(roles)
    })
    .await?;
    eprintln!(
        "sentinel: {replaced:?} are back after {:.1?}",
        begun.elapsed()
    );
    Ok(whole)
}

pub async fn roles<'a>(
    namespace: &Namespace,
    names: &[&'a str],
    admin: &Login,
) -> Result<BTreeMap<&'a str, Role>> {
    let mut found = BTreeMap::new();
    for name in names {
        let pod = PodAddress {
            cluster: namespace.cluster.clone(),
            namespace: namespace.name.clone(),
            pod: (*name).to_owned(),
        };
        found.insert(*name, role(&pod, admin).await?);
    }
    Ok(found)
}

/// How the operator itself comes to Redis.
pub async fn admin(namespace: &Namespace) -> Result<Login> {
    let password = entry(namespace, "demo-keys", "redis-admin-password").await?;
    let authorities = entry(namespace, "demo-redis-tls", "ca.crt").await?;
    let name = format!("demo-redis.{}.svc", namespace.name);
    Ok(Login {
        user: "admin",
        password: password.context("an admin's password")?,
        tls: authorities.map(|authorities| (authorities, name)),
    })
}

/// None: there is no such Secret, or no such key in it.
pub async fn entry(namespace: &Namespace, secret: &str, key: &str) -> Result<Option<String>> {
    let secrets: Api<Secret> = Api::namespaced(namespace.cluster.client(), &namespace.name);
    let secret = secrets.get_opt(secret).await?;
    let value = secret.and_then(|secret| secret.data?.remove(key));
    Ok(value.map(|value| String::from_utf8(value.0)).transpose()?)
}

/// Gateways that keep messages, which no field of a PushCluster asks for yet: the operator is paused, and the gateways
/// are made anew with a configuration that has it.
pub async fn with_history(namespace: &Namespace) -> Result<Vec<PodAddress>> {
    let (cluster, name) = (&namespace.cluster, &namespace.name);
    let old = eventually("there are gateway pods", BECOMES_READY, async || {
        let pods = gateway_pods(cluster, name, NAME).await?;
        ensure!(pods.len() == 2, "{} pods", pods.len());
        Ok::<_, anyhow::Error>(pods.iter().map(name_of).collect::<Vec<_>>())
    })
    .await?;
    change(namespace, json!({"paused": true})).await?;
    until_condition(cluster, name, NAME, ("ReconciliationPaused", "True")).await?;

    let configs: Api<ConfigMap> = Api::namespaced(cluster.client(), name);
    let config = configs.get("demo-config").await?;
    let text = config.data.and_then(|mut data| data.remove("gateway.yaml"));
    let mut settings: Value = serde_yaml::from_str(&text.context("a gateway.yaml")?)?;
    settings["channels"] =
        json!([{"prefix": "kept:", "historyMessages": 10_000, "historySeconds": 3600}]);
    let change = json!({"data": {"gateway.yaml": serde_yaml::to_string(&settings)?}});
    configs
        .patch(
            "demo-config",
            &PatchParams::default(),
            &Patch::Merge(change),
        )
        .await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), name);
    for pod in &old {
        pods.delete(pod, &DeleteParams::default()).await?;
    }
    eventually("two new gateways are ready", BECOMES_READY, async || {
        let now = ready_gateways(cluster, name, NAME).await?;
        let seen: Vec<_> = now.iter().map(|gateway| gateway.pod.clone()).collect();
        ensure!(
            now.len() == 2 && !seen.iter().any(|pod| old.contains(pod)),
            "ready: {seen:?}, old: {old:?}"
        );
        Ok::<_, anyhow::Error>(now)
    })
    .await
}
