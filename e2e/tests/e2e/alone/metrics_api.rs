//! `custom.metrics.k8s.io` belongs to the whole cluster: how the operator takes it, and how it lets go of it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::cluster::Cluster;
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_cluster::until_condition;
use e2e::wait::eventually;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace as NamespaceObject, Secret};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::{NAME, operator_is_mine, two_gateways};

const LIMIT: Duration = Duration::from_secs(90);
/// Longer than a replica takes to read its certificate again.
const READ_AGAIN: Duration = Duration::from_secs(15);
const FIRST: &str = "v1beta1.custom.metrics.k8s.io";
const SECOND: &str = "v1beta2.custom.metrics.k8s.io";
const KIND: &str = "MetricsApiRegistered";
const SECRET: &str = "pushcluster-operator-metrics-api";

fn services(cluster: &Cluster) -> Api<APIService> {
    Api::all(cluster.client())
}

/// Those of the group, by name.
async fn registered(cluster: &Cluster) -> Result<Vec<String>> {
    let all = services(cluster).list(&ListParams::default()).await?;
    let names = all.iter().map(ResourceExt::name_any);
    Ok(names
        .filter(|name| name.ends_with(".custom.metrics.k8s.io"))
        .collect())
}

async fn until_registered(cluster: &Cluster, expected: &[&str]) -> Result<()> {
    eventually(&format!("registered: {expected:?}"), LIMIT, async || {
        let found = registered(cluster).await?;
        ensure!(found == expected, "{found:?}");
        Ok::<_, anyhow::Error>(())
    })
    .await
}

/// The API server reaches the operator for both.
async fn until_available(cluster: &Cluster) -> Result<()> {
    eventually("the metrics API is available", LIMIT, async || {
        for name in [FIRST, SECOND] {
            let status = services(cluster)
                .get(name)
                .await?
                .status
                .context("a status")?;
            let conditions = status.conditions.unwrap_or_default();
            ensure!(
                conditions.iter().any(|c| c.status == "True"),
                "{conditions:?}"
            );
        }
        Ok::<_, anyhow::Error>(())
    })
    .await
}

/// A namespace that is to go at once.
async fn doomed(cluster: &Cluster) -> Result<(Api<NamespaceObject>, String)> {
    let namespaces: Api<NamespaceObject> = Api::all(cluster.client());
    let wanted = serde_json::from_value(json!({"metadata": {"generateName": "e2e-doomed-"}}))?;
    let made = namespaces.create(&PostParams::default(), &wanted).await?;
    let name = made.name_any();
    namespaces.delete(&name, &DeleteParams::default()).await?;
    Ok((namespaces, name))
}

async fn until_gone(namespaces: &Api<NamespaceObject>, name: &str) -> Result<()> {
    eventually(&format!("namespace {name} is gone"), LIMIT, async || {
        let found = namespaces.get_opt(name).await?;
        ensure!(found.is_none(), "{:?}", found.and_then(|n| n.status));
        Ok::<_, anyhow::Error>(())
    })
    .await
}

#[tokio::test]
async fn the_metrics_api_of_another_is_left_alone() {
    let _guard = operator_is_mine().await;
    in_namespace("foreign-metrics", async |namespace| {
        let cluster = &namespace.cluster;
        two_gateways(&namespace).await?;
        until_condition(cluster, &namespace.name, NAME, (KIND, "True")).await?;
        let stands = another_adapter(&namespace).await;
        // Whatever came of it: nothing works in a cluster with a group that nobody serves.
        services(cluster)
            .delete(FIRST, &DeleteParams::default())
            .await?;
        stands?;
        until_registered(cluster, &[FIRST, SECOND]).await?;
        let condition = until_condition(cluster, &namespace.name, NAME, (KIND, "True")).await?;
        ensure!(condition.reason == "Registered", "{condition:?}");
        until_available(cluster).await
    })
    .await;
}

/// It is installed over ours, for one of the versions, and nobody answers for it.
async fn another_adapter(namespace: &Namespace) -> Result<()> {
    let cluster = &namespace.cluster;
    let theirs = json!({"spec": {
        "service": {"namespace": "default", "name": "another-adapter"},
        "caBundle": null, "insecureSkipTLSVerify": true,
    }});
    services(cluster)
        .patch(FIRST, &PatchParams::default(), &Patch::Merge(&theirs))
        .await?;
    until_registered(cluster, &[FIRST]).await?;
    let condition = until_condition(cluster, &namespace.name, NAME, (KIND, "False")).await?;
    ensure!(condition.reason == "ForeignMetricsApi", "{condition:?}");
    for named in [FIRST, "Service default/another-adapter"] {
        ensure!(condition.message.contains(named), "{condition:?}");
    }
    let left = services(cluster).get(FIRST).await?;
    let service = left
        .spec
        .and_then(|spec| spec.service)
        .context("a service")?;
    ensure!(
        service.name.as_deref() == Some("another-adapter"),
        "{service:?}"
    );
    hangs(cluster).await
}

/// Why the operator takes its registration with it: a group of which nobody answers keeps every namespace.
async fn hangs(cluster: &Cluster) -> Result<()> {
    let (namespaces, name) = doomed(cluster).await?;
    let what = "a namespace waits for a group that nobody serves";
    eventually(what, LIMIT, async || {
        let status = namespaces.get(&name).await?.status.context("a status")?;
        let conditions = status.conditions.unwrap_or_default();
        let mut failures = conditions.iter().filter(|c| c.status == "True");
        let waits = failures.any(|c| c.type_ == "NamespaceDeletionDiscoveryFailure");
        ensure!(waits, "{conditions:?}");
        Ok::<_, anyhow::Error>(())
    })
    .await
}

#[tokio::test]
async fn namespaces_go_while_no_operator_runs() {
    let _guard = operator_is_mine().await;
    in_namespace("no-operator", async |namespace| {
        let cluster = &namespace.cluster;
        until_registered(cluster, &[FIRST, SECOND]).await?;
        let scale = async |replicas: i32| {
            let place = Cluster::operator_namespace();
            let deployments: Api<Deployment> = Api::namespaced(cluster.client(), &place);
            let found = deployments.list(&ListParams::default()).await?;
            let name = found.iter().next().context("a Deployment")?.name_any();
            let wanted = Patch::Merge(json!({"spec": {"replicas": replicas}}));
            deployments
                .patch(&name, &PatchParams::default(), &wanted)
                .await?;
            Ok::<_, anyhow::Error>(())
        };
        scale(0).await?;
        let without = async {
            until_registered(cluster, &[]).await?;
            let (namespaces, name) = doomed(cluster).await?;
            until_gone(&namespaces, &name).await
        };
        let gone = without.await;
        scale(2).await?;
        gone?;
        until_registered(cluster, &[FIRST, SECOND]).await?;
        until_available(cluster).await
    })
    .await;
}

/// Whoever wants another certificate deletes the Secret. No request may fail for it.
#[tokio::test]
async fn the_certificate_is_replaced_and_nobody_notices() {
    let _guard = operator_is_mine().await;
    in_namespace("metrics-certificate", async |namespace| {
        let cluster = &namespace.cluster;
        until_available(cluster).await?;
        let secrets: Api<Secret> =
            Api::namespaced(cluster.client(), &Cluster::operator_namespace());
        let leaf = async || {
            let secret = secrets.get_opt(SECRET).await?;
            let entry = secret.and_then(|secret| secret.data?.remove("tls.crt"));
            Ok::<_, anyhow::Error>(entry)
        };
        let before = leaf().await?.context("a certificate")?;
        secrets.delete(SECRET, &DeleteParams::default()).await?;
        let begun = Instant::now();
        let mut replaced = None;
        let mut asked = 0;
        while replaced.is_none_or(|at: Instant| at.elapsed() < READ_AGAIN) {
            ensure!(begun.elapsed() < LIMIT, "there is no other certificate");
            let path = format!("/apis/custom.metrics.k8s.io/v1beta2/namespaces/{}/pods/*/websocket_connected_clients", namespace.name);
            let request = http::Request::get(path).body(Vec::new())?;
            let answer: Value = cluster.client().request(request).await?;
            ensure!(answer["kind"] == "MetricValueList", "{answer}");
            asked += 1;
            let now = leaf().await?;
            if now.is_some_and(|now| now != before) {
                replaced.get_or_insert_with(Instant::now);
            }
        }
        ensure!(asked > 10, "{asked} requests");
        let bundle = services(cluster).get(SECOND).await?.spec.and_then(|spec| spec.ca_bundle);
        let bundle = String::from_utf8(bundle.context("a bundle")?.0)?;
        let authorities = bundle.matches("BEGIN CERTIFICATE").count();
        ensure!(authorities == 2, "the old authority is trusted for a while: {authorities}");
        Ok(())
    })
    .await;
}
