//! A new version of the operator leaves pods alone until somebody agrees. What makes it another version here is the image
//! that it gives to gateways: one that is nowhere, so that a pod that has it never takes a client.

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, is_ready, name_of};
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_cluster::{BECOMES_READY, gateway_pods, until_condition, until_ready};
use e2e::wait::eventually;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::{NAME, annotate, change, operator_is_mine, two_gateways, without_autoscaler};

const OTHER: &str = "example.invalid/gateway:another-version";
const VARIABLE: &str = "GATEWAY_IMAGE";

/// The operator's Deployment, and the image that it gives to gateways.
async fn operator(cluster: &Cluster) -> Result<(String, String)> {
    let deployments: Api<Deployment> =
        Api::namespaced(cluster.client(), &Cluster::operator_namespace());
    let labels = ListParams::default().labels(e2e::cluster::OPERATOR_LABELS);
    let found = deployments.list(&labels).await?.items;
    let found = found.into_iter().next().context("there is no operator")?;
    let name = found.metadata.name.context("it has a name")?;
    let template = found.spec.context("it has a spec")?.template;
    let containers = template.spec.context("it has pods")?.containers;
    let variables = containers
        .into_iter()
        .flat_map(|c| c.env.into_iter().flatten());
    let image = variables.into_iter().find(|env| env.name == VARIABLE);
    let image = image.and_then(|env| env.value);
    Ok((name, image.context("it has an image for gateways")?))
}

async fn give_gateways(cluster: &Cluster, operator: &str, image: &str) -> Result<()> {
    let deployments: Api<Deployment> =
        Api::namespaced(cluster.client(), &Cluster::operator_namespace());
    let variable = json!({"name": VARIABLE, "value": image});
    let container = json!({"name": "operator", "env": [variable]});
    let change = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
    deployments
        .patch(operator, &PatchParams::default(), &Patch::Strategic(change))
        .await
        .context("change the operator's Deployment")?;
    Ok(())
}

fn has(pod: &Pod, image: &str) -> bool {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers
        .clone()
        .any(|c| c.image.as_deref() == Some(image))
}

/// Names of pods, with whether they are ready.
async fn pods(namespace: &Namespace, image: &str) -> Result<Vec<(String, bool)>> {
    let pods = gateway_pods(&namespace.cluster, &namespace.name, NAME).await?;
    let mut pods: Vec<(String, bool)> = pods
        .iter()
        .filter(|pod| has(pod, image))
        .map(|pod| (name_of(pod), is_ready(pod)))
        .collect();
    pods.sort_unstable();
    Ok(pods)
}

/// With the other version of the operator.
async fn upgraded(namespace: &Namespace, own: &str) -> Result<()> {
    let (cluster, name) = (&namespace.cluster, &namespace.name);
    let before = pods(namespace, own).await?;
    let waits = until_condition(cluster, name, NAME, ("UpgradePending", "True")).await?;
    ensure!(
        waits.reason == "WaitsForConsent" && waits.message.contains(OTHER),
        "{waits:?}"
    );
    // What gateways take while they run, and a size, go on without it.
    without_autoscaler(namespace).await?;
    change(
        namespace,
        json!({"replicas": 3, "gateway": {"logFilter": "warn"}}),
    )
    .await?;
    until_ready(cluster, name, NAME).await?;
    let grown = pods(namespace, own).await?;
    ensure!(
        grown.len() == 3 && before.iter().all(|pod| grown.contains(pod)),
        "{before:?}, then {grown:?}"
    );
    ensure!(pods(namespace, OTHER).await?.is_empty(), "a pod has it");

    let consent = waits.message.split("pushcluster.io/consent=").nth(1);
    let consent = consent.and_then(|rest| rest.split(':').next());
    let consent = consent.context("the message says how to agree")?;
    annotate(namespace, "pushcluster.io/consent", consent).await?;
    eventually("the rollout has begun", BECOMES_READY, async || {
        let new = pods(namespace, OTHER).await?;
        ensure!(new.len() == 1, "{new:?}");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    // One that does not start replaces nobody.
    let old = pods(namespace, own).await?;
    ensure!(
        old.iter().filter(|(_, ready)| *ready).count() == 3,
        "{old:?}"
    );
    Ok(())
}

#[tokio::test]
async fn an_upgrade_waits_for_somebody_to_agree() {
    let _guard = operator_is_mine().await;
    in_namespace("upgrade", async |namespace| {
        two_gateways(&namespace).await?;
        let (operator, own) = operator(&namespace.cluster).await?;
        give_gateways(&namespace.cluster, &operator, OTHER).await?;
        let outcome = upgraded(&namespace, &own).await;
        // Other tests want the operator as it was.
        give_gateways(&namespace.cluster, &operator, &own).await?;
        outcome?;
        // The way back is an upgrade, too.
        let (cluster, name) = (&namespace.cluster, &namespace.name);
        change(&namespace, json!({"updatePolicy": "Automatic"})).await?;
        until_condition(cluster, name, NAME, ("UpgradePending", "False")).await?;
        until_ready(cluster, name, NAME).await?;
        let all = pods(&namespace, &own).await?;
        ensure!(all.len() == 3, "{all:?}");
        Ok(())
    })
    .await;
}
