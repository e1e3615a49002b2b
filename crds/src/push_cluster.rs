use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::PushClusterStatus;

/// A fleet of WebSocket push gateways and the Redis behind them.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "pushcluster.io",
    version = "v1alpha1",
    kind = "PushCluster",
    plural = "pushclusters",
    shortname = "pcl",
    category = "all",
    namespaced,
    status = "PushClusterStatus",
    derive = "PartialEq",
    derive = "Default",
    // Uninstalling the operator must not delete every PushCluster, and with them every gateway.
    annotation("helm.sh/resource-policy", "keep"),
    doc = "A fleet of WebSocket push gateways and the Redis behind them. `spec: {}` is a working one.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether messages flow through every gateway."
    ),
    printcolumn(
        name = "Gateways",
        type_ = "integer",
        json_path = ".status.readyReplicas",
        description = "Gateways that take clients."
    ),
    printcolumn(
        name = "Desired",
        type_ = "integer",
        json_path = ".status.desiredReplicas",
        description = "Gateways that there should be."
    ),
    printcolumn(
        name = "Redis",
        type_ = "string",
        json_path = ".spec.redis.mode",
        description = "How Redis runs."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        description = "Why it is not ready."
    ),
    // Its Services have its name in theirs, and a Service's name is stricter than an object's (RFC 1035).
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name cannot name a Service: begin with a letter, and use only a-z, 0-9 and -"),
    // The longest label is made by a StatefulSet: "-redis", "-" and a hash of ten, of 63 characters in all.
    validation = Rule::new("size(self.metadata.name) <= 45")
        .message("metadata.name is longer than 45 characters: names of its pods and Services would not fit")
)]
#[serde(rename_all = "camelCase", default)]
pub struct PushClusterSpec {
    /// Gateways. While autoscaling is on this is its starting point, and it is what `kubectl scale` sets.
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
    /// The gateway pods.
    pub gateway: GatewaySpec,
    /// The Redis that carries messages between gateways.
    pub redis: RedisSpec,
    /// A HorizontalPodAutoscaler on the number of connected clients.
    pub autoscaling: AutoscalingSpec,
    /// How clients are moved when a gateway ends.
    pub drain: DrainSpec,
    /// The Service that clients connect to.
    pub service: ServiceSpec,
    /// While true the operator looks but changes nothing; the status says so.
    pub paused: bool,
}

/// The gateway pods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewaySpec {
    /// The gateway's image. Default: the one that came with the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500))]
    pub image: Option<String>,
    /// CPU and memory of a gateway. A socket takes about 10 KiB of kernel memory besides the gateway's own.
    /// Default: requests of 50m and 128Mi, a limit of 512Mi of memory.
    #[schemars(schema_with = "resources")]
    pub resources: ResourceRequirements,
    /// Who may connect.
    pub auth: AuthSpec,
    /// Caps for each gateway pod.
    pub limits: LimitsSpec,
    /// What a gateway logs: a level, or a filter as in `info,gateway::broker=debug`.
    #[schemars(length(min = 1, max = 200))]
    pub log_filter: String,
}

/// Who may connect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.anonymous || has(self.hs256KeySecret) || has(self.jwksUrl) || (has(self.keySecrets) && size(self.keySecrets) > 0)", "message": "spec.gateway.auth: nobody could connect: set anonymous: true, or say where the keys of your tokens are: hs256KeySecret, keySecrets or jwksUrl"},
]))]
pub struct AuthSpec {
    /// Whether a client without a token may stay.
    pub anonymous: bool,
    /// The key of HS256 tokens, at least 32 bytes. Without any key no token is accepted. Gateways take up a changed
    /// key, here and in `keySecrets`, within two minutes and close nothing for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hs256_key_secret: Option<SecretKey>,
    /// Keys that say what they are: PEM (public keys or certificates), a JWK, or a JWK set. RS256, ES256, ES384 and
    /// EdDSA follow from the kind of the key, others from the `alg` of a JWK: HS384, HS512, RS512, PS256 and so on.
    #[schemars(length(max = 16))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub key_secrets: Vec<SecretKey>,
    /// A JWK set that gateways fetch and keep current, as identity providers publish it. A gateway is not ready before
    /// it has it; while the server does not answer, the last keys stay.
    #[schemars(
        length(max = 2000),
        regex(
            pattern = r"^https?://(\[[0-9A-Fa-f:.]+\]|[^/@?#:\[\]\s]+)(:[0-9]{1,5})?(/[^#\s]*)?$"
        )
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// The `iss` of a token must be one of these. Default: any.
    #[schemars(length(max = 16), inner(length(min = 1, max = 500)))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub issuers: Vec<String>,
    /// One `aud` of a token must be one of these. Default: any, also what an issuer made for other services.
    #[schemars(length(max = 16), inner(length(min = 1, max = 500)))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
}

/// One key of a Secret in the namespace of the PushCluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// Caps for each gateway pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LimitsSpec {
    /// Connections on one gateway; more are answered 503.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: i32,
    /// Bytes in one message; a longer one closes its connection with 1009.
    #[schemars(range(min = 128, max = 67_108_864))]
    pub max_message_bytes: i32,
    /// Channels that one connection may have.
    #[schemars(range(min = 1, max = 100_000))]
    pub max_channels_per_connection: i32,
}

/// The Redis that carries messages between gateways.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.mode != 'External' || has(self.external)", "message": "spec.redis.external is missing: mode External needs external.host"},
    {"rule": "self.mode == 'External' || !has(self.external)", "message": "spec.redis.external is set but not used: set mode: External, or remove external"},
    {"rule": "self.mode == 'Sentinel' || !has(self.sentinel)", "message": "spec.redis.sentinel is set but not used: set mode: Sentinel, or remove sentinel"},
    {"rule": "self.mode == oldSelf.mode", "message": "spec.redis.mode cannot be changed: make a second PushCluster with the mode you want and move clients to it"},
]))]
pub struct RedisSpec {
    /// Who runs it: `Standalone` is one pod made by the operator, and while it restarts nobody is delivered to. With
    /// `Sentinel` there are three: when one ends, another goes on within seconds with what channels remember. `External`
    /// is one that you have.
    pub mode: RedisMode,
    /// The image of modes Standalone and Sentinel: Redis 7.0 or later, with redis-server, redis-cli and, for Sentinel, cp
    /// and sleep on its PATH. Default: the one that came with the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500))]
    pub image: Option<String>,
    /// CPU and memory of a Redis in modes Standalone and Sentinel; it holds what all channels remember and who is
    /// connected. Default: requests of 50m and 64Mi, a limit of 256Mi of memory.
    #[schemars(schema_with = "resources")]
    pub resources: ResourceRequirements,
    /// How mode Sentinel replaces a master that is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentinel: Option<SentinelSpec>,
    /// The Redis of mode External.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalRedis>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum RedisMode {
    /// One pod, made by the operator.
    #[default]
    Standalone,
    /// Three pods, made by the operator: a master, two replicas, and a Sentinel beside each.
    Sentinel,
    /// One that you have; the operator never changes it.
    External,
}

/// How mode Sentinel replaces a master that is gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SentinelSpec {
    /// How long a master may be silent before a replica takes its place. With less, messages wait for a shorter time
    /// when a pod or node is lost; with more, a node that is short of CPU for a moment does not cost a failover.
    #[schemars(range(min = 1, max = 60))]
    pub down_after_seconds: i32,
    /// CPU and memory of a Sentinel. One that starves calls healthy masters dead. Default: requests of 50m and 32Mi, a
    /// limit of 64Mi of memory.
    #[schemars(schema_with = "resources")]
    pub resources: ResourceRequirements,
}

/// A Redis that is there already.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalRedis {
    /// Name or address, as the gateway pods see it.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9.:_-]+$"))]
    pub host: String,
    /// Its TCP port.
    #[serde(default = "redis_port")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
    /// The ACL user. Default: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub username: Option<String>,
    /// The password. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<SecretKey>,
}

/// A HorizontalPodAutoscaler on the number of connected clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.minReplicas <= self.maxReplicas", "message": "spec.autoscaling.minReplicas is greater than spec.autoscaling.maxReplicas: lower the one or raise the other"},
]))]
pub struct AutoscalingSpec {
    /// Whether there is one. If not, there are `spec.replicas` gateways.
    pub enabled: bool,
    /// Never fewer gateways.
    #[schemars(range(min = 1, max = 1000))]
    pub min_replicas: i32,
    /// Never more gateways.
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: i32,
    /// Connected clients for each gateway that the autoscaler aims at.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub target_connections_per_pod: i32,
}

/// How clients are moved when a gateway ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DrainSpec {
    /// Clients that one gateway tells to reconnect each second.
    #[schemars(range(min = 1, max = 100_000))]
    pub reconnects_per_second: i32,
    /// Seconds that a gateway has to move its clients before it ends.
    #[schemars(range(min = 1, max = 3_600))]
    pub deadline_seconds: i32,
}

/// The Service that clients connect to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// How it is reached: `ClusterIP` from inside, `NodePort` on every node, `LoadBalancer` through your cloud's.
    #[serde(rename = "type")]
    pub type_: ServiceType,
    /// Its TCP port for WebSocket clients and the HTTP API.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
    /// Annotations for the cloud's load balancer.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    #[default]
    ClusterIP,
    NodePort,
    LoadBalancer,
}

fn redis_port() -> i32 {
    6379
}

/// Requests and limits, and not the rest of `ResourceRequirements`: a claim would need a pod that has it. The pattern
/// is the API server's own for quantities; without it `memory: lots` would be found when the first half is applied.
fn resources(_: &mut SchemaGenerator) -> Schema {
    let quantities = |description: &str| {
        serde_json::json!({
            "description": description,
            "type": "object",
            "additionalProperties": {
                "x-kubernetes-int-or-string": true,
                "pattern": QUANTITY,
            },
        })
    };
    json_schema!({
        "type": "object",
        "properties": {
            "requests": quantities("What a pod is promised, such as `cpu: 500m` and `memory: 256Mi`."),
            "limits": quantities("What a pod may take at most. Beyond its `memory` it is killed."),
        },
    })
}

const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

impl Default for PushClusterSpec {
    fn default() -> Self {
        PushClusterSpec {
            replicas: 2,
            gateway: GatewaySpec::default(),
            redis: RedisSpec::default(),
            autoscaling: AutoscalingSpec::default(),
            drain: DrainSpec::default(),
            service: ServiceSpec::default(),
            paused: false,
        }
    }
}

impl Default for GatewaySpec {
    fn default() -> Self {
        GatewaySpec {
            image: None,
            resources: ResourceRequirements::default(),
            auth: AuthSpec::default(),
            limits: LimitsSpec::default(),
            log_filter: "info".into(),
        }
    }
}

impl Default for AuthSpec {
    fn default() -> Self {
        AuthSpec {
            anonymous: true,
            hs256_key_secret: None,
            key_secrets: Vec::new(),
            jwks_url: None,
            issuers: Vec::new(),
            audiences: Vec::new(),
        }
    }
}

impl Default for LimitsSpec {
    fn default() -> Self {
        LimitsSpec {
            max_connections: 10_000,
            max_message_bytes: 1 << 20,
            max_channels_per_connection: 128,
        }
    }
}

impl Default for RedisSpec {
    fn default() -> Self {
        RedisSpec {
            mode: RedisMode::Standalone,
            image: None,
            resources: ResourceRequirements::default(),
            sentinel: None,
            external: None,
        }
    }
}

impl Default for SentinelSpec {
    fn default() -> Self {
        SentinelSpec {
            down_after_seconds: 5,
            resources: ResourceRequirements::default(),
        }
    }
}

impl Default for AutoscalingSpec {
    fn default() -> Self {
        AutoscalingSpec {
            enabled: true,
            min_replicas: 2,
            max_replicas: 10,
            target_connections_per_pod: 5_000,
        }
    }
}

impl Default for DrainSpec {
    fn default() -> Self {
        DrainSpec {
            reconnects_per_second: 500,
            deadline_seconds: 30,
        }
    }
}

impl Default for ServiceSpec {
    fn default() -> Self {
        ServiceSpec {
            type_: ServiceType::ClusterIP,
            port: 80,
            annotations: BTreeMap::new(),
        }
    }
}
