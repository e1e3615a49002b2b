//! The operator as the chart installs it, and the first PushCluster.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, is_ready, name_of};
use e2e::gateway::{ADMIN_PORT, PodAddress};
use e2e::helm::{self, Helm};
use e2e::namespace::in_namespace;
use e2e::push_cluster;
use e2e::wait::eventually;
use http::Request;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

use crate::{NAME, operator_stays, two_gateways};

#[tokio::test]
async fn two_operators_are_ready_and_one_leads() -> Result<()> {
    let _guard = operator_stays().await;
    let cluster = Cluster::under_test().await?;
    let pods = eventually(
        "two operator pods are ready",
        Duration::from_secs(60),
        async || {
            let pods = cluster.operator_pods().await?;
            let ready = pods.iter().filter(|pod| is_ready(pod)).count();
            ensure!(
                ready == 2 && pods.len() == 2,
                "{ready} of {} operator pods are ready",
                pods.len()
            );
            Ok::<_, anyhow::Error>(pods)
        },
    )
    .await?;
    let names: BTreeSet<_> = pods.iter().map(name_of).collect();
    let leases: Api<Lease> = Api::namespaced(cluster.client(), &Cluster::operator_namespace());
    eventually(
        "one of the operator pods holds the lease",
        Duration::from_secs(60),
        async || {
            let holders: Vec<_> = leases
                .list(&ListParams::default())
                .await?
                .into_iter()
                .filter_map(|lease| lease.spec?.holder_identity)
                .collect();
            let leading = holders
                .iter()
                .filter(|holder| names.contains(*holder))
                .count();
            ensure!(
                leading == 1,
                "leases are held by {holders:?}, the pods are {names:?}"
            );
            Ok::<_, anyhow::Error>(())
        },
    )
    .await?;
    for pod in names {
        let address = PodAddress {
            cluster: cluster.clone(),
            namespace: Cluster::operator_namespace(),
            pod,
        };
        for path in ["/live", "/ready"] {
            let request = Request::get(path)
                .header("host", &address.pod)
                .body(String::new())?;
            let answer = address.request(ADMIN_PORT, request).await?;
            ensure!(
                answer.status().is_success(),
                "{path} of {}: {}",
                address.pod,
                answer.body()
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_manifest_becomes_a_ready_push_cluster() {
    let _guard = operator_stays().await;
    in_namespace("install", async |namespace| {
        let (cluster, name) = (&namespace.cluster, &namespace.name);
        two_gateways(&namespace).await?;

        let gateways = push_cluster::gateway_pods(cluster, name, NAME).await?;
        let nodes: BTreeSet<_> = gateways
            .iter()
            .filter_map(|pod| pod.spec.as_ref()?.node_name.clone())
            .collect();
        ensure!(gateways.len() == 2, "{} gateway pods", gateways.len());
        ensure!(
            nodes.len() == 2,
            "both gateways are on {nodes:?}: a node that dies takes all clients"
        );

        let pods: Api<Pod> = Api::namespaced(cluster.client(), name);
        for pod in pods.list(&ListParams::default()).await? {
            let spec = pod.spec.clone().context("a pod has a spec")?;
            let token = spec
                .volumes
                .iter()
                .flatten()
                .filter_map(|volume| volume.projected.as_ref()?.sources.as_ref())
                .flatten()
                .any(|source| source.service_account_token.is_some());
            ensure!(!token, "pod {} has a service account token", name_of(&pod));
        }

        let object = push_cluster::api(cluster, name).get(NAME).await?;
        let status = object.status.clone().unwrap_or_default();
        ensure!(
            status.observed_generation == object.metadata.generation
                && (
                    status.replicas,
                    status.ready_replicas,
                    status.desired_replicas
                ) == (2, 2, 2),
            "{status:?}"
        );
        Ok(())
    })
    .await;
}

/// Templates that render can still be objects that the API server refuses: each is shown to it.
#[tokio::test]
async fn the_api_server_takes_every_object_of_the_chart() {
    in_namespace("chart", async |namespace| {
        let helm = Helm::under_test()?;
        let (watch, secrets) = (
            format!("watchNamespace={}", namespace.name),
            format!("secretNamespaces={{{}}}", namespace.name),
        );
        let modes: [&[&str]; 4] = [
            &[],
            &[&watch],
            &[&secrets, "monitoring.dashboards=true"],
            &[
                "networkPolicy.monitoringNamespaces=null",
                "imagePullSecrets[0].name=registry",
                "serviceAccount.annotations.a=b",
            ],
        ];
        for values in modes {
            let chart = helm::chart();
            // The oldest that it is for: a Helm of no version of Kubernetes takes another.
            let version = ["--kube-version", "1.30.0"];
            let mut arguments = vec!["template", helm::RELEASE, &chart];
            arguments.extend(version);
            arguments.extend(values.iter().flat_map(|value| ["--set", value]));
            let rendered = helm.run(&arguments).await?;
            let mut objects = 0;
            for document in serde_yaml::Deserializer::from_str(&rendered) {
                let object = Value::deserialize(document)?;
                if object.is_null() {
                    continue;
                }
                let place = object["metadata"]["namespace"].as_str();
                let place = place.unwrap_or_default().to_owned();
                let accepted = namespace
                    .cluster
                    .would_apply(&place, &object.to_string())
                    .await;
                accepted.with_context(|| format!("{values:?}"))?;
                objects += 1;
            }
            ensure!(objects >= 10, "{values:?}: only {objects} objects");
        }
        Ok(())
    })
    .await;
}
