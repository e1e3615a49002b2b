//! Redis gets another password for gateways, under a steady push: no socket closes, no pod is another one, and a Redis
//! that restarts meanwhile or afterwards lets everybody in.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::checker::run::{Fleet, run};
use e2e::gateway::PodAddress;
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_cluster::{self, condition, ready_gateways};
use e2e::redis::{Login, role};
use e2e::wait::eventually;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, ListParams};

use crate::sentinel::{cast, check, delete, every_gateway_delivers, everybody_hears, fleet};
use crate::{NAME, annotate, made, operator_stays, told};

/// Each of the steps waits for kubelets and for the operator's next look.
const ROTATES: Duration = Duration::from_secs(300);

fn manifest(redis: &str) -> String {
    format!(
        "
apiVersion: pushcluster.io/v1alpha1
kind: PushCluster
metadata:
  name: demo
spec:
  replicas: 2
  gateway:
    channels: [{{prefix: 'kept:', historyMessages: 10000, historySeconds: 3600}}]
  redis: {redis}
"
    )
}

async fn keys(namespace: &Namespace) -> Result<BTreeMap<String, String>> {
    let secrets: Api<Secret> = Api::namespaced(namespace.cluster.client(), &namespace.name);
    let entries = secrets.get("demo-keys").await?.data.unwrap_or_default();
    let text =
        |(name, bytes): (String, k8s_openapi::ByteString)| Ok((name, String::from_utf8(bytes.0)?));
    entries.into_iter().map(text).collect()
}

/// Every pod of the PushCluster, with how often its containers were started.
async fn pods(namespace: &Namespace) -> Result<BTreeMap<String, (Option<String>, i32)>> {
    let pods: Api<Pod> = Api::namespaced(namespace.cluster.client(), &namespace.name);
    let listed = pods.list(&ListParams::default()).await?.items;
    let one = |pod: Pod| {
        let containers = pod.status.iter().flat_map(|s| &s.container_statuses);
        let starts = containers.flatten().map(|c| c.restart_count).sum();
        let name = pod.metadata.name.unwrap_or_default();
        (name, (pod.metadata.uid, starts))
    };
    Ok(listed.into_iter().map(one).collect())
}

/// Waits until `PasswordRotating` has one of these reasons.
async fn until_reason(namespace: &Namespace, reasons: &[&str]) -> Result<()> {
    let objects = push_cluster::api(&namespace.cluster, &namespace.name);
    eventually(
        &format!("the rotation says {reasons:?}"),
        ROTATES,
        async || {
            let object = objects.get(NAME).await?;
            let found = condition(&object, "PasswordRotating").context("no condition")?;
            ensure!(reasons.contains(&&*found.reason), "{found:?}");
            Ok::<_, anyhow::Error>(())
        },
    )
    .await
}

/// Whether this Redis takes it from gateways.
async fn takes(
    namespace: &Namespace,
    pod: &str,
    user: &'static str,
    password: &str,
) -> Result<bool> {
    let pod = PodAddress {
        cluster: namespace.cluster.clone(),
        namespace: namespace.name.clone(),
        pod: pod.to_owned(),
    };
    let login = Login {
        user,
        password: password.to_owned(),
        tls: None,
    };
    match role(&pod, &login).await {
        Ok(_) => Ok(true),
        Err(error) if format!("{error:#}").contains("WRONGPASS") => Ok(false),
        Err(error) => Err(error),
    }
}

struct Stage<'a> {
    namespace: &'a Namespace,
    fleet: &'a Fleet,
    /// As whom gateways come.
    user: &'static str,
    /// A pod of Redis that is deleted while Redis learns. None: all stay, and that is looked at.
    lost: Option<&'static str>,
}

/// Until the rotation is over: what there was before and what there is then.
async fn rotate(stage: &Stage<'_>) -> Result<()> {
    let Stage {
        namespace,
        fleet,
        user,
        lost,
    } = stage;
    everybody_hears(fleet, "before the rotation").await?;
    let (old, there) = (keys(namespace).await?, pods(namespace).await?);
    let begun = Instant::now();
    annotate(namespace, "pushcluster.io/rotate-redis-password", "please").await?;
    until_reason(namespace, &["RedisLearns", "GatewaysLearn"]).await?;
    if let Some(lost) = lost {
        delete(namespace, &[lost]).await?;
        everybody_hears(fleet, "a Redis was deleted meanwhile").await?;
    }
    until_reason(namespace, &["NotRotating"]).await?;
    eprintln!("the password is another one after {:.1?}", begun.elapsed());
    let new = keys(namespace).await?;
    ensure!(new["redis-password"] != old["redis-password"], "the same");
    ensure!(
        !new.contains_key("redis-password-before"),
        "{:?}",
        new.keys()
    );
    everybody_hears(fleet, "after the rotation").await?;
    if lost.is_none() {
        let now = pods(namespace).await?;
        ensure!(now == there, "{there:?}, and then {now:?}");
    }
    for pod in there.keys().filter(|pod| pod.starts_with("demo-redis-")) {
        eventually("Redis takes the new password only", ROTATES, async || {
            let (new, old) = (&new["redis-password"], &old["redis-password"]);
            ensure!(
                takes(namespace, pod, user, new).await?,
                "{pod}: not the new"
            );
            ensure!(!takes(namespace, pod, user, old).await?, "{pod}: the old");
            Ok::<_, anyhow::Error>(())
        })
        .await?;
    }
    for reason in ["RedisPasswordChanging", "RedisPasswordChanged"] {
        let told = told(namespace, reason).await?;
        ensure!(told.len() == 1, "Events {reason}: {told:?}");
    }
    Ok(())
}

async fn played(stage: &Stage<'_>) -> Result<()> {
    rotate(stage).await?;
    // Everybody has to come again.
    let all = pods(stage.namespace).await?;
    let redis = all.keys().find(|pod| pod.starts_with("demo-redis-"));
    delete(stage.namespace, &[redis.context("no Redis")?]).await?;
    everybody_hears(stage.fleet, "Redis began anew").await
}

async fn under_a_push(name: &str, redis: &str, (user, lost): (&'static str, Option<&'static str>)) {
    let _guard = operator_stays().await;
    in_namespace(name, async |namespace| {
        made(&namespace, &manifest(redis)).await?;
        let gateways = ready_gateways(&namespace.cluster, &namespace.name, NAME).await?;
        let key = every_gateway_delivers(&namespace, &gateways).await?;
        let (fleet, _tunnels) = fleet(&gateways, &key).await?;
        let stage = Stage {
            namespace: &namespace,
            fleet: &fleet,
            user,
            lost,
        };
        check(&run("kept:password", &fleet, cast(), played(&stage)).await?)
    })
    .await;
}

#[tokio::test]
async fn redis_password_of_one_redis_is_exchanged_under_a_push() {
    under_a_push("password", "{}", ("default", None)).await;
}

#[tokio::test]
async fn redis_password_with_sentinels_is_exchanged_while_a_redis_is_lost() {
    let redis = "{mode: Sentinel, sentinel: {downAfterSeconds: 3}}";
    under_a_push(
        "password-sentinel",
        redis,
        ("gateway", Some("demo-redis-1")),
    )
    .await;
}

#[tokio::test]
async fn redis_password_with_shards_is_exchanged_while_a_master_is_lost() {
    let redis = "{mode: Cluster, cluster: {downAfterSeconds: 3}}";
    under_a_push(
        "password-shards",
        redis,
        ("gateway", Some("demo-redis-1-0")),
    )
    .await;
}
