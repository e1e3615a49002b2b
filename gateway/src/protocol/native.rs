//! The native JSON protocol, subprotocol `pushcluster.v1`: text to [`Request`], answers and deliveries to text.
//!
//! Published JSON is kept as the publisher wrote it and never parsed twice. Unknown members are ignored, so that
//! a newer client can speak to an older gateway; a bad known one is an error that names it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::message::{ConnectionId, Position};
use crate::name::{ChannelName, NameError};

mod answer;
pub use answer::*;

pub const SUBPROTOCOL: &str = "pushcluster.v1";

/// Longest `id` of a request, in bytes of JSON: it is kept while the request is under way.
pub const MAX_ID_BYTES: usize = 64;

/// A request's `id`, as JSON: a string or a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(Box<str>);

/// What a client asked for.
#[derive(Debug)]
pub enum Request<'a> {
    Ping,
    Auth {
        token: Cow<'a, str>,
    },
    Subscribe {
        channel: ChannelName,
        /// What the client had of it last.
        recover: Option<Position>,
    },
    History {
        channel: ChannelName,
        since: Option<Position>,
        limit: Option<u32>,
    },
    /// Who is there?
    Presence {
        channel: ChannelName,
    },
    Unsubscribe {
        channel: ChannelName,
    },
    Chat {
        channel: ChannelName,
        message: &'a RawValue,
    },
    Join {
        room: ChannelName,
    },
    Leave {
        room: ChannelName,
    },
    Room {
        room: ChannelName,
        data: &'a RawValue,
    },
    Broadcast {
        data: &'a RawValue,
    },
    Private {
        to: Recipient,
        data: &'a RawValue,
    },
}

/// To whom a private message goes: the channel that leads there, and the one connection if it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    pub channel: ChannelName,
    pub only: Option<ConnectionId>,
}

/// The `code` of an error; stable, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ErrorCode {
    BadJson,
    BadField,
    UnknownType,
    Denied,
    Unauthorized,
    TooManyChannels,
    /// Of this user, on this node; the connection is closed.
    TooManyConnections,
    /// More than the channel's policy allows.
    TooBig,
    /// Faster than allowed; the connection is closed when that goes on.
    RateLimited,
    /// The same was asked before and has not been answered yet.
    InProgress,
    /// Withdrawn by a later request before it was answered.
    Cancelled,
    NotInRoom,
    /// Nothing of this channel is kept.
    NoHistory,
    /// Nobody is told who has this channel.
    NoPresence,
    /// The broker cannot take it now; trying again later is safe.
    Unavailable,
    /// Sent to the broker, and no answer came: it may have been delivered. Stays the last one: a test counts on it.
    Unanswered,
}

impl ErrorCode {
    /// On the wire and in the metric `pushcluster_errors_total`. In the order of the enum, so that a code is its own index.
    pub const LABELS: [&str; 16] = [
        "bad_json",
        "bad_field",
        "unknown_type",
        "denied",
        "unauthorized",
        "too_many_channels",
        "too_many_connections",
        "too_big",
        "rate_limited",
        "in_progress",
        "cancelled",
        "not_in_room",
        "no_history",
        "no_presence",
        "unavailable",
        "unanswered",
    ];
}

impl Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(Self::LABELS[*self as usize])
    }
}

/// An answer that says what was wrong. The connection lives on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: ErrorCode,
    /// Begins with what failed and names the field.
    pub message: String,
}

/// The types of request, for the metric `websocket_messages_received_total`.
pub const TYPES: [&str; 13] = [
    "ping",
    "auth",
    "subscribe",
    "unsubscribe",
    "chat",
    "join",
    "leave",
    "room",
    "broadcast",
    "private",
    "history",
    "presence",
    "invalid",
];

/// Every member that a request can have, not yet looked into.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    token: Option<&'a RawValue>,
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    room: Option<&'a RawValue>,
    #[serde(borrow)]
    to: Option<&'a RawValue>,
    #[serde(borrow)]
    recover: Option<&'a RawValue>,
    #[serde(borrow)]
    since: Option<&'a RawValue>,
    #[serde(borrow)]
    limit: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    message: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
}

/// `null` is a message like any other; only a member that is not there is missing.
fn present<'de: 'a, 'a, D: serde::Deserializer<'de>>(
    json: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(json).map(Some)
}

/// What came, with the `id` that its answer must carry, also when it is an error.
#[derive(Debug)]
pub struct Decoded<'a> {
    /// Index into [`TYPES`].
    pub kind: usize,
    pub id: Option<RequestId>,
    pub request: Result<Request<'a>, Refusal>,
}

const INVALID: usize = TYPES.len() - 1;

pub fn decode(text: &str) -> Decoded<'_> {
    let members: Members<'_> = match object(text) {
        Ok(members) => members,
        Err(error) => {
            let message = match error {
                Some(error) => format!("message is not a JSON object: {error}"),
                None => "message is not a JSON object".into(),
            };
            let refusal = Refusal {
                code: ErrorCode::BadJson,
                message,
            };
            return Decoded {
                kind: INVALID,
                id: None,
                request: Err(refusal),
            };
        }
    };
    let id = match members.id.map(RequestId::parse).transpose() {
        Ok(id) => id,
        Err(refusal) => {
            return Decoded {
                kind: INVALID,
                id: None,
                request: Err(refusal),
            };
        }
    };
    let kind = match text_member("type", members.kind) {
        Ok(kind) => kind,
        Err(refusal) => {
            return Decoded {
                kind: INVALID,
                id,
                request: Err(refusal),
            };
        }
    };
    let index = TYPES[..INVALID]
        .iter()
        .position(|name| *name == kind)
        .unwrap_or(INVALID);
    Decoded {
        kind: index,
        id,
        request: members.request(&kind),
    }
}

/// serde would also take an array, member by position: a second notation that nobody meant to promise.
fn object(text: &str) -> Result<Members<'_>, Option<serde_json::Error>> {
    let begin = text.trim_ascii_start();
    if !begin.is_empty() && !begin.starts_with('{') {
        return Err(None);
    }
    serde_json::from_str(text).map_err(Some)
}

impl<'a> Members<'a> {
    fn request(&self, kind: &str) -> Result<Request<'a>, Refusal> {
        Ok(match kind {
            "ping" => Request::Ping,
            "auth" => Request::Auth {
                token: text_member("token", self.token)?,
            },
            "subscribe" => Request::Subscribe {
                channel: self.channel()?,
                recover: position_member("recover", self.recover)?,
            },
            "history" => Request::History {
                channel: self.channel()?,
                since: position_member("since", self.since)?,
                limit: number_member("limit", self.limit)?,
            },
            "presence" => Request::Presence {
                channel: self.channel()?,
            },
            "unsubscribe" => Request::Unsubscribe {
                channel: self.channel()?,
            },
            "chat" => Request::Chat {
                channel: self.channel()?,
                message: any_member("message", self.message)?,
            },
            "join" => Request::Join { room: self.room()? },
            "leave" => Request::Leave { room: self.room()? },
            "room" => Request::Room {
                room: self.room()?,
                data: any_member("data", self.data)?,
            },
            "broadcast" => Request::Broadcast {
                data: any_member("data", self.data)?,
            },
            "private" => Request::Private {
                to: self.recipient()?,
                data: any_member("data", self.data)?,
            },
            other => {
                let shown: String = other.chars().take(40).collect();
                return Err(Refusal {
                    code: ErrorCode::UnknownType,
                    message: format!(
                        "type {shown:?} is not known; known are {}",
                        TYPES[..INVALID].join(", ")
                    ),
                });
            }
        })
    }

    fn channel(&self) -> Result<ChannelName, Refusal> {
        let name = text_member("channel", self.channel)?;
        ChannelName::parse(&name).map_err(|error| bad_name("channel", &error))
    }

    fn room(&self) -> Result<ChannelName, Refusal> {
        let name = text_member("room", self.room)?;
        ChannelName::room(&name).map_err(|error| bad_name("room", &error))
    }

    fn recipient(&self) -> Result<Recipient, Refusal> {
        let to = text_member("to", self.to)?;
        let (channel, only) = match ConnectionId::parse(&to) {
            Some(id) => (ChannelName::node(id.node()), Some(id)),
            None => (ChannelName::user(&to), None),
        };
        Ok(Recipient {
            channel: channel.map_err(|error| bad_name("to", &error))?,
            only,
        })
    }
}

fn bad_name(field: &str, error: &NameError) -> Refusal {
    Refusal {
        code: ErrorCode::BadField,
        message: format!("`{field}` {error}"),
    }
}

fn any_member<'a>(field: &str, value: Option<&'a RawValue>) -> Result<&'a RawValue, Refusal> {
    value.ok_or_else(|| Refusal {
        code: ErrorCode::BadField,
        message: format!("`{field}` is missing"),
    })
}

fn text_member<'a>(field: &str, value: Option<&'a RawValue>) -> Result<Cow<'a, str>, Refusal> {
    /// Borrows where the JSON string has no escapes; a plain `Cow` would always copy.
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    let raw = any_member(field, value)?;
    serde_json::from_str::<Text<'a>>(raw.get())
        .map(|text| text.0)
        .map_err(|_| Refusal {
            code: ErrorCode::BadField,
            message: format!("`{field}` is not a string"),
        })
}

fn position_member(field: &str, value: Option<&RawValue>) -> Result<Option<Position>, Refusal> {
    let parse = |raw: &RawValue| {
        let json = raw.get();
        // As with a whole message, an array is no second notation.
        let position = json
            .starts_with('{')
            .then(|| serde_json::from_str(json).ok());
        position.flatten().ok_or_else(|| Refusal {
            code: ErrorCode::BadField,
            message: format!("`{field}` is not {{\"epoch\":number,\"offset\":number}}"),
        })
    };
    value.map(parse).transpose()
}

fn number_member(field: &str, value: Option<&RawValue>) -> Result<Option<u32>, Refusal> {
    let parse = |raw: &RawValue| {
        raw.get().parse().map_err(|_| Refusal {
            code: ErrorCode::BadField,
            message: format!("`{field}` is not a whole number from 0 to {}", u32::MAX),
        })
    };
    value.map(parse).transpose()
}

impl RequestId {
    fn parse(raw: &RawValue) -> Result<Self, Refusal> {
        let json = raw.get();
        let refusal = |message: String| Refusal {
            code: ErrorCode::BadField,
            message,
        };
        if json.len() > MAX_ID_BYTES {
            return Err(refusal(format!("`id` is longer than {MAX_ID_BYTES} bytes")));
        }
        match json.as_bytes() {
            [b'"' | b'-' | b'0'..=b'9', ..] => Ok(RequestId(json.into())),
            _ => Err(refusal("`id` is neither a string nor a number".into())),
        }
    }
}

impl Serialize for RequestId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // It was JSON when it came.
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

#[cfg(test)]
#[path = "native_tests.rs"]
#[expect(clippy::too_many_lines, reason = "tables")]
mod tests;
