//! Texts as people write them, and the exact lines they see.

use super::*;
use crate::{BrokerKind, LogFormat};

/// Every line that a person sees for `text` and `overrides` (`path=value`), or `good`.
fn lines(text: &str, overrides: &[&str]) -> Vec<String> {
    let overrides: Vec<Override> = overrides
        .iter()
        .map(|pair| {
            let (path, value) = pair.split_once('=').unwrap();
            Override {
                path: path.into(),
                value: value.into(),
                source: format!("flag --set {path}"),
            }
        })
        .collect();
    match parse(text, &overrides) {
        Ok(_) => vec!["good".into()],
        Err(problems) => problems
            .iter()
            .map(|p| p.in_file("g.yaml").to_string())
            .collect(),
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn mistakes_in_a_file() {
    #[rustfmt::skip]
    let table: &[(&str, &str)] = &[
        ("", "good"),
        ("# nothing\n", "good"),
        ("limits:\n", "good"),
        ("{}", "good"),
        ("listen: {page: null}", "good"),
        ("node: {name: 123}", "good"),
        // Syntax and shape.
        ("limits", "g.yaml:1:1: expected `key: value` lines, found limits"),
        ("- a\n", "g.yaml:1:1: expected `key: value` lines, found a list"),
        ("limits: 5", "g.yaml:1:9: limits: expected keys below it (handshakeTimeoutSeconds, handshakesPerSecond, maxChannelsPerConnection, maxConnections, maxConnectionsPerAddress, maxConnectionsPerUser, maxHandshakes, maxHistoryBytes, maxMemoryBytes, maxMessageBytes, maxOutboxBytes, maxPresenceMembers, maxRequestBytes, messageBurst, messagesPerSecond), found 5"),
        ("a: 1\n---\nb: 2\n", "g.yaml:2:1: a second document begins here; only one is read"),
        ("limits: &x\n  maxConnections: 1\n", "g.yaml:2:3: anchors (&) and aliases (*) are not read; write the value"),
        ("limits: !!map {}\n", "g.yaml:1:15: tags (!) are not read; write the plain value"),
        ("a: [[[[[[[[[[1]]]]]]]]]]", "g.yaml:1:12: nested deeper than any key goes"),
        // Keys.
        ("limits:\n  maxConections: 5\n", "g.yaml:2:3: limits.maxConections: unknown key; did you mean maxConnections?"),
        ("limits:\n  max_connections: 5\n", "g.yaml:2:3: limits.max_connections: unknown key; did you mean maxConnections?"),
        ("heartbeat:\n  ping: 30\n", "g.yaml:2:3: heartbeat.ping: unknown key; did you mean pingSeconds? The unit is part of the key"),
        ("maxConnections: 5\n", "g.yaml:1:1: maxConnections: unknown key here; did you mean limits.maxConnections?"),
        ("log:\n  colour: red\n", "g.yaml:2:3: log.colour: unknown key; known here: filter, format"),
        ("limits:\n  maxConnections: 5\n  maxConnections: 6\n", "g.yaml:3:3: limits.maxConnections: written twice; the first is on line 2"),
        // Units and types.
        ("heartbeat:\n  pingSeconds: 30s\n", "g.yaml:2:16: heartbeat.pingSeconds: expected a whole number of seconds: write 30, not 30s"),
        ("heartbeat:\n  idleSeconds: 5m\n", "g.yaml:2:16: heartbeat.idleSeconds: expected a whole number of seconds: write 300, not 5m"),
        ("heartbeat:\n  idleSeconds: 500ms\n", "g.yaml:2:16: heartbeat.idleSeconds: expected a whole number of seconds, found 500ms"),
        ("limits: {maxMessageBytes: 1Mi}", "g.yaml:1:27: limits.maxMessageBytes: expected a whole number of bytes: write 1048576, not 1Mi"),
        ("limits: {maxConnections: 10_000}", "g.yaml:1:26: limits.maxConnections: expected a whole number: write 10000, not 10_000"),
        ("limits: {maxConnections: 10k}", "g.yaml:1:26: limits.maxConnections: expected a whole number, found 10k"),
        ("limits: {maxConnections: -1}", "g.yaml:1:26: limits.maxConnections: expected a whole number, found -1"),
        ("limits: {maxConnections: 1.5}", "g.yaml:1:26: limits.maxConnections: expected a whole number, found 1.5"),
        ("limits: {maxConnections: \"5\"}", "g.yaml:1:26: limits.maxConnections: expected a whole number: write 5 without quotes"),
        ("limits: {maxConnections: 5000000000}", "g.yaml:1:26: limits.maxConnections: expected a whole number up to 4294967295, found 5000000000"),
        ("limits: {maxMemoryBytes: 5000000000}", "good"),
        ("limits: {maxMemoryBytes: 20000000000000000000}", "g.yaml:1:26: limits.maxMemoryBytes: expected a whole number of bytes up to 18446744073709551615, found 20000000000000000000"),
        ("limits: {maxMemoryBytes: 2Gi}", "g.yaml:1:26: limits.maxMemoryBytes: expected a whole number of bytes: write 2147483648, not 2Gi"),
        ("limits: {maxConnections: }", "g.yaml:1:24: limits.maxConnections: has no value; leave the line out for the default, 10000"),
        ("limits: {maxConnections: [1]}", "g.yaml:1:26: limits.maxConnections: expected a whole number, found a list"),
        ("auth: {anonymous: yes}", "g.yaml:1:19: auth.anonymous: expected true or false, found yes"),
        ("broker: {kind: Redis}", "g.yaml:1:16: broker.kind: expected memory or redis, found Redis"),
        ("log: {format: [json]}", "g.yaml:1:15: log.format: expected text or json, found a list"),
        ("listen: {allowedOrigins: https://a}", "g.yaml:1:26: listen.allowedOrigins: expected a list of texts, found https://a"),
        ("node: {name: {a: b}}", "g.yaml:1:14: node.name: expected text, found keys below it"),
        // Rules.
        ("limits:\n  maxConnections: 0\n", "g.yaml:2:19: limits.maxConnections: must be at least 1"),
        ("limits:\n  maxMessageBytes: 2097152\n", "g.yaml:2:20: limits.maxMessageBytes: limits.maxMessageBytes (2097152) must not be above limits.maxOutboxBytes (1048576)"),
        ("heartbeat:\n  idleSeconds: 10\n", "g.yaml:2:16: heartbeat.idleSeconds: heartbeat.pingSeconds (30) must not be above heartbeat.idleSeconds (10)"),
        ("listen:\n  clients: 8080\n", "g.yaml:2:12: listen.clients: \"8080\" is not host:port, as in 0.0.0.0:8080"),
        ("listen:\n  clients: \":8080\"\n", "g.yaml:2:12: listen.clients: \":8080\" is not host:port, as in 0.0.0.0:8080"),
        ("listen:\n  clients: \"[::]:8080\"\n", "good"),
        ("listen:\n  clients: \"::1:8080\"\n", "g.yaml:2:12: listen.clients: \"::1:8080\" is not host:port, as in 0.0.0.0:8080"),
        ("listen:\n  clients: localhost:99999\n", "g.yaml:2:12: listen.clients: \"localhost:99999\" is not host:port, as in 0.0.0.0:8080"),
        ("listen:\n  clients: 127.0.0.1:9090\n", "g.yaml:2:12: listen.clients: the same address as the other one"),
        ("listen: {allowedOrigins: [https://a/b]}", "g.yaml:1:26: listen.allowedOrigins: \"https://a/b\" is not an origin: scheme://host, no path, no *"),
        ("listen: {trustedProxies: [10.0.0.0/8, fd00::/8, 192.0.2.1]}", "good"),
        ("listen: {trustedProxies: [10.0.0.0/33]}", "g.yaml:1:26: listen.trustedProxies: \"10.0.0.0/33\" is no address or network, as in 10.0.0.0/8"),
        ("limits: {messageBurst: 0}", "g.yaml:1:24: limits.messageBurst: must be at least 1"),
        ("auth:\n  anonymous: false\n", "g.yaml:2:14: auth.anonymous: nobody could connect: anonymous is false, and neither a key file nor jwksUrl says which tokens are good"),
        ("auth: {anonymous: false, jwksUrl: 'https://id.example/keys'}", "good"),
        ("auth: {anonymous: false, keyFiles: [/etc/keys/a.pem]}", "good"),
        ("auth: {jwksUrl: id.example/keys}", "g.yaml:1:17: auth.jwksUrl: is not https://host/path"),
        ("auth: {jwksUrl: 'https:///keys'}", "g.yaml:1:17: auth.jwksUrl: is not https://host/path"),
        ("auth: {jwksUrl: 'https://me:secret@id.example/keys'}", "g.yaml:1:17: auth.jwksUrl: has a user or password in it, which would end up in logs"),
        ("auth: {jwksUrl: 'https://id.example:x/keys'}", "g.yaml:1:17: auth.jwksUrl: is not https://host/path"),
        ("auth: {jwksUrl: 'https://[::1]/keys'}", "good"),
        ("auth: {jwksUrl: 'http://id:8080'}", "good"),
        ("auth: {jwksUrl: 'http://id/a b'}", "g.yaml:1:17: auth.jwksUrl: has a space or a # in it"),
        ("auth: {jwksUrl: 'http://id', jwksTimeoutSeconds: 0}", "g.yaml:1:50: auth.jwksTimeoutSeconds: must be at least 1"),
        ("auth: {jwksCaFile: /ca}", "g.yaml:1:20: auth.jwksCaFile: counts only with auth.jwksUrl"),
        ("auth: {leewaySeconds: 301}", "g.yaml:1:23: auth.leewaySeconds: must be at most 300: set the clocks instead"),
        ("broker:\n  redis:\n    url: http://x\n", "good"),
        ("broker:\n  kind: redis\n  redis:\n    url: http://x\n", "g.yaml:4:10: broker.redis.url: is not redis://host:port/database"),
        ("broker:\n  kind: redis\n  redis:\n    url: redis://me:secret@h:1/0\n", "g.yaml:4:10: broker.redis.url: has a user or password in it, which would end up in logs; use broker.redis.username and broker.redis.passwordFile"),
        ("broker: {kind: redis, redis: {url: 'redis://h:6379/x'}}", "g.yaml:1:36: broker.redis.url: must end in a database number, as in redis://redis:6379/0"),
        ("broker: {kind: redis, redis: {leaseSeconds: 0}}", "g.yaml:1:45: broker.redis.leaseSeconds: must be at least 1"),
        ("broker: {kind: redis, redis: {maxPendingFacts: 999}}", "g.yaml:1:48: broker.redis.maxPendingFacts: must be at least 1000"),
        ("broker: {kind: redis, redis: {listen: [ws:broadcast, 'ws:room:*', system:notifications, ws:private]}}", "good"),
        ("broker: {kind: redis, redis: {listen: [ws:room:a]}}", "g.yaml:1:39: broker.redis.listen: \"ws:room:a\" is none of system:notifications, ws:broadcast, ws:room:*, ws:private"),
        ("broker: {kind: redis, redis: {listenPrefix: 'pushcluster:channel:'}}", "g.yaml:1:45: broker.redis.listenPrefix: begins the gateways' own channels"),
        ("broker: {kind: redis, redis: {listenPrefix: 'a b'}}", "g.yaml:1:45: broker.redis.listenPrefix: must be at most 128 bytes without spaces"),
        ("broker: {kind: redis, redis: {probeSeconds: 0}}", "g.yaml:1:45: broker.redis.probeSeconds: must be at least 1"),
        // Lists of entries.
        ("channels: []", "good"),
        ("channels:\n", "good"),
        ("channels:\n  - prefix: 'room:'\n    publish: granted\n  - {prefix: prices., slowConsumer: latest}\n", "good"),
        ("channels: 5", "g.yaml:1:11: channels: expected a list of entries, found 5"),
        ("channels: {prefix: a}", "g.yaml:1:11: channels: expected a list of entries, found keys below it"),
        ("channels: [a]", "g.yaml:1:12: channels[0]: expected `key: value` lines (batchMessages, batchMilliseconds, historyMessages, historySeconds, maxMessageBytes, messageBurst, messagesPerSecond, prefix, presence, publish, slowConsumer, subscribe), found a"),
        ("channels:\n  - publish: nobody\n", "g.yaml:2:5: channels[0]: prefix is missing; write \"\" for every channel"),
        ("channels:\n  - prefix: a\n    slow_consumer: latest\n", "g.yaml:3:5: channels[0].slow_consumer: unknown key; did you mean slowConsumer?"),
        ("channels:\n  - prefix: a\n    slowConsumer: drop_oldest\n", "g.yaml:3:19: channels[0].slowConsumer: expected disconnect or dropOldest or latest, found drop_oldest"),
        ("channels:\n  - {prefix: a}\n  - {prefix: b, prefix: c}\n", "g.yaml:3:17: channels[1].prefix: written twice; the first is on line 3"),
        ("channels:\n  - {prefix: a}\n  - {prefix: a}\n", "g.yaml:3:14: channels[1].prefix: \"a\" has an entry already"),
        ("channels: [{prefix: a, historyMessages: 5}]", "g.yaml:1:41: channels[0].historyMessages: nothing is kept without historySeconds, too"),
        ("channels: [{prefix: a, historySeconds: 5}]", "g.yaml:1:40: channels[0].historySeconds: nothing is kept without historyMessages, too"),
        ("channels: [{prefix: a, historySeconds: 5, historyMessages: 20000}]", "g.yaml:1:60: channels[0].historyMessages: must be at most 10000"),
        ("channels: [{prefix: a, messageBurst: 0}]", "g.yaml:1:38: channels[0].messageBurst: must be at least 1"),
        ("channels: [{prefix: a, batchMilliseconds: 10ms}]", "g.yaml:1:43: channels[0].batchMilliseconds: expected a whole number of milliseconds: write 10, not 10ms"),
        ("channels: [{prefix: a, batchMilliseconds: 2s}]", "g.yaml:1:43: channels[0].batchMilliseconds: expected a whole number of milliseconds: write 2000, not 2s"),
        ("channels: [{prefix: a, batchMilliseconds: 2000}]", "g.yaml:1:43: channels[0].batchMilliseconds: must be at most 1000"),
        ("channels: [{prefix: a, batchMessages: 1}]", "g.yaml:1:39: channels[0].batchMessages: must be from 2 to 1000"),
        ("channels: [{prefix: a, maxMessageBytes: 2000000}]", "g.yaml:1:41: channels[0].maxMessageBytes: channels[0].maxMessageBytes (2000000) must not be above limits.maxMessageBytes (1048576)"),
        ("channels: [{prefix: a, messagesPerSecond: fast}]", "g.yaml:1:43: channels[0].messagesPerSecond: expected a whole number, found fast"),
        ("node: {name: a b}", "g.yaml:1:14: node.name: must be at most 128 letters, digits, '-', '_' and '.'"),
        ("engine: {shards: 5000}", "g.yaml:1:18: engine.shards: must be at most 1024"),
        ("drain: {deadlineSeconds: 0}", "g.yaml:1:26: drain.deadlineSeconds: must be at least 1"),
    ];
    let wrong: Vec<_> = table
        .iter()
        .map(|(text, expected)| (lines(text, &[]), vec![(*expected).to_owned()], text))
        .filter(|(found, expected, _)| found != expected)
        .collect();
    assert!(wrong.is_empty(), "found, expected, text: {wrong:#?}");
}

#[test]
fn syntax_errors_name_the_line() {
    for (text, line) in [
        ("a: [1,\nb: 2", 2),
        ("limits:\n\tmaxConnections: 5", 2),
        ("a: 'x", 1),
    ] {
        let problems = parse(text, &[]).unwrap_err();
        assert_eq!(problems.len(), 1, "{text}: {problems:?}");
        assert!(
            problems[0].message.starts_with("not YAML: "),
            "{text}: {problems:?}"
        );
        let Place::File { line: found, .. } = problems[0].place else {
            panic!("{problems:?}")
        };
        assert!(found >= line, "{text}: {problems:?}");
    }
}

#[test]
fn every_mistake_is_reported_and_none_that_only_follows_from_another() {
    let text = "\
listen:
  clients: nowhere
heartbeat:
  pingSeconds: 10m
  idleSeconds: 60
limits:
  maxConnections: 0
  maxConections: 7
broker:
  kind: redis
  redis:
    url: redis://:hunter2@redis:6379
";
    assert_eq!(
        lines(text, &["drain.deadlineSeconds=0", "log.level=debug"]),
        [
            "g.yaml:2:12: listen.clients: \"nowhere\" is not host:port, as in 0.0.0.0:8080",
            "g.yaml:4:16: heartbeat.pingSeconds: expected a whole number of seconds: write 600, not 10m",
            "g.yaml:7:19: limits.maxConnections: must be at least 1",
            "g.yaml:8:3: limits.maxConections: unknown key; did you mean maxConnections?",
            "g.yaml:12:10: broker.redis.url: has a user or password in it, which would end up in logs; use broker.redis.username and broker.redis.passwordFile",
            "flag --set log.level: log.level: unknown key; known here: filter, format",
            "flag --set drain.deadlineSeconds: drain.deadlineSeconds: must be at least 1",
        ]
    );
}

#[test]
fn overrides_win_and_the_later_one_over_the_earlier() {
    let set = |path: &str, value: &str| Override {
        path: path.into(),
        value: value.into(),
        source: "flag".into(),
    };
    let config = parse(
        "limits: {maxConnections: 1}\nlog: {format: text}\n",
        &[
            set("limits.maxConnections", "2"),
            set("limits.maxConnections", "3"),
            set("log.format", "json"),
            set("node.name", ""),
            set("listen.allowedOrigins", "https://a, https://b"),
            set("listen.page", "false"),
            set("broker.kind", "redis"),
        ],
    )
    .unwrap();
    assert_eq!(config.limits.max_connections, 3);
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.listen.allowed_origins, ["https://a", "https://b"]);
    assert_eq!(config.listen.page, Some(false));
    assert_eq!(config.broker.kind, BrokerKind::Redis);
    for (pair, expected) in [
        (
            "limits=5",
            "flag --set limits: limits: set a key below it: handshakeTimeoutSeconds, handshakesPerSecond, maxChannelsPerConnection, maxConnections, maxConnectionsPerAddress, maxConnectionsPerUser, maxHandshakes, maxHistoryBytes, maxMemoryBytes, maxMessageBytes, maxOutboxBytes, maxPresenceMembers, maxRequestBytes, messageBurst, messagesPerSecond",
        ),
        (
            "channels=a",
            "flag --set channels: channels: a list of entries is written in the file only",
        ),
        (
            "limits.maxConnections=5k",
            "flag --set limits.maxConnections: limits.maxConnections: expected a whole number, found 5k",
        ),
        (
            "limits.maxConnections=",
            "flag --set limits.maxConnections: limits.maxConnections: has no value; leave the line out for the default, 10000",
        ),
    ] {
        assert_eq!(lines("", &[pair]), [expected]);
    }
}

#[test]
fn what_is_written_is_read_back() {
    let mut config = Config::default();
    assert_eq!(parse(&config.to_yaml(), &[]).unwrap(), config);
    assert_eq!(config.to_short_yaml(), "{}\n");
    assert_eq!(config.differences(), []);
    config.listen.page = Some(false);
    config.listen.allowed_origins = vec!["https://example.com".into()];
    config.node.name = "on".into();
    config.auth.hs256_key_file = "/etc/keys/jwt".into();
    config.broker.kind = BrokerKind::Redis;
    config.limits.max_connections = 7;
    config.channels = vec![crate::ChannelPolicy {
        prefix: Some("room:".into()),
        subscribe: crate::Right::Granted,
        ..crate::ChannelPolicy::default()
    }];
    assert_eq!(parse(&config.to_yaml(), &[]).unwrap(), config);
    assert_eq!(parse(&config.to_short_yaml(), &[]).unwrap(), config);
    assert_eq!(
        config.to_short_yaml(),
        "listen:
  allowedOrigins:
  - https://example.com
  page: false
node:
  name: on
auth:
  hs256KeyFile: /etc/keys/jwt
broker:
  kind: redis
limits:
  maxConnections: 7
channels:
- prefix: 'room:'
  subscribe: granted
"
    );
    let mut differences = config.differences();
    // The order inside an entry depends on what is built along.
    differences.retain(|(path, _)| path != "channels");
    assert_eq!(differences.len() + 1, config.differences().len());
    assert_eq!(
        differences,
        [
            ("auth.hs256KeyFile", "\"/etc/keys/jwt\""),
            ("broker.kind", "\"redis\""),
            ("limits.maxConnections", "7"),
            ("listen.allowedOrigins", "[\"https://example.com\"]"),
            ("listen.page", "false"),
            ("node.name", "\"on\""),
        ]
        .map(|(path, value)| (path.to_owned(), value.to_owned()))
    );
}
