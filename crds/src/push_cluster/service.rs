//! The Service that clients connect to.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

impl Default for ServiceSpec {
    fn default() -> Self {
        ServiceSpec {
            type_: ServiceType::ClusterIP,
            port: 80,
            annotations: BTreeMap::new(),
        }
    }
}
