//! From what was asked for to what can be built: every mistake that the schema cannot see, with its field.

use std::collections::BTreeMap;

use crds::{
    AutoscalingMode, AutoscalingSpec, NetworkPoliciesSpec, PersistenceSpec, PodsSpec, PushCluster,
    RedisMode, ServiceSpec,
};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::Images;
use super::build::Names;
use super::build::redis_cluster::shard_number;
use super::grace;
use super::named::{Named, named, read_from};
use super::observe::{Live, Observed};
use super::shards::orders::moves::are_others_empty;
use super::status::is_of;

use crate::autoscale::schedule::{Window, WindowError};

mod config;

/// What can be built, whole: nothing in it is optional that a builder would have to guess.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidatedCluster {
    pub names: Names,
    pub namespace: String,
    pub uid: String,
    pub replicas: i32,
    pub gateway_image: String,
    pub gateway_resources: ResourceRequirements,
    /// What the gateways read.
    pub config: gateway_config::Config,
    /// What gateways find as files and the manifest names.
    pub named: Vec<Named>,
    /// The values of these, as far as gateways read them at their start only, so that other values are other pods.
    pub referenced: Vec<ByteString>,
    pub gateway_pods: PodsSpec,
    pub redis_pods: PodsSpec,
    /// None: Redis keeps nothing on a disk.
    pub redis_persistence: Option<PersistenceSpec>,
    pub redis: ValidatedRedis,
    /// Whether it speaks TLS.
    pub redis_tls: bool,
    pub autoscaling: Option<AutoscalingSpec>,
    /// What a gateway's pod has to end.
    pub grace_seconds: i64,
    pub service: ServiceSpec,
    pub network_policies: NetworkPoliciesSpec,
    /// Where the operator's own pods are.
    pub operator_namespace: String,
    /// Of their admin port.
    pub admin_url: String,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ValidatedRedis {
    Standalone {
        image: String,
        resources: ResourceRequirements,
    },
    Sentinel(SentinelRedis),
    Cluster(ClusterRedis),
    External,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SentinelRedis {
    /// Of Redis and Sentinel.
    pub image: String,
    pub resources: ResourceRequirements,
    pub sentinel_resources: ResourceRequirements,
    pub down_after_seconds: i32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ClusterRedis {
    pub image: String,
    pub resources: ResourceRequirements,
    /// At least three.
    pub shards: usize,
    /// Those that there are still to be: until their slots have gone to others, more than are wanted.
    pub kept: usize,
    /// Of each master.
    pub replicas: i32,
    pub down_after_seconds: i32,
}

/// A shard whose slots are not all with others stays, and those before it.
fn kept_shards(observed: &Observed, wanted: usize) -> usize {
    let pods = observed.redis_pods.as_deref().unwrap_or_default();
    if are_others_empty(pods, wanted) {
        return wanted;
    }
    let sets = observed.live.shards.iter();
    let last = sets.filter_map(|set| shard_number(set.labels()).map(|shard| shard + 1));
    last.max().unwrap_or(0).max(wanted)
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub field: &'static str,
    /// Completes the sentence that begins with the field.
    pub message: String,
}

pub fn validate(observed: &Observed, images: &Images) -> Result<ValidatedCluster, Vec<Problem>> {
    let cluster = &observed.cluster;
    let spec = &cluster.spec;
    let names = Names::of(&cluster.name_any());
    let namespace = cluster.namespace().unwrap_or_default();
    let mut problems = taken_names(cluster, &observed.live);

    let read = read_from(spec);
    problems.extend(read.iter().filter_map(|one| fault(observed, one)));
    let named = named(spec);
    problems.extend(schedule(&spec.autoscaling));
    let redis = check_redis(observed, images, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut config = config::gateway_config(cluster, &names, &namespace);
    let gateways = observed.pods.iter().filter(|pod| is_of(pod, "gateway"));
    config.drain.deadline_seconds = grace::of_gateways(spec, gateways);
    Ok(ValidatedCluster {
        config,
        uid: cluster.uid().unwrap_or_default(),
        replicas: spec.replicas,
        gateway_image: spec
            .gateway
            .image
            .clone()
            .unwrap_or_else(|| images.gateway.clone()),
        gateway_resources: or_default(&spec.gateway.resources, GATEWAY_REQUEST, GATEWAY_LIMIT),
        referenced: read_at_start(observed, &named),
        named,
        gateway_pods: spec.gateway.pods.clone(),
        redis_pods: spec.redis.pods.clone(),
        redis_persistence: spec.redis.persistence.clone(),
        redis,
        redis_tls: spec.redis.tls.is_some(),
        autoscaling: spec.autoscaling.enabled.then(|| spec.autoscaling.clone()),
        grace_seconds: grace::of_pod(spec),
        service: spec.service.clone(),
        network_policies: spec.network_policies.clone(),
        operator_namespace: images.operator_namespace.clone(),
        admin_url: images.admin_url.clone(),
        names,
        namespace,
    })
}

/// Windows of a schedule that nobody could tell whether they are open.
fn schedule(spec: &AutoscalingSpec) -> Vec<Problem> {
    let windows = spec.schedule.iter().flatten();
    let faults = windows.filter_map(|window| Window::new(window).err());
    let problem = |fault: WindowError| Problem {
        field: "spec.autoscaling.schedule",
        message: format!("cannot be kept: {fault}"),
    };
    faults.map(problem).collect()
}

fn check_redis(
    observed: &Observed,
    images: &Images,
    problems: &mut Vec<Problem>,
) -> ValidatedRedis {
    let spec = &observed.cluster.spec.redis;
    let image = || spec.image.clone().unwrap_or_else(|| images.redis.clone());
    let resources = || or_default(&spec.resources, "64Mi", "256Mi");
    match (spec.mode, &spec.external) {
        (RedisMode::Standalone, _) => ValidatedRedis::Standalone {
            image: image(),
            resources: resources(),
        },
        (RedisMode::Sentinel, _) => {
            let sentinel = spec.sentinel.clone().unwrap_or_default();
            ValidatedRedis::Sentinel(SentinelRedis {
                image: image(),
                resources: resources(),
                sentinel_resources: or_default(&sentinel.resources, "32Mi", "64Mi"),
                down_after_seconds: sentinel.down_after_seconds,
            })
        }
        (RedisMode::Cluster, _) => {
            let cluster = spec.cluster.clone().unwrap_or_default();
            let shards = usize::try_from(cluster.shards).unwrap_or(3);
            ValidatedRedis::Cluster(ClusterRedis {
                image: image(),
                resources: resources(),
                shards,
                kept: kept_shards(observed, shards),
                replicas: cluster.replicas,
                down_after_seconds: cluster.down_after_seconds,
            })
        }
        (RedisMode::External, Some(_)) => ValidatedRedis::External,
        (RedisMode::External, None) => {
            // The schema refuses this; an object from before the rule could still be stored.
            problems.push(Problem {
                field: "spec.redis.external",
                message: "is missing".into(),
            });
            ValidatedRedis::External
        }
    }
}

fn read_at_start(observed: &Observed, named: &[Named]) -> Vec<ByteString> {
    let at_start = named.iter().filter(|one| !one.read_again);
    at_start
        .filter_map(|one| observed.referenced.get(&one.source)?.clone())
        .collect()
}

/// Objects that have the name of one that would be made, and are somebody else's. To apply over them would break
/// what they are for, and deleting the PushCluster would delete them.
fn taken_names(cluster: &PushCluster, live: &Live) -> Vec<Problem> {
    live.all()
        .filter(|(kind, meta)| makes(cluster, kind, meta))
        .filter_map(|(kind, meta)| {
            let whose = somebody_elses(cluster, meta)?;
            let name = meta.name.as_deref().unwrap_or_default();
            Some(Problem {
                field: "metadata.name",
                message: format!("is taken: {kind} {name} {whose}"),
            })
        })
        .collect()
}

/// Whether this PushCluster needs an object of the kind with that name.
fn makes(cluster: &PushCluster, kind: &str, meta: &ObjectMeta) -> bool {
    let mode = cluster.spec.redis.mode;
    let is_redis = meta.name == Some(Names::of(&cluster.name_any()).redis);
    match kind {
        "HorizontalPodAutoscaler" => {
            let autoscaling = &cluster.spec.autoscaling;
            let others = [AutoscalingMode::Builtin, AutoscalingMode::Keda];
            autoscaling.enabled && !others.contains(&autoscaling.mode)
        }
        "ScaledObject" => {
            let autoscaling = &cluster.spec.autoscaling;
            autoscaling.enabled && autoscaling.mode == AutoscalingMode::Keda
        }
        "NetworkPolicy" if !cluster.spec.network_policies.enabled => false,
        "Secret" | "PodDisruptionBudget" if is_redis => {
            matches!(mode, RedisMode::Sentinel | RedisMode::Cluster)
        }
        "StatefulSet" if is_redis => {
            matches!(mode, RedisMode::Standalone | RedisMode::Sentinel)
        }
        _ if is_redis => mode != RedisMode::External,
        _ => true,
    }
}

/// Whose it is, if not this PushCluster's. One that a PushCluster of this name left behind (`--cascade=orphan`) has its
/// labels and no owner, and may be taken up again.
fn somebody_elses(cluster: &PushCluster, meta: &ObjectMeta) -> Option<String> {
    let owner = meta
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true));
    match owner {
        Some(owner) if cluster.uid().as_ref() == Some(&owner.uid) => None,
        Some(owner) if owner.kind == "PushCluster" && owner.name == cluster.name_any() => Some(
            "belongs to the PushCluster of this name that was deleted, and will be gone soon"
                .into(),
        ),
        Some(owner) => Some(format!(
            "belongs to {} {}: rename the one or the other",
            owner.kind, owner.name
        )),
        None => {
            let label = |key| meta.labels.as_ref().and_then(|labels| labels.get(key));
            let left_behind = label("app.kubernetes.io/managed-by").map(String::as_str)
                == Some("pushcluster-operator")
                && label("app.kubernetes.io/instance") == Some(&cluster.name_any());
            (!left_behind).then(|| "was there before: rename the one or the other".into())
        }
    }
}

fn fault(observed: &Observed, one: &Named) -> Option<Problem> {
    let value = observed
        .referenced
        .get(&one.source)
        .and_then(Option::as_ref);
    let why = match value {
        None => "is not there".to_owned(),
        Some(value) => one.wants.fault(&value.0)?,
    };
    Some(Problem {
        field: one.field,
        message: format!("names {}, which {why}", one.source),
    })
}

/// Memory of a gateway's pod, where the manifest says nothing.
const GATEWAY_REQUEST: &str = "128Mi";
const GATEWAY_LIMIT: &str = "512Mi";

/// What the user gave, or enough for a small cluster with a limit that protects its neighbours.
fn or_default(given: &ResourceRequirements, request: &str, limit: &str) -> ResourceRequirements {
    if *given != ResourceRequirements::default() {
        return given.clone();
    }
    let quantity = |text: &str| Quantity(text.into());
    let requests = [("cpu", quantity("50m")), ("memory", quantity(request))];
    ResourceRequirements {
        requests: Some(
            requests
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
        ),
        limits: Some(BTreeMap::from([("memory".to_owned(), quantity(limit))])),
        ..ResourceRequirements::default()
    }
}

#[cfg(test)]
mod tests;
