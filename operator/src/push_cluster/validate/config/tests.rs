use std::collections::BTreeMap;

use gateway_config as config;
use serde_json::{Value, json};

use crate::push_cluster::fixture::{built, observed};
use crate::push_cluster::validate::validate;

/// The gateways' configuration, read as a gateway reads it.
fn read(spec: &Value) -> config::Config {
    let objects = built(spec);
    let text = &objects.config.data.as_ref().unwrap()["gateway.yaml"];
    config::parse(text, &[]).unwrap_or_else(|problems| panic!("{spec}: {problems:?}"))
}

/// A key of the gateways' configuration, a spec that makes something of it, and what; both in YAML.
const FROM_THE_SPEC: &[(&str, &str, &str)] = &[
    (
        "auth.anonymous",
        "{gateway: {auth: {anonymous: false, audiences: [a], hs256KeySecret: {key: pass, name: cache}, issuers: [i], jwksCa: {configMap: {key: ca.crt, name: pem}}, jwksRefreshSeconds: 60, jwksUrl: 'https://id/keys', keySecrets: [{key: pass, name: cache}], leewaySeconds: 7}}}",
        "false",
    ),
    (
        "auth.audiences",
        "{gateway: {auth: {anonymous: false, audiences: [a], hs256KeySecret: {key: pass, name: cache}, issuers: [i], jwksCa: {configMap: {key: ca.crt, name: pem}}, jwksRefreshSeconds: 60, jwksUrl: 'https://id/keys', keySecrets: [{key: pass, name: cache}], leewaySeconds: 7}}}",
        "[a]",
    ),
    (
        "auth.hs256KeyFile",
        "{gateway: {auth: {anonymous: false, audiences: [a], hs256KeySecret: {key: pass, name: cache}, issuers: [i], jwksCa: {configMap: {key: ca.crt, name: pem}}, jwksRefreshSeconds: 60, jwksUrl: 'https://id/keys', keySecrets: [{key: pass, name: cache}], leewaySeconds: 7}}}",
        "'/etc/pushcluster/keys/hs256-key'",
    ),
    (
        "auth.issuers",
        "{gateway: {auth: {anonymous: false, audiences: [a], hs256KeySecret: {key: pass, name: cache}, issuers: [i], jwksCa: {configMap: {key: ca.crt, name: pem}}, jwksRefreshSeconds: 60, jwksUrl: 'https://id/keys', keySecrets: [{key: pass, name: cache}], leewaySeconds: 7}}}",
        "[i]",
    ),
    (
        "auth.jwksCaFile",
        "{gateway: {auth: {anonymous: false, audiences: [a], hs256KeySecret: {key: pass, name: cache}, issuers: [i], jwksCa: {configMap: {key: ca.crt, name: pem}}, jwksRefreshSeconds: 60, jwksUrl: 'https://id/keys', keySecrets: [{key: pass, name: cache}], leewaySeconds: 7}}}",
        "'/etc/pushcluster/keys/jwks-ca.crt'",
    ),
    (
        "auth.jwksRefreshSeconds",
        "{gateway: {auth: {anonymous: false, audiences: [a], hs256KeySecret: {key: pass, name: cache}, issuers: [i], jwksCa: {configMap: {key: ca.crt, name: pem}}, jwksRefreshSeconds: 60, jwksUrl: 'https://id/keys', keySecrets: [{key: pass, name: cache}], leewaySeconds: 7}}}",
        "60",
    ),
    (
        "auth.jwksUrl",
        "{gateway: {auth: {anonymous: false, audiences: [a], hs256KeySecret: {key: pass, name: cache}, issuers: [i], jwksCa: {configMap: {key: ca.crt, name: pem}}, jwksRefreshSeconds: 60, jwksUrl: 'https://id/keys', keySecrets: [{key: pass, name: cache}], leewaySeconds: 7}}}",
        "'https://id/keys'",
    ),
    (
        "auth.keyFiles",
        "{gateway: {auth: {anonymous: false, audiences: [a], hs256KeySecret: {key: pass, name: cache}, issuers: [i], jwksCa: {configMap: {key: ca.crt, name: pem}}, jwksRefreshSeconds: 60, jwksUrl: 'https://id/keys', keySecrets: [{key: pass, name: cache}], leewaySeconds: 7}}}",
        "['/etc/pushcluster/keys/token-key-0']",
    ),
    (
        "auth.leewaySeconds",
        "{gateway: {auth: {anonymous: false, audiences: [a], hs256KeySecret: {key: pass, name: cache}, issuers: [i], jwksCa: {configMap: {key: ca.crt, name: pem}}, jwksRefreshSeconds: 60, jwksUrl: 'https://id/keys', keySecrets: [{key: pass, name: cache}], leewaySeconds: 7}}}",
        "7",
    ),
    (
        "broker.redis.caFile",
        "{redis: {external: {database: 3, hosts: ['a:1', 'b:2'], masterName: m, passwordSecret: {key: pass, name: cache}, sentinelPasswordSecret: {key: pass, name: cache}, sentinelUsername: s, tls: {ca: {configMap: {key: ca.crt, name: pem}}, clientCertificate: {secretName: pem}}, topology: Sentinel, username: u}, listen: ['ws:room:*'], listenPrefix: 'app:', mode: External}}",
        "'/etc/pushcluster/keys/redis-ca.crt'",
    ),
    (
        "broker.redis.certificateFile",
        "{redis: {external: {database: 3, hosts: ['a:1', 'b:2'], masterName: m, passwordSecret: {key: pass, name: cache}, sentinelPasswordSecret: {key: pass, name: cache}, sentinelUsername: s, tls: {ca: {configMap: {key: ca.crt, name: pem}}, clientCertificate: {secretName: pem}}, topology: Sentinel, username: u}, listen: ['ws:room:*'], listenPrefix: 'app:', mode: External}}",
        "'/etc/pushcluster/keys/redis-tls.crt'",
    ),
    (
        "broker.redis.keyFile",
        "{redis: {external: {database: 3, hosts: ['a:1', 'b:2'], masterName: m, passwordSecret: {key: pass, name: cache}, sentinelPasswordSecret: {key: pass, name: cache}, sentinelUsername: s, tls: {ca: {configMap: {key: ca.crt, name: pem}}, clientCertificate: {secretName: pem}}, topology: Sentinel, username: u}, listen: ['ws:room:*'], listenPrefix: 'app:', mode: External}}",
        "'/etc/pushcluster/keys/redis-tls.key'",
    ),
    (
        "broker.redis.listen",
        "{redis: {external: {database: 3, hosts: ['a:1', 'b:2'], masterName: m, passwordSecret: {key: pass, name: cache}, sentinelPasswordSecret: {key: pass, name: cache}, sentinelUsername: s, tls: {ca: {configMap: {key: ca.crt, name: pem}}, clientCertificate: {secretName: pem}}, topology: Sentinel, username: u}, listen: ['ws:room:*'], listenPrefix: 'app:', mode: External}}",
        "['ws:room:*']",
    ),
    (
        "broker.redis.listenPrefix",
        "{redis: {external: {database: 3, hosts: ['a:1', 'b:2'], masterName: m, passwordSecret: {key: pass, name: cache}, sentinelPasswordSecret: {key: pass, name: cache}, sentinelUsername: s, tls: {ca: {configMap: {key: ca.crt, name: pem}}, clientCertificate: {secretName: pem}}, topology: Sentinel, username: u}, listen: ['ws:room:*'], listenPrefix: 'app:', mode: External}}",
        "'app:'",
    ),
    (
        "broker.redis.masterName",
        "{redis: {external: {database: 3, hosts: ['a:1', 'b:2'], masterName: m, passwordSecret: {key: pass, name: cache}, sentinelPasswordSecret: {key: pass, name: cache}, sentinelUsername: s, tls: {ca: {configMap: {key: ca.crt, name: pem}}, clientCertificate: {secretName: pem}}, topology: Sentinel, username: u}, listen: ['ws:room:*'], listenPrefix: 'app:', mode: External}}",
        "m",
    ),
    (
        "broker.redis.mode",
        "{redis: {external: {database: 3, hosts: ['a:1', 'b:2'], masterName: m, passwordSecret: {key: pass, name: cache}, sentinelPasswordSecret: {key: pass, name: cache}, sentinelUsername: s, tls: {ca: {configMap: {key: ca.crt, name: pem}}, clientCertificate: {secretName: pem}}, topology: Sentinel, username: u}, listen: ['ws:room:*'], listenPrefix: 'app:', mode: External}}",
        "sentinel",
    ),
    (
        "broker.redis.passwordFile",
        "{redis: {external: {database: 3, hosts: ['a:1', 'b:2'], masterName: m, passwordSecret: {key: pass, name: cache}, sentinelPasswordSecret: {key: pass, name: cache}, sentinelUsername: s, tls: {ca: {configMap: {key: ca.crt, name: pem}}, clientCertificate: {secretName: pem}}, topology: Sentinel, username: u}, listen: ['ws:room:*'], listenPrefix: 'app:', mode: External}}",
        "'/etc/pushcluster/keys/redis-password'",
    ),
    (
        "broker.redis.sentinelPasswordFile",
        "{redis: {external: {database: 3, hosts: ['a:1', 'b:2'], masterName: m, passwordSecret: {key: pass, name: cache}, sentinelPasswordSecret: {key: pass, name: cache}, sentinelUsername: s, tls: {ca: {configMap: {key: ca.crt, name: pem}}, clientCertificate: {secretName: pem}}, topology: Sentinel, username: u}, listen: ['ws:room:*'], listenPrefix: 'app:', mode: External}}",
        "'/etc/pushcluster/keys/sentinel-password'",
    ),
    (
        "broker.redis.sentinelUsername",
        "{redis: {external: {database: 3, hosts: ['a:1', 'b:2'], masterName: m, passwordSecret: {key: pass, name: cache}, sentinelPasswordSecret: {key: pass, name: cache}, sentinelUsername: s, tls: {ca: {configMap: {key: ca.crt, name: pem}}, clientCertificate: {secretName: pem}}, topology: Sentinel, username: u}, listen: ['ws:room:*'], listenPrefix: 'app:', mode: External}}",
        "s",
    ),
    (
        "broker.redis.url",
        "{redis: {external: {database: 3, hosts: ['a:1', 'b:2'], masterName: m, passwordSecret: {key: pass, name: cache}, sentinelPasswordSecret: {key: pass, name: cache}, sentinelUsername: s, tls: {ca: {configMap: {key: ca.crt, name: pem}}, clientCertificate: {secretName: pem}}, topology: Sentinel, username: u}, listen: ['ws:room:*'], listenPrefix: 'app:', mode: External}}",
        "'rediss://a:1,b:2/3'",
    ),
    (
        "broker.redis.username",
        "{redis: {external: {database: 3, hosts: ['a:1', 'b:2'], masterName: m, passwordSecret: {key: pass, name: cache}, sentinelPasswordSecret: {key: pass, name: cache}, sentinelUsername: s, tls: {ca: {configMap: {key: ca.crt, name: pem}}, clientCertificate: {secretName: pem}}, topology: Sentinel, username: u}, listen: ['ws:room:*'], listenPrefix: 'app:', mode: External}}",
        "u",
    ),
    (
        "drain.connectionsPerSecond",
        "{drain: {reconnectsPerSecond: 7}}",
        "7",
    ),
    (
        "drain.deadlineSeconds",
        "{drain: {deadlineSeconds: 7}}",
        "117",
    ),
    (
        "listen.allowedOrigins",
        "{gateway: {allowedOrigins: ['https://a']}}",
        "['https://a']",
    ),
    (
        "listen.tls.certificateFile",
        "{gateway: {tls: {secretName: pem}}}",
        "'/etc/pushcluster/keys/tls.crt'",
    ),
    (
        "listen.tls.keyFile",
        "{gateway: {tls: {secretName: pem}}}",
        "'/etc/pushcluster/keys/tls.key'",
    ),
    (
        "listen.trustedProxies",
        "{gateway: {trustedProxies: ['10.0.0.0/8']}}",
        "['10.0.0.0/8']",
    ),
    ("log.filter", "{gateway: {logFilter: debug}}", "debug"),
    (
        "compression.enabled",
        "{gateway: {compression: {enabled: true}}}",
        "true",
    ),
    (
        "compression.minMessageBytes",
        "{gateway: {compression: {minMessageBytes: 7}}}",
        "7",
    ),
    (
        "heartbeat.idleSeconds",
        "{gateway: {heartbeat: {idleSeconds: 77}}}",
        "77",
    ),
    (
        "heartbeat.pingSeconds",
        "{gateway: {heartbeat: {pingSeconds: 7}}}",
        "7",
    ),
    (
        "limits.handshakesPerSecond",
        "{gateway: {limits: {handshakesPerSecond: 7}}}",
        "7",
    ),
    (
        "limits.maxChannelsPerConnection",
        "{gateway: {limits: {maxChannelsPerConnection: 7}}}",
        "7",
    ),
    (
        "limits.maxConnections",
        "{gateway: {limits: {maxConnections: 7}}}",
        "7",
    ),
    (
        "limits.maxConnectionsPerAddress",
        "{gateway: {limits: {maxConnectionsPerAddress: 7}}}",
        "7",
    ),
    (
        "limits.maxConnectionsPerUser",
        "{gateway: {limits: {maxConnectionsPerUser: 7}}}",
        "7",
    ),
    (
        "limits.maxMemoryBytes",
        "{gateway: {limits: {maxMemoryBytes: 99000000000}}}",
        "99000000000",
    ),
    (
        "limits.maxMessageBytes",
        "{gateway: {limits: {maxMessageBytes: 777}}}",
        "777",
    ),
    (
        "limits.maxOutboxBytes",
        "{gateway: {limits: {maxOutboxBytes: 7777777}}}",
        "7777777",
    ),
    (
        "limits.maxPresenceMembers",
        "{gateway: {limits: {maxPresenceMembers: 7}}}",
        "7",
    ),
    (
        "limits.maxRequestBytes",
        "{gateway: {limits: {maxRequestBytes: 7777777}}}",
        "7777777",
    ),
    (
        "limits.messageBurst",
        "{gateway: {limits: {messageBurst: 7}}}",
        "7",
    ),
    (
        "limits.messagesPerSecond",
        "{gateway: {limits: {messagesPerSecond: 7}}}",
        "7",
    ),
];

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

/// A field of a channel has the same name in the manifest; a word begins with a capital there.
fn of_a_channel() -> Vec<(&'static str, Value, Value)> {
    [
        ("channels[].batchMessages", json!(7), json!(7)),
        ("channels[].batchMilliseconds", json!(7), json!(7)),
        ("channels[].historyMessages", json!(7), json!(7)),
        ("channels[].historySeconds", json!(7), json!(7)),
        ("channels[].maxMessageBytes", json!(7), json!(7)),
        ("channels[].messageBurst", json!(7), json!(7)),
        ("channels[].messagesPerSecond", json!(7), json!(7)),
        ("channels[].prefix", json!("room:"), json!("room:")),
        ("channels[].presence", json!(true), json!(true)),
        ("channels[].publish", json!("Granted"), json!("granted")),
        (
            "channels[].slowConsumer",
            json!("DropOldest"),
            json!("dropOldest"),
        ),
        (
            "channels[].subscribe",
            json!("Authenticated"),
            json!("authenticated"),
        ),
    ]
    .into()
}

/// What a manifest does not say, and why it does not.
const NOT_IN_THE_SPEC: &[(&str, &str)] = &[
    ("api.idempotencyBytes", "nobody has asked for another yet"),
    ("api.idempotencySeconds", "nobody has asked for another yet"),
    ("api.keyFile", "the generated key"),
    ("api.maxBatchMessages", "nobody has asked for another yet"),
    ("auth.hs384KeyFile", "keySecrets takes it as a JWK"),
    ("auth.hs512KeyFile", "keySecrets takes it as a JWK"),
    (
        "auth.jwksTimeoutSeconds",
        "nobody has asked for another yet",
    ),
    ("broker.kind", "several gateways need Redis"),
    (
        "broker.redis.keyPrefix",
        "namespace and name, so that PushClusters can share a Redis",
    ),
    (
        "broker.redis.leaseSeconds",
        "goes with how long a pod takes to be replaced",
    ),
    (
        "broker.redis.maxPendingFacts",
        "bounds memory that the pod has",
    ),
    ("broker.redis.probeSeconds", "readiness goes with it"),
    ("broker.redis.timeoutSeconds", "readiness goes with it"),
    ("engine.shards", "one for each core that the pod may have"),
    (
        "limits.handshakeTimeoutSeconds",
        "nobody has asked for another yet",
    ),
    ("limits.maxHandshakes", "nobody has asked for another yet"),
    ("limits.maxHistoryBytes", "Redis has the history"),
    ("listen.admin", "probes and the operator go there"),
    ("listen.clients", "the Service goes there"),
    ("listen.page", "off: it is for trying things out"),
    ("log.format", "JSON, as log collectors want it"),
    ("node.name", "the pod's, from its environment"),
];

fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, key| &value[key])
}

#[test]
fn what_the_spec_says_the_gateways_are_told() {
    let little = json!({"redis": {"mode": "External", "external": {"host": "cache"}}});
    let default = serde_json::to_value(read(&little)).unwrap();
    for (key, spec, expected) in FROM_THE_SPEC {
        let (spec, expected) = (yaml(spec), yaml(expected));
        let made = serde_json::to_value(read(&spec)).unwrap();
        assert_eq!(at(&made, key), &expected, "{key} of {spec}");
        assert_ne!(at(&default, key), &expected, "{key} is that anyway");
    }
}

#[test]
fn what_the_spec_says_of_channels_the_gateways_are_told() {
    let rows = of_a_channel();
    let field = |key: &str| key.trim_start_matches("channels[].").to_owned();
    let given: BTreeMap<_, _> = rows.iter().map(|row| (field(row.0), &row.1)).collect();
    let auth = json!({"hs256KeySecret": {"name": "jwt", "key": "hmac"}});
    let made = read(&json!({"gateway": {"auth": auth, "channels": [given, {"prefix": ""}]}}));
    let [made, default] = made.channels.try_into().unwrap();
    let (made, default) = (json!(made), json!(default));
    for (key, _, expected) in rows {
        assert_eq!(made[field(key)], expected, "{key}");
        assert_ne!(default[field(key)], expected, "{key} is that anyway");
    }
}

/// A key that the gateway gets is a decision here, too.
#[test]
fn every_key_of_a_gateway_has_a_field_or_a_reason() {
    let mut rows: Vec<&str> = FROM_THE_SPEC.iter().map(|row| row.0).collect();
    rows.extend(of_a_channel().iter().map(|row| row.0));
    rows.extend(NOT_IN_THE_SPEC.iter().map(|(key, _)| *key));
    rows.sort_unstable();
    let mut keys = Vec::new();
    for key in config::keys() {
        match key.kind {
            config::Kind::Section => {}
            config::Kind::Entries(fields) => {
                keys.extend(
                    fields
                        .iter()
                        .map(|field| format!("{}[].{}", key.path, field.path)),
                );
            }
            _ => keys.push(key.path),
        }
    }
    keys.sort_unstable();
    assert_eq!(rows, keys);
}

/// Of a namespace and a PushCluster whose names are as long as names can be.
#[test]
fn the_longest_name_makes_a_prefix_that_gateways_take() {
    let mut observed = observed(&json!({}));
    let cluster = std::sync::Arc::make_mut(&mut observed.cluster);
    cluster.metadata.name = Some("n".repeat(45));
    cluster.metadata.namespace = Some("s".repeat(63));
    let made = validate(&observed, &crate::push_cluster::fixture::images()).unwrap();
    assert_eq!(made.config.broker.redis.key_prefix.len(), 122);
    let read = config::parse(&made.config.to_yaml(), &[]);
    assert!(read.is_ok(), "{read:?}");
}

#[test]
fn an_external_redis_is_named_as_gateways_name_it() {
    let address = |external: Value| {
        let made = read(&json!({"redis": {"mode": "External", "external": external}}));
        (made.broker.redis.url, made.broker.redis.mode)
    };
    use config::RedisMode::{Cluster, Sentinel, Standalone};
    for (external, url, mode) in [
        (json!({"host": "cache"}), "redis://cache:6379/0", Standalone),
        (
            json!({"host": "10.1.2.3", "port": 7000}),
            "redis://10.1.2.3:7000/0",
            Standalone,
        ),
        (
            json!({"host": "fd00::1", "tls": {}}),
            "rediss://[fd00::1]:6379/0",
            Standalone,
        ),
        (
            json!({"topology": "Cluster", "hosts": ["a:1", "[::1]:2"], "tls": {}}),
            "rediss://a:1,[::1]:2/0",
            Cluster,
        ),
        (
            json!({"topology": "Sentinel", "hosts": ["a:1"], "masterName": "m", "database": 2}),
            "redis://a:1/2",
            Sentinel,
        ),
    ] {
        assert_eq!(address(external), (url.to_owned(), mode));
    }
}
