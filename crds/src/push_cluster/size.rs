//! How many gateways there are, and how clients move when there are fewer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BehaviorSpec, BufferSpec, WindowSpec};

/// As many gateways as the connected clients need.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.minReplicas <= self.maxReplicas", "message": "spec.autoscaling.minReplicas is greater than spec.autoscaling.maxReplicas: lower the one or raise the other"},
    {"rule": "!has(self.schedule) || self.schedule.all(window, window.minReplicas <= self.maxReplicas)", "message": "spec.autoscaling.schedule: minReplicas of a window is greater than spec.autoscaling.maxReplicas: lower the one or raise the other"},
    {"rule": "self.mode == 'Builtin' || !has(self.buffer) && !has(self.schedule) && !has(self.coolDownSeconds)", "message": "spec.autoscaling: buffer, schedule and coolDownSeconds are for spec.autoscaling.mode Builtin: set that, or leave them out"},
]))]
pub struct AutoscalingSpec {
    /// Whether there is an autoscaler. If not, there are `spec.replicas` gateways.
    pub enabled: bool,
    /// Who decides how many gateways there are.
    pub mode: AutoscalingMode,
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
    /// Room that is kept for clients that are not there yet. With mode Builtin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffer: Option<BufferSpec>,
    /// More gateways at known times; where windows overlap, the most of them. With mode Builtin.
    #[schemars(length(min = 1, max = 32))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Vec<WindowSpec>>,
    /// So long after it has changed the number of gateways it takes none away. Default: only the window of
    /// `behavior.scaleDown` counts. With mode Builtin.
    #[schemars(range(min = 0, max = 3_600))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cool_down_seconds: Option<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum AutoscalingMode {
    /// `HorizontalPodAutoscaler` where the operator serves `custom.metrics.k8s.io`, and `Builtin` where it does not:
    /// somebody else serves it, or the chart's values have it so.
    #[default]
    Automatic,
    /// One is made, and asks `custom.metrics.k8s.io` for the connected clients, whoever serves that.
    HorizontalPodAutoscaler,
    /// The operator decides itself, as a HorizontalPodAutoscaler would.
    Builtin,
    /// KEDA, where that is installed: a ScaledObject is made, on the number of connected clients that the operator tells it.
    Keda,
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
            mode: AutoscalingMode::Automatic,
            min_replicas: 2,
            max_replicas: 10,
            target_connections_per_pod: None,
            behavior: None,
            buffer: None,
            schedule: None,
            cool_down_seconds: None,
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
