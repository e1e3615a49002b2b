//! Policies: what holds for the channels whose names begin alike.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What holds for the channels whose names begin with a prefix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ChannelPolicy {
    /// Beginning of the channels' names, as in `room:` or `prices.`. `""`: every channel. A `broadcast` of a
    /// client goes to the channel `broadcast`, a `private` message to `user:…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Who may subscribe and join: `anyone`, `authenticated` (any user), `granted` (a user whose token names the
    /// channel) or `nobody`. A token names channels in the claim `pushcluster`, as in
    /// `{"channels": ["room:a", "prices.*"]}`, or only for one of the two in `subscribe` and `publish`.
    pub subscribe: Right,
    /// Who may publish: the same.
    pub publish: Right,
    /// One message, after `limits.maxMessageBytes`; more is answered `too_big`. 0: no limit of its own.
    pub max_message_bytes: u32,
    /// Messages of one connection to these channels together; more is answered `rate_limited`. 0: no limit of
    /// its own.
    pub messages_per_second: u32,
    /// Messages that it may send at once before `messagesPerSecond` counts.
    pub message_burst: u32,
    /// What happens to a client that does not read fast enough, when what waits for it exceeds
    /// `limits.maxOutboxBytes`: `disconnect` closes it with 3008. `dropOldest` drops what waits for it of such
    /// channels, oldest first, and the message itself if that is not enough. `latest` does the same, and already
    /// keeps only the newest message of a channel for a client while it is behind.
    pub slow_consumer: SlowConsumer,
    /// Messages of a channel wait for so long, so that more of them leave in one write: at 10, a chat of thousands
    /// costs far fewer system calls, and everybody reads it 10 ms later. At most 1000. 0: none waits.
    pub batch_milliseconds: u32,
    /// Messages of a channel that wait at most; with one more they leave before their time. 64 KiB do the same.
    pub batch_messages: u32,
    /// The newest messages that are kept, for clients that come back and for `history`. 0: none; then nobody is
    /// told what was missed.
    pub history_messages: u32,
    /// How long a message is kept at most. 0: none is.
    pub history_seconds: u32,
    /// Whether its subscribers are told who comes and who leaves, and may ask who is there. Each join and each leave
    /// is a message to all of them, so it is for channels of hundreds rather than of thousands; a subscription counts
    /// in `messagesPerSecond`. Nothing to `user:`, `system:notifications` and the gateway's own channels.
    pub presence: bool,
}

/// Who may do something with a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Right {
    /// Every client that may be here at all.
    #[default]
    Anyone,
    /// Whoever has shown a token.
    Authenticated,
    /// Whoever has shown a token that names the channel.
    Granted,
    /// No client.
    Nobody,
}

/// What gives way when a client does not keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SlowConsumer {
    /// The client.
    #[default]
    Disconnect,
    /// Its oldest messages.
    DropOldest,
    /// All its messages but the newest of each channel.
    Latest,
}

impl Default for ChannelPolicy {
    fn default() -> Self {
        ChannelPolicy {
            prefix: None,
            subscribe: Right::Anyone,
            publish: Right::Anyone,
            max_message_bytes: 0,
            messages_per_second: 0,
            message_burst: 10,
            slow_consumer: SlowConsumer::Disconnect,
            batch_milliseconds: 0,
            batch_messages: 100,
            history_messages: 0,
            history_seconds: 0,
            presence: false,
        }
    }
}
