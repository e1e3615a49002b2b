//! What a change of the spec does to those who are connected: nothing, wherever a gateway can take it while it runs.

mod redis_password;
mod rotation;

use anyhow::{Context, Result, ensure};
use e2e::cluster::name_of;
use e2e::fan_out::{publish_and_receive, subscribe_through};
use e2e::gateway::{ADMIN_PORT, PodAddress, metric_total};
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_cluster::{
    self, BECOMES_READY, api_key, gateway_pods, ready_gateways, until_condition, until_ready,
};
use e2e::wait::eventually;
use http::Request;
use serde_json::{Value, json};

use crate::{NAME, change, operator_stays, two_gateways};

async fn running(gateway: &PodAddress, key: &str) -> Result<Value> {
    let request = Request::get("/config")
        .header("host", &gateway.pod)
        .header("x-api-key", key)
        .body(String::new())?;
    let answer = gateway.request(ADMIN_PORT, request).await?;
    ensure!(answer.status() == 200, "{}: {answer:?}", gateway.pod);
    Ok(serde_json::from_str(answer.body())?)
}

/// Names of the gateway pods, in order.
async fn pods(namespace: &Namespace) -> Result<Vec<String>> {
    let pods = gateway_pods(&namespace.cluster, &namespace.name, NAME).await?;
    let mut names: Vec<String> = pods.iter().map(name_of).collect();
    names.sort_unstable();
    Ok(names)
}

/// The status says that both gateways run with what there is now.
async fn until_all_current(namespace: &Namespace) -> Result<()> {
    let objects = push_cluster::api(&namespace.cluster, &namespace.name);
    eventually("the status knows it", BECOMES_READY, async || {
        let config = objects.get(NAME).await?.status.unwrap_or_default().config;
        let config = config.context("status.config is unset")?;
        let all = config.current == 2 && config.outdated.is_empty() && config.unknown.is_empty();
        ensure!(all, "{config:?}");
        Ok::<_, anyhow::Error>(())
    })
    .await
}

#[tokio::test]
async fn a_cap_reaches_gateways_that_run_and_closes_nobody() {
    let _guard = operator_stays().await;
    in_namespace("reload", async |namespace| {
        two_gateways(&namespace).await?;
        let (cluster, name) = (&namespace.cluster, &namespace.name);
        let key = api_key(cluster, name, NAME).await?;
        let gateways = ready_gateways(cluster, name, NAME).await?;
        let mut clients = subscribe_through(&gateways, "news").await?;
        let before = pods(&namespace).await?;

        change(
            &namespace,
            json!({"gateway": {"limits": {"maxConnections": 4321}}}),
        )
        .await?;
        eventually("both gateways have the cap", BECOMES_READY, async || {
            for gateway in &gateways {
                let found = running(gateway, &key).await?;
                ensure!(
                    found["config"]["limits"]["maxConnections"] == 4321,
                    "{}: generation {}",
                    gateway.pod,
                    found["generation"]
                );
            }
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        until_ready(cluster, name, NAME).await?;
        until_all_current(&namespace).await?;
        ensure!(pods(&namespace).await? == before, "other pods");
        publish_and_receive(
            &gateways[1],
            &key,
            ("news", &json!("still here")),
            &mut clients,
        )
        .await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn the_status_tells_of_a_message_that_went_through_every_gateway() {
    let _guard = operator_stays().await;
    in_namespace("delivering", async |namespace| {
        two_gateways(&namespace).await?;
        let (cluster, name) = (&namespace.cluster, &namespace.name);
        let kind = ("BrokerDelivering", "True");
        let delivering = until_condition(cluster, name, NAME, kind).await?;
        ensure!(
            delivering.reason == "Delivering" && delivering.message.starts_with("2 of 2"),
            "{delivering:?}"
        );
        // It was asked with no socket of a client: none is counted.
        for gateway in ready_gateways(cluster, name, NAME).await? {
            let metrics = gateway.metrics().await?;
            let sent = metric_total(&metrics, "websocket_messages_sent_total");
            ensure!(sent == Some(0.0), "{}: {sent:?}", gateway.pod);
        }
        Ok(())
    })
    .await;
}
