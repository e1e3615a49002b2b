//! Names that clients choose, checked once and then trusted by type.
//!
//! A channel's kind is its prefix: `room:<name>`, `user:<id>` (only that user, subscribed for them),
//! `system:notifications` (everyone, read-only for clients), any other name is free. Names that begin
//! with `node:` and the name `broadcast` belong to the gateway and cannot be named by clients.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// Longest channel name, in bytes of UTF-8.
pub const MAX_CHANNEL_BYTES: usize = 255;

/// A channel name: 1 to 255 bytes of printable UTF-8. Cloning shares the text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
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

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("is empty")]
    Empty,
    #[error("is {0} bytes long, longer than {MAX_CHANNEL_BYTES}")]
    TooLong(usize),
    #[error("has a character that cannot be printed at byte {0}")]
    NotPrintable(usize),
}
