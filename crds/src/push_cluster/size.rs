//! How many gateways there are, and how clients move when there are fewer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::BehaviorSpec;

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
    /// Connected clients for each gateway that the autoscaler aims at. Default: half of `gateway.limits.maxConnections`,
    /// so that the others can take over the clients of one that is lost.
    #[schemars(range(min = 1, max = 1_000_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_connections_per_pod: Option<i32>,
    /// How fast it adds and removes gateways: `behavior` of a HorizontalPodAutoscaler (autoscaling/v2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behavior: Option<BehaviorSpec>,
}

/// How clients are moved when a gateway ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DrainSpec {
    /// Clients that are told to reconnect each second: by all gateways together, whatever the cause. Default: half of what
    /// those that take clients let in, `gateway.limits.handshakesPerSecond` of each, and 200 where that is 0.
    #[schemars(range(min = 1, max = 100_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconnects_per_second: Option<i32>,
    /// Seconds that a gateway which was told to end has to move its clients; and how much longer than its clients need at
    /// `reconnectsPerSecond` one may take that gives them away before it is told.
    #[schemars(range(min = 1, max = 3_600))]
    pub deadline_seconds: i32,
}

impl Default for AutoscalingSpec {
    fn default() -> Self {
        AutoscalingSpec {
            enabled: true,
            min_replicas: 2,
            max_replicas: 10,
            target_connections_per_pod: None,
            behavior: None,
        }
    }
}

impl Default for DrainSpec {
    fn default() -> Self {
        DrainSpec {
            reconnects_per_second: None,
            deadline_seconds: 30,
        }
    }
}
