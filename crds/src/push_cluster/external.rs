//! A Redis that is there already.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretKey;

/// A Redis that is there already.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalRedis {
    /// Name or address, as the gateway pods see it.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9.:_-]+$"))]
    pub host: String,
    /// Its TCP port.
    #[serde(default = "redis_port")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
    /// The ACL user. Default: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub username: Option<String>,
    /// The password. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<SecretKey>,
}

fn redis_port() -> i32 {
    6379
}
