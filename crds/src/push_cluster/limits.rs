//! Caps for each gateway pod.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Caps for each gateway pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.maxOutboxBytes) || self.maxOutboxBytes >= self.maxMessageBytes", "message": "spec.gateway.limits.maxOutboxBytes is less than spec.gateway.limits.maxMessageBytes: the longest message would disconnect everybody who gets it: raise the one or lower the other"},
    {"rule": "!has(self.maxRequestBytes) || self.maxRequestBytes >= self.maxMessageBytes", "message": "spec.gateway.limits.maxRequestBytes is less than spec.gateway.limits.maxMessageBytes: the longest message could not be published over HTTP: raise the one or lower the other"},
]))]
pub struct LimitsSpec {
    /// Connections on one gateway; more are answered 503. Above 80 % it takes no more from the Service.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: i32,
    /// Connections of one user on all gateways together; one more is answered 429. 0: no limit of its own.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_connections_per_user: i32,
    /// Connections from one address on one gateway; one more is answered 429. It needs the clients' addresses: set
    /// `trustedProxies`, or `service.externalTrafficPolicy: Local`. 0: no limit of its own.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_connections_per_address: i32,
    /// WebSocket handshakes of one gateway; one more in the same second is answered 503. It keeps gateways responsive
    /// when all clients come back at once. 0: no limit.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub handshakes_per_second: i32,
    /// Messages and pings of one connection; more is answered `rate_limited`, and who goes on is closed with 1008. 0: no
    /// limit.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub messages_per_second: i32,
    /// Messages and pings that a connection may send at once before `messagesPerSecond` counts.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub message_burst: i32,
    /// Bytes in one message; a longer one closes its connection with 1009.
    #[schemars(range(min = 128, max = 67_108_864))]
    pub max_message_bytes: i32,
    /// Channels that one connection may have.
    #[schemars(range(min = 1, max = 100_000))]
    pub max_channels_per_connection: i32,
    /// Bytes that wait for one client that does not read, before its channels' `slowConsumer` counts. Default: 1 MiB, or
    /// twice `maxMessageBytes` if that is more.
    #[schemars(range(min = 128, max = 1_073_741_824))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_outbox_bytes: Option<i32>,
    /// The body of one HTTP API request; more is answered 413. Default: 4 MiB, or twice `maxMessageBytes` if that is more.
    #[schemars(range(min = 128, max = 1_073_741_824))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_request_bytes: Option<i32>,
    /// Members that one answer about a channel's presence names.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_presence_members: i32,
    /// Memory of a gateway on which it refuses clients, and then closes the oldest connections, instead of being killed.
    /// Default: 90 % of `resources.limits.memory`, which always counts; 512 MiB where there is no such limit.
    #[schemars(range(min = 67_108_864_i64, max = 1_099_511_627_776_i64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_memory_bytes: Option<i64>,
}

impl Default for LimitsSpec {
    fn default() -> Self {
        LimitsSpec {
            max_connections: 10_000,
            max_connections_per_user: 0,
            max_connections_per_address: 0,
            handshakes_per_second: 0,
            messages_per_second: 0,
            message_burst: 100,
            max_message_bytes: 1 << 20,
            max_channels_per_connection: 128,
            max_outbox_bytes: None,
            max_request_bytes: None,
            max_presence_members: 1_000,
            max_memory_bytes: None,
        }
    }
}
