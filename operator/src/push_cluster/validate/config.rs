//! From the manifest to the file that gateways read.

use crds::{ExternalRedis, GatewaySpec, PushCluster, RedisMode, RedisSpec};
use gateway_config as config;

use super::{GATEWAY_LIMIT, GATEWAY_REQUEST, or_default};
use crate::push_cluster::build::{FILES, Names, sentinel, token_key_file};

pub(super) fn gateway_config(
    cluster: &PushCluster,
    names: &Names,
    namespace: &str,
) -> config::Config {
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
