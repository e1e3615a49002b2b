//! Names that clients choose, checked once and then trusted by type.
//!
//! A channel's kind is its prefix: `room:<name>`, `user:<id>` (only that user, subscribed for them),
//! `system:notifications` (everyone, read-only for clients), any other name is free. Names that begin
//! with `node:` and the name `broadcast` belong to the gateway and cannot be named by clients.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest channel name, in bytes of UTF-8.
pub const MAX_CHANNEL_BYTES: usize = 255;

/// Longest user id, in bytes of UTF-8: with `user:` before it, it is still a channel name.
pub const MAX_USER_BYTES: usize = MAX_CHANNEL_BYTES - USER.len();

const ROOM: &str = "room:";
const USER: &str = "user:";
const NODE: &str = "node:";
const NOTIFICATIONS: &str = "system:notifications";
const BROADCAST: &str = "broadcast";

/// A channel name: 1 to 255 bytes of printable UTF-8. Cloning shares the text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct ChannelName(Arc<str>);

/// What a channel's name says about who may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelKind<'a> {
    Room(&'a str),
    User(&'a str),
    Notifications,
    /// Every client; written with `broadcast`, never subscribed by name.
    Broadcast,
    /// One node's own inbox, for messages to single connections.
    Node(&'a str),
    Free,
}

/// Completes the sentence "the name …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("is empty")]
    Empty,
    #[error("is {0} bytes long, longer than {MAX_CHANNEL_BYTES}")]
    TooLong(usize),
    #[error("has a character that cannot be printed at byte {0}")]
    NotPrintable(usize),
}

impl ChannelName {
    pub fn parse(name: &str) -> Result<Self, NameError> {
        check(name)?;
        Ok(ChannelName(name.into()))
    }

    /// The channel of a room: its members are whoever subscribed.
    pub fn room(room: &str) -> Result<Self, NameError> {
        prefixed(ROOM, room)
    }

    /// The channel of all connections of one user.
    pub fn user(id: &str) -> Result<Self, NameError> {
        prefixed(USER, id)
    }

    /// The inbox of one node.
    pub fn node(node: &str) -> Result<Self, NameError> {
        prefixed(NODE, node)
    }

    #[must_use]
    pub fn broadcast() -> Self {
        ChannelName(BROADCAST.into())
    }

    #[must_use]
    pub fn notifications() -> Self {
        ChannelName(NOTIFICATIONS.into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    #[must_use]
    pub fn kind(&self) -> ChannelKind<'_> {
        let name = self.as_str();
        if let Some(room) = name.strip_prefix(ROOM) {
            ChannelKind::Room(room)
        } else if let Some(user) = name.strip_prefix(USER) {
            ChannelKind::User(user)
        } else if let Some(node) = name.strip_prefix(NODE) {
            ChannelKind::Node(node)
        } else if name == NOTIFICATIONS {
            ChannelKind::Notifications
        } else if name == BROADCAST {
            ChannelKind::Broadcast
        } else {
            ChannelKind::Free
        }
    }

    /// Whether a client that is `user` (None: nobody in particular) may subscribe by this name.
    #[must_use]
    pub fn may_subscribe(&self, user: Option<&str>) -> bool {
        match self.kind() {
            ChannelKind::Room(_) | ChannelKind::Notifications | ChannelKind::Free => true,
            ChannelKind::User(id) => user == Some(id),
            ChannelKind::Broadcast | ChannelKind::Node(_) => false,
        }
    }

    /// Whether a client may publish to this name. `broadcast` and `private` have requests of their own.
    #[must_use]
    pub fn may_publish(&self) -> bool {
        matches!(self.kind(), ChannelKind::Room(_) | ChannelKind::Free)
    }

    /// Whether every connection gets this channel's messages without subscribing.
    #[must_use]
    pub fn is_for_everyone(&self) -> bool {
        matches!(
            self.kind(),
            ChannelKind::Broadcast | ChannelKind::Notifications
        )
    }
}

fn prefixed(prefix: &str, name: &str) -> Result<ChannelName, NameError> {
    check(name)?;
    ChannelName::parse(&[prefix, name].concat())
}

fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > MAX_CHANNEL_BYTES {
        return Err(NameError::TooLong(name.len()));
    }
    match name.char_indices().find(|(_, c)| !is_printable(*c)) {
        Some((at, _)) => Err(NameError::NotPrintable(at)),
        None => Ok(()),
    }
}

/// No control characters, and none of the invisible ones with which one name can pass for another in a
/// log or on a dashboard.
fn is_printable(c: char) -> bool {
    let invisible = matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}');
    !c.is_control() && !invisible
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Lets maps that are keyed by name be asked with a `&str`.
impl std::borrow::Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl TryFrom<String> for ChannelName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        ChannelName::parse(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_printable_and_not_too_long() {
        let longest = "é".repeat(127) + "x";
        for (name, expected) in [
            ("a", Ok(())),
            ("with space, ünïcode 🎉 and : colons", Ok(())),
            (longest.as_str(), Ok(())),
            ("", Err(NameError::Empty)),
            (&"é".repeat(128), Err(NameError::TooLong(256))),
            ("nul\0", Err(NameError::NotPrintable(3))),
            ("é\n", Err(NameError::NotPrintable(2))),
            ("del\u{7f}", Err(NameError::NotPrintable(3))),
            ("c1\u{85}", Err(NameError::NotPrintable(2))),
            ("ad\u{200b}min", Err(NameError::NotPrintable(2))),
            ("txt\u{202e}gpj", Err(NameError::NotPrintable(3))),
            ("\u{feff}bom", Err(NameError::NotPrintable(0))),
        ] {
            assert_eq!(ChannelName::parse(name).map(|_| ()), expected, "{name:?}");
        }
    }

    #[test]
    fn a_prefix_takes_its_share_of_the_length() {
        let longest = "x".repeat(MAX_USER_BYTES);
        for (made, expected) in [
            (ChannelName::user(&longest), Ok(())),
            (
                ChannelName::user(&(longest + "x")),
                Err(NameError::TooLong(256)),
            ),
            (ChannelName::room(""), Err(NameError::Empty)),
            (ChannelName::node("a\tb"), Err(NameError::NotPrintable(1))),
        ] {
            assert_eq!(made.map(|_| ()), expected);
        }
    }

    #[test]
    fn the_prefix_says_who_may_use_it() {
        use ChannelKind::*;
        // name, kind, may ann subscribe, may nobody in particular, may any client publish
        for (name, kind, ann, anonymous, publish) in [
            ("news", Free, true, true, true),
            ("rooms", Free, true, true, true),
            ("Room:a", Free, true, true, true),
            ("system:other", Free, true, true, true),
            ("broadcasts", Free, true, true, true),
            ("room:lobby", Room("lobby"), true, true, true),
            ("room:user:ann", Room("user:ann"), true, true, true),
            ("user:ann", User("ann"), true, false, false),
            ("user:bob", User("bob"), false, false, false),
            ("user:ann2", User("ann2"), false, false, false),
            ("user:", User(""), false, false, false),
            ("system:notifications", Notifications, true, true, false),
            ("broadcast", Broadcast, false, false, false),
            ("node:gateway-0", Node("gateway-0"), false, false, false),
        ] {
            let channel = ChannelName::parse(name).unwrap();
            assert_eq!(channel.kind(), kind, "{name}");
            assert_eq!(
                channel.may_subscribe(Some("ann")),
                ann,
                "ann subscribes {name}"
            );
            assert_eq!(
                channel.may_subscribe(None),
                anonymous,
                "nobody subscribes {name}"
            );
            assert_eq!(channel.may_publish(), publish, "publish {name}");
        }
    }

    #[test]
    fn a_name_from_the_wire_is_checked_too() {
        assert!(serde_json::from_str::<ChannelName>(r#""news""#).is_ok());
        assert!(serde_json::from_str::<ChannelName>(r#""ne\u0000ws""#).is_err());
    }
}
