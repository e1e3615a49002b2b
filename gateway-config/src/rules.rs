//! What the values must satisfy, beyond their types: one function a section.

use crate::{BrokerKind, Config, LISTEN, Network, Redis, RedisMode};

/// A rule that a configuration breaks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// The keys it is about; the mistake is shown at the first one that somebody wrote.
    pub(crate) paths: Vec<String>,
    pub(crate) message: String,
}

/// More would ask one socket to hold what a node's memory holds.
const MAX_MESSAGE_BYTES: u32 = 64 << 20;
/// Shards are numbered in 16 bits, and more threads than this help on no machine.
const MAX_SHARDS: u32 = 1_024;

/// Each is read every few seconds.
const MAX_KEY_FILES: usize = 32;
/// A token that has ended for longer has ended.
const MAX_LEEWAY_SECONDS: u32 = 300;

pub(crate) fn broken(config: &Config) -> Vec<Broken> {
    let mut rules = Rules(Vec::new());
    listen(config, &mut rules);
    access(config, &mut rules);
    broker(config, &mut rules);
    limits(config, &mut rules);
    api(config, &mut rules);
    times(config, &mut rules);
    channels(config, &mut rules);
    rules.0
}

struct Rules(Vec<Broken>);

impl Rules {
    fn say(&mut self, paths: &[&str], message: impl Into<String>) {
        self.0.push(Broken {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            message: message.into(),
        });
    }

    fn at_least_one(&mut self, path: &str, value: u32) {
        if value == 0 {
            self.say(&[path], "must be at least 1");
        }
    }

    /// `small` must not be above `large`; each is a path and its value.
    fn ordered(&mut self, small: (&str, u32), large: (&str, u32)) {
        if small.1 > large.1 {
            let message = format!(
                "{} ({}) must not be above {} ({})",
                small.0, small.1, large.0, large.1
            );
            self.say(&[small.0, large.0], message);
        }
    }
}

fn listen(config: &Config, rules: &mut Rules) {
    let listen = &config.listen;
    for (path, address) in [
        ("listen.clients", &listen.clients),
        ("listen.admin", &listen.admin),
    ] {
        if split_address(address).is_none() {
            rules.say(
                &[path],
                format!("{address:?} is not host:port, as in 0.0.0.0:8080"),
            );
        }
    }
    if listen.clients == listen.admin && !listen.admin.ends_with(":0") {
        rules.say(
            &["listen.admin", "listen.clients"],
            "the same address as the other one",
        );
    }
    for origin in &listen.allowed_origins {
        let host = origin
            .split_once("://")
            .filter(|(scheme, _)| !scheme.is_empty());
        if !host.is_some_and(|(_, host)| !host.is_empty() && !host.contains(['/', '*', ' '])) {
            let message = format!("{origin:?} is not an origin: scheme://host, no path, no *");
            rules.say(&["listen.allowedOrigins"], message);
        }
    }
    for network in &listen.trusted_proxies {
        if Network::parse(network).is_none() {
            let message = format!("{network:?} is no address or network, as in 10.0.0.0/8");
            rules.say(&["listen.trustedProxies"], message);
        }
    }
    let tls = &listen.tls;
    if tls.certificate_file.is_empty() != tls.key_file.is_empty() {
        rules.say(
            &["listen.tls.certificateFile", "listen.tls.keyFile"],
            "certificateFile and keyFile go together",
        );
    }
    let name = &config.node.name;
    if name.len() > 128
        || !name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    {
        let message = "must be at most 128 letters, digits, '-', '_' and '.'";
        rules.say(&["node.name"], message);
    }
}

/// A policy is looked for at each subscribe and publish, one after the other.
const MAX_POLICIES: usize = 100;
/// More of one channel could not be told in one answer, and Redis would copy them all for each that comes back.
const MAX_HISTORY_MESSAGES: u32 = 10_000;

/// Whoever reads is a person, or waits for nothing.
const MAX_BATCH_MILLISECONDS: u32 = 1_000;

/// More would not fit one write anyway.
const MAX_BATCH_MESSAGES: u32 = 1_000;

/// The longest name that a channel can have, in bytes.
const MAX_CHANNEL_BYTES: usize = 255;

fn channels(config: &Config, rules: &mut Rules) {
    let limits = &config.limits;
    if config.channels.len() > MAX_POLICIES {
        let message = format!("must be at most {MAX_POLICIES} entries");
        rules.say(&["channels"], message);
    }
    for (number, policy) in config.channels.iter().enumerate() {
        let at = |name: &str| format!("channels[{number}].{name}");
        let entry = format!("channels[{number}]");
        let Some(prefix) = &policy.prefix else {
            let message = "prefix is missing; write \"\" for every channel";
            rules.say(&[&at("prefix"), &entry], message);
            continue;
        };
        if prefix.len() > MAX_CHANNEL_BYTES || prefix.chars().any(char::is_control) {
            let message = format!("must be at most {MAX_CHANNEL_BYTES} bytes that can be printed");
            rules.say(&[&at("prefix")], message);
        }
        let same = |other: &&crate::ChannelPolicy| other.prefix.as_ref() == Some(prefix);
        if config.channels[..number].iter().any(|p| same(&p)) {
            rules.say(&[&at("prefix")], format!("{prefix:?} has an entry already"));
        }
        rules.at_least_one(&at("messageBurst"), policy.message_burst);
        if policy.batch_milliseconds > MAX_BATCH_MILLISECONDS {
            let message = format!("must be at most {MAX_BATCH_MILLISECONDS}");
            rules.say(&[&at("batchMilliseconds")], message);
        }
        if !(2..=MAX_BATCH_MESSAGES).contains(&policy.batch_messages) {
            let message = format!("must be from 2 to {MAX_BATCH_MESSAGES}");
            rules.say(&[&at("batchMessages")], message);
        }
        rules.ordered(
            (&at("maxMessageBytes"), policy.max_message_bytes),
            ("limits.maxMessageBytes", limits.max_message_bytes),
        );
        history(policy, &at, rules);
    }
}

fn history(policy: &crate::ChannelPolicy, at: &dyn Fn(&str) -> String, rules: &mut Rules) {
    let (messages, seconds) = (policy.history_messages, policy.history_seconds);
    if messages > MAX_HISTORY_MESSAGES {
        let message = format!("must be at most {MAX_HISTORY_MESSAGES}");
        rules.say(&[&at("historyMessages")], message);
    }
    if messages > 0 && seconds == 0 {
        let message = "nothing is kept without historySeconds, too";
        rules.say(&[&at("historyMessages")], message);
    }
    if seconds > 0 && messages == 0 {
        let message = "nothing is kept without historyMessages, too";
        rules.say(&[&at("historySeconds")], message);
    }
}

/// `host:port` with brackets around an IPv6 address (RFC 3986 section 3.2.2).
pub(crate) fn split_address(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let bare = host
        .strip_prefix('[')
        .map_or(host, |rest| rest.trim_end_matches(']'));
    let good = if host.starts_with('[') {
        host.ends_with(']') && bare.parse::<std::net::Ipv6Addr>().is_ok()
    } else {
        !host.is_empty() && !host.contains([':', '/', ' ', '@'])
    };
    // `u16::parse` takes a leading plus.
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    good.then_some(())?;
    digits
        .then(|| port.parse().ok().map(|port| (host, port)))
        .flatten()
}

fn access(config: &Config, rules: &mut Rules) {
    let auth = &config.auth;
    let files = [
        &auth.hs256_key_file,
        &auth.hs384_key_file,
        &auth.hs512_key_file,
    ];
    let keys = files.iter().any(|file| !file.is_empty())
        || !auth.key_files.is_empty()
        || !auth.jwks_url.is_empty();
    if !auth.anonymous && !keys {
        let message = "nobody could connect: anonymous is false, and neither a key file nor jwksUrl \
                       says which tokens are good";
        rules.say(&["auth.anonymous"], message);
    }
    if auth.key_files.len() > MAX_KEY_FILES {
        let message = format!("must name at most {MAX_KEY_FILES} files");
        rules.say(&["auth.keyFiles"], message);
    }
    if auth.leeway_seconds > MAX_LEEWAY_SECONDS {
        let message = format!("must be at most {MAX_LEEWAY_SECONDS}: set the clocks instead");
        rules.say(&["auth.leewaySeconds"], message);
    }
    key_server(auth, rules);
    if config.log.filter.trim().is_empty() {
        rules.say(&["log.filter"], "is empty; write off to log nothing");
    }
}

fn key_server(auth: &crate::Auth, rules: &mut Rules) {
    if auth.jwks_url.is_empty() {
        if !auth.jwks_ca_file.is_empty() {
            rules.say(&["auth.jwksCaFile"], "counts only with auth.jwksUrl");
        }
        return;
    }
    if let Err(message) = web_url(&auth.jwks_url) {
        rules.say(&["auth.jwksUrl"], message);
    }
    rules.at_least_one("auth.jwksTimeoutSeconds", auth.jwks_timeout_seconds);
    rules.at_least_one("auth.jwksRefreshSeconds", auth.jwks_refresh_seconds);
}

/// The messages never repeat the URL: it may hold a password.
fn web_url(url: &str) -> Result<(), &'static str> {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))
        .ok_or("is not https://host/path")?;
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    if host.contains('@') {
        return Err("has a user or password in it, which would end up in logs");
    }
    let host_only = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let with_port = host.contains(':') && split_address(host).is_none();
    if host_only.is_empty() || (with_port && !host.ends_with(']')) {
        return Err("is not https://host/path");
    }
    if url
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || c == '#')
    {
        return Err("has a space or a # in it");
    }
    Ok(())
}

/// It is in each key and each message to Redis. The operator's are up to 122 bytes long: a namespace has 63 characters
/// and a PushCluster 45.
const MAX_PREFIX_BYTES: usize = 128;

fn broker(config: &Config, rules: &mut Rules) {
    if config.broker.kind == BrokerKind::Memory {
        return;
    }
    let redis = &config.broker.redis;
    let tls = match redis.address() {
        Ok(address) => address.tls,
        Err(message) => {
            rules.say(&["broker.redis.url"], message);
            redis.url.starts_with("rediss://")
        }
    };
    if redis.mode == RedisMode::Sentinel && redis.master_name.is_empty() {
        let message = "is needed when broker.redis.mode is sentinel";
        rules.say(&["broker.redis.masterName"], message);
    }
    if redis.mode == RedisMode::Cluster && redis.key_prefix.contains(['{', '}']) {
        let message = "has a brace, which in a Cluster marks what chooses the slot";
        rules.say(&["broker.redis.keyPrefix"], message);
    }
    redis_tls(config, tls, rules);
    for (key, prefix) in [
        ("broker.redis.keyPrefix", &redis.key_prefix),
        ("broker.redis.listenPrefix", &redis.listen_prefix),
    ] {
        if prefix.len() > MAX_PREFIX_BYTES || prefix.chars().any(|c| c.is_control() || c == ' ') {
            let message = format!("must be at most {MAX_PREFIX_BYTES} bytes without spaces");
            rules.say(&[key], message);
        }
    }
    redis_listen(redis, rules);
    rules.at_least_one("broker.redis.timeoutSeconds", redis.timeout_seconds);
    rules.at_least_one("broker.redis.probeSeconds", redis.probe_seconds);
    rules.at_least_one("broker.redis.leaseSeconds", redis.lease_seconds);
    if redis.max_pending_facts < 1_000 {
        rules.say(&["broker.redis.maxPendingFacts"], "must be at least 1000");
    }
}

fn redis_listen(redis: &Redis, rules: &mut Rules) {
    for name in &redis.listen {
        if !LISTEN.contains(&name.as_str()) {
            let message = format!("{name:?} is none of {}", LISTEN.join(", "));
            rules.say(&["broker.redis.listen"], message);
        }
    }
    // What gateways write there would come back as if a backend had written it.
    if redis.listen_prefix == format!("{}channel:", redis.key_prefix) {
        let message = "begins the gateways' own channels";
        rules.say(&["broker.redis.listenPrefix"], message);
    }
}

fn redis_tls(config: &Config, tls: bool, rules: &mut Rules) {
    let redis = &config.broker.redis;
    if redis.certificate_file.is_empty() != redis.key_file.is_empty() {
        rules.say(
            &["broker.redis.certificateFile", "broker.redis.keyFile"],
            "must both be there, or none",
        );
    }
    for (key, file) in [
        ("broker.redis.caFile", &redis.ca_file),
        ("broker.redis.certificateFile", &redis.certificate_file),
    ] {
        if !tls && !file.is_empty() {
            rules.say(&[key], "is for a URL that begins with rediss://");
        }
    }
}

fn limits(config: &Config, rules: &mut Rules) {
    let limits = &config.limits;
    for (path, value) in [
        ("limits.maxConnections", limits.max_connections),
        ("limits.maxMessageBytes", limits.max_message_bytes),
        (
            "limits.maxChannelsPerConnection",
            limits.max_channels_per_connection,
        ),
        ("limits.maxOutboxBytes", limits.max_outbox_bytes),
        ("limits.messageBurst", limits.message_burst),
        ("limits.maxHandshakes", limits.max_handshakes),
        (
            "limits.handshakeTimeoutSeconds",
            limits.handshake_timeout_seconds,
        ),
        ("limits.maxRequestBytes", limits.max_request_bytes),
    ] {
        rules.at_least_one(path, value);
    }
    let message = ("limits.maxMessageBytes", limits.max_message_bytes);
    if message.1 > MAX_MESSAGE_BYTES {
        rules.say(
            &[message.0],
            format!("must be at most {MAX_MESSAGE_BYTES} (64 MiB)"),
        );
    }
    // Otherwise the largest allowed message would disconnect everyone who gets it.
    rules.ordered(message, ("limits.maxOutboxBytes", limits.max_outbox_bytes));
    rules.ordered(
        message,
        ("limits.maxRequestBytes", limits.max_request_bytes),
    );
    if config.engine.shards > MAX_SHARDS {
        rules.say(&["engine.shards"], format!("must be at most {MAX_SHARDS}"));
    }
}

fn api(config: &Config, rules: &mut Rules) {
    let api = &config.api;
    rules.at_least_one("api.idempotencySeconds", api.idempotency_seconds);
    rules.at_least_one("api.idempotencyBytes", api.idempotency_bytes);
    rules.at_least_one("api.maxBatchMessages", api.max_batch_messages);
}

fn times(config: &Config, rules: &mut Rules) {
    let (ping, idle) = (config.heartbeat.ping_seconds, config.heartbeat.idle_seconds);
    rules.at_least_one("heartbeat.pingSeconds", ping);
    rules.at_least_one("heartbeat.idleSeconds", idle);
    rules.ordered(
        ("heartbeat.pingSeconds", ping),
        ("heartbeat.idleSeconds", idle),
    );
    rules.at_least_one("drain.deadlineSeconds", config.drain.deadline_seconds);
    rules.at_least_one(
        "drain.connectionsPerSecond",
        config.drain.connections_per_second,
    );
}
