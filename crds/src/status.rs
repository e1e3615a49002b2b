use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator saw.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PushClusterStatus {
    /// The generation of the manifest that all of this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Gateways that there are.
    pub replicas: i32,
    /// Gateways that take clients.
    pub ready_replicas: i32,
    /// Gateways that there should be.
    pub desired_replicas: i32,
    /// Selects the gateway pods, for autoscalers.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// The fleet's clients. Unset before a gateway has told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clients: Option<ClientsStatus>,
    /// The versions that gateways run, in order: two of them during an upgrade.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gateway_versions: Vec<String>,
    /// Which gateways run with the configuration that there is now. Unset before the operator has asked them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<ConfigStatus>,
    /// Ready, GatewayAvailable, RedisAvailable, BrokerDelivering, ConfigValid, UpgradePending, AutoscalerActive,
    /// MetricsApiRegistered, Draining, PasswordRotating, ReconciliationPaused.
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["type"]
    ))]
    pub conditions: Vec<Condition>,
}

/// Connected clients when the operator last looked, which it does every two minutes at least.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientsStatus {
    /// On all gateways, also those that are moving theirs away.
    pub connected: i64,
    /// How many more there is room for, by `spec.gateway.limits.maxConnections`.
    pub capacity_left: i64,
    /// On the emptiest gateway that takes clients.
    pub fewest_per_gateway: i64,
    /// On the fullest gateway that takes clients.
    pub most_per_gateway: i64,
    /// Gateways that did not tell: their clients are in no number here.
    #[serde(skip_serializing_if = "is_none")]
    pub silent_gateways: i32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_none(count: &i32) -> bool {
    *count == 0
}

/// What gateways run with, as they say themselves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigStatus {
    /// Gateways that run with the configuration that there is now.
    pub current: i32,
    /// Pods that run with another one, and will take this one in a moment or be replaced: at most 20 of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outdated: Vec<String>,
    /// Pods that did not say what they run with: at most 20 of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}
