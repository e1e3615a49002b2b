//! The operator's release is removed, installed in an earlier version, upgraded and rolled back, while a PushCluster goes on
//! pushing: whatever happens to the operator, no client and no message notices.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::audit::PREVIOUS_CHART;
use e2e::cluster::{Cluster, name_of};
use e2e::fan_out::{Subscriber, publish_and_receive, subscribe_through};
use e2e::gateway::PodAddress;
use e2e::helm::{self, Helm, RELEASE};
use e2e::namespace::{Namespace, in_namespace};
use e2e::push_cluster::{self, gateway_pods, ready_gateways};
use e2e::wait::eventually;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::json;

use crate::{NAME, operator_is_mine, two_gateways};

const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_release_comes_and_goes_and_pushing_goes_on() {
    let _guard = operator_is_mine().await;
    in_namespace("lifecycle", async |namespace| {
        two_gateways(&namespace).await?;
        let (cluster, name) = (&namespace.cluster, &namespace.name);
        let key = push_cluster::api_key(cluster, name, NAME).await?;
        let gateways = ready_gateways(cluster, name, NAME).await?;
        let subscribers = subscribe_through(&gateways, "news").await?;
        let before = pods(&namespace).await?;

        let release = Release::read().await?;
        let lived = tokio::select! {
            lived = release.live(&namespace) => lived,
            failed = push(&gateways, &key, subscribers) => failed,
        };
        if lived.is_err() {
            // Other tests need an operator.
            release
                .install_this()
                .await
                .context("installing it again")?;
        }
        lived?;
        let after = pods(&namespace).await?;
        ensure!(before == after, "pods were replaced: {before:?}, {after:?}");
        push_cluster::until_ready(cluster, name, NAME).await
    })
    .await;
}

/// Publishes through each gateway in turn, until some subscriber misses a message or loses its connection.
async fn push(gateways: &[PodAddress], key: &str, mut subscribers: Vec<Subscriber>) -> Result<()> {
    for (number, gateway) in gateways.iter().cycle().enumerate() {
        let message = json!(number);
        publish_and_receive(gateway, key, ("news", &message), &mut subscribers)
            .await
            .with_context(|| format!("message {number}"))?;
    }
    Ok(())
}

/// Uids of all pods of the PushCluster.
async fn pods(namespace: &Namespace) -> Result<BTreeSet<Option<String>>> {
    let pods: Api<Pod> = Api::namespaced(namespace.cluster.client(), &namespace.name);
    let listed = pods.list(&ListParams::default()).await?;
    let gateways = gateway_pods(&namespace.cluster, &namespace.name, NAME).await?;
    ensure!(gateways.len() == 2, "{:?}", gateways.iter().map(name_of));
    Ok(listed.into_iter().map(|pod| pod.metadata.uid).collect())
}

struct Release {
    helm: Helm,
    /// What it was installed with, as a file that Helm reads.
    values: tempfile::NamedTempFile,
}

impl Release {
    async fn read() -> Result<Release> {
        let helm = Helm::under_test()?;
        let given = helm.run(&["get", "values", RELEASE, "-o", "yaml"]).await?;
        let values = tempfile::NamedTempFile::with_suffix(".yaml")?;
        std::fs::write(values.path(), given)?;
        Ok(Release { helm, values })
    }

    async fn live(&self, namespace: &Namespace) -> Result<()> {
        self.uninstall(namespace).await?;
        self.install_previous(namespace).await?;
        self.install_this().await?;
        repairs(namespace).await?;
        self.change_and_roll_back(namespace).await
    }

    async fn install(&self, chart: &str, more: &[&str]) -> Result<()> {
        let values = self.values.path().to_str().context("a path in UTF-8")?;
        let install = ["upgrade", "--install", RELEASE, chart, "--values", values];
        let wait = ["--reset-values", "--wait", "--timeout", "3m"];
        let arguments = [&install[..], &wait[..], more].concat();
        self.helm.run(&arguments).await.map(drop)
    }

    async fn install_this(&self) -> Result<()> {
        self.install(&helm::chart(), &[]).await
    }

    /// The definition stays, and with it every PushCluster: Helm would otherwise have deleted all gateways.
    async fn uninstall(&self, namespace: &Namespace) -> Result<()> {
        let arguments = ["uninstall", RELEASE, "--wait", "--timeout", "3m"];
        self.helm.run(&arguments).await?;
        let cluster = &namespace.cluster;
        eventually("no operator runs", LIMIT, async || {
            let pods = cluster.operator_pods().await?;
            ensure!(pods.is_empty(), "{} pods", pods.len());
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        let found = push_cluster::api(cluster, &namespace.name).get(NAME).await;
        let object = found.context("the PushCluster after helm uninstall")?;
        ensure!(object.metadata.deletion_timestamp.is_none());
        Ok(())
    }

    /// This operator on the rights of the chart before. They do not suffice, and whoever looks at the PushCluster sees it.
    async fn install_previous(&self, namespace: &Namespace) -> Result<()> {
        let account = format!("serviceAccount.name={PREVIOUS_CHART}");
        self.install(&helm::previous_chart(), &["--set", &account])
            .await?;
        let events: Api<Event> = Api::namespaced(namespace.cluster.client(), &namespace.name);
        eventually("an Event says which right is missing", LIMIT, async || {
            let all = events.list(&ListParams::default()).await?;
            let notes: Vec<_> = all
                .into_iter()
                .filter(|event| event.reason.as_deref() == Some("Forbidden"))
                .filter_map(|event| event.note)
                .collect();
            let told = notes.iter().any(|note| note.contains("networkpolicies"));
            ensure!(told, "{notes:?}");
            Ok::<_, anyhow::Error>(())
        })
        .await
    }

    /// Two releases with other values, and back to the first.
    async fn change_and_roll_back(&self, namespace: &Namespace) -> Result<()> {
        let wanted = self.log_filter(namespace).await?;
        let verbose = ["--set", "log.filter=debug", "--set", "replicas=1"];
        self.install(&helm::chart(), &verbose).await?;
        let changed = self.log_filter(namespace).await?;
        ensure!(changed.as_deref() == Some("debug"), "{changed:?}");
        let back = ["rollback", RELEASE, "--wait", "--timeout", "3m"];
        self.helm.run(&back).await?;
        let now = self.log_filter(namespace).await?;
        ensure!(now == wanted, "{now:?} instead of {wanted:?}");
        repairs(namespace).await
    }

    async fn log_filter(&self, namespace: &Namespace) -> Result<Option<String>> {
        let place = Cluster::operator_namespace();
        let deployments: Api<Deployment> = Api::namespaced(namespace.cluster.client(), &place);
        let listed = deployments.list(&ListParams::default()).await?;
        let deployment = listed.items.into_iter().next().context("a Deployment")?;
        let pod = deployment.spec.and_then(|spec| spec.template.spec);
        let containers = pod.context("a pod")?.containers;
        let mut variables = containers
            .into_iter()
            .flat_map(|c| c.env.unwrap_or_default());
        Ok(variables
            .find(|variable| variable.name == "LOG_FILTER")
            .and_then(|variable| variable.value))
    }
}

/// Deletes an object that no traffic needs, and waits for another: the operator works.
async fn repairs(namespace: &Namespace) -> Result<()> {
    let policies: Api<NetworkPolicy> = Api::namespaced(namespace.cluster.client(), &namespace.name);
    let name = format!("{NAME}-gateway");
    let before = eventually("there is a NetworkPolicy", LIMIT, async || {
        policies.get(&name).await
    })
    .await?;
    policies.delete(&name, &DeleteParams::default()).await?;
    eventually("it is there again", LIMIT, async || {
        let now = policies.get(&name).await?;
        ensure!(now.metadata.uid != before.metadata.uid, "the old one");
        Ok::<_, anyhow::Error>(())
    })
    .await
}
