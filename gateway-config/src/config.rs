//! The keys, their units and their defaults. What a value must satisfy is in [`Config::problems`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ChannelPolicy, Redis};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    pub listen: Listen,
    pub node: Node,
    pub auth: Auth,
    pub api: Api,
    pub broker: Broker,
    pub compression: Compression,
    pub limits: Limits,
    pub heartbeat: Heartbeat,
    pub drain: Drain,
    pub engine: Engine,
    pub log: Log,
    /// Policies: what holds for the channels whose names begin with a prefix, when clients use them. The longest
    /// prefix that fits wins, and it alone: nothing is taken over from a shorter one. A channel that no prefix fits
    /// has the defaults. What names mean of themselves stays: `user:…` belongs to its user, whatever is written
    /// here. The HTTP API is not bound by any of it. At most 100.
    pub channels: Vec<ChannelPolicy>,
}

/// Where the gateway listens. `host:port`; port 0 takes any free port and prints it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Listen {
    /// WebSocket clients, event streams, the HTTP API and the page at `/`.
    pub clients: String,
    /// `/metrics`, `/live`, `/ready`. Never reachable from outside the cluster.
    pub admin: String,
    /// Web pages whose scripts may connect, as browsers write them in `Origin`: `https://example.com`.
    /// Empty: any. A client proves who it is with a token that it was given, never with a cookie that a
    /// browser adds by itself, so a foreign page gains nothing by connecting. Clients that send no
    /// `Origin` are no browsers and pass.
    pub allowed_origins: Vec<String>,
    /// Proxies that say in `X-Forwarded-For` which client they speak for: addresses or networks, as in
    /// `10.0.0.0/8`. From anybody else that header counts for nothing. Matters to `limits.maxConnectionsPerAddress`.
    pub trusted_proxies: Vec<String>,
    /// Whether `/` serves the page to try things out. Unset: yes with the memory broker, no with another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<bool>,
    pub tls: Tls,
}

/// TLS for clients, ended by the gateway itself. Both files or none; none where something before it ends TLS.
/// They are read again when they change; no connection is closed for that.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Tls {
    /// The certificate in PEM, and after it those that lead to a root, as in `tls.crt` of a Kubernetes Secret.
    pub certificate_file: String,
    /// Its private key in PEM, as in `tls.key`.
    pub key_file: String,
}

/// Who this node is among the others.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Node {
    /// Unique among the nodes of one broker; the pod's name in Kubernetes. Empty: a random one.
    pub name: String,
}

/// Who may connect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Auth {
    /// Whether a connection without a token may stay, as nobody in particular.
    pub anonymous: bool,
    /// File with the shared secret for HS256 tokens (RFC 7518 section 3.2: at least 32 bytes). Without any
    /// key no token is accepted. Key files are read again when they change; no connection is closed for that.
    pub hs256_key_file: String,
    /// File with the shared secret for HS384 tokens, at least 48 bytes.
    pub hs384_key_file: String,
    /// File with the shared secret for HS512 tokens, at least 64 bytes.
    pub hs512_key_file: String,
    /// Files with keys that say what they are: PEM (public keys or certificates, several in one file too), a
    /// JWK, or a JWK set. A key is for one algorithm: the `alg` of a JWK, otherwise RS256 for RSA (2048 to 8192
    /// bits), ES256 and ES384 for P-256 and P-384, EdDSA for Ed25519. `alg` may also be RS384, RS512, PS256,
    /// PS384, PS512 and, for a JWK that is a secret, HS256, HS384, HS512. All sources together give at most 64 keys.
    pub key_files: Vec<String>,
    /// `https://…`: a JWK set that is fetched at the start (before, the node is not ready), again on a schedule,
    /// and when a token names a key (`kid`) that is not known, at most every 10 seconds. While the server does not
    /// answer, or answers with more than 256 KiB, the last keys stay. `http://` is for networks that nobody else is in.
    pub jwks_url: String,
    /// File with the certificates (PEM) that the server of `jwksUrl` may be signed by. Empty: those that browsers trust.
    pub jwks_ca_file: String,
    /// Between two requests to `jwksUrl`. After a failure the next one comes sooner: after 1 second, 2, 4, up to 60.
    pub jwks_refresh_seconds: u32,
    /// For one request to `jwksUrl`, from the connection to the last byte.
    pub jwks_timeout_seconds: u32,
    /// The `iss` of a token must be one of these. Empty: any.
    pub issuers: Vec<String>,
    /// One `aud` of a token must be one of these. Empty: any, which accepts what an issuer made for other services.
    pub audiences: Vec<String>,
    /// How far clocks may differ: a token counts so much earlier than its `nbf` and longer than its `exp`.
    pub leeway_seconds: u32,
}

/// Who may use the HTTP API, and how much of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Api {
    /// File with one API key a line; blank lines and lines that begin with `#` do not count.
    /// Empty: the API is open on a gateway that listens on loopback only, and off on any other.
    pub key_file: String,
    /// How long the answer to a request with an `Idempotency-Key` is kept for its retries, by the node that gave it.
    pub idempotency_seconds: u32,
    /// What kept answers may take in memory; beyond it the oldest go before their time.
    pub idempotency_bytes: u32,
    /// Messages in one call of `/api/batch` (413 above it).
    pub max_batch_messages: u32,
}

/// How messages reach the other nodes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Broker {
    /// `memory` or `redis`.
    pub kind: BrokerKind,
    /// Read when `kind` is `redis`.
    pub redis: Redis,
}

/// What carries messages between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum BrokerKind {
    /// This process alone; nothing leaves it.
    #[default]
    Memory,
    /// Every node that uses the same Redis and `keyPrefix`.
    Redis,
}

/// permessage-deflate (RFC 7692): WebSocket messages compressed. Each by itself, so that a message is compressed
/// once for all its receivers, and an idle connection costs no more memory than without.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Compression {
    /// Whether a client that offers it gets it. It saves network and costs processor time on both sides.
    pub enabled: bool,
    /// Shorter messages to clients are sent as they are: what they would save is less than a packet.
    pub min_message_bytes: u32,
}

/// Caps on everything a client can grow. Reaching one has a named outcome and a metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// WebSocket connections and event streams of this node; one more is answered 503. Above 80 % the node is
    /// not ready.
    pub max_connections: u32,
    /// Connections of one user on all nodes; one more is answered 429, or, where the user is known only by an `auth`
    /// message, closed with 1008. While Redis does not answer, those on this node decide. 0: no limit of its own, and who
    /// comes then is never counted by the node.
    pub max_connections_per_user: u32,
    /// Connections from one IPv4 address, or one IPv6 network of 64 bits, on this node; one more is answered 429.
    /// 0: no limit of its own, and who comes then is never counted. Behind a proxy that is not in `listen.trustedProxies`, and behind a Service
    /// that hides addresses (`externalTrafficPolicy: Cluster`), all clients seem to come from few addresses.
    pub max_connections_per_address: u32,
    /// WebSocket handshakes of this node; one more in the same second is answered 503. As many may come at
    /// once as in one second. 0: no limit. After a failover it is what keeps the node responsive.
    pub handshakes_per_second: u32,
    /// Messages and pings of one connection. What is above it is answered with an error message
    /// (`rate_limited`); who goes on for a whole `messageBurst` more is closed with 1008. 0: no limit.
    pub messages_per_second: u32,
    /// Messages and pings that a connection may send at once before `messagesPerSecond` counts.
    pub message_burst: u32,
    /// One WebSocket message, after reassembly (close code 1009 above it). While the broker has not answered 16 times as
    /// many bytes that clients of one thread have published, none of these clients is read.
    pub max_message_bytes: u32,
    /// Subscriptions of one connection; one more is answered with an error message.
    pub max_channels_per_connection: u32,
    /// Bytes that wait for one client that does not read (close code 3008 above it). Also those that come on a channel while
    /// its log is read for a client that subscribes (refused as `unavailable` above it).
    pub max_outbox_bytes: u32,
    /// All that the memory broker keeps of channels with history; the channel that was published to longest ago makes
    /// room. With Redis, Redis keeps it.
    pub max_history_bytes: u32,
    /// Members that one answer about a channel's presence names, fewer if they would fill half of `maxOutboxBytes`;
    /// its `total` counts all of them.
    pub max_presence_members: u32,
    /// Memory of the process (resident), on which clients are refused: handshakes with 503, those under way
    /// with 1013, until it is below 90 % again. If that takes longer than a second, the oldest 10 % of the connections are closed with
    /// 1001 "Server overloaded", and again every five seconds. Above 80 % the node is not ready. In a container
    /// 90 % of the container's own limit count as well, against all that it uses, so 0, which means no limit of
    /// the gateway's own, leaves the container's.
    pub max_memory_bytes: u64,
    /// TCP connections that are not, or not yet, a WebSocket or an event stream: handshakes under way and callers of the
    /// HTTP API. One more is answered 503.
    pub max_handshakes: u32,
    /// From the TCP accept to the end of the HTTP request head; with TLS for its handshake, and again for the head.
    pub handshake_timeout_seconds: u32,
    /// The body of one HTTP API request (413 above it).
    pub max_request_bytes: u32,
}

/// How a dead or useless connection is found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Heartbeat {
    /// A WebSocket ping after this long without one; the next one unanswered closes the connection. An event stream
    /// gets a comment after this long without an event, and is closed when it takes no bytes for twice as long.
    pub ping_seconds: u32,
    /// A connection that sends nothing but pongs and subscribes to nothing is closed after this long.
    pub idle_seconds: u32,
}

/// How long a gateway that is told to end waits at most, if somebody looks after several (`POST /probe`), until it is told how
/// fast its clients may go. Whoever sets `drain.deadlineSeconds` for them counts it in.
pub const ENDING_WAITS_SECONDS: u32 = 10;

/// How the process ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Drain {
    /// From SIGTERM to the end of the process, at most.
    pub deadline_seconds: u32,
    /// Clients told to reconnect, and closed, per second. Spread over the deadline if that is slower than needed.
    pub connections_per_second: u32,
}

/// The threads that own sockets.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Engine {
    /// Threads that own sockets. 0: one for each core.
    pub shards: u32,
}

/// What is logged, to standard error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Log {
    /// A level, or a filter as in `info,gateway::broker=debug`.
    pub filter: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object a line.
    Json,
}

impl Default for Listen {
    fn default() -> Self {
        Listen {
            clients: "127.0.0.1:8080".into(),
            admin: "127.0.0.1:9090".into(),
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            page: None,
            tls: Tls::default(),
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Auth {
            anonymous: true,
            hs256_key_file: String::new(),
            hs384_key_file: String::new(),
            hs512_key_file: String::new(),
            key_files: Vec::new(),
            jwks_url: String::new(),
            jwks_ca_file: String::new(),
            jwks_refresh_seconds: 300,
            jwks_timeout_seconds: 5,
            issuers: Vec::new(),
            audiences: Vec::new(),
            leeway_seconds: 5,
        }
    }
}

impl Default for Api {
    fn default() -> Self {
        Api {
            key_file: String::new(),
            idempotency_seconds: 600,
            idempotency_bytes: 16 << 20,
            max_batch_messages: 20_000,
        }
    }
}

impl Default for Compression {
    fn default() -> Self {
        Compression {
            enabled: false,
            min_message_bytes: 512,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_connections: 10_000,
            max_connections_per_user: 0,
            max_connections_per_address: 0,
            handshakes_per_second: 0,
            messages_per_second: 0,
            message_burst: 100,
            max_message_bytes: 1 << 20,
            max_channels_per_connection: 128,
            max_outbox_bytes: 1 << 20,
            max_history_bytes: 64 << 20,
            max_presence_members: 1_000,
            max_memory_bytes: 512 << 20,
            max_handshakes: 1_024,
            handshake_timeout_seconds: 10,
            max_request_bytes: 4 << 20,
        }
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Heartbeat {
            ping_seconds: 30,
            idle_seconds: 300,
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Drain {
            deadline_seconds: 30,
            connections_per_second: 500,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log {
            filter: "info".into(),
            format: LogFormat::Text,
        }
    }
}
