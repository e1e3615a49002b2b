//! What the admin port does beside answering probes: the drain, and the configuration read again.
//!
//! ```text
//! POST   /drain  {"connectionsPerSecond"?: 500, "deadlineSeconds"?: 30, "downTo"?: 4000}  → 202 where it stands
//! GET    /drain                                                         → 200 where it stands
//! DELETE /drain                                                         → 200, or 409 while the process ends
//! POST   /reload                            → 200 {"taken","needsRestart","generation","hash"}, or 422 and what is wrong
//! GET    /config                            → 200 {"generation","hash","needsRestart","refused"?,"apiKeys","redisPassword"?,"config"}
//! GET    /node                              → 200 {"version","connections","maxConnections","draining","impaired"?}
//! POST   /probe  {"round","from":["node"],"seconds"}                    → 200 {"heard":["node"],"failed"?}
//! ```
//! Where it stands: `{"draining","connections","connectionsPerSecond"?,"secondsLeft"?,"downTo"?}`. A `POST` while it drains changes
//! the pace. Changing anything takes an API key, as publishing does: the port is open to the whole cluster. So does
//! looking at the configuration, which names files and hosts.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::Problem;
use super::api::access::authorise;
use crate::broker::{Broker, Health};
use crate::drain::{Asked, Drain, Progress};
use crate::reload::{Reloader, Report, Shown};
use crate::running;
use crate::self_test::{Heard, NoRound, Rounds};

/// What the routes share.
pub struct Admin<B> {
    pub drain: Drain<B>,
    pub running: running::Shared,
    pub reloader: Reloader,
    /// None: the gateway does not understand its own messages, or does not know where it listens.
    pub rounds: Option<Rounds>,
}

impl<B> Admin<B> {
    fn authorise(&self, headers: &HeaderMap) -> Result<(), Problem> {
        authorise(headers, &self.running.load().access).map(drop)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wish {
    connections_per_second: Option<u32>,
    deadline_seconds: Option<u32>,
    down_to: Option<u64>,
}

pub fn routes<B: Broker>(admin: Admin<B>) -> Router {
    Router::new()
        .route(
            "/drain",
            get(progress::<B>).post(begin::<B>).delete(take_back::<B>),
        )
        .route("/node", get(node::<B>))
        .route("/reload", post(reload::<B>))
        .route("/config", get(config::<B>))
        .route("/probe", post(probe::<B>))
        .with_state(Arc::new(admin))
}

/// What a fleet is counted by: who asks many gateways asks often.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    version: &'static str,
    connections: u64,
    /// Of the configuration in force.
    max_connections: u32,
    draining: bool,
    /// What is worth a look at the broker while messages flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    impaired: Option<String>,
}

async fn node<B: Broker>(State(admin): State<Arc<Admin<B>>>) -> Json<Node> {
    let progress = admin.drain.progress().await;
    Json(Node {
        version: daemon::version(),
        connections: progress.connections,
        max_connections: admin.running.load().config.limits.max_connections,
        draining: progress.draining,
        impaired: match admin.drain.broker().health() {
            Health::Impaired(what) => Some(what),
            Health::Delivering | Health::NotDelivering(_) => None,
        },
    })
}

async fn progress<B: Broker>(State(admin): State<Arc<Admin<B>>>) -> Json<Progress> {
    Json(admin.drain.progress().await)
}

async fn begin<B: Broker>(
    State(admin): State<Arc<Admin<B>>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    admin.authorise(&headers)?;
    let pace = admin.running.load().config.drain.connections_per_second;
    let asked = asked(&body, pace)?;
    let progress = admin.drain.begin(asked).await;
    Ok((StatusCode::ACCEPTED, Json(progress)).into_response())
}

async fn take_back<B: Broker>(
    State(admin): State<Arc<Admin<B>>>,
    headers: HeaderMap,
) -> Result<Json<Progress>, Problem> {
    admin.authorise(&headers)?;
    let progress = admin.drain.take_back().await;
    let progress =
        progress.map_err(|e| Problem::new(StatusCode::CONFLICT, "ending", e.to_string()))?;
    Ok(Json(progress))
}

async fn reload<B: Broker>(
    State(admin): State<Arc<Admin<B>>>,
    headers: HeaderMap,
) -> Result<Json<Report>, Problem> {
    admin.authorise(&headers)?;
    let report = admin.reloader.reload().await;
    report.map(Json).map_err(|error| Problem {
        status: StatusCode::UNPROCESSABLE_ENTITY,
        code: "bad_config",
        message: error.to_string(),
        field: error.key().map(str::to_owned),
    })
}

async fn config<B: Broker>(
    State(admin): State<Arc<Admin<B>>>,
    headers: HeaderMap,
) -> Result<Json<Shown>, Problem> {
    admin.authorise(&headers)?;
    Ok(Json(admin.reloader.shown().await))
}

/// Messages between nodes, in a round that was begun on each of them.
async fn probe<B: Broker>(
    State(admin): State<Arc<Admin<B>>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Heard>, Problem> {
    admin.authorise(&headers)?;
    let round = serde_json::from_slice(&body)
        .map_err(|e| Problem::new(StatusCode::BAD_REQUEST, "bad_json", format!("body: {e}")))?;
    let rounds = admin.rounds.as_ref().ok_or_else(|| {
        let message = "this gateway does not test itself";
        Problem::new(StatusCode::NOT_FOUND, "not_found", message.to_owned())
    })?;
    admin.drain.attend();
    let heard = rounds.hold(round).await.map_err(|error| {
        let (status, code) = match error {
            NoRound::Wrong(_) => (StatusCode::BAD_REQUEST, "bad_field"),
            NoRound::TooMany => (StatusCode::TOO_MANY_REQUESTS, "too_many_rounds"),
        };
        Problem::new(status, code, error.to_string())
    })?;
    Ok(Json(heard))
}

/// An empty body asks for what the configuration says, without a deadline.
fn asked(body: &[u8], connections_per_second: u32) -> Result<Asked, Problem> {
    let body = if body.is_empty() { b"{}" } else { body };
    let wish: Wish = serde_json::from_slice(body)
        .map_err(|e| Problem::new(StatusCode::BAD_REQUEST, "bad_json", format!("body: {e}")))?;
    let zero = |name: &str| Err(Problem::field(name, format!("{name}: must be at least 1")));
    match wish {
        Wish {
            connections_per_second: Some(0),
            ..
        } => zero("connectionsPerSecond"),
        Wish {
            deadline_seconds: Some(0),
            ..
        } => zero("deadlineSeconds"),
        Wish {
            connections_per_second: rate,
            deadline_seconds: deadline,
            down_to,
        } => Ok(Asked {
            connections_per_second: rate.unwrap_or(connections_per_second),
            deadline: deadline.map(|seconds| Duration::from_secs(seconds.into())),
            down_to,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_and_what_is_wrong_with_it() {
        for (body, expected) in [
            ("", Ok((500, None))),
            ("{}", Ok((500, None))),
            (r#"{"connectionsPerSecond":7}"#, Ok((7, None))),
            (r#"{"deadlineSeconds":9}"#, Ok((500, Some(9)))),
            (
                r#"{"connectionsPerSecond":0}"#,
                Err("connectionsPerSecond: must be at least 1"),
            ),
            (
                r#"{"deadlineSeconds":0}"#,
                Err("deadlineSeconds: must be at least 1"),
            ),
            (
                r#"{"deadline":9}"#,
                Err(
                    "body: unknown field `deadline`, expected one of `connectionsPerSecond`, `deadlineSeconds`, `downTo` at line 1 column 11",
                ),
            ),
            (
                "[",
                Err("body: EOF while parsing a list at line 1 column 1"),
            ),
        ] {
            let made = asked(body.as_bytes(), 500)
                .map(|a| (a.connections_per_second, a.deadline.map(|d| d.as_secs())))
                .map_err(|problem| problem.message);
            assert_eq!(made, expected.map_err(str::to_owned), "{body}");
        }
    }
}
