//! What a publisher sends, and where it stands in its channel.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::name::{ChannelKind, ChannelName};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageKind {
    Chat,
    Room,
    Broadcast,
    Private,
}

impl MessageKind {
    /// In the order of the enum, so that `kind as usize` is an index.
    pub const ALL: [MessageKind; 4] = [
        MessageKind::Chat,
        MessageKind::Room,
        MessageKind::Broadcast,
        MessageKind::Private,
    ];

    /// What a message to this channel is, when its publisher does not say.
    #[must_use]
    pub fn of(channel: &ChannelName) -> Self {
        match channel.kind() {
            ChannelKind::Room(_) => MessageKind::Room,
            ChannelKind::Broadcast => MessageKind::Broadcast,
            ChannelKind::User(_) | ChannelKind::Node(_) => MessageKind::Private,
            ChannelKind::Notifications | ChannelKind::Free => MessageKind::Chat,
        }
    }

    /// As clients and metrics see it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            MessageKind::Chat => "chat",
            MessageKind::Room => "room",
            MessageKind::Broadcast => "broadcast",
            MessageKind::Private => "private",
        }
    }
}

/// Who published. The HTTP API publishes with no sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    pub connection: ConnectionId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Arc<str>>,
}

impl Sender {
    /// As other clients see it: the user, or the connection of somebody who is nobody in particular.
    #[must_use]
    pub fn shown(&self) -> &str {
        self.user.as_deref().unwrap_or(self.connection.as_str())
    }
}

/// `~<node>.<number>`: unique in the cluster while its node lives, and it says which node to ask.
///
/// The sigil keeps it apart from user ids, which may not begin with it: without it a private message to
/// the user `john.1985` would go to connection 1985 of a node `john`, and nobody would ever see it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConnectionId(Arc<str>);

impl ConnectionId {
    /// What no user id may begin with.
    pub const SIGIL: char = '~';

    #[must_use]
    pub fn new(node: &str, number: u64) -> Self {
        ConnectionId(format!("{}{node}.{number}", Self::SIGIL).into())
    }

    /// A connection id as a client wrote it; None when it has not exactly that form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let id = ConnectionId(text.into());
        let (node, number) = (id.node()?, id.number()?);
        // Only the form that `new` writes: `~a.07` and `~a.7` must not be two ids of one connection.
        (ConnectionId::new(node, number) == id).then_some(id)
    }

    /// The node that holds the socket.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        let (node, _) = self.0.strip_prefix(Self::SIGIL)?.rsplit_once('.')?;
        (!node.is_empty()).then_some(node)
    }

    /// The connection's number on its node.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        self.0.rsplit_once('.')?.1.parse().ok()
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_id_names_its_node() {
        for (text, expected) in [
            ("~gateway-0.7", Some(("gateway-0", 7))),
            (
                "~pod.with.dots.18446744073709551615",
                Some(("pod.with.dots", u64::MAX)),
            ),
            ("gateway-0.7", None),
            ("john.1985", None),
            ("~gateway-0", None),
            ("~.7", None),
            ("~a.", None),
            ("~a.07", None),
            ("~a.+7", None),
            ("~a.18446744073709551616", None),
            ("", None),
        ] {
            let id = ConnectionId::parse(text);
            let parts = id.as_ref().and_then(|id| Some((id.node()?, id.number()?)));
            assert_eq!(parts, expected, "{text}");
        }
    }

    #[test]
    fn kinds_are_their_own_index() {
        for (index, kind) in MessageKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index, "{kind:?}");
            assert_eq!(
                serde_json::to_string(&kind).unwrap(),
                format!("{:?}", kind.label())
            );
        }
    }

    #[test]
    fn a_message_keeps_its_data_byte_for_byte() {
        let json = r#"{"kind":"chat","data":{"a" : 1e400, "a":[ ]},"timestamp":1}"#;
        let message: Message = serde_json::from_str(json).unwrap();
        assert_eq!(message.data.get(), r#"{"a" : 1e400, "a":[ ]}"#);
        assert_eq!(serde_json::to_string(&message).unwrap(), json);
    }
}
