//! What users ask for and the cluster cannot give: the status names the cause, pushing goes on, and what was possible before
//! is there again when the mistake is mended.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_cluster::{self, BECOMES_READY, condition, until_ready};
use e2e::steady::Steady;
use e2e::wait::eventually;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;

use crate::{NAME, TWO_GATEWAYS, change, operator_stays, two_gateways, without_autoscaler};

/// Waits until it is not Ready and the message has all of these words.
async fn until_said(namespace: &Namespace, words: &[&str]) -> Result<()> {
    let objects = push_cluster::api(&namespace.cluster, &namespace.name);
    let what = format!("Ready is False because of {words:?}");
    eventually(&what, BECOMES_READY, async || {
        let object = objects.get(NAME).await?;
        let ready = condition(&object, "Ready").context("no condition")?;
        let named = words.iter().all(|word| ready.message.contains(word));
        ensure!(ready.status == "False" && named, "{ready:?}");
        Ok::<_, anyhow::Error>(())
    })
    .await
}

#[tokio::test]
async fn an_image_that_does_not_exist_is_named_and_replaces_nobody() {
    let _guard = operator_stays().await;
    in_namespace("image", async |namespace| {
        two_gateways(&namespace).await?;
        let mut steady = Steady::begin(&namespace, NAME).await?;
        let fault = async {
            let image = "nowhere.invalid/gateway:9";
            change(&namespace, json!({"gateway": {"image": image}})).await?;
            until_said(&namespace, &["demo-gateway", image]).await?;
            change(&namespace, json!({"gateway": {"image": null}})).await?;
            until_ready(&namespace.cluster, &namespace.name, NAME).await
        };
        let ((), pushed) = steady.during(fault).await?;
        eprintln!("image: {pushed:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_quota_that_is_too_small_is_named() {
    let _guard = operator_stays().await;
    in_namespace("quota", async |namespace| {
        two_gateways(&namespace).await?;
        let mut steady = Steady::begin(&namespace, NAME).await?;
        let quotas: Api<ResourceQuota> =
            Api::namespaced(namespace.cluster.client(), &namespace.name);
        let fault = async {
            // Two gateways and a Redis are there.
            let quota = json!({"metadata": {"name": "tight"}, "spec": {"hard": {"pods": "3"}}});
            quotas
                .create(&PostParams::default(), &serde_json::from_value(quota)?)
                .await?;
            eventually("the quota counts", BECOMES_READY, async || {
                let used = quotas
                    .get("tight")
                    .await?
                    .status
                    .and_then(|status| status.used);
                used.context("nothing is counted yet")
            })
            .await?;
            without_autoscaler(&namespace).await?;
            change(&namespace, json!({"replicas": 3})).await?;
            until_said(&namespace, &["demo-gateway", "exceeded quota: tight"]).await?;
            redis_is_refused(&namespace).await?;
            quotas.delete("tight", &DeleteParams::default()).await?;
            until_ready(&namespace.cluster, &namespace.name, NAME).await
        };
        let ((), pushed) = steady.during(fault).await?;
        eprintln!("quota: {pushed:?}");
        Ok(())
    })
    .await;
}

/// A StatefulSet does not say so in its status, as a Deployment does.
async fn redis_is_refused(namespace: &Namespace) -> Result<()> {
    let manifest = TWO_GATEWAYS.replace("name: demo", "name: second");
    namespace.cluster.apply(&namespace.name, &manifest).await?;
    let objects = push_cluster::api(&namespace.cluster, &namespace.name);
    eventually("the quota is named for Redis", BECOMES_READY, async || {
        let object = objects.get("second").await?;
        let redis = condition(&object, "RedisAvailable").context("no condition")?;
        let named = redis.message.contains("exceeded quota: tight");
        ensure!(redis.status == "False" && named, "{redis:?}");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    objects.delete("second", &DeleteParams::default()).await?;
    Ok(())
}

/// More than the operator looks at in one go.
const SILENT: usize = 12;

/// A Redis that never answers takes as long as a look may take, again and again.
#[tokio::test]
async fn those_that_are_wrong_keep_nobody_waiting() {
    let _guard = operator_stays().await;
    in_namespace("silent", async |namespace| {
        for number in 0..SILENT {
            // An address that swallows everything (RFC 5737).
            let manifest = json!({
                "apiVersion": "pushcluster.io/v1alpha1", "kind": "PushCluster",
                "metadata": {"name": format!("silent-{number}")},
                "spec": {"redis": {"mode": "External", "external": {"host": "192.0.2.1"}}},
            });
            let text = manifest.to_string();
            namespace.cluster.apply(&namespace.name, &text).await?;
        }
        let begun = Instant::now();
        two_gateways(&namespace).await?;
        eprintln!("silent: ready after {:.1?}", begun.elapsed());
        let objects = push_cluster::api(&namespace.cluster, &namespace.name);
        for number in 0..SILENT {
            let name = format!("silent-{number}");
            eventually("who is silent is named", BECOMES_READY, async || {
                let object = objects.get(&name).await?;
                let redis = condition(&object, "RedisAvailable").context("no condition")?;
                let named = redis.message.contains("192.0.2.1");
                ensure!(redis.status == "False" && named, "{redis:?}");
                Ok::<_, anyhow::Error>(())
            })
            .await?;
        }
        Ok(())
    })
    .await;
}
