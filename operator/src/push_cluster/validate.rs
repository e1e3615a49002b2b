//! From what was asked for to what can be built: every mistake that the schema cannot see, with its field.

use std::collections::BTreeMap;

use crds::{
    AutoscalingSpec, ExternalRedis, GatewaySpec, PushCluster, RedisMode, RedisSpec, SecretKey,
    ServiceSpec,
};
use gateway_config as config;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::Images;
use super::build::{FILES, Names, sentinel, token_key_file};
use super::observe::{Live, Observed};

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
    pub config: config::Config,
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
        config: gateway_config(cluster, &names, &namespace),
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

fn gateway_config(cluster: &PushCluster, names: &Names, namespace: &str) -> config::Config {
    let spec = &cluster.spec;
    let GatewaySpec {
        auth,
        limits,
        log_filter,
        ..
    } = &spec.gateway;
    let mut made = config::Config::default();
    made.listen.clients = "0.0.0.0:8080".into();
    made.listen.admin = "0.0.0.0:9090".into();
    made.listen.page = Some(false);
    made.auth.anonymous = auth.anonymous;
    if auth.hs256_key_secret.is_some() {
        made.auth.hs256_key_file = format!("{FILES}/hs256-key");
    }
    made.auth.key_files = (0..auth.key_secrets.len())
        .map(|place| format!("{FILES}/{}", token_key_file(place)))
        .collect();
    made.auth.jwks_url = auth.jwks_url.clone().unwrap_or_default();
    made.auth.issuers.clone_from(&auth.issuers);
    made.auth.audiences.clone_from(&auth.audiences);
    made.api.key_file = format!("{FILES}/api-key");
    made.broker.kind = config::BrokerKind::Redis;
    made.broker.redis = redis_config(&spec.redis, names, namespace);
    made.limits.max_connections = unsigned(limits.max_connections);
    made.limits.max_message_bytes = unsigned(limits.max_message_bytes);
    made.limits.max_channels_per_connection = unsigned(limits.max_channels_per_connection);
    // A message of the greatest size must find room twice, else one slow read would end a connection.
    made.limits.max_outbox_bytes = made
        .limits
        .max_outbox_bytes
        .max(made.limits.max_message_bytes.saturating_mul(2));
    made.limits.max_request_bytes = made
        .limits
        .max_request_bytes
        .max(made.limits.max_message_bytes.saturating_mul(2));
    let pod = or_default(&spec.gateway.resources, GATEWAY_REQUEST, GATEWAY_LIMIT);
    if pod
        .limits
        .is_some_and(|limits| limits.contains_key("memory"))
    {
        // The pod's own limit counts, whatever it is; a fixed one would leave most of a large pod unused. Where the
        // pod has none, the default protects its neighbours.
        made.limits.max_memory_bytes = 0;
    }
    made.drain.deadline_seconds = unsigned(spec.drain.deadline_seconds);
    made.drain.connections_per_second = unsigned(spec.drain.reconnects_per_second);
    made.log.filter.clone_from(log_filter);
    made.log.format = config::LogFormat::Json;
    made
}

fn redis_config(redis: &RedisSpec, names: &Names, namespace: &str) -> config::Redis {
    let mut made = config::Redis {
        // Several PushClusters may share one Redis.
        key_prefix: format!("pushcluster:{namespace}/{}:", names.instance),
        ..config::Redis::default()
    };
    match (redis.mode, &redis.external) {
        (
            _,
            Some(ExternalRedis {
                host,
                port,
                username,
                password_secret,
            }),
        ) => {
            // An IPv6 address stands in brackets in a URL (RFC 3986 section 3.2.2).
            let host = if host.contains(':') {
                format!("[{host}]")
            } else {
                host.clone()
            };
            made.url = format!("redis://{host}:{port}/0");
            made.username = username.clone().unwrap_or_default();
            if password_secret.is_some() {
                made.password_file = format!("{FILES}/redis-password");
            }
        }
        (RedisMode::Sentinel, None) => {
            let sentinels =
                sentinel::hosts(names).map(|host| format!("{host}:{}", sentinel::SENTINEL_PORT));
            made.mode = config::RedisMode::Sentinel;
            made.url = format!("redis://{}/0", sentinels.join(","));
            made.master_name = sentinel::master_name(names, namespace);
            made.username = sentinel::GATEWAY_USER.into();
            made.password_file = format!("{FILES}/redis-password");
            made.sentinel_username.clone_from(&made.username);
            made.sentinel_password_file.clone_from(&made.password_file);
        }
        (RedisMode::Standalone | RedisMode::External, None) => {
            made.url = format!("redis://{}.{namespace}.svc:6379/0", names.redis);
            made.password_file = format!("{FILES}/redis-password");
        }
    }
    made
}

/// The schema allows no negative number.
fn unsigned(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

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
