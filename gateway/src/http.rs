//! HTTP: the handshake that turns a connection into a WebSocket, the API, the page. What is behind it
//! is a [`Node`], so that this room can be tested without the others.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use futures::future::BoxFuture;
use gateway_config::Config;
use serde::Serialize;

use crate::broker::{HistoryError, PublishError};
use crate::engine::ShardEnded;
use crate::engine::census::{Page, Query};
use crate::engine::command::Arrival;
use crate::history;
use crate::limits::Permit;
use crate::message::{Message, Position};
use crate::name::ChannelName;
use crate::presence::List;
use crate::protocol::native::Refusal;
use crate::registry::{Connections, ReadError};
use crate::running::{self, Running};
use crate::self_test::Secret;
use crate::sse::Opening;
use crate::sse::outbox::Stream;
use door::Door;

pub mod accept;
pub mod admin;
pub mod answers;
pub mod api;
pub mod compression;
pub mod door;
pub mod page;
pub mod refusals;
pub mod sse;
pub mod upgrade;

/// The gateway behind HTTP.
pub trait Node: Clone + Send + Sync + 'static {
    /// To every subscriber of the channel, on all nodes.
    fn publish(
        &self,
        channel: ChannelName,
        message: Message,
    ) -> impl Future<Output = Result<Option<Position>, PublishError>> + Send + 'static;

    /// Takes over a socket whose handshake is done.
    fn adopt(&self, connection: Handshaken) -> impl Future<Output = ()> + Send + 'static;

    /// The stream of a client that reads events.
    fn open_stream(
        &self,
        opening: Opening,
    ) -> impl Future<Output = Result<Result<Stream, Refusal>, ShardEnded>> + Send + 'static;

    /// The channels that have subscribers on this node.
    fn channels(
        &self,
        query: Query,
    ) -> impl Future<Output = Result<Page, ShardEnded>> + Send + 'static;

    /// A part of the channel's log.
    fn history(
        &self,
        channel: ChannelName,
        range: history::Range,
    ) -> impl Future<Output = Result<history::Page, HistoryError>> + Send + 'static;

    /// Sockets that were taken over and are still open.
    fn connections(&self) -> u64;
}

/// Asks for the connections of a user on all nodes.
pub type Users =
    Arc<dyn Fn(String) -> BoxFuture<'static, Result<Connections, ReadError>> + Send + Sync>;

/// Asks who is in a channel on all nodes.
pub type Present =
    Arc<dyn Fn(ChannelName) -> BoxFuture<'static, Result<List, ReadError>> + Send + Sync>;

/// A socket that has become a WebSocket.
#[derive(Debug)]
pub struct Handshaken {
    pub arrival: Arrival,
    /// Its place among the handshakes, to be given back once it is counted as a connection: until then
    /// it is seen here, so the cap is never exceeded.
    pub place: Option<Permit>,
}

/// What the routes share.
pub struct Front<N> {
    pub node: N,
    pub running: running::Shared,
    pub door: Door,
    /// Whoever knows it is the gateway itself.
    pub secret: Secret,
    pub draining: Arc<std::sync::atomic::AtomicBool>,
    /// What was answered to requests with an `Idempotency-Key`.
    pub keys: Arc<api::idempotency::Keys>,
    pub answers: answers::Answers,
    pub present: Present,
    pub users: Users,
    pub refusals: refusals::Refusals,
    pub began: Instant,
}

impl<N> Front<N> {
    /// The settings of the moment; a request keeps those that it began with.
    fn running(&self) -> Arc<Running> {
        self.running.load_full()
    }

    fn caps(&self) -> Caps {
        Caps::from(&self.running.load().config)
    }
}

/// Of one request to the API.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// In bytes.
    pub message: usize,
    /// In bytes.
    pub request: usize,
    /// Messages.
    pub batch: usize,
    /// Of one connection.
    pub channels: usize,
    /// For the body.
    pub patience: Duration,
}

impl From<&Config> for Caps {
    fn from(config: &Config) -> Caps {
        let limits = &config.limits;
        Caps {
            message: limits.max_message_bytes as usize,
            request: limits.max_request_bytes as usize,
            batch: config.api.max_batch_messages as usize,
            channels: limits.max_channels_per_connection as usize,
            patience: Duration::from_secs(limits.handshake_timeout_seconds.into()),
        }
    }
}

/// Everything that the client port answers.
pub fn routes<N: Node>(front: Front<N>) -> Router {
    let refusals = front.refusals.clone();
    Router::new()
        .route("/ws", any(upgrade::handle::<N>))
        .route("/sse", any(sse::handle::<N>))
        .merge(api::routes::<N>(front.answers.clone()))
        .route("/", get(page::page::<N>))
        .fallback(|| async { no_such_path() })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "bad_method",
                "wrong method for this path",
            )
        })
        .layer(middleware::from_fn_with_state(refusals, refusals::count))
        .with_state(Arc::new(front))
}

fn no_such_path() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", "no such path")
}

/// The body of every refusal: `{"error":{"code","message","field"?}}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub status: StatusCode,
    /// Stable, for programs.
    pub code: &'static str,
    /// For people: begins with what failed.
    pub message: String,
    /// The member of the body that is wrong.
    pub field: Option<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    error: Inner<'a>,
}

/// What went wrong, as JSON says it.
#[derive(Serialize)]
pub struct Inner<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Problem {
        Problem {
            status,
            code,
            message: message.into(),
            field: None,
        }
    }

    pub fn field(name: &str, message: impl Into<String>) -> Problem {
        let field = Some(name.to_owned());
        let message = message.into();
        Problem {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            code: "bad_field",
            message,
            field,
        }
    }
}

impl Problem {
    fn inner(&self) -> Inner<'_> {
        Inner {
            code: self.code,
            message: &self.message,
            field: self.field.as_deref(),
        }
    }

    fn body(&self) -> Vec<u8> {
        let error = self.inner();
        serde_json::to_vec(&Body { error }).expect("texts always serialise")
    }
}

/// What a client that was refused for now waits, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = api::Answer::of(&self).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, RETRY_AFTER);
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

/// The TCP peer of a request; `accept` puts it there.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// The token of `Authorization: Bearer` (RFC 6750 section 2.1).
fn bearer(headers: &axum::http::HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Since the Unix epoch.
fn now() -> Duration {
    // Before 1970 nothing here works; 0 makes every token "not yet", which is the safe side.
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}
