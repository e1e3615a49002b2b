//! The gateway pods.

use k8s_openapi::api::core::v1::ResourceRequirements;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::resources;
use super::{AuthSpec, LimitsSpec};

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
