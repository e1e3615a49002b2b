//! What holds for the channels whose names begin alike.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What holds for the channels whose names begin alike, when clients use them. The longest prefix that fits wins, and it
/// alone; the HTTP API is bound by none of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "(self.historyMessages > 0) == (self.historySeconds > 0)", "message": "spec.gateway.channels: history needs historyMessages and historySeconds, of which only one is set: set both, or neither"},
    {"rule": "!self.prefix.matches('[\\\\x00-\\\\x1f\\\\x7f]')", "message": "spec.gateway.channels: a prefix has a character that cannot be printed, which no channel's name has: remove it"},
]))]
pub struct ChannelSpec {
    /// Beginning of the channels' names, as in `room:` or `prices.`. `""`: every channel. A client's `broadcast` goes to
    /// the channel `broadcast`, a `private` message to `user:…`.
    #[schemars(length(max = 255))]
    pub prefix: String,
    /// Who may subscribe and join: `Anyone`; `Authenticated`, whoever has shown a token; `Granted`, whoever has shown a
    /// token that names the channel; `Nobody`.
    #[serde(default)]
    pub subscribe: ChannelRight,
    /// Who may publish over a connection: the same.
    #[serde(default)]
    pub publish: ChannelRight,
    /// The newest messages that are kept, for clients that come back after a lost connection and for `history`. 0: none;
    /// then nobody is told what was missed. Redis holds them in memory.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10_000))]
    pub history_messages: i32,
    /// How long a message is kept at most. 0: none is.
    #[serde(default)]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub history_seconds: i32,
    /// Whether subscribers are told who comes and who leaves, and may ask who is there. Each of it is a message to all of
    /// them, so it is for channels of hundreds rather than of thousands.
    #[serde(default)]
    pub presence: bool,
    /// Bytes in one message to these channels; more is answered `too_big`. 0: what `limits.maxMessageBytes` allows.
    #[serde(default)]
    #[schemars(range(min = 0, max = 67_108_864))]
    pub max_message_bytes: i32,
    /// Messages of one connection to these channels together, so that nobody floods a room; more is answered
    /// `rate_limited`. 0: no limit of their own.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub messages_per_second: i32,
    /// Messages that a connection may send at once before `messagesPerSecond` counts.
    #[serde(default = "message_burst")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub message_burst: i32,
    /// What gives way when a client does not read fast enough: `Disconnect`, the client, which comes back and gets what
    /// it missed from the history; `DropOldest`, its oldest messages of such channels; `Latest`, all but the newest of
    /// each channel, as for prices and positions.
    #[serde(default)]
    pub slow_consumer: SlowConsumer,
    /// Messages wait for so long, so that more of them leave in one write: at 10 a chat of thousands costs far less CPU,
    /// and everybody reads it 10 ms later. 0: none waits.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000))]
    pub batch_milliseconds: i32,
    /// Messages of a channel that wait at most; with one more they leave before their time.
    #[serde(default = "batch_messages")]
    #[schemars(range(min = 2, max = 1_000))]
    pub batch_messages: i32,
}

/// Who may do something with a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum ChannelRight {
    #[default]
    Anyone,
    Authenticated,
    Granted,
    Nobody,
}

/// What gives way when a client does not keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum SlowConsumer {
    #[default]
    Disconnect,
    DropOldest,
    Latest,
}

fn message_burst() -> i32 {
    10
}

fn batch_messages() -> i32 {
    100
}
