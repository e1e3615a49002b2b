//! What the gateway says: answers to one client, and deliveries.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{ErrorCode, Refusal, RequestId};
use crate::message::{ConnectionId, Delivery, Message, MessageKind, Position};
use crate::name::{ChannelKind, ChannelName};
use crate::presence::List;
use crate::protocol::frame::{Opcode, encode_written, frame};

/// What the gateway says to one client.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply<'a> {
    Welcome {
        connection: &'a ConnectionId,
        node: &'a str,
        #[serde(rename = "ping")]
        ping_seconds: u32,
    },
    Authenticated {
        user: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        expires: Option<u64>,
    },
    Pong,
    Subscribed {
        channel: &'a str,
        timestamp: u64,
        #[serde(flatten)]
        log: Option<Log<'a>>,
    },
    History {
        channel: &'a str,
        #[serde(flatten)]
        log: Log<'a>,
    },
    Presence {
        channel: &'a str,
        #[serde(flatten)]
        list: &'a List,
    },
    Unsubscribed {
        channel: &'a str,
    },
    Joined {
        room: &'a str,
        timestamp: u64,
    },
    Left {
        room: &'a str,
    },
    /// The broker has the message. Sent only for a request with an `id`.
    Published {
        /// On a channel with history.
        #[serde(flatten)]
        position: Option<Position>,
    },
    Error {
        code: ErrorCode,
        message: &'a str,
    },
    /// The connection will be closed: come back in so many milliseconds.
    Reconnect {
        after_ms: u64,
    },
}

/// Where a channel's log stands, and a part of it.
#[derive(Debug, Serialize)]
pub struct Log<'a> {
    #[serde(flatten)]
    pub top: Position,
    /// Nothing is missing between what was asked for and the top. Told only who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovered: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<Delivered<'a>>>,
}

#[derive(Serialize)]
struct WithId<'a> {
    #[serde(flatten)]
    reply: &'a Reply<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RequestId>,
}

/// A complete text frame.
pub fn encode_reply(reply: &Reply<'_>, id: Option<&RequestId>) -> Bytes {
    frame(Opcode::Text, &reply_text(reply, id))
}

/// Appends the frame of [`Reply::Published`], the answer to every publish, without what makes other answers general.
pub fn append_published(position: Option<Position>, id: &RequestId, out: &mut Vec<u8>) {
    encode_written(Opcode::Text, out, |out| {
        out.extend_from_slice(br#"{"type":"published""#);
        if let Some(Position { epoch, offset }) = position {
            out.extend_from_slice(format!(r#","epoch":{epoch},"offset":{offset}"#).as_bytes());
        }
        out.extend_from_slice(br#","id":"#);
        // It was JSON when it came.
        out.extend_from_slice(id.0.as_bytes());
        out.push(b'}');
    });
}

/// JSON.
pub fn reply_text(reply: &Reply<'_>, id: Option<&RequestId>) -> Vec<u8> {
    text(&WithId { reply, id })
}

pub fn encode_refusal(refusal: &Refusal, id: Option<&RequestId>) -> Bytes {
    encode_reply(
        &Reply::Error {
            code: refusal.code,
            message: &refusal.message,
        },
        id,
    )
}

/// A message as its subscribers see it.
#[derive(Debug, Serialize)]
pub struct Delivered<'a> {
    #[serde(rename = "type")]
    kind: MessageKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a RawValue>,
    /// Who came or left.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    /// The same, of somebody who is nobody in particular.
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<&'a ConnectionId>,
    /// The user, or the connection of somebody who is nobody in particular.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    timestamp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
}

/// Where a channel's subscribers go on.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "position")]
struct Moved<'a> {
    channel: &'a str,
    #[serde(flatten)]
    position: Position,
    recovered: &'a RawValue,
}

impl<'a> Delivered<'a> {
    #[must_use]
    pub fn new(channel: &'a ChannelName, message: &'a Message, offset: Option<u64>) -> Self {
        let Message {
            kind,
            data,
            from,
            timestamp,
            ..
        } = message;
        if *kind == MessageKind::Presence {
            return Delivered::presence(channel, message);
        }
        let (channel, room, message, data) = match (kind, channel.kind()) {
            (MessageKind::Chat, _) => (Some(channel.as_str()), None, Some(&**data), None),
            (MessageKind::Room, ChannelKind::Room(room)) => (None, Some(room), None, Some(&**data)),
            _ => (None, None, None, Some(&**data)),
        };
        let from = from
            .as_ref()
            .map(|from| from.user.as_deref().unwrap_or(from.connection.as_str()));
        Delivered {
            kind: *kind,
            channel,
            room,
            message,
            data,
            event: None,
            connection: None,
            user: None,
            from,
            timestamp: *timestamp,
            offset,
        }
    }

    fn presence(channel: &'a ChannelName, message: &'a Message) -> Self {
        let who = message.from.as_ref();
        Delivered {
            kind: message.kind,
            channel: Some(channel.as_str()),
            room: None,
            message: None,
            data: None,
            event: Some(&message.data),
            connection: who
                .filter(|who| who.user.is_none())
                .map(|who| &who.connection),
            user: who.and_then(|who| who.user.as_deref()),
            from: None,
            timestamp: message.timestamp,
            offset: None,
        }
    }
}

/// A delivery as a complete text frame, the same for every subscriber.
pub fn encode_delivery(delivery: &Delivery) -> Bytes {
    frame(Opcode::Text, &delivery_text(delivery))
}

/// A delivery as JSON.
pub fn delivery_text(delivery: &Delivery) -> Vec<u8> {
    if let (MessageKind::Position, Some(position)) = (delivery.message.kind, delivery.position) {
        return text(&Moved {
            channel: delivery.channel.as_str(),
            position,
            recovered: &delivery.message.data,
        });
    }
    let offset = delivery.position.map(|position| position.offset);
    text(&Delivered::new(
        &delivery.channel,
        &delivery.message,
        offset,
    ))
}

fn text(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value)
        .expect("strings, numbers and JSON that was parsed before always serialise")
}
