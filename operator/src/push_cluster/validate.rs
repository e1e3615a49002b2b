//! From what was asked for to what can be built: every mistake that the schema cannot see, with its field.

use std::collections::BTreeMap;

use crds::{AutoscalingSpec, PushCluster, RedisMode, SecretKey, ServiceSpec};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::Images;
use super::build::Names;
use super::observe::{Live, Observed};

mod config;

/// Shortest HS256 key (RFC 7518 section 3.2).
const MIN_HS256_KEY_BYTES: usize = 32;

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
    pub hs256_key: Option<SecretKey>,
    /// Keys of tokens; the file of each is named after its place.
    pub token_keys: Vec<SecretKey>,
    /// What the Secrets that the manifest names hold, as far as gateways read it at their start only, so that other
    /// values are other pods. Keys of tokens are not among them: gateways read those again when they change.
    pub referenced: Vec<ByteString>,
    pub redis: ValidatedRedis,
    pub autoscaling: Option<AutoscalingSpec>,
    pub drain_deadline_seconds: i64,
    pub service: ServiceSpec,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ValidatedRedis {
    Standalone {
        image: String,
        resources: ResourceRequirements,
    },
    Sentinel(SentinelRedis),
    External {
        password: Option<SecretKey>,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct SentinelRedis {
    /// Of Redis and Sentinel.
    pub image: String,
    pub resources: ResourceRequirements,
    pub sentinel_resources: ResourceRequirements,
    pub down_after_seconds: i32,
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

    check_token_keys(observed, &mut problems);
    let redis = check_redis(observed, images, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(ValidatedCluster {
        config: config::gateway_config(cluster, &names, &namespace),
        uid: cluster.uid().unwrap_or_default(),
        replicas: spec.replicas,
        gateway_image: spec
            .gateway
            .image
            .clone()
            .unwrap_or_else(|| images.gateway.clone()),
        gateway_resources: or_default(&spec.gateway.resources, GATEWAY_REQUEST, GATEWAY_LIMIT),
        hs256_key: spec.gateway.auth.hs256_key_secret.clone(),
        token_keys: spec.gateway.auth.key_secrets.clone(),
        referenced: read_at_start(observed, &redis),
        redis,
        autoscaling: spec.autoscaling.enabled.then(|| spec.autoscaling.clone()),
        drain_deadline_seconds: i64::from(spec.drain.deadline_seconds),
        service: spec.service.clone(),
        names,
        namespace,
    })
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
        (RedisMode::External, Some(external)) => {
            if let Some(secret) = &external.password_secret {
                let field = "spec.redis.external.passwordSecret";
                check_secret(observed, secret, field, 1, problems);
            }
            ValidatedRedis::External {
                password: external.password_secret.clone(),
            }
        }
        (RedisMode::External, None) => {
            // The schema refuses this; an object from before the rule could still be stored.
            problems.push(Problem {
                field: "spec.redis.external",
                message: "is missing".into(),
            });
            ValidatedRedis::External { password: None }
        }
    }
}

fn check_token_keys(observed: &Observed, problems: &mut Vec<Problem>) {
    let auth = &observed.cluster.spec.gateway.auth;
    if let Some(secret) = &auth.hs256_key_secret {
        let field = "spec.gateway.auth.hs256KeySecret";
        check_secret(observed, secret, field, MIN_HS256_KEY_BYTES, problems);
    }
    for secret in &auth.key_secrets {
        let field = "spec.gateway.auth.keySecrets";
        check_secret(observed, secret, field, 1, problems);
    }
}

fn read_at_start(observed: &Observed, redis: &ValidatedRedis) -> Vec<ByteString> {
    let ValidatedRedis::External {
        password: Some(SecretKey { name, key }),
    } = redis
    else {
        return Vec::new();
    };
    let value = observed.referenced.get(&(name.clone(), key.clone()));
    value.into_iter().flatten().cloned().collect()
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
        "HorizontalPodAutoscaler" => cluster.spec.autoscaling.enabled,
        "Secret" | "PodDisruptionBudget" if is_redis => mode == RedisMode::Sentinel,
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

fn check_secret(
    observed: &Observed,
    secret: &SecretKey,
    field: &'static str,
    min_bytes: usize,
    problems: &mut Vec<Problem>,
) {
    let SecretKey { name, key } = secret;
    let value = observed
        .referenced
        .get(&(name.clone(), key.clone()))
        .and_then(Option::as_ref);
    let message = match value {
        None => format!("names key {key} of Secret {name}, which is not there"),
        Some(value) if value.0.len() < min_bytes => {
            format!(
                "names key {key} of Secret {name}, which has {} bytes: at least {min_bytes} are needed",
                value.0.len()
            )
        }
        Some(_) => return,
    };
    problems.push(Problem { field, message });
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
