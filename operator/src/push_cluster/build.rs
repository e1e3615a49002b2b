//! What there should be. Pure: the same input gives the same objects, byte for byte.

use std::collections::BTreeMap;

use crds::AutoscalingMode;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMap, PodSecurityContext, SeccompProfile, Secret, SecurityContext, Service,
    ServiceAccount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};

pub use autoscaler::connections_per_pod;
pub use config::{FILE as CONFIG_FILE, secrets_hash};

use super::observe::Keys;
use super::validate::{ValidatedCluster, ValidatedRedis};
use crate::keda::ScaledObject;

mod autoscaler;
mod budget;
mod config;
mod gateway;
mod network;
mod parts;
pub mod persistence;
mod pods;
mod redis;
pub mod redis_cluster;
pub mod redis_tls;
mod scaled_object;
mod secret;
pub mod sentinel;
mod service;

/// Where a gateway finds the files that come from Secrets.
pub const FILES: &str = "/etc/pushcluster/keys";

/// The file in [`FILES`] of the key that has this place in `keySecrets`.
pub fn token_key_file(place: usize) -> String {
    format!("token-key-{place}")
}
/// The user in every image of ours.
const USER: i64 = 65532;

/// Every owned object. `apply` takes it apart without a rest pattern: a new kind cannot be forgotten there.
#[derive(Debug, Clone, PartialEq)]
pub struct Objects {
    pub service_account: ServiceAccount,
    pub keys: Secret,
    pub config: ConfigMap,
    pub redis: Option<RedisObjects>,
    pub deployment: Deployment,
    pub service: Service,
    pub nodes_service: Service,
    pub budget: PodDisruptionBudget,
    pub autoscaler: Option<HorizontalPodAutoscaler>,
    pub scaled_object: Option<ScaledObject>,
    pub gateway_policy: Option<NetworkPolicy>,
    pub redis_policy: Option<NetworkPolicy>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct RedisObjects {
    /// One, or one for each shard.
    pub stateful_sets: Vec<StatefulSet>,
    pub service: Service,
    /// What its pods read at their start, where that is more than a password.
    pub files: Option<Secret>,
    /// What it shows with TLS.
    pub certificate: Option<Secret>,
    pub budget: Option<PodDisruptionBudget>,
}

/// The names of the owned objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The PushCluster's own.
    pub instance: String,
    pub gateway: String,
    pub service: String,
    pub nodes_service: String,
    pub config: String,
    pub keys: String,
    pub redis: String,
    pub redis_tls: String,
}

impl Names {
    pub fn of(instance: &str) -> Self {
        Names {
            instance: instance.into(),
            gateway: format!("{instance}-gateway"),
            service: instance.into(),
            nodes_service: format!("{instance}-nodes"),
            config: format!("{instance}-config"),
            keys: format!("{instance}-keys"),
            redis: format!("{instance}-redis"),
            redis_tls: format!("{instance}-redis-tls"),
        }
    }

    /// The StatefulSet of a shard of mode Cluster.
    pub fn shard(&self, shard: usize) -> String {
        format!("{}-{shard}", self.redis)
    }
}

pub fn build(cluster: &ValidatedCluster, keys: &Keys) -> Objects {
    let config = config::config_map(cluster);
    let has_policies = cluster.network_policies.enabled;
    let mut objects = Objects {
        service_account: service_account(cluster),
        keys: secret::keys(cluster, keys),
        redis: redis_objects(cluster, keys),
        deployment: gateway::deployment(
            cluster,
            &config::hash(&cluster.config, keys, &cluster.referenced),
        ),
        service: service::clients(cluster),
        nodes_service: service::nodes(cluster),
        budget: budget::budget(cluster),
        autoscaler: cluster
            .autoscaling
            .as_ref()
            .map(|spec| autoscaler::autoscaler(cluster, spec)),
        scaled_object: cluster
            .autoscaling
            .as_ref()
            .filter(|spec| spec.mode == AutoscalingMode::Keda)
            .map(|spec| scaled_object::scaled_object(cluster, spec)),
        gateway_policy: has_policies.then(|| network::gateways(cluster)),
        redis_policy: has_policies.then(|| network::redis(cluster)).flatten(),
        config,
    };
    if let (true, Some(held)) = (cluster.redis_tls, &keys.redis_tls) {
        redis_tls::secure(&mut objects, cluster, held);
    }
    objects
}

fn redis_objects(cluster: &ValidatedCluster, keys: &Keys) -> Option<RedisObjects> {
    let service = service::redis(cluster);
    match &cluster.redis {
        ValidatedRedis::Standalone { image, resources } => Some(RedisObjects {
            stateful_sets: vec![redis::stateful_set(
                cluster,
                image,
                resources,
                &config::keys_hash(keys),
            )],
            service,
            files: None,
            certificate: None,
            // One of one may always go.
            budget: None,
        }),
        ValidatedRedis::Sentinel(sentinel) => {
            let at_first = keys.at_first();
            let files = |keys| sentinel::secret(cluster, sentinel, keys);
            let hash = config::files_hash(&files(&at_first), keys);
            Some(RedisObjects {
                stateful_sets: vec![sentinel::stateful_set(cluster, sentinel, &hash)],
                service,
                files: Some(files(keys)),
                certificate: None,
                budget: Some(budget::redis(cluster)),
            })
        }
        ValidatedRedis::Cluster(redis) => {
            let at_first = keys.at_first();
            let files = |keys| redis_cluster::secret(cluster, redis, keys);
            let hash = config::files_hash(&files(&at_first), keys);
            let shards = 0..redis.kept;
            let set = |shard| redis_cluster::stateful_set(cluster, redis, shard, &hash);
            Some(RedisObjects {
                stateful_sets: shards.map(set).collect(),
                service,
                files: Some(files(keys)),
                certificate: None,
                budget: Some(budget::redis(cluster)),
            })
        }
        ValidatedRedis::External => None,
    }
}

/// Nothing in a gateway speaks to the API server, so nothing gets a token for it.
fn service_account(cluster: &ValidatedCluster) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(cluster, &cluster.names.gateway, Component::Gateway),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Component {
    Gateway,
    Redis,
}

impl Component {
    fn label(self) -> &'static str {
        match self {
            Component::Gateway => "gateway",
            Component::Redis => "redis",
        }
    }
}

/// What selects a component's pods; never changes, since selectors cannot.
fn selector_labels(cluster: &ValidatedCluster, component: Component) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "pushcluster"),
        ("app.kubernetes.io/instance", &cluster.names.instance),
        ("app.kubernetes.io/component", component.label()),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

fn labels(cluster: &ValidatedCluster, component: Component) -> BTreeMap<String, String> {
    let mut labels = selector_labels(cluster, component);
    labels.insert(
        "app.kubernetes.io/managed-by".into(),
        "pushcluster-operator".into(),
    );
    labels
}

fn selector(cluster: &ValidatedCluster, component: Component) -> LabelSelector {
    LabelSelector {
        match_labels: Some(selector_labels(cluster, component)),
        ..LabelSelector::default()
    }
}

/// The owner reference makes the garbage collector delete everything with the PushCluster; no finalizer can hang.
fn metadata(cluster: &ValidatedCluster, name: &str, component: Component) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace: Some(cluster.namespace.clone()),
        labels: Some(labels(cluster, component)),
        owner_references: Some(vec![OwnerReference {
            api_version: "pushcluster.io/v1alpha1".into(),
            kind: "PushCluster".into(),
            name: cluster.names.instance.clone(),
            uid: cluster.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    }
}

/// The *restricted* Pod Security Standard, for a pod …
fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".into(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

/// … and for a container in it.
fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".into()]),
            ..Capabilities::default()
        }),
        ..SecurityContext::default()
    }
}

#[cfg(test)]
mod tests;
