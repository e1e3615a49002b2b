//! What users ask for and the cluster cannot give: the status names the cause, pushing goes on, and what was possible before
//! is there again when the mistake is mended.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_cluster::{self, BECOMES_READY, condition, until_ready};
use e2e::steady::Steady;
use e2e::wait::eventually;
use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::{NAME, TWO_GATEWAYS, fixed_size, operator_is_mine, operator_stays, two_gateways};

async fn change(namespace: &Namespace, spec: Value) -> Result<()> {
    let objects = push_cluster::api(&namespace.cluster, &namespace.name);
    let change = Patch::Merge(json!({ "spec": spec }));
    let changed = objects.patch(NAME, &PatchParams::default(), &change).await;
    changed.context("change the PushCluster").map(drop)
}

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
            change(&namespace, fixed_size(3)).await?;
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

const DEFINITION: &str = "pushclusters.pushcluster.io";

/// After a downgrade the definition, and manifests, have fields of the version that was.
#[tokio::test]
async fn fields_of_the_next_version_are_left_alone() {
    let _guard = operator_is_mine().await;
    in_namespace("next-version", async |namespace| {
        two_gateways(&namespace).await?;
        let mut steady = Steady::begin(&namespace, NAME).await?;
        let definitions: Api<CustomResourceDefinition> = Api::all(namespace.cluster.client());
        let set = async |versions: &Value| {
            let change = Patch::Merge(json!({"spec": {"versions": versions}}));
            let parameters = PatchParams::default();
            let set = definitions.patch(DEFINITION, &parameters, &change).await;
            set.map(drop)
        };
        let fault = async {
            let before = serde_json::to_value(definitions.get(DEFINITION).await?.spec.versions)?;
            let mut next = before.clone();
            next[0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["levitation"] = json!({
                "type": "object", "default": {}, "properties": {"height": {"type": "integer", "default": 3}},
            });
            set(&next).await?;
            let lived = with_unknown_fields(&namespace).await;
            set(&before).await?;
            lived
        };
        let ((), pushed) = steady.during(fault).await?;
        eprintln!("next-version: {pushed:?}");
        until_ready(&namespace.cluster, &namespace.name, NAME).await
    })
    .await;
}

/// The operator follows a change of what it knows, and takes nothing away of what it does not.
async fn with_unknown_fields(namespace: &Namespace) -> Result<()> {
    let (cluster, name) = (&namespace.cluster, &namespace.name);
    eventually("the field is kept", BECOMES_READY, async || {
        change(namespace, json!({"levitation": {"height": 5}})).await?;
        levitates(namespace).await
    })
    .await?;
    change(namespace, fixed_size(3)).await?;
    eventually("three gateways are ready", BECOMES_READY, async || {
        let ready = push_cluster::ready_gateways(cluster, name, NAME).await?;
        ensure!(ready.len() == 3, "{} are", ready.len());
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    until_ready(cluster, name, NAME).await?;
    levitates(namespace).await
}

async fn levitates(namespace: &Namespace) -> Result<()> {
    let objects =
        namespace
            .cluster
            .objects(&namespace.name, "pushcluster.io", "v1alpha1", "PushCluster");
    let object = objects.get(NAME).await?;
    let height = &object.data["spec"]["levitation"]["height"];
    ensure!(*height == 5, "spec.levitation.height is {height}");
    Ok(())
}
