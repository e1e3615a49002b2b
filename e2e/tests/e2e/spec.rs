//! A manifest that says a lot: what it names is waited for, and what it says is so.

use anyhow::{Context, ensure};
use e2e::namespace::in_namespace;
use e2e::push_cluster;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::api::Api;
use serde_json::json;

use crate::{NAME, operator_stays};

const MANIFEST: &str = "
apiVersion: pushcluster.io/v1alpha1
kind: PushCluster
metadata:
  name: demo
spec:
  replicas: 1
  gateway:
    tls:
      secretName: clients-tls
    auth:
      jwksUrl: https://nobody.invalid/keys
      jwksCa:
        configMap: {name: trusted, key: ca.crt}
    allowedOrigins: [https://chat.example.com]
    trustedProxies: [10.0.0.0/8]
    limits: {maxConnectionsPerUser: 5, maxConnectionsPerAddress: 50, messagesPerSecond: 100, handshakesPerSecond: 100}
    heartbeat: {pingSeconds: 20, idleSeconds: 120}
    compression: {enabled: true}
    channels:
      - {prefix: 'room:', historyMessages: 100, historySeconds: 60, presence: true, subscribe: Granted}
      - {prefix: 'prices.', publish: Nobody, slowConsumer: Latest, batchMilliseconds: 10}
    pods:
      labels: {team: chat}
      annotations: {example.org/scrape: 'yes'}
      nodeSelector: {kubernetes.io/os: linux}
      tolerations: [{operator: Exists, effect: NoSchedule}]
      topologySpread:
        - {topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule}
  redis:
    listen: ['ws:broadcast', 'ws:room:*']
    listenPrefix: 'app:'
    pods:
      labels: {team: chat}
  autoscaling: {enabled: false}
  service: {type: NodePort, port: 443, externalTrafficPolicy: Local}
";

/// The pod of a gateway with a key server that is not there would never be ready, so the second manifest has none.
fn without_key_server() -> String {
    let auth = MANIFEST.find("    auth:").expect("it has auth");
    let after = MANIFEST.find("    allowedOrigins").expect("it has origins");
    let granted = ", subscribe: Granted";
    format!("{}{}", &MANIFEST[..auth], &MANIFEST[after..]).replace(granted, "")
}

#[tokio::test]
async fn what_a_manifest_names_is_waited_for_and_what_it_says_is_so() {
    let _guard = operator_stays().await;
    in_namespace("spec", async |namespace| {
        let (cluster, name) = (&namespace.cluster, &namespace.name);
        cluster.apply(name, MANIFEST).await?;
        let invalid =
            push_cluster::until_condition(cluster, name, NAME, ("ConfigValid", "False")).await?;
        for missing in [
            "spec.gateway.tls names key tls.crt of Secret clients-tls, which is not there",
            "spec.gateway.auth.jwksCa names key ca.crt of ConfigMap trusted, which is not there",
        ] {
            ensure!(invalid.message.contains(missing), "{invalid:?}");
        }

        let own = rcgen::generate_simple_self_signed(vec!["push.example.com".to_owned()])?;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": "clients-tls"},
            "stringData": {"tls.crt": own.cert.pem(), "tls.key": own.signing_key.serialize_pem()},
        });
        cluster.apply(name, &secret.to_string()).await?;
        cluster.apply(name, &without_key_server()).await?;
        // A gateway is ready when it has reached itself, with TLS.
        push_cluster::until_ready(cluster, name, NAME).await?;

        let gateways = push_cluster::gateway_pods(cluster, name, NAME).await?;
        let pods: Api<Pod> = Api::namespaced(cluster.client(), name);
        let redis = pods.get(&format!("{NAME}-redis-0")).await?;
        for pod in gateways.iter().chain([&redis]) {
            let team = pod.labels().get("team").map(String::as_str);
            ensure!(
                team == Some("chat"),
                "{}: {:?}",
                pod.name_any(),
                pod.labels()
            );
        }
        let services: Api<Service> = Api::namespaced(cluster.client(), name);
        let spec = services
            .get(NAME)
            .await?
            .spec
            .context("a Service has a spec")?;
        ensure!(
            spec.external_traffic_policy.as_deref() == Some("Local"),
            "{spec:?}"
        );
        Ok(())
    })
    .await;
}
