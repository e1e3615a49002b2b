//! What the operator's own autoscaler is told of clients that are not there yet.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Either of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.connections) != has(self.percent)", "message": "spec.autoscaling.buffer: set one of connections and percent"},
]))]
pub struct BufferSpec {
    /// So many more clients than are connected find room.
    #[schemars(range(min = 1, max = 100_000_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<i32>,
    /// So many percent of all that the gateways aim at stay free.
    #[schemars(range(min = 1, max = 90))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<i32>,
}

/// Hours in which there are at least so many gateways. It changes `minReplicas` for as long as it lasts, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WindowSpec {
    /// Days on which it begins. Default: every day.
    #[schemars(length(min = 1, max = 7))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<Vec<Day>>,
    /// When it begins, such as `07:30`.
    #[schemars(regex(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub from: String,
    /// When it is over. Not later than `from`: on the next day.
    #[schemars(regex(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub until: String,
    /// The zone of both, by its name in the IANA database, such as `Europe/Berlin`.
    #[schemars(length(min = 1, max = 64))]
    #[serde(default = "utc")]
    pub time_zone: String,
    /// Never fewer gateways meanwhile.
    #[schemars(range(min = 1, max = 1_000))]
    pub min_replicas: i32,
}

fn utc() -> String {
    "UTC".into()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Day {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}
