//! `/sse`: a stream of events for clients that only listen (WHATWG HTML section 9.2).
//!
//! ```text
//! GET /sse?channel=news&channel=room:lobby[&token=…]   → 200 text/event-stream
//! ```
//! Who may come in is decided as for a WebSocket, and what an `EventSource` cannot do by itself is refused before the
//! stream begins: it has no second chance to say who it is.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::api::request::Parameters;
use super::door::{Noted, Origin};
use super::upgrade::{check_origin, identify, unavailable};
use super::{Front, Node, Peer, Problem, bearer};
use crate::auth::Identity;
use crate::name::ChannelName;
use crate::protocol::native::{ErrorCode, Refusal};
use crate::session;
use crate::sse::outbox::Stream;
use crate::sse::{Line, Opening};

/// The route.
pub async fn handle<N: Node>(State(front): State<Arc<Front<N>>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    if parts.method != Method::GET {
        let message = "an event stream is a GET";
        let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "bad_method", message);
        return ([(header::ALLOW, "GET")], problem).into_response();
    }
    if let Err(problem) = check_origin(
        &parts.headers,
        &front.running().config.listen.allowed_origins,
    ) {
        return problem.into_response();
    }
    let mut response = match open(&front, &parts).await {
        Ok(stream) => answer(stream),
        Err(problem) => problem.into_response(),
    };
    allow_origin(&parts.headers, response.headers_mut());
    response
}

async fn open<N: Node>(front: &Front<N>, parts: &Parts) -> Result<Stream, Problem> {
    if front.draining.load(Ordering::Relaxed) {
        return Err(unavailable("this gateway is ending; another one takes you"));
    }
    front.door.has_memory()?;
    front.door.pace()?;
    let mut parameters = Parameters::read(&parts.uri)?;
    let in_query = parameters.take("token")?.filter(|token| !token.is_empty());
    let token = bearer(&parts.headers).map(str::to_owned).or(in_query);
    let mut channels = channels(parameters.all("channel"))?;
    parameters.nothing_else(&["channel", "token"])?;
    let running = front.running();
    let identity = match token {
        Some(token) => Some(identify(front, &token).await?),
        None if running.rules.verifier.anonymous() => None,
        None => {
            let message = "a token is needed: Authorization: Bearer <token> or ?token=";
            let status = StatusCode::UNAUTHORIZED;
            return Err(Problem::new(status, "unauthorized", message));
        }
    };
    if let Some(identity) = &identity {
        with_named(&mut channels, identity)?;
    }
    let place = front.door.place(|| front.node.connections())?;
    let peer = parts.extensions.get().map(|Peer(address)| *address);
    let from = Origin {
        peer,
        trusted: &running.trusted_proxies,
        noted: Noted::Always,
    };
    let share = front
        .door
        .share(&from, &parts.headers, identity.as_ref())
        .await?;
    let line = parts.extensions.get::<Arc<Line>>().cloned();
    let opening = Opening {
        identity,
        channels,
        last_id: last_id(&parts.headers),
        place,
        share,
        line: line.expect("`accept` gives every request its line"),
    };
    let opened = front.node.open_stream(opening).await;
    let opened =
        opened.map_err(|_| unavailable("this gateway is ending; another one takes you"))?;
    opened.map_err(refused)
}

/// Each once, in their order.
fn channels(names: Vec<String>) -> Result<Vec<ChannelName>, Problem> {
    let mut channels = Vec::with_capacity(names.len());
    for name in names {
        let channel = ChannelName::parse(&name)
            .map_err(|e| Problem::field("channel", format!("the channel name {e}")))?;
        if !channels.contains(&channel) {
            channels.push(channel);
        }
    }
    Ok(channels)
}

/// After what the request asks for, what the token names: the order is the same when the client comes back.
fn with_named(channels: &mut Vec<ChannelName>, identity: &Identity) -> Result<(), Problem> {
    for name in identity.grants.iter().flat_map(|g| g.auto_subscribe()) {
        let channel = session::named(name).map_err(refused)?;
        if !channels.contains(&channel) {
            channels.push(channel);
        }
    }
    Ok(())
}

fn last_id(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("last-event-id")?;
    Some(value.to_str().unwrap_or_default().to_owned())
}

fn refused(refusal: Refusal) -> Problem {
    let (status, code) = match refusal.code {
        ErrorCode::TooManyChannels => (StatusCode::UNPROCESSABLE_ENTITY, "too_many_channels"),
        ErrorCode::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
        _ => (StatusCode::FORBIDDEN, "denied"),
    };
    Problem {
        status,
        code,
        ..Problem::field("channel", refusal.message)
    }
}

fn answer(stream: Stream) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // It has left its place among those that may ask again.
        (header::CONNECTION, "close"),
        // For nginx, which would collect events before it sends them on.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(stream)).into_response()
}

/// A page of an origin that may connect may read what it gets, as it may on a WebSocket.
fn allow_origin(request: &HeaderMap, response: &mut HeaderMap) {
    if let Some(origin) = request.get(header::ORIGIN) {
        response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        response.insert(header::VARY, HeaderValue::from_static("origin"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_as_they_are_asked_for() {
        let long = "x".repeat(256);
        for (names, expected) in [
            (&[][..], Some("")),
            (&["b", "a", "b"], Some("b a")),
            (&["room:x", "user:ann"], Some("room:x user:ann")),
            (&["a", ""], None),
            (&[&long], None),
            (&["a\nb"], None),
        ] {
            let found = channels(names.iter().map(|name| (*name).to_owned()).collect());
            let found = found.map(|channels| {
                let names: Vec<_> = channels.iter().map(ChannelName::as_str).collect();
                names.join(" ")
            });
            assert_eq!(found.ok().as_deref(), expected, "{names:?}");
        }
    }
}
