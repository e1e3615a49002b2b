//! Redis that speaks TLS and nothing else.

use anyhow::{Context, Result, ensure};
use e2e::checker::run::run;
use e2e::gateway::PodAddress;
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_cluster::{BECOMES_READY, ready_gateways};
use e2e::redis::with_tls;
use e2e::wait::eventually;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::redis_cluster::outlives_its_masters;
use crate::sentinel::{
    admin, cast, check, entry, every_gateway_delivers, everybody_hears, fleet, outlives_its_master,
    pods,
};
use crate::{NAME, annotate, made, operator_stays};

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26_379;
/// In the namespace of each.
const CERTIFICATE: &str = "demo-redis-tls";

fn manifest(mode: &str, settings: &str) -> String {
    format!(
        "
apiVersion: pushcluster.io/v1alpha1
kind: PushCluster
metadata:
  name: {NAME}
spec:
  replicas: 2
  redis:
    mode: {mode}
    tls: {{}}
    {settings}
"
    )
}

fn redis(namespace: &Namespace, pod: &str) -> PodAddress {
    PodAddress {
        cluster: namespace.cluster.clone(),
        namespace: namespace.name.clone(),
        pod: pod.to_owned(),
    }
}

/// Another certificate comes under a steady push: nobody loses a connection and no pod starts again.
#[tokio::test]
async fn a_redis_with_tls_delivers_and_takes_another_certificate_while_it_runs() {
    let _guard = operator_stays().await;
    in_namespace("redis-tls", async |namespace| {
        // What a subscriber missed is asked for, so there must be something that remembers it.
        let history = "gateway: {channels: [{prefix: 'kept:', historyMessages: 10000, historySeconds: 3600}]}";
        let manifest = manifest("Standalone", "");
        made(&namespace, &format!("{manifest}  {history}\n")).await?;
        let gateways = ready_gateways(&namespace.cluster, &namespace.name, NAME).await?;
        let key = every_gateway_delivers(&namespace, &gateways).await?;
        nobody_answers_without(&namespace, "demo-redis-0", PORT).await?;

        let before = pods(&namespace, &["demo-redis-0"]).await?;
        let (fleet, _tunnels) = fleet(&gateways, &key).await?;
        let other = async {
            everybody_hears(&fleet, "tls: before").await?;
            another_certificate(&namespace, &[("demo-redis-0", PORT)]).await?;
            everybody_hears(&fleet, "tls: with another certificate").await
        };
        check(&run("kept:tls", &fleet, cast(), other).await?)?;
        let now = pods(&namespace, &["demo-redis-0"]).await?;
        ensure!(now == before, "the pod was replaced");
        let restarts = restarts(&namespace, "demo-redis-0", "redis").await?;
        ensure!(restarts == 0, "Redis started again: {restarts}");
        let now = ready_gateways(&namespace.cluster, &namespace.name, NAME).await?;
        let names = |gateways: &[PodAddress]| -> Vec<String> {
            gateways.iter().map(|gateway| gateway.pod.clone()).collect()
        };
        ensure!(names(&now) == names(&gateways), "gateways were replaced");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn sentinels_with_tls_replace_a_lost_master_and_take_another_certificate() {
    let _guard = operator_stays().await;
    in_namespace("sentinel-tls", async |namespace| {
        let impatient = "sentinel: {downAfterSeconds: 3}";
        outlives_its_master(&namespace, &manifest("Sentinel", impatient)).await?;
        nobody_answers_without(&namespace, "demo-redis-0", PORT).await?;
        nobody_answers_without(&namespace, "demo-redis-0", SENTINEL_PORT).await?;
        crate::change(&namespace, json!({"paused": false})).await?;
        let all = ["demo-redis-0", "demo-redis-1", "demo-redis-2"];
        let all = all.map(|pod| [(pod, PORT), (pod, SENTINEL_PORT)]);
        another_certificate(&namespace, all.as_flattened()).await
    })
    .await;
}

#[tokio::test]
async fn shards_with_tls_outlive_their_masters() {
    let _guard = operator_stays().await;
    in_namespace("shards-tls", async |namespace| {
        let impatient = "cluster: {downAfterSeconds: 3}";
        outlives_its_masters(&namespace, &manifest("Cluster", impatient)).await?;
        nobody_answers_without(&namespace, "demo-redis-0-0", PORT).await
    })
    .await;
}

async fn nobody_answers_without(namespace: &Namespace, pod: &str, port: u16) -> Result<()> {
    let mut plain = redis(namespace, pod).stream(port).await?;
    plain.write_all(b"PING\r\n").await?;
    let mut said = Vec::new();
    // However the connection ends.
    let _ = plain.read_to_end(&mut said).await;
    let said = String::from_utf8_lossy(&said);
    ensure!(
        !said.contains("PONG") && !said.contains("NOAUTH"),
        "{pod} answers without TLS: {said:?}"
    );
    Ok(())
}

/// Spoils the certificate in the Secret, so that the operator issues another one, and waits until all of these show that.
async fn another_certificate(namespace: &Namespace, places: &[(&str, u16)]) -> Result<()> {
    let tls = admin(namespace).await?.tls.context("an authority")?;
    let mut first = Vec::new();
    for (pod, port) in places {
        first.push(shown(&redis(namespace, pod), *port, &tls).await?);
    }
    let before = entry(namespace, CERTIFICATE, "tls.crt").await?;
    let secrets: Api<Secret> = Api::namespaced(namespace.cluster.client(), &namespace.name);
    let authority = entry(namespace, CERTIFICATE, "ca.crt").await?;
    let spoilt = json!({"stringData": {"tls.crt": authority}});
    let spoilt = Patch::Merge(spoilt);
    secrets
        .patch(CERTIFICATE, &PatchParams::default(), &spoilt)
        .await?;
    // Nobody tells the operator of a Secret.
    annotate(namespace, "example.com/look", "now").await?;
    eventually("all show another certificate", BECOMES_READY, async || {
        let now = entry(namespace, CERTIFICATE, "tls.crt").await?;
        ensure!(
            now != before && now != authority,
            "the Secret has no other one"
        );
        for ((pod, port), first) in places.iter().zip(&first) {
            let shown = shown(&redis(namespace, pod), *port, &tls).await?;
            ensure!(shown != *first, "{pod}:{port} shows the one from before");
        }
        Ok::<_, anyhow::Error>(())
    })
    .await
}

/// What is shown and trusted, in DER.
async fn shown(pod: &PodAddress, port: u16, tls: &(String, String)) -> Result<Vec<u8>> {
    let stream = with_tls(pod, port, tls).await?;
    let chain = stream.get_ref().1.peer_certificates();
    let leaf = chain.and_then(|chain| chain.first());
    Ok(leaf.context("a certificate")?.to_vec())
}

async fn restarts(namespace: &Namespace, pod: &str, container: &str) -> Result<i32> {
    let pods: Api<Pod> = Api::namespaced(namespace.cluster.client(), &namespace.name);
    let status = pods.get(pod).await?.status.unwrap_or_default();
    let mut containers = status.container_statuses.into_iter().flatten();
    let found = containers.find(|status| status.name == container);
    Ok(found.context("the container")?.restart_count)
}
