//! A message on its way.

use anyhow::ensure;
use e2e::fan_out::{publish, publish_and_receive, subscribe_through};
use e2e::namespace::in_namespace;
use e2e::push_cluster::{self, ready_gateways};
use serde_json::json;

use crate::{NAME, operator_stays, two_gateways};

#[tokio::test]
async fn a_message_published_on_one_pod_arrives_on_both() {
    let _guard = operator_stays().await;
    in_namespace("push", async |namespace| {
        two_gateways(&namespace).await?;
        let gateways = ready_gateways(&namespace.cluster, &namespace.name, NAME).await?;
        let key = push_cluster::api_key(&namespace.cluster, &namespace.name, NAME).await?;
        ensure!(gateways.len() == 2, "{} ready gateways", gateways.len());

        let mut subscribers = subscribe_through(&gateways, "news").await?;
        for (number, publisher) in gateways.iter().enumerate() {
            let data = json!({"number": number, "text": "grüezi"});
            publish_and_receive(publisher, &key, ("news", &data), &mut subscribers).await?;
        }

        let refused = publish(&gateways[0], "not-the-key", "news", &json!(1)).await;
        let refused = refused.expect_err("a wrong key publishes").to_string();
        ensure!(refused.contains("401"), "a wrong key: {refused}");
        Ok(())
    })
    .await;
}
