//! What a publisher sends, and where it stands in its channel.

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
    /// Somebody came to the channel or left it: the user in `from`, or the connection if it has none. The data is
    /// `"join"` or `"leave"`.
    Presence,
    /// What follows comes after the position of this. The data is `true`, or `false` when messages before it may be
    /// missing. Said by the node itself, and by nobody else.
    #[serde(skip)]
    Position,
    /// Not for clients: the connections that a message would reach are closed instead.
    Disconnect,
    /// Not for clients: the connections that a message would reach are subscribed to the channels in its data, an array
    /// of names.
    Subscribe,
    /// Not for clients: the same, unsubscribed.
    Unsubscribe,
}

impl MessageKind {
    /// Those that clients get.
    pub const ALL: [MessageKind; 6] = [
        MessageKind::Chat,
        MessageKind::Room,
        MessageKind::Broadcast,
        MessageKind::Private,
        MessageKind::Presence,
        MessageKind::Position,
    ];

    /// What a message to this channel is, when its publisher does not say.
    pub fn of(channel: &ChannelName) -> Self {
        match channel.kind() {
            ChannelKind::Room(_) => MessageKind::Room,
            ChannelKind::Broadcast => MessageKind::Broadcast,
            ChannelKind::User(_) | ChannelKind::Node(_) => MessageKind::Private,
            ChannelKind::Notifications | ChannelKind::SelfTest | ChannelKind::Free => {
                MessageKind::Chat
            }
        }
    }

    /// Whether a channel with history keeps it. Who came and went, who was sent away and what was given to whom is no part of
    /// what was said: it would push messages out of the log, and mean nothing to who comes back.
    pub fn is_kept(self) -> bool {
        !matches!(
            self,
            MessageKind::Presence
                | MessageKind::Disconnect
                | MessageKind::Subscribe
                | MessageKind::Unsubscribe
        )
    }

    pub fn label(self) -> &'static str {
        match self {
            MessageKind::Chat => "chat",
            MessageKind::Room => "room",
            MessageKind::Broadcast => "broadcast",
            MessageKind::Private => "private",
            MessageKind::Presence => "presence",
            MessageKind::Position => "position",
            MessageKind::Disconnect => "disconnect",
            MessageKind::Subscribe => "subscribe",
            MessageKind::Unsubscribe => "unsubscribe",
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

/// `~<node>.<hexadecimal number>`: unique in the cluster while its node lives, and it says which node to ask.
/// No user id begins with `~`, so a recipient is never both.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConnectionId(Arc<str>);

impl ConnectionId {
    /// What no user id may begin with.
    pub const SIGIL: char = '~';

    pub fn new(node: &str, number: u64) -> Self {
        // Without `format`: every publish names its connection.
        let mut id = String::with_capacity(node.len() + 18);
        id.push(Self::SIGIL);
        id.push_str(node);
        id.push('.');
        let digits = number.checked_ilog2().map_or(1, |log| log as usize / 4 + 1);
        let bytes = number.to_be_bytes().into_iter();
        let all = bytes.flat_map(|byte| [byte >> 4, byte & 0xf]);
        for digit in all.skip(16 - digits) {
            id.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
        ConnectionId(id.into())
    }

    /// A connection id as a client wrote it; None when it has not that form.
    pub fn parse(text: &str) -> Option<Self> {
        let id = ConnectionId(text.into());
        let (node, number) = text.strip_prefix(Self::SIGIL)?.rsplit_once('.')?;
        // What `node.name` may be.
        let named = (1..=128).contains(&node.len())
            && node
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        // As it is written, so that no connection has two ids.
        let numbered = number
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            && (number == "0" || !number.starts_with('0'));
        (named && numbered && id.number().is_some()).then_some(id)
    }

    /// The node that holds the socket.
    pub fn node(&self) -> &str {
        self.parts().map_or("", |(node, _)| node)
    }

    /// The connection's number on its node.
    pub fn number(&self) -> Option<u64> {
        self.parts().map(|(_, number)| number)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parts(&self) -> Option<(&str, u64)> {
        let (node, number) = self.0.strip_prefix(Self::SIGIL)?.rsplit_once('.')?;
        Some((node, u64::from_str_radix(number, 16).ok()?))
    }
}

impl std::fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a message stands in its channel's log. A new epoch means that the log was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    pub epoch: u64,
    pub offset: u64,
}

impl Position {
    /// As it is written: `1700000000000:12`, digits only.
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, offset) = text.split_once(':')?;
        let number = |text: &str| {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten()
        };
        Some(Position {
            epoch: number(epoch)?,
            offset: number(offset)?,
        })
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset)
    }
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
    fn a_connection_id_is_its_node_and_its_number() {
        for number in [0, 1, 0xf, 0x10, 0xff, 0x100, 0x1a2_b3c4, 1 << 60, u64::MAX] {
            let id = ConnectionId::new("gw-0.a", number);
            assert_eq!(id.as_str(), format!("~gw-0.a.{number:x}"));
            assert_eq!((id.node(), id.number()), ("gw-0.a", Some(number)));
            assert_eq!(ConnectionId::parse(id.as_str()), Some(id));
        }
    }
}
