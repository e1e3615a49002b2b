//! The cluster under test, as a kubeconfig names it.

use std::path::Path;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config};
use serde_json::Value;

/// Environment variable with the kubeconfig of the cluster under test. Not KUBECONFIG: tests delete things,
/// and must not do so where someone's kubectl happens to point.
pub const KUBECONFIG: &str = "PUSHCLUSTER_E2E_KUBECONFIG";
/// Environment variable with the path of the API server's audit log.
pub const AUDIT_LOG: &str = "PUSHCLUSTER_E2E_AUDIT_LOG";
/// Environment variable with the namespace that the operator was installed in; unset: [`OPERATOR_NAMESPACE`].
pub const OPERATOR_NAMESPACE_VARIABLE: &str = "PUSHCLUSTER_E2E_OPERATOR_NAMESPACE";
/// Where `make up` and `make e2e` install the operator.
pub const OPERATOR_NAMESPACE: &str = "pushcluster-system";
/// Selects the operator's pods.
pub const OPERATOR_LABELS: &str = "app.kubernetes.io/name=pushcluster-operator";

/// Kinds without a namespace that are applied from here.
const CLUSTER_SCOPED: &[&str] = &[
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
];

/// Field manager of everything that is applied from here.
const FIELD_MANAGER: &str = "e2e";

/// A connection to the API server.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
}

impl Cluster {
    /// The cluster that [`KUBECONFIG`] names. `Err` says which variable is missing and what sets it.
    pub async fn under_test() -> Result<Cluster> {
        let path = std::env::var_os(KUBECONFIG).with_context(|| {
            format!("{KUBECONFIG} is not set: `make e2e` starts a cluster and sets it")
        })?;
        Cluster::connect(Some(Path::new(&path)), None).await
    }

    /// `kubeconfig` as a file, or kubectl's own choice; `context` by name, or the current one.
    pub async fn connect(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Cluster> {
        let kubeconfig = match kubeconfig {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        }
        .context("read the kubeconfig")?;
        let options = KubeConfigOptions {
            context: context.map(str::to_owned),
            ..Default::default()
        };
        let config = Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .context("understand the kubeconfig")?;
        let server = config.cluster_url.clone();
        let client = Client::try_from(config).with_context(|| format!("connect to {server}"))?;
        Ok(Cluster { client })
    }

    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Objects of one kind in one namespace (or in none, by their kind), without their type.
    pub fn objects(
        &self,
        namespace: &str,
        group: &str,
        version: &str,
        kind: &str,
    ) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        if CLUSTER_SCOPED.contains(&kind) {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        }
    }

    /// `kubectl apply --server-side` of one object written as YAML, in `namespace`. An unknown key is an error.
    pub async fn apply(&self, namespace: &str, manifest: &str) -> Result<DynamicObject> {
        self.apply_with(namespace, manifest, PatchParams::apply(FIELD_MANAGER))
            .await
    }

    /// Whether the API server would take it: `kubectl apply --server-side --dry-run=server`.
    pub async fn would_apply(&self, namespace: &str, manifest: &str) -> Result<DynamicObject> {
        self.apply_with(
            namespace,
            manifest,
            PatchParams::apply(FIELD_MANAGER).dry_run(),
        )
        .await
    }

    async fn apply_with(
        &self,
        namespace: &str,
        manifest: &str,
        params: PatchParams,
    ) -> Result<DynamicObject> {
        let object: Value = serde_yaml::from_str(manifest).context("read the manifest")?;
        let text = |pointer: &str| {
            let found = object.pointer(pointer).and_then(Value::as_str);
            found
                .with_context(|| format!("the manifest has no {pointer}"))
                .map(str::to_owned)
        };
        let (kind, name, api_version) = (
            text("/kind")?,
            text("/metadata/name")?,
            text("/apiVersion")?,
        );
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        // Strict, as kubectl: the API server would drop a misspelt key and say nothing.
        let params = params.force().validation_strict();
        self.objects(namespace, group, version, &kind)
            .patch(&name, &params, &Patch::Apply(&object))
            .await
            .with_context(|| format!("apply {kind} {namespace}/{name}"))
    }

    /// The namespace that the operator runs in.
    pub fn operator_namespace() -> String {
        std::env::var(OPERATOR_NAMESPACE_VARIABLE).unwrap_or_else(|_| OPERATOR_NAMESPACE.to_owned())
    }

    /// The operator's pods that are not ending.
    pub async fn operator_pods(&self) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.client(), &Self::operator_namespace());
        let listed = pods
            .list(&ListParams::default().labels(OPERATOR_LABELS))
            .await;
        let listed = listed.context("list the operator's pods")?;
        Ok(listed
            .into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .collect())
    }
}

/// Whether the kubelet says that the pod is ready, and nobody has asked it to end.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions
            .clone()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The pod's name; every pod from the API server has one.
pub fn name_of(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}
