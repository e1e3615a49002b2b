//! What a publisher sends, and where it stands in its channel.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::name::ChannelName;

/// A message as every node sees it: the same on memory and in Redis, where it travels as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    pub kind: MessageKind,
    /// JSON exactly as the publisher wrote it; never parsed on the way.
    pub data: Arc<RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Sender>,
    /// Milliseconds since the Unix epoch, by the clock of the node that accepted the message.
    pub timestamp: u64,
    /// The one connection that does not get it: the sender's, for rooms and broadcasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub except: Option<ConnectionId>,
    /// The one connection that gets it: set on messages in a node's inbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<ConnectionId>,
}

/// Decides the `type` that a client sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageKind {
    Chat,
    Room,
    Broadcast,
    Private,
}

/// Who published. The HTTP API publishes with no sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    pub connection: ConnectionId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Arc<str>>,
}

/// `<node>.<number>`: unique in the cluster while both live, and it says which node to ask.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConnectionId(pub Arc<str>);

/// Where a message stands in its channel's log. A new epoch means that the log was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub epoch: u64,
    pub offset: u64,
}

/// A message on its way to subscribers.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub channel: ChannelName,
    pub message: Message,
    /// None on a channel without history.
    pub position: Option<Position>,
}
