//! The Redis that carries messages between gateways.

use k8s_openapi::api::core::v1::ResourceRequirements;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::resources;
use super::{ExternalRedis, PersistenceSpec, PodsSpec};

/// The Redis that carries messages between gateways.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.mode != 'External' || has(self.external)", "message": "spec.redis.external is missing: mode External needs external.host, or external.hosts"},
    {"rule": "self.mode == 'External' || !has(self.external)", "message": "spec.redis.external is set but not used: set mode: External, or remove external"},
    {"rule": "self.mode == 'Sentinel' || !has(self.sentinel)", "message": "spec.redis.sentinel is set but not used: set mode: Sentinel, or remove sentinel"},
    {"rule": "self.mode != 'External' || !has(self.image)", "message": "spec.redis.image is set but not used: mode External runs no Redis of its own: remove image"},
    {"rule": "!has(self.listenPrefix) || has(self.listen)", "message": "spec.redis.listenPrefix is set but not used: name the channels in listen, or remove listenPrefix"},
    {"rule": "self.mode == 'Cluster' || !has(self.cluster)", "message": "spec.redis.cluster is set but not used: set mode: Cluster, or remove cluster"},
    {"rule": "self.mode != 'External' || !has(self.persistence)", "message": "spec.redis.persistence is set but not used: mode External runs no Redis of its own: remove persistence"},
    {"rule": "self.mode != 'Cluster' || !has(self.persistence)", "message": "spec.redis.persistence is not for mode Cluster, where every Redis that starts is a new node and reads nothing from a disk: remove persistence and raise spec.redis.cluster.replicas, or use mode Sentinel"},
    {"rule": "self.mode != 'External' || !has(self.tls)", "message": "spec.redis.tls is set but not used: mode External runs no Redis of its own: set spec.redis.external.tls, or remove tls"},
    {"rule": "has(self.tls) == has(oldSelf.tls)", "message": "spec.redis.tls cannot be added or removed: gateways with TLS and without would not hear each other meanwhile: make a second PushCluster with what you want and move clients to it"},
    {"rule": "self.mode == oldSelf.mode", "message": "spec.redis.mode cannot be changed: make a second PushCluster with the mode you want and move clients to it"},
]))]
pub struct RedisSpec {
    /// Who runs it: `Standalone` is one pod made by the operator, and while it restarts nobody is delivered to. With
    /// `Sentinel` there are three: when one ends, another goes on within seconds with what channels remember. `Cluster`
    /// is for more than one Redis can carry: every channel is in one of several shards, each with a master and replicas.
    /// `External` is one that you have.
    pub mode: RedisMode,
    /// The image of modes Standalone, Sentinel and Cluster: Redis 7.0 or later, with redis-server, redis-cli and, for
    /// Sentinel, cp and sleep, for Cluster, sleep and sh on its PATH. Default: the one that came with the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500))]
    pub image: Option<String>,
    /// CPU and memory of each Redis in modes Standalone, Sentinel and Cluster; it holds what all channels remember and who is
    /// connected. Default: requests of 50m and 64Mi, a limit of 256Mi of memory.
    #[schemars(schema_with = "resources")]
    pub resources: ResourceRequirements,
    /// Where its pods may run, and what they carry.
    pub pods: PodsSpec,
    /// Channels in which backends publish straight into Redis, and which the gateways pass on to their clients:
    /// `system:notifications`, `ws:broadcast`, `ws:room:*`, `ws:private`. Default: none.
    #[schemars(
        length(max = 4),
        inner(regex(pattern = r"^(system:notifications|ws:broadcast|ws:room:\*|ws:private)$"))
    )]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listen: Vec<String>,
    /// Begins the names of these channels, as in `app:ws:broadcast`, where a framework adds a prefix of its own.
    #[schemars(length(max = 128), regex(pattern = r"^[!-z|~]*$"))]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub listen_prefix: String,
    /// Volumes for modes Standalone and Sentinel, so that what channels remember and who is connected outlives the loss of
    /// all pods; `persistence: {}` takes the defaults. Default: it is in memory alone. To add or remove it replaces the
    /// pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistence: Option<PersistenceSpec>,
    /// TLS between gateways, Redis, Sentinels and the operator in modes Standalone, Sentinel and Cluster, and no connection
    /// without; `tls: {}` has the operator issue the certificate and renew it. Default: none. It can be chosen at the
    /// beginning only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<RedisTls>,
    /// How mode Sentinel replaces a master that is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentinel: Option<SentinelSpec>,
    /// The shards of mode Cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterSpec>,
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
    /// Shards, made by the operator: each a master and its replicas.
    Cluster,
    /// One that you have; the operator never changes it.
    External,
}

/// The shards of mode Cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterSpec {
    /// Masters, each with as many of the channels. With more or fewer, channels move while they are used; a publish to one
    /// that is just moving waits for a moment.
    #[schemars(range(min = 3, max = 32))]
    pub shards: i32,
    /// Replicas of each master. One of them takes its place when it is gone.
    #[schemars(range(min = 1, max = 5))]
    pub replicas: i32,
    /// How long a master may be silent before a replica takes its place. With less, messages wait for a shorter time
    /// when a pod or node is lost; with more, a node that is short of CPU for a moment does not cost a failover.
    #[schemars(range(min = 1, max = 60))]
    pub down_after_seconds: i32,
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

/// The certificate of Redis and Sentinels.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RedisTls {
    /// A Secret of the namespace with a certificate of your own, as cert-manager writes it: `tls.crt` and `tls.key`, which
    /// Redis serves with, and `ca.crt`, whom all of them trust. It must be for the name `<name>-redis.<namespace>.svc`;
    /// in mode Sentinel also for `<name>-redis-0.<name>-redis` and those of 1 and 2; in mode Cluster also for
    /// `*.<name>-redis.<namespace>.svc`, and Redis shows it as a client too. When it changes, Redis gets the new one
    /// while it runs. Default: one that the operator issues, in Secret `<name>-redis-tls`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: Option<String>,
}

impl Default for RedisSpec {
    fn default() -> Self {
        RedisSpec {
            mode: RedisMode::Standalone,
            image: None,
            resources: ResourceRequirements::default(),
            pods: PodsSpec::default(),
            listen: Vec::new(),
            listen_prefix: String::new(),
            persistence: None,
            tls: None,
            sentinel: None,
            cluster: None,
            external: None,
        }
    }
}

impl Default for ClusterSpec {
    fn default() -> Self {
        ClusterSpec {
            shards: 3,
            replicas: 1,
            down_after_seconds: 5,
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
