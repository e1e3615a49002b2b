//! Who may open connections to the pods.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may open connections to the pods, where the cluster's network enforces NetworkPolicies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPoliciesSpec {
    /// Whether there are NetworkPolicies: clients reach gateways on their port from everywhere, the admin port is for the
    /// operator and the monitoring, and Redis is for gateways, the operator and Redis. What the pods themselves connect to is
    /// not limited.
    pub enabled: bool,
    /// Namespaces from which metrics are read. Default: `monitoring`.
    #[schemars(length(max = 16), inner(length(min = 1, max = 63)))]
    pub monitoring_namespaces: Vec<String>,
}

impl Default for NetworkPoliciesSpec {
    fn default() -> Self {
        NetworkPoliciesSpec {
            enabled: true,
            monitoring_namespaces: vec!["monitoring".into()],
        }
    }
}
