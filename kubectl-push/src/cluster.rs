//! The cluster that kubectl would use, and what is read from it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use crds::PushCluster;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, DynamicObject, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use operator::failure::line;
use operator::push_cluster::apply::plan::Write;
use operator::push_cluster::observe::{Observed, observe};
use operator::push_cluster::{Images, admin_url};
use serde_json::Value;

use crate::plan::Live;

/// Selects the operator's Deployment.
const OPERATOR_LABELS: &str = "app.kubernetes.io/name=pushcluster-operator";

/// An API server and the namespace to look in.
#[derive(Clone)]
pub struct Cluster {
    pub client: Client,
    pub namespace: String,
}

impl Cluster {
    /// What is not given, the kubeconfig says.
    pub async fn connect(
        kubeconfig: Option<&Path>,
        context: Option<String>,
        namespace: Option<String>,
    ) -> Result<Cluster> {
        let kubeconfig = match kubeconfig {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        let options = KubeConfigOptions {
            context,
            ..KubeConfigOptions::default()
        };
        let kubeconfig = kubeconfig.context("reading the kubeconfig failed")?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .context("the kubeconfig cannot be used")?;
        Ok(Cluster {
            namespace: namespace.unwrap_or_else(|| config.default_namespace.clone()),
            client: Client::try_from(config).context("the kubeconfig cannot be used")?,
        })
    }

    fn push_clusters(&self) -> Api<PushCluster> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub async fn find(&self, name: &str) -> Result<Option<PushCluster>> {
        let found = self.push_clusters().get_opt(name).await;
        found.map_err(|error| {
            let what = format!("reading PushCluster {}/{name} failed", self.namespace);
            anyhow::anyhow!("{what}: {}", line(&error))
        })
    }

    /// The one of this name, or the only one that there is.
    pub async fn one(&self, name: Option<&str>) -> Result<PushCluster> {
        let namespace = &self.namespace;
        if let Some(name) = name {
            let found = self.find(name).await?;
            return found.with_context(|| format!("there is no PushCluster {namespace}/{name}"));
        }
        let listed = self.push_clusters().list(&ListParams::default()).await;
        let mut all = listed
            .map_err(|error| anyhow::anyhow!("listing PushClusters failed: {}", line(&error)))?
            .items;
        match all.len() {
            1 => Ok(all.remove(0)),
            0 => bail!("there is no PushCluster in namespace {namespace}"),
            _ => {
                let names: Vec<String> = all.iter().map(ResourceExt::name_any).collect();
                bail!("which one? Namespace {namespace} has {}", names.join(", "))
            }
        }
    }

    /// What the operator would see.
    pub async fn observe(&self, cluster: PushCluster) -> Result<Observed> {
        let observed = observe(&self.client, Arc::new(cluster)).await;
        observed.map_err(|error| anyhow::anyhow!("{}", line(&error)))
    }

    /// The objects that these writes are about, as far as they are there.
    pub async fn live(&self, writes: &[Write]) -> Result<Live> {
        let mut live = Live::new();
        for write in writes {
            let kind = &write.resource.kind;
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), &self.namespace, &write.resource);
            let found = api.get_opt(&write.name).await;
            let found = found.map_err(|error| {
                anyhow::anyhow!("reading {kind} {} failed: {}", write.name, line(&error))
            })?;
            if let Some(object) = found {
                let object = serde_json::to_value(object).context("an object is JSON")?;
                live.insert((kind.clone(), write.name.clone()), object);
            }
        }
        Ok(live)
    }

    /// The images and the namespace of the operator that looks after this namespace.
    pub async fn images(&self) -> Result<Images> {
        let all: Api<Deployment> = Api::all(self.client.clone());
        let listed = all
            .list(&ListParams::default().labels(OPERATOR_LABELS))
            .await;
        let instead = "give --gateway-image and --redis-image instead";
        let listed = listed.map_err(|error| {
            anyhow::anyhow!(
                "looking for the operator failed: {}: {instead}",
                line(&error)
            )
        })?;
        let images = listed
            .iter()
            .find_map(|deployment| images_of(deployment, &self.namespace));
        images.with_context(|| {
            format!(
                "no operator looks after namespace {}: {instead}",
                self.namespace
            )
        })
    }
}

fn images_of(deployment: &Deployment, namespace: &str) -> Option<Images> {
    let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
    let variables = pod.containers.first()?.env.as_ref()?;
    let value = |name: &str| {
        let variable = variables.iter().find(|variable| variable.name == name)?;
        variable.value.clone()
    };
    let watched = value("WATCH_NAMESPACE").unwrap_or_default();
    if !watched.is_empty() && watched != namespace {
        return None;
    }
    let operator_namespace = deployment.metadata.namespace.clone()?;
    Some(Images {
        gateway: value("GATEWAY_IMAGE")?,
        redis: value("REDIS_IMAGE")?,
        // An operator of an earlier chart is not told.
        admin_url: value("ADMIN_URL").unwrap_or_else(|| admin_url(&operator_namespace)),
        operator_namespace,
    })
}

/// As JSON, with the managed fields.
pub fn to_json(cluster: &PushCluster) -> Result<Value> {
    serde_json::to_value(cluster).context("a PushCluster is JSON")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn images_come_from_the_operator_that_looks_after_the_namespace() {
        let deployment = |watched: &str| -> Deployment {
            serde_json::from_value(json!({"metadata": {"namespace": "operators"}, "spec": {"selector": {}, "template": {"spec": {"containers": [{
                "name": "operator", "env": [
                    {"name": "WATCH_NAMESPACE", "value": watched},
                    {"name": "GATEWAY_IMAGE", "value": "gateway:3"},
                    {"name": "REDIS_IMAGE", "value": "redis:8"},
                    {"name": "ADMIN_URL", "value": "http://operator.operators.svc:9191"},
                ],
            }]}}}}))
            .unwrap()
        };
        let images = Images {
            gateway: "gateway:3".into(),
            redis: "redis:8".into(),
            operator_namespace: "operators".into(),
            admin_url: "http://operator.operators.svc:9191".into(),
        };
        for (watched, expected) in [
            ("", Some(images.clone())),
            ("shop", Some(images)),
            ("other", None),
        ] {
            assert_eq!(
                images_of(&deployment(watched), "shop"),
                expected,
                "{watched}"
            );
        }
    }
}
