//! The gateway pods.

use k8s_openapi::api::core::v1::ResourceRequirements;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::resources;
use super::{AuthSpec, CertificateSecret, ChannelSpec, LimitsSpec, PodsSpec};

/// The gateway pods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.channels) || self.channels.all(c, c.maxMessageBytes <= self.limits.maxMessageBytes)", "message": "spec.gateway.channels: a maxMessageBytes is greater than spec.gateway.limits.maxMessageBytes, which counts first: lower the one or raise the other"},
    {"rule": "!has(self.channels) || has(self.auth.hs256KeySecret) || has(self.auth.jwksUrl) || (has(self.auth.keySecrets) && size(self.auth.keySecrets) > 0) || self.channels.all(c, !(c.subscribe in ['Authenticated', 'Granted']) && !(c.publish in ['Authenticated', 'Granted']))", "message": "spec.gateway.channels: Authenticated and Granted ask for a token, and spec.gateway.auth has no keys of tokens: add hs256KeySecret, keySecrets or jwksUrl there, or use Nobody"},
]))]
pub struct GatewaySpec {
    /// The gateway's image. Default: the one that came with the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500))]
    pub image: Option<String>,
    /// CPU and memory of a gateway. A socket takes about 10 KiB of kernel memory besides the gateway's own.
    /// Default: requests of 50m and 128Mi, a limit of 512Mi of memory.
    #[schemars(schema_with = "resources")]
    pub resources: ResourceRequirements,
    /// Where they may run, and what they carry.
    pub pods: PodsSpec,
    /// Who may connect.
    pub auth: AuthSpec,
    /// Caps for each gateway pod.
    pub limits: LimitsSpec,
    /// What holds for the channels whose names begin alike: rights, history, presence, limits. A channel that no prefix
    /// fits is open to everybody and remembers nothing.
    #[schemars(
        length(max = 100),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["prefix"]
        )
    )]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<ChannelSpec>,
    /// Web pages whose scripts may connect, as browsers write them in `Origin`: `https://example.com`. Clients that are no
    /// browsers send none and pass. Default: any; who somebody is a token says, never a cookie.
    #[schemars(
        length(max = 100),
        inner(
            length(max = 300),
            regex(pattern = r"^[A-Za-z][A-Za-z0-9+.-]*://[^/*\s]+$")
        )
    )]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_origins: Vec<String>,
    /// Addresses or networks of the proxies in front, as in `10.0.0.0/8`, whose `X-Forwarded-For` says which client they
    /// speak for. Without it all clients behind a proxy count as one address in `limits.maxConnectionsPerAddress`.
    #[schemars(
        length(max = 64),
        inner(length(max = 43), regex(pattern = r"^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$"))
    )]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<String>,
    /// TLS for clients, ended by the gateways themselves. A renewed certificate is taken up within two minutes and closes
    /// nothing. Default: none, for where a load balancer or an ingress ends TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<CertificateSecret>,
    /// How a dead or useless connection is found.
    pub heartbeat: HeartbeatSpec,
    /// Compressed WebSocket messages (permessage-deflate).
    pub compression: CompressionSpec,
    /// How long the key of the HTTP API from before still counts after the annotation `pushcluster.io/rotate-api-key` has
    /// asked for another one, in seconds: as long as your backends need to read the new one. 0, for a key that was stolen.
    #[schemars(range(min = 0, max = 604_800))]
    pub api_key_overlap_seconds: i32,
    /// What a gateway logs: a level, or a filter as in `info,gateway::broker=debug`.
    #[schemars(length(min = 1, max = 200), regex(pattern = r"\S"))]
    pub log_filter: String,
}

/// How a dead or useless connection is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.pingSeconds <= self.idleSeconds", "message": "spec.gateway.heartbeat.pingSeconds is greater than spec.gateway.heartbeat.idleSeconds: lower the one or raise the other"},
]))]
pub struct HeartbeatSpec {
    /// A WebSocket ping after this long; the next one unanswered closes the connection. Keep it under the idle timeout of
    /// the load balancer in front, often 60 seconds.
    #[schemars(range(min = 1, max = 3_600))]
    pub ping_seconds: i32,
    /// A connection that sends nothing but pongs and subscribes to nothing is closed after this long.
    #[schemars(range(min = 1, max = 86_400))]
    pub idle_seconds: i32,
}

/// Compressed WebSocket messages (permessage-deflate, RFC 7692).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CompressionSpec {
    /// Whether a client that offers it gets it. It saves network and costs CPU on both sides.
    pub enabled: bool,
    /// Shorter messages to clients are sent as they are.
    #[schemars(range(min = 0, max = 67_108_864))]
    pub min_message_bytes: i32,
}

impl Default for GatewaySpec {
    fn default() -> Self {
        GatewaySpec {
            image: None,
            resources: ResourceRequirements::default(),
            pods: PodsSpec::default(),
            auth: AuthSpec::default(),
            limits: LimitsSpec::default(),
            channels: Vec::new(),
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            tls: None,
            heartbeat: HeartbeatSpec::default(),
            compression: CompressionSpec::default(),
            api_key_overlap_seconds: 3_600,
            log_filter: "info".into(),
        }
    }
}

impl Default for HeartbeatSpec {
    fn default() -> Self {
        HeartbeatSpec {
            ping_seconds: 30,
            idle_seconds: 300,
        }
    }
}

impl Default for CompressionSpec {
    fn default() -> Self {
        CompressionSpec {
            enabled: false,
            min_message_bytes: 512,
        }
    }
}
