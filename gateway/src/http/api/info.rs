//! What this node is.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Answer;
use super::access::authorise;
use crate::http::{Front, Node, Problem};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Info<'a> {
    node: &'a str,
    version: &'a str,
    /// Clients on this node.
    connections: u64,
    uptime_seconds: u64,
}

/// `GET /api/info`.
pub async fn info<N: Node>(
    State(front): State<Arc<Front<N>>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    authorise(&headers, &front.running().access)?;
    let running = front.running();
    let info = Info {
        node: &running.rules.node,
        version: daemon::version(),
        connections: front.node.connections(),
        uptime_seconds: front.began.elapsed().as_secs(),
    };
    Ok(Answer::ok(&info).into_response())
}
