//! Names that clients choose, checked once and then trusted by type.
//!
//! A channel's kind is its prefix: `room:<name>`, `user:<id>` (only that user, subscribed for them),
//! `system:notifications` (everyone, read-only for clients), any other name is free. The name `broadcast`
//! and names that begin with `node:` belong to the gateway; clients cannot name them.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest channel name, in bytes of UTF-8.
pub const MAX_CHANNEL_BYTES: usize = 255;

/// Longest user id, in bytes of UTF-8: `user:` and the id are a channel name.
pub const MAX_USER_BYTES: usize = MAX_CHANNEL_BYTES - "user:".len();

/// Ends the name of a node's [`ChannelKind::SelfTest`]. No node's name has a colon.
const SELF_TEST: &str = ":self-test";

/// A channel name: 1 to 255 bytes of printable UTF-8. Cloning shares the text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChannelName(Arc<str>);

/// What a channel's name says about who may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelKind<'a> {
    Room(&'a str),
    User(&'a str),
    /// `system:notifications`: every client has it, none may publish.
    Notifications,
    /// Every client; written with `broadcast`, never subscribed by name.
    Broadcast,
    /// One node's own inbox, for messages to single connections.
    Node(&'a str),
    /// Where one node sends messages to itself, to see that they arrive.
    SelfTest,
    Free,
}

/// Completes the sentence "the channel name …".
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

    /// The channel of a room. The room's name may be as long as leaves room for the prefix.
    pub fn room(room: &str) -> Result<Self, NameError> {
        if room.is_empty() {
            return Err(NameError::Empty);
        }
        Self::parse(&format!("room:{room}"))
    }

    /// The channel that reaches all connections of a user.
    pub fn user(id: &str) -> Result<Self, NameError> {
        if id.is_empty() {
            return Err(NameError::Empty);
        }
        Self::parse(&format!("user:{id}"))
    }

    /// The inbox of a node.
    pub fn node(name: &str) -> Result<Self, NameError> {
        Self::parse(&format!("node:{name}"))
    }

    /// Where a node tests itself.
    pub fn self_test(node: &str) -> Result<Self, NameError> {
        Self::parse(&format!("node:{node}{SELF_TEST}"))
    }

    /// Where nodes test that they hear each other. No node's name is empty.
    pub fn between_nodes() -> Self {
        ChannelName(format!("node:{SELF_TEST}").into())
    }

    pub fn broadcast() -> Self {
        ChannelName("broadcast".into())
    }

    pub fn notifications() -> Self {
        ChannelName("system:notifications".into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn kind(&self) -> ChannelKind<'_> {
        match self.as_str() {
            "broadcast" => ChannelKind::Broadcast,
            "system:notifications" => ChannelKind::Notifications,
            name => match name.split_once(':') {
                Some(("room", room)) => ChannelKind::Room(room),
                Some(("user", id)) => ChannelKind::User(id),
                Some(("node", node)) if node.ends_with(SELF_TEST) => ChannelKind::SelfTest,
                Some(("node", node)) => ChannelKind::Node(node),
                _ => ChannelKind::Free,
            },
        }
    }

    /// Whether a client may ask for this channel by name.
    pub fn may_subscribe(&self, user: Option<&str>) -> bool {
        match self.kind() {
            ChannelKind::Room(_) | ChannelKind::Notifications | ChannelKind::Free => true,
            ChannelKind::User(id) => user == Some(id),
            ChannelKind::Broadcast | ChannelKind::Node(_) | ChannelKind::SelfTest => false,
        }
    }

    /// Whether a client may publish to this channel by name (`broadcast` and `private` have types of their own).
    pub fn may_publish(&self) -> bool {
        matches!(self.kind(), ChannelKind::Room(_) | ChannelKind::Free)
    }
}

/// Printable: no control characters, and none of the invisible ones with which a name could look like another's.
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

fn is_printable(c: char) -> bool {
    !(c.is_control()
        || matches!(c,
            // Zero width, directions, line and paragraph separators, byte order mark, private use, non-characters.
            '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{ffff}' | '\u{e0000}'..))
}

/// Whether `id` may be a user: the same rules as for the channel that it becomes.
pub fn check_user(id: &str) -> Result<(), NameError> {
    ChannelName::user(id).map(|_| ())
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ChannelName {
    type Error = NameError;
    fn try_from(name: String) -> Result<Self, NameError> {
        check(&name)?;
        Ok(ChannelName(name.into()))
    }
}

impl From<ChannelName> for String {
    fn from(name: ChannelName) -> String {
        name.0.as_ref().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_once() {
        let longest = "é".repeat(127) + "x";
        for (name, expected) in [
            ("news", Ok(())),
            ("a", Ok(())),
            ("with space and ünïcode 🎉", Ok(())),
            (longest.as_str(), Ok(())),
            ("", Err(NameError::Empty)),
            (&"x".repeat(256), Err(NameError::TooLong(256))),
            ("tab\there", Err(NameError::NotPrintable(3))),
            ("nul\0", Err(NameError::NotPrintable(3))),
            ("line\nbreak", Err(NameError::NotPrintable(4))),
            ("ad\u{200b}min", Err(NameError::NotPrintable(2))),
            ("right\u{202e}left", Err(NameError::NotPrintable(5))),
        ] {
            assert_eq!(ChannelName::parse(name).map(|_| ()), expected, "{name:?}");
        }
    }

    #[test]
    fn the_prefix_decides_who_may_use_a_channel() {
        use ChannelKind::*;
        // name, kind, may user ann subscribe, may anybody publish by name
        for (name, kind, subscribe, publish) in [
            ("news", Free, true, true),
            ("roommate", Free, true, true),
            ("room:", Room(""), true, true),
            ("room:lobby", Room("lobby"), true, true),
            ("room:a:b", Room("a:b"), true, true),
            ("user:ann", User("ann"), true, false),
            ("user:bob", User("bob"), false, false),
            ("user:", User(""), false, false),
            ("system:notifications", Notifications, true, false),
            ("system:other", Free, true, true),
            ("broadcast", Broadcast, false, false),
            ("broadcasts", Free, true, true),
            ("node:gateway-0", Node("gateway-0"), false, false),
            ("node:gateway-0:self-test", SelfTest, false, false),
        ] {
            let channel = ChannelName::parse(name).unwrap();
            assert_eq!(channel.kind(), kind, "{name}");
            assert_eq!(
                channel.may_subscribe(Some("ann")),
                subscribe,
                "subscribe {name}"
            );
            assert_eq!(channel.may_publish(), publish, "publish {name}");
            assert!(
                !matches!(kind, User(_)) || !channel.may_subscribe(None),
                "anonymous {name}"
            );
        }
    }
}
