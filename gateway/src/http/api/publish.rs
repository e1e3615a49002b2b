//! One message: to a channel, to everyone, to a user, to a connection.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::idempotency::once;
use super::request::{Asked, Members};
use super::{Answer, segment};
use crate::broker::PublishError;
use crate::http::{Front, Node, Problem, now};
use crate::message::{ConnectionId, Message, MessageKind};
use crate::name::{ChannelKind, ChannelName};

/// A message and where it goes.
#[derive(Debug)]
pub struct Outgoing {
    pub channel: ChannelName,
    pub message: Message,
}

/// Where a message goes.
#[derive(Debug)]
pub struct Address {
    pub channel: ChannelName,
    pub only: Option<ConnectionId>,
}

impl Address {
    pub fn channel(name: &str) -> Result<Address, Problem> {
        let channel = ChannelName::parse(name)
            .map_err(|e| Problem::field("channel", format!("the channel name {e}")))?;
        if matches!(channel.kind(), ChannelKind::Node(_) | ChannelKind::SelfTest) {
            let message =
                format!("publish to {name:?}: names that begin with node: are the gateway's own");
            return Err(Problem::field("channel", message));
        }
        Ok(channel.into())
    }

    /// All connections of a user, on all nodes.
    pub fn user(id: &str) -> Result<Address, Problem> {
        if id.starts_with(ConnectionId::SIGIL) {
            let message = format!("the user {id:?} begins with ~, as connections do and no user");
            return Err(Problem::field("user", message));
        }
        ChannelName::user(id)
            .map(Address::from)
            .map_err(|e| Problem::field("user", format!("the user's name {e}")))
    }

    /// One connection, on whichever node it is.
    pub fn connection(id: &str) -> Result<Address, Problem> {
        let only = connection_id("connection", id)?;
        let channel = ChannelName::node(only.node()).map_err(|e| {
            let message = format!("connection: the node's name {e}");
            Problem::field("connection", message)
        })?;
        Ok(Address {
            channel,
            only: Some(only),
        })
    }

    /// With what else the object says: `data`, and `exclude` where that can mean something.
    pub fn message(self, members: &mut Members<'_>, max: usize) -> Result<Outgoing, Problem> {
        let data = members
            .take("data")
            .ok_or_else(|| Problem::field("data", "data is missing"))?;
        if data.get().len() > max {
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            let message = format!("data is longer than {max} bytes");
            return Err(Problem {
                status,
                code: "too_big",
                ..Problem::field("data", message)
            });
        }
        let except = match self.exclude(members)? {
            None => None,
            Some(id) => Some(connection_id("exclude", &id)?),
        };
        let message = Message {
            kind: MessageKind::of(&self.channel),
            data: Arc::from(data.to_owned()),
            from: None,
            timestamp: u64::try_from(now().as_millis()).unwrap_or(u64::MAX),
            except,
            only: self.only,
        };
        Ok(Outgoing {
            channel: self.channel,
            message,
        })
    }
}

impl Address {
    /// What an object with this address may say beside it.
    pub fn members(&self) -> &'static [&'static str] {
        if self.only.is_some() {
            // Who else would be left out?
            return &["data"];
        }
        &["data", "exclude"]
    }

    fn exclude(&self, members: &mut Members<'_>) -> Result<Option<String>, Problem> {
        if self.only.is_some() {
            return Ok(None);
        }
        members.optional("exclude", "a text")
    }
}

impl From<ChannelName> for Address {
    fn from(channel: ChannelName) -> Address {
        Address {
            channel,
            only: None,
        }
    }
}

pub fn connection_id(field: &str, id: &str) -> Result<ConnectionId, Problem> {
    ConnectionId::parse(id)
        .ok_or_else(|| Problem::field(field, format!("{field}: {id:?} is not a connection")))
}

/// `POST /api/publish`.
pub async fn publish<N: Node>(
    State(front): State<Arc<Front<N>>>,
    request: Request,
) -> Result<Response, Problem> {
    let asked = Asked::read(&front, request).await?;
    once(front, asked, |front, body| async move {
        let outgoing = to_channel(&body, front.caps().message)?;
        hand_on(&front.node, outgoing).await
    })
    .await
}

fn to_channel(body: &[u8], max_message: usize) -> Result<Outgoing, Problem> {
    let mut members = Members::read(body, "the body")?;
    let address = Address::channel(&members.text("channel")?)?;
    let outgoing = address.message(&mut members, max_message)?;
    members.nothing_else(&["channel", "data", "exclude"])?;
    Ok(outgoing)
}

/// `POST /api/broadcast`.
pub async fn broadcast<N: Node>(
    State(front): State<Arc<Front<N>>>,
    request: Request,
) -> Result<Response, Problem> {
    to_address(front, request, Ok(ChannelName::broadcast().into())).await
}

/// `POST /api/users/{user}/messages`.
pub async fn to_user<N: Node>(
    State(front): State<Arc<Front<N>>>,
    user: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let address = segment("user", user).and_then(|user| Address::user(&user));
    to_address(front, request, address).await
}

/// `POST /api/connections/{connection}/messages`.
pub async fn to_connection<N: Node>(
    State(front): State<Arc<Front<N>>>,
    connection: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let address = segment("connection", connection).and_then(|id| Address::connection(&id));
    to_address(front, request, address).await
}

/// A wrong address is told to who may ask, so after the key was looked at.
async fn to_address<N: Node>(
    front: Arc<Front<N>>,
    request: Request,
    address: Result<Address, Problem>,
) -> Result<Response, Problem> {
    let asked = Asked::read(&front, request).await?;
    once(front, asked, |front, body| async move {
        let outgoing = to_known(address?, &body, front.caps().message)?;
        hand_on(&front.node, outgoing).await
    })
    .await
}

fn to_known(address: Address, body: &[u8], max_message: usize) -> Result<Outgoing, Problem> {
    let mut members = Members::read(body, "the body")?;
    let known = address.members();
    let outgoing = address.message(&mut members, max_message)?;
    members.nothing_else(known)?;
    Ok(outgoing)
}

/// What a message that was taken is answered.
#[derive(Serialize)]
struct Accepted {
    accepted: bool,
    /// Milliseconds since the Unix epoch.
    timestamp: u64,
}

/// To the broker, and its answer to the caller.
pub async fn hand_on<N: Node>(node: &N, outgoing: Outgoing) -> Result<Answer, Problem> {
    let timestamp = outgoing.message.timestamp;
    let Outgoing { channel, message } = outgoing;
    node.publish(channel, message)
        .await
        .map_err(|error| refused(&error))?;
    Ok(Answer::ok(&Accepted {
        accepted: true,
        timestamp,
    }))
}

/// What the broker did not take.
pub fn refused(error: &PublishError) -> Problem {
    let (status, code) = match error {
        PublishError::Unavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        // Not 503: a client that simply tries again may deliver twice.
        PublishError::Unanswered { .. } => (StatusCode::GATEWAY_TIMEOUT, "unanswered"),
    };
    Problem::new(status, code, error.to_string())
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
