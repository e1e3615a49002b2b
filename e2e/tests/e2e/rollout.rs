//! A changed spec reaches every gateway, whoever looks after it meanwhile.

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, is_ready, name_of};
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_cluster::{self, BECOMES_READY, gateway_pods, ready_gateways, until_ready};
use e2e::wait::eventually;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::{NAME, operator_is_mine, operator_stays, two_gateways};

/// Gives the gateways more memory: only a new pod can have it.
async fn change_memory(namespace: &Namespace, quantity: &str) -> Result<()> {
    let change = json!({"spec": {"gateway": {"resources": {"limits": {"memory": quantity}}}}});
    push_cluster::api(&namespace.cluster, &namespace.name)
        .patch(NAME, &PatchParams::default(), &Patch::Merge(change))
        .await
        .context("change the PushCluster")?;
    Ok(())
}

fn memory_of(pod: &Pod) -> Option<String> {
    let container = pod
        .spec
        .as_ref()?
        .containers
        .iter()
        .find(|container| container.name == "gateway")?;
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    limits.get("memory").map(|quantity| quantity.0.clone())
}

/// Two ready pods with this limit, and no others.
async fn until_all_have(namespace: &Namespace, quantity: &str) -> Result<()> {
    eventually(
        &format!("both gateways have {quantity}"),
        BECOMES_READY,
        async || {
            let pods = gateway_pods(&namespace.cluster, &namespace.name, NAME).await?;
            let seen: Vec<_> = pods
                .iter()
                .map(|pod| (name_of(pod), memory_of(pod), is_ready(pod)))
                .collect();
            let done = pods
                .iter()
                .all(|pod| is_ready(pod) && memory_of(pod).as_deref() == Some(quantity));
            ensure!(done && pods.len() == 2, "{seen:?}");
            Ok::<_, anyhow::Error>(())
        },
    )
    .await?;
    until_ready(&namespace.cluster, &namespace.name, NAME).await
}

#[tokio::test]
async fn a_changed_spec_is_rolled_out() {
    let _guard = operator_stays().await;
    in_namespace("rollout", async |namespace| {
        two_gateways(&namespace).await?;
        change_memory(&namespace, "300Mi").await?;
        until_all_have(&namespace, "300Mi").await
    })
    .await;
}

/// What `kubectl scale pushcluster` does, and every autoscaler.
#[tokio::test]
async fn a_scaled_push_cluster_has_as_many_gateways() {
    let _guard = operator_stays().await;
    in_namespace("scale", async |namespace| {
        two_gateways(&namespace).await?;
        let objects = push_cluster::api(&namespace.cluster, &namespace.name);
        // It would find that two will do for so few clients.
        let by_hand = json!({"spec": {"autoscaling": {"enabled": false}}});
        objects
            .patch(NAME, &PatchParams::default(), &Patch::Merge(by_hand))
            .await?;
        let three = json!({"spec": {"replicas": 3}});
        objects
            .patch_scale(NAME, &PatchParams::default(), &Patch::Merge(three))
            .await?;
        until_ready(&namespace.cluster, &namespace.name, NAME).await?;
        let gateways = ready_gateways(&namespace.cluster, &namespace.name, NAME).await?;
        let scale = objects
            .get_scale(NAME)
            .await?
            .status
            .context("a scale has a status")?;
        ensure!(
            gateways.len() == 3 && scale.replicas == 3,
            "{} gateways, {scale:?}",
            gateways.len()
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_rollout_survives_the_restart_of_every_operator_pod() {
    let _guard = operator_is_mine().await;
    in_namespace("restart", async |namespace| {
        two_gateways(&namespace).await?;
        change_memory(&namespace, "301Mi").await?;
        eventually("the rollout has begun", BECOMES_READY, async || {
            let pods = gateway_pods(&namespace.cluster, &namespace.name, NAME).await?;
            let new = pods
                .iter()
                .filter(|pod| memory_of(pod).as_deref() == Some("301Mi"))
                .count();
            ensure!(new > 0, "{} old pods", pods.len());
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        let old = namespace.cluster.operator_pods().await?;
        let pods: Api<Pod> =
            Api::namespaced(namespace.cluster.client(), &Cluster::operator_namespace());
        for pod in &old {
            pods.delete(&name_of(pod), &DeleteParams::default()).await?;
        }
        eventually("the old operators are gone", BECOMES_READY, async || {
            for pod in &old {
                ensure!(
                    pods.get_opt(&name_of(pod)).await?.is_none(),
                    "{} is there",
                    name_of(pod)
                );
            }
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        until_all_have(&namespace, "301Mi").await?;
        // A second change, for which only a new leader can be responsible.
        change_memory(&namespace, "302Mi").await?;
        until_all_have(&namespace, "302Mi").await?;
        Ok(())
    })
    .await;
}
