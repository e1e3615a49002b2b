//! A changed spec reaches every gateway, whoever looks after it meanwhile.

use anyhow::{Context, Result, ensure};
use e2e::cluster::{is_ready, name_of};
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_cluster::{self, BECOMES_READY, gateway_pods, ready_gateways, until_ready};
use e2e::wait::eventually;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::{NAME, change, operator_stays, two_gateways, without_autoscaler};

/// Gives the gateways more memory: only a new pod can have it.
pub async fn change_memory(namespace: &Namespace, quantity: &str) -> Result<()> {
    let resources = json!({"limits": {"memory": quantity}});
    change(namespace, json!({"gateway": {"resources": resources}})).await
}

pub fn memory_of(pod: &Pod) -> Option<String> {
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
pub async fn until_all_have(namespace: &Namespace, quantity: &str) -> Result<()> {
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
        without_autoscaler(&namespace).await?;
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
