//! How fast an autoscaler adds and removes gateways: `behavior` of autoscaling/v2, with the bounds that the API server would
//! otherwise say of an object that nobody wrote.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// As `behavior` of a HorizontalPodAutoscaler.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BehaviorSpec {
    /// When clients come. Default: at once, up to twice as many gateways or four more in 15 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_up: Option<ScalingRules>,
    /// When clients go. Default: as many as are too many, when that has been so for five minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_down: Option<ScalingRules>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ScalingRules {
    /// How long the numbers are looked back at, and the most careful of them taken.
    #[schemars(range(min = 0, max = 3_600))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stabilization_window_seconds: Option<i32>,
    /// Which of several policies counts; `Disabled`: never in this direction. Default: `Max`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub select_policy: Option<SelectPolicy>,
    /// How many gateways in how much time.
    #[schemars(length(min = 1, max = 8))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policies: Option<Vec<ScalingPolicy>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SelectPolicy {
    Max,
    Min,
    Disabled,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalingPolicy {
    /// What `value` counts: gateways, or percent of those that there are.
    #[serde(rename = "type")]
    pub type_: ScalingUnit,
    /// So many at most.
    #[schemars(range(min = 1, max = 1_000))]
    pub value: i32,
    /// In so many seconds.
    #[schemars(range(min = 1, max = 1_800))]
    pub period_seconds: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScalingUnit {
    Pods,
    Percent,
}
