//! Caps for each gateway pod.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Caps for each gateway pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LimitsSpec {
    /// Connections on one gateway; more are answered 503.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: i32,
    /// Bytes in one message; a longer one closes its connection with 1009.
    #[schemars(range(min = 128, max = 67_108_864))]
    pub max_message_bytes: i32,
    /// Channels that one connection may have.
    #[schemars(range(min = 1, max = 100_000))]
    pub max_channels_per_connection: i32,
}

impl Default for LimitsSpec {
    fn default() -> Self {
        LimitsSpec {
            max_connections: 10_000,
            max_message_bytes: 1 << 20,
            max_channels_per_connection: 128,
        }
    }
}
