//! A user's connections.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::access::authorise;
use super::publish::Address;
use super::request::Parameters;
use super::{Answer, segment};
use crate::http::{Front, Node, Problem};
use crate::registry::{Connections, Listed, ReadError};

#[derive(Serialize)]
struct Found<'a> {
    node: &'a str,
    user: &'a str,
    connections: Vec<Listed>,
    /// Also those that are not named.
    total: u64,
}

/// `GET /api/users/{user}/connections`.
pub async fn connections<N: Node>(
    State(front): State<Arc<Front<N>>>,
    user: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let running = front.running();
    authorise(&headers, &running.access)?;
    let user = segment("user", user)?;
    Address::user(&user)?;
    Parameters::read(&uri)?.nothing_else(&[])?;
    let read = (front.users)(user.clone()).await;
    let Connections { named, total } = read.map_err(|e| unread(&user, &e))?;
    let found = Found {
        node: &running.rules.node,
        user: &user,
        connections: named,
        total,
    };
    Ok(Answer::ok(&found).into_response())
}

/// The caller is told without the cause, which may name hosts.
fn unread(user: &str, error: &ReadError) -> Problem {
    tracing::warn!("{error}");
    let message =
        format!("connections of {user} not read: the broker is not reachable; try again later");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
}
