//! `PushCluster`: a file for each part of its `spec`.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::PushClusterStatus;

mod auth;
mod behavior;
mod channels;
mod external;
mod foresight;
mod gateway;
mod limits;
mod network;
mod persistence;
mod pods;
mod redis;
mod schema;
mod secrets;
mod service;
mod size;

pub use auth::*;
pub use behavior::*;
pub use channels::*;
pub use external::*;
pub use foresight::*;
pub use gateway::*;
pub use limits::*;
pub use network::*;
pub use persistence::*;
pub use pods::*;
pub use redis::*;
pub use secrets::*;
pub use service::*;
pub use size::*;

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
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why it is Ready or not, in a word; docs/runbook.md has an entry for each."
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
        name = "Clients",
        type_ = "integer",
        json_path = ".status.clients.connected",
        description = "Connected clients, two minutes ago at most."
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
        .message("metadata.name is longer than 45 characters: names of its pods and Services would not fit"),
    // A shard's number, "-31", is in it too.
    validation = Rule::new("size(self.metadata.name) <= 42 || !has(self.spec.redis) || self.spec.redis.mode != 'Cluster'")
        .message("metadata.name is longer than 42 characters: with spec.redis.mode Cluster names of its pods would not fit")
)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!self.autoscaling.enabled || !has(self.autoscaling.targetConnectionsPerPod) || self.autoscaling.targetConnectionsPerPod * 10 <= self.gateway.limits.maxConnections * 8", "message": "spec.autoscaling.targetConnectionsPerPod is above 80 % of spec.gateway.limits.maxConnections, where a gateway takes no more clients: lower the one or raise the other"},
]))]
pub struct PushClusterSpec {
    /// Gateways. While autoscaling is on this is its starting point, and it is what `kubectl scale` sets.
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
    /// The gateway pods.
    pub gateway: GatewaySpec,
    /// The Redis that carries messages between gateways.
    pub redis: RedisSpec,
    /// As many gateways as the connected clients need.
    pub autoscaling: AutoscalingSpec,
    /// How clients are moved when a gateway ends.
    pub drain: DrainSpec,
    /// The Service that clients connect to.
    pub service: ServiceSpec,
    /// Who may open connections to the pods, where the cluster's network enforces NetworkPolicies.
    pub network_policies: NetworkPoliciesSpec,
    /// What a new version of the operator may do to the pods that are there. What you change yourself is done at once.
    pub update_policy: UpdatePolicy,
    /// While true the operator looks but changes nothing; the status says so.
    pub paused: bool,
}

impl Default for PushClusterSpec {
    fn default() -> Self {
        PushClusterSpec {
            replicas: 2,
            gateway: GatewaySpec::default(),
            redis: RedisSpec::default(),
            autoscaling: AutoscalingSpec::default(),
            drain: DrainSpec::default(),
            service: ServiceSpec::default(),
            network_policies: NetworkPoliciesSpec::default(),
            update_policy: UpdatePolicy::default(),
            paused: false,
        }
    }
}

/// What a new version of the operator may do to the pods that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum UpdatePolicy {
    /// Nothing before you agree: the condition UpgradePending says what would change and how to agree.
    #[default]
    WithConsent,
    /// It replaces them one after the other, as after a change of yours.
    Automatic,
}
