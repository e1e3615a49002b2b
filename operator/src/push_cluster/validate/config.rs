//! From the manifest to the file that gateways read.

use crds::{
    AuthSpec, ChannelRight, ChannelSpec, ExternalRedis, ExternalTopology, GatewaySpec, LimitsSpec,
    PushCluster, RedisMode, RedisSpec,
};
use gateway_config as config;

use super::{GATEWAY_LIMIT, GATEWAY_REQUEST, or_default};
use crate::push_cluster::build::{FILES, Names, sentinel, token_key_file};
use crate::push_cluster::grace;
use crate::push_cluster::redis_tls;

/// `path` of a file in [`FILES`], if there is one.
fn file(there: bool, path: &str) -> String {
    if there {
        format!("{FILES}/{path}")
    } else {
        String::new()
    }
}

pub(super) fn gateway_config(
    cluster: &PushCluster,
    names: &Names,
    namespace: &str,
) -> config::Config {
    let spec = &cluster.spec;
    let gateway = &spec.gateway;
    let mut made = config::Config {
        listen: listen(gateway),
        auth: auth(&gateway.auth),
        limits: limits(gateway),
        channels: gateway.channels.iter().map(channel).collect(),
        ..config::Config::default()
    };
    made.api.key_file = file(true, "api-key");
    made.broker.kind = config::BrokerKind::Redis;
    made.broker.redis = redis(&spec.redis, names, namespace);
    made.compression.enabled = gateway.compression.enabled;
    made.compression.min_message_bytes = unsigned(gateway.compression.min_message_bytes);
    made.heartbeat.ping_seconds = unsigned(gateway.heartbeat.ping_seconds);
    made.heartbeat.idle_seconds = unsigned(gateway.heartbeat.idle_seconds);
    // Of one that is told to end before it has given its clients away, as when its node is drained. In which time, the
    // pods say that are there.
    made.drain.connections_per_second = grace::per_second(spec);
    made.log.filter.clone_from(&gateway.log_filter);
    made.log.format = config::LogFormat::Json;
    made
}

fn listen(gateway: &GatewaySpec) -> config::Listen {
    config::Listen {
        clients: "0.0.0.0:8080".into(),
        admin: "0.0.0.0:9090".into(),
        allowed_origins: gateway.allowed_origins.clone(),
        trusted_proxies: gateway.trusted_proxies.clone(),
        page: Some(false),
        tls: config::Tls {
            certificate_file: file(gateway.tls.is_some(), "tls.crt"),
            key_file: file(gateway.tls.is_some(), "tls.key"),
        },
    }
}

fn auth(auth: &AuthSpec) -> config::Auth {
    config::Auth {
        anonymous: auth.anonymous,
        hs256_key_file: file(auth.hs256_key_secret.is_some(), "hs256-key"),
        key_files: (0..auth.key_secrets.len())
            .map(|place| file(true, &token_key_file(place)))
            .collect(),
        jwks_url: auth.jwks_url.clone().unwrap_or_default(),
        jwks_ca_file: file(auth.jwks_ca.is_some(), "jwks-ca.crt"),
        jwks_refresh_seconds: unsigned(auth.jwks_refresh_seconds),
        issuers: auth.issuers.clone(),
        audiences: auth.audiences.clone(),
        leeway_seconds: unsigned(auth.leeway_seconds),
        ..config::Auth::default()
    }
}

fn limits(gateway: &GatewaySpec) -> config::Limits {
    let default = config::Limits::default();
    let LimitsSpec {
        max_connections,
        max_connections_per_user,
        max_connections_per_address,
        handshakes_per_second,
        messages_per_second,
        message_burst,
        max_message_bytes,
        max_channels_per_connection,
        max_outbox_bytes,
        max_request_bytes,
        max_presence_members,
        max_memory_bytes,
    } = &gateway.limits;
    let max_message_bytes = unsigned(*max_message_bytes);
    // A message of the greatest size must find room twice, else one slow read would end a connection.
    let twice = max_message_bytes.saturating_mul(2);
    let given_or = |given: &Option<i32>, default: u32| given.map_or(default.max(twice), unsigned);
    config::Limits {
        max_connections: unsigned(*max_connections),
        max_connections_per_user: unsigned(*max_connections_per_user),
        max_connections_per_address: unsigned(*max_connections_per_address),
        handshakes_per_second: unsigned(*handshakes_per_second),
        messages_per_second: unsigned(*messages_per_second),
        message_burst: unsigned(*message_burst),
        max_message_bytes,
        max_channels_per_connection: unsigned(*max_channels_per_connection),
        max_outbox_bytes: given_or(max_outbox_bytes, default.max_outbox_bytes),
        max_request_bytes: given_or(max_request_bytes, default.max_request_bytes),
        max_presence_members: unsigned(*max_presence_members),
        max_memory_bytes: match max_memory_bytes {
            Some(bytes) => u64::try_from(*bytes).unwrap_or(0),
            None => memory_of_the_pod(gateway),
        },
        ..default
    }
}

/// The pod's own limit counts, whatever it is; a fixed one would leave most of a large pod unused. Where the pod has
/// none, the default protects its neighbours.
fn memory_of_the_pod(gateway: &GatewaySpec) -> u64 {
    let pod = or_default(&gateway.resources, GATEWAY_REQUEST, GATEWAY_LIMIT);
    let limited = pod
        .limits
        .is_some_and(|limits| limits.contains_key("memory"));
    if limited {
        0
    } else {
        config::Limits::default().max_memory_bytes
    }
}

fn channel(channel: &ChannelSpec) -> config::ChannelPolicy {
    let ChannelSpec {
        prefix,
        subscribe,
        publish,
        history_messages,
        history_seconds,
        presence,
        max_message_bytes,
        messages_per_second,
        message_burst,
        slow_consumer,
        batch_milliseconds,
        batch_messages,
    } = channel;
    config::ChannelPolicy {
        prefix: Some(prefix.clone()),
        subscribe: right(*subscribe),
        publish: right(*publish),
        max_message_bytes: unsigned(*max_message_bytes),
        messages_per_second: unsigned(*messages_per_second),
        message_burst: unsigned(*message_burst),
        slow_consumer: match slow_consumer {
            crds::SlowConsumer::Disconnect => config::SlowConsumer::Disconnect,
            crds::SlowConsumer::DropOldest => config::SlowConsumer::DropOldest,
            crds::SlowConsumer::Latest => config::SlowConsumer::Latest,
        },
        batch_milliseconds: unsigned(*batch_milliseconds),
        batch_messages: unsigned(*batch_messages),
        history_messages: unsigned(*history_messages),
        history_seconds: unsigned(*history_seconds),
        presence: *presence,
    }
}

fn right(right: ChannelRight) -> config::Right {
    match right {
        ChannelRight::Anyone => config::Right::Anyone,
        ChannelRight::Authenticated => config::Right::Authenticated,
        ChannelRight::Granted => config::Right::Granted,
        ChannelRight::Nobody => config::Right::Nobody,
    }
}

fn redis(redis: &RedisSpec, names: &Names, namespace: &str) -> config::Redis {
    let mut made = config::Redis {
        // Several PushClusters may share one Redis.
        key_prefix: format!("pushcluster:{namespace}/{}:", names.instance),
        listen: redis.listen.clone(),
        listen_prefix: redis.listen_prefix.clone(),
        ..config::Redis::default()
    };
    let scheme = match redis.tls {
        Some(_) => "rediss",
        None => "redis",
    };
    made.ca_file = file(redis.tls.is_some(), "redis-ca.crt");
    match (redis.mode, &redis.external) {
        (_, Some(there)) => external(there, &mut made),
        (RedisMode::Sentinel, None) => {
            let sentinels =
                sentinel::hosts(names).map(|host| format!("{host}:{}", sentinel::SENTINEL_PORT));
            made.mode = config::RedisMode::Sentinel;
            made.url = format!("{scheme}://{}/0", sentinels.join(","));
            made.master_name = sentinel::master_name(names, namespace);
            made.username = sentinel::GATEWAY_USER.into();
            made.password_file = file(true, "redis-password");
            made.sentinel_username.clone_from(&made.username);
            made.sentinel_password_file.clone_from(&made.password_file);
        }
        (RedisMode::Cluster, None) => {
            // All pods by one name: with one for each, more shards would be other gateways.
            made.mode = config::RedisMode::Cluster;
            let name = match redis.tls {
                Some(_) => redis_tls::server_name(names, namespace),
                None => names.redis.clone(),
            };
            made.url = format!("{scheme}://{name}:{}", sentinel::REDIS_PORT);
            made.username = sentinel::GATEWAY_USER.into();
            made.password_file = format!("{FILES}/redis-password");
        }
        (RedisMode::Standalone | RedisMode::External, None) => {
            let name = redis_tls::server_name(names, namespace);
            made.url = format!("{scheme}://{name}:6379/0");
            made.password_file = file(true, "redis-password");
        }
    }
    made
}

fn external(there: &ExternalRedis, made: &mut config::Redis) {
    let scheme = match there.tls {
        Some(_) => "rediss",
        None => "redis",
    };
    let (addresses, database) = (there.addresses().join(","), there.database);
    made.url = format!("{scheme}://{addresses}/{database}");
    made.mode = match there.topology {
        ExternalTopology::Standalone => config::RedisMode::Standalone,
        ExternalTopology::Sentinel => config::RedisMode::Sentinel,
        ExternalTopology::Cluster => config::RedisMode::Cluster,
    };
    made.master_name = there.master_name.clone().unwrap_or_default();
    made.username = there.username.clone().unwrap_or_default();
    made.password_file = file(there.password_secret.is_some(), "redis-password");
    made.sentinel_username = there.sentinel_username.clone().unwrap_or_default();
    made.sentinel_password_file = file(
        there.sentinel_password_secret.is_some(),
        "sentinel-password",
    );
    let tls = there.tls.clone().unwrap_or_default();
    made.ca_file = file(tls.ca.is_some(), "redis-ca.crt");
    made.certificate_file = file(tls.client_certificate.is_some(), "redis-tls.crt");
    made.key_file = file(tls.client_certificate.is_some(), "redis-tls.key");
}

/// The schema allows no negative number.
fn unsigned(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests;
