//! Things that break.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::cluster::name_of;
use e2e::fan_out::{publish_and_receive, subscribe_through};
use e2e::machine::stop_in_pod;
use e2e::namespace::in_namespace;
use e2e::push_cluster::{self, BECOMES_READY, ready_gateways, until_condition, until_ready};
use e2e::steady::{Steady, pass};
use e2e::wait::eventually;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams};
use serde_json::json;

use crate::{NAME, operator_stays, two_gateways};

/// Some dozens of messages.
const A_WHILE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_killed_gateway_is_back_and_pushes() {
    let _guard = operator_stays().await;
    in_namespace("killed", async |namespace| {
        two_gateways(&namespace).await?;
        let (cluster, name) = (&namespace.cluster, &namespace.name);
        let before = ready_gateways(cluster, name, NAME).await?;
        let killed = before.first().context("no gateway is ready")?.pod.clone();
        let pods: Api<Pod> = Api::namespaced(cluster.client(), name);
        pods.delete(&killed, &DeleteParams::default().grace_period(0))
            .await?;

        let gateways = eventually(
            "two gateways are ready, one of them new",
            BECOMES_READY,
            async || {
                let now = ready_gateways(cluster, name, NAME).await?;
                let seen: Vec<_> = now.iter().map(|gateway| &gateway.pod).collect();
                ensure!(
                    now.len() == 2 && !seen.contains(&&killed),
                    "ready: {seen:?}"
                );
                Ok::<_, anyhow::Error>(now)
            },
        )
        .await?;
        let key = push_cluster::api_key(cluster, name, NAME).await?;
        let mut subscribers = subscribe_through(&gateways, "news").await?;
        for publisher in &gateways {
            publish_and_receive(publisher, &key, ("news", &json!("back")), &mut subscribers)
                .await?;
        }
        push_cluster::until_ready(cluster, name, NAME).await
    })
    .await;
}

/// Gateways lose their Redis, say so, and deliver again when it is back.
#[tokio::test]
async fn a_killed_redis_is_back_and_messages_flow() {
    let _guard = operator_stays().await;
    in_namespace("redis", async |namespace| {
        two_gateways(&namespace).await?;
        let (cluster, name) = (&namespace.cluster, &namespace.name);
        let key = push_cluster::api_key(cluster, name, NAME).await?;
        let gateways = ready_gateways(cluster, name, NAME).await?;
        let mut subscribers = subscribe_through(&gateways, "news").await?;

        let pods: Api<Pod> = Api::namespaced(cluster.client(), name);
        let labels = format!(
            "{},app.kubernetes.io/component=redis",
            push_cluster::owned_labels(NAME)
        );
        let redis = pods
            .list(&kube::api::ListParams::default().labels(&labels))
            .await?;
        let redis = redis
            .items
            .first()
            .with_context(|| format!("no pod with labels {labels}"))?;
        pods.delete(&name_of(redis), &DeleteParams::default().grace_period(0))
            .await?;

        // The subscribers stay connected all the while: what is published after the return reaches them.
        eventually("a message crosses again", BECOMES_READY, async || {
            publish_and_receive(
                &gateways[0],
                &key,
                ("news", &json!("again")),
                &mut subscribers,
            )
            .await
        })
        .await?;
        push_cluster::until_ready(cluster, name, NAME).await
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_is_not_there_is_a_condition() {
    let _guard = operator_stays().await;
    in_namespace("no-redis", async |namespace| {
        let manifest = "
apiVersion: pushcluster.io/v1alpha1
kind: PushCluster
metadata:
  name: demo
spec:
  replicas: 1
  redis:
    mode: External
    external:
      host: nobody.invalid
";
        namespace.cluster.apply(&namespace.name, manifest).await?;
        let wanted = ("Ready", "False");
        let condition = until_condition(&namespace.cluster, &namespace.name, NAME, wanted).await?;
        ensure!(!condition.reason.is_empty(), "{condition:?}");
        ensure!(
            condition.message.contains("edis"),
            "the message does not name Redis: {condition:?}"
        );
        Ok(())
    })
    .await;
}

/// Connections stand and nothing is said on them: what gateways hear of each other is the only thing that shows it.
#[tokio::test]
async fn a_redis_that_hangs_is_noticed_and_nobody_has_to_reconnect() {
    let _guard = operator_stays().await;
    in_namespace("redis-hangs", async |namespace| {
        two_gateways(&namespace).await?;
        let mut steady = Steady::begin(&namespace, NAME).await?;
        let (cluster, name) = (&namespace.cluster, &namespace.name);
        let pods: Api<Pod> = Api::namespaced(cluster.client(), name);
        let uid = pods.get("demo-redis-0").await?.metadata.uid;
        let stopped = stop_in_pod(&uid.context("a pod has a uid")?, "redis-server")?;
        let begun = Instant::now();
        until_condition(cluster, name, NAME, ("BrokerDelivering", "False")).await?;
        eprintln!("redis-hangs: noticed after {:.1?}", begun.elapsed());
        drop(stopped);
        until_ready(cluster, name, NAME).await?;
        // The same connections as before.
        let a_while = async {
            pass(A_WHILE).await;
            Ok(())
        };
        let ((), pushed) = steady.during(a_while).await?;
        eprintln!("redis-hangs: {pushed:?}");
        Ok(())
    })
    .await;
}
