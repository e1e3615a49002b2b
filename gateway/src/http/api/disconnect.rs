//! Closing a user's or a connection's sockets, on whichever nodes they are.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::value::RawValue;

use super::access::authorise;
use super::publish::{Address, Outgoing, connection_id, hand_on};
use super::request::Parameters;
use super::segment;
use crate::http::{Front, Node, Problem, now};
use crate::message::{ConnectionId, Message, MessageKind};

/// `DELETE /api/users/{user}/connections`.
pub async fn user<N: Node>(
    State(front): State<Arc<Front<N>>>,
    user: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    authorise(&headers, &front.running().access)?;
    let address = Address::user(&segment("user", user)?)?;
    let mut parameters = Parameters::read(&uri)?;
    let except = match parameters.take("exclude")? {
        Some(id) => Some(connection_id("exclude", &id)?),
        None => None,
    };
    parameters.nothing_else(&["exclude"])?;
    let order = order(address, except);
    Ok(hand_on(&front.node, order).await?.into_response())
}

/// `DELETE /api/connections/{connection}`.
pub async fn connection<N: Node>(
    State(front): State<Arc<Front<N>>>,
    connection: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    authorise(&headers, &front.running().access)?;
    let address = Address::connection(&segment("connection", connection)?)?;
    let order = order(address, None);
    Ok(hand_on(&front.node, order).await?.into_response())
}

/// It travels as a message does, so it comes after what was sent to the same user before it.
fn order(address: Address, except: Option<ConnectionId>) -> Outgoing {
    let message = Message {
        kind: MessageKind::Disconnect,
        data: Arc::from(RawValue::NULL.to_owned()),
        from: None,
        timestamp: u64::try_from(now().as_millis()).unwrap_or(u64::MAX),
        except,
        only: address.only,
    };
    Outgoing {
        channel: address.channel,
        message,
    }
}
