//! `/ws`: the opening handshake (RFC 6455 section 4.2), and the socket taken back out of HTTP.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use rustls::ServerConnection;
use serde::Deserialize;
use sha1::{Digest, Sha1};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::compression::{self, Agreed};
use super::door::{Noted, Origin};
use super::{Front, Handshaken, Node, Peer, Problem, bearer, now};
use crate::auth::{Identity, TokenError};
use crate::engine::command::Arrival;
use crate::limits::{Permit, Share};
use crate::protocol::deflate::Window;
use crate::protocol::native::SUBPROTOCOL;

/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What the answer 101 needs.
#[derive(Debug, PartialEq, Eq)]
struct Offer {
    accept: String,
    /// Whether the client asked for [`SUBPROTOCOL`] by name.
    subprotocol: bool,
    compression: Option<Agreed>,
}

#[derive(Deserialize)]
struct Parameters {
    token: Option<String>,
}

/// The route.
pub async fn handle<N: Node>(State(front): State<Arc<Front<N>>>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    match admit(&front, &mut parts).await {
        Ok(Admitted {
            offer,
            guest,
            upgrade,
        }) => {
            let deflate = offer.compression.map(|agreed| agreed.window);
            tokio::spawn(hand_over(front, upgrade, deflate, guest));
            switch(&offer)
        }
        Err(problem) => refuse(problem),
    }
}

struct Admitted {
    offer: Offer,
    guest: Guest,
    upgrade: OnUpgrade,
}

/// Who comes in, and the places that it takes.
#[derive(Default)]
struct Guest {
    identity: Option<Identity>,
    place: Option<Permit>,
    share: Share,
    self_test: bool,
}

async fn admit<N: Node>(front: &Front<N>, parts: &mut Parts) -> Result<Admitted, Problem> {
    let mut offer = read_offer(&parts.method, &parts.headers)?;
    let running = front.running();
    if running.config.compression.enabled {
        offer.compression = compression::agree(&parts.headers);
    }
    check_origin(&parts.headers, &running.config.listen.allowed_origins)?;
    let guest = if front.secret.is_in(&parts.headers) {
        Guest {
            self_test: true,
            ..Guest::default()
        }
    } else {
        greet(front, parts).await?
    };
    let upgrade = parts.extensions.remove::<OnUpgrade>().ok_or_else(|| {
        Problem::new(
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "bad_handshake",
            "not HTTP/1.1",
        )
    })?;
    Ok(Admitted {
        offer,
        guest,
        upgrade,
    })
}

/// Who it is, and whether there is room.
async fn greet<N: Node>(front: &Front<N>, parts: &Parts) -> Result<Guest, Problem> {
    if front.draining.load(Ordering::Relaxed) {
        return Err(unavailable("this gateway is ending; another one takes you"));
    }
    front.door.has_memory()?;
    front.door.pace()?;
    let identity = match token(parts)? {
        Some(token) => Some(identify(front, &token).await?),
        // May still say who it is, in its first message.
        None => None,
    };
    let place = front.door.place(|| front.node.connections())?;
    let peer = parts.extensions.get().map(|Peer(address)| *address);
    let running = front.running();
    let from = Origin {
        peer,
        trusted: &running.trusted_proxies,
        noted: match running.rules.registers {
            true => Noted::Forwarded,
            false => Noted::Never,
        },
    };
    let share = front
        .door
        .share(&from, &parts.headers, identity.as_ref())
        .await?;
    Ok(Guest {
        identity,
        place: Some(place),
        share,
        self_test: false,
    })
}

/// Waits for newer keys when the token names one that is not known: after a rotation the first client that comes with
/// it must not be sent away.
pub(super) async fn identify<N: Node>(front: &Front<N>, token: &str) -> Result<Identity, Problem> {
    // Asked anew each time: while newer keys are waited for, who may come in may have changed.
    let rules = || front.running().rules.clone();
    let verify = || rules().verifier.verify(token, now().as_secs());
    let mut verified = verify();
    if verified.as_ref().is_err_and(TokenError::wants_keys) && rules().keys.ask().await {
        verified = verify();
    }
    verified.map_err(|error| {
        rules().keys.refused(&error);
        match error {
            TokenError::NoKeyYet => unavailable(&error.to_string()),
            _ => Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", error.to_string()),
        }
    })
}

pub(super) fn unavailable(message: &str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
}

/// Reads the client's side of the handshake (RFC 6455 section 4.2.1).
fn read_offer(method: &Method, headers: &HeaderMap) -> Result<Offer, Problem> {
    let bad = |message: &str| Problem::new(StatusCode::BAD_REQUEST, "bad_handshake", message);
    if *method != Method::GET {
        let message = "a WebSocket handshake is a GET";
        return Err(Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "bad_method",
            message,
        ));
    }
    if !has_token(headers, header::UPGRADE, "websocket")
        || !has_token(headers, header::CONNECTION, "upgrade")
    {
        let message =
            "this path speaks WebSocket: send `Connection: Upgrade` and `Upgrade: websocket`";
        return Err(Problem::new(
            StatusCode::UPGRADE_REQUIRED,
            "upgrade_required",
            message,
        ));
    }
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        let message = "the only WebSocket version here is 13";
        return Err(Problem::new(
            StatusCode::UPGRADE_REQUIRED,
            "bad_version",
            message,
        ));
    }
    let has_length = headers
        .get(header::CONTENT_LENGTH)
        .is_some_and(|length| length != "0");
    if has_length || headers.contains_key(header::TRANSFER_ENCODING) {
        // What a proxy takes for that body would be read as frames here.
        return Err(bad("a WebSocket handshake has no body"));
    }
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    let key = match (keys.next(), keys.next()) {
        (Some(key), None) => key.as_bytes(),
        _ => return Err(bad("there must be one Sec-WebSocket-Key")),
    };
    if STANDARD.decode(key).map_or(0, |nonce| nonce.len()) != 16 {
        return Err(bad("Sec-WebSocket-Key must be 16 bytes in base64"));
    }
    let offered = tokens(headers, header::SEC_WEBSOCKET_PROTOCOL).count();
    // Exactly as written: subprotocols are case-sensitive.
    let subprotocol = tokens(headers, header::SEC_WEBSOCKET_PROTOCOL).any(|t| t == SUBPROTOCOL);
    if offered > 0 && !subprotocol {
        // An answer without one would make a browser fail the connection without saying why.
        return Err(bad(&format!("the only subprotocol here is {SUBPROTOCOL}")));
    }
    let accept = STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize());
    Ok(Offer {
        accept,
        subprotocol,
        compression: None,
    })
}

/// The elements of a comma-separated header that may be there more than once (RFC 9110 section 5.6.1).
fn tokens(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

fn has_token(headers: &HeaderMap, name: header::HeaderName, wanted: &str) -> bool {
    tokens(headers, name).any(|token| token.eq_ignore_ascii_case(wanted))
}

/// `listen.allowedOrigins`. A client without `Origin` is no browser, and nobody's cookies are at stake.
pub(super) fn check_origin(headers: &HeaderMap, allowed: &[String]) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    if allowed.is_empty() || allowed.iter().any(|known| origin == known.as_str()) {
        return Ok(());
    }
    let message = "this Origin is not in listen.allowedOrigins";
    Err(Problem::new(StatusCode::FORBIDDEN, "bad_origin", message))
}

/// From the header, or from `?token=` for browsers, which cannot set one.
fn token(parts: &Parts) -> Result<Option<String>, Problem> {
    if let Some(token) = bearer(&parts.headers) {
        return Ok(Some(token.to_owned()));
    }
    let bad = |_| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "bad_handshake",
            "the query cannot be read",
        )
    };
    let Query(Parameters { token }) = Query::try_from_uri(&parts.uri).map_err(bad)?;
    Ok(token.filter(|token| !token.is_empty()))
}

fn switch(offer: &Offer) -> Response {
    let mut response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, &offer.accept);
    if offer.subprotocol {
        response = response.header(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
    }
    if let Some(agreed) = &offer.compression {
        response = response.header(header::SEC_WEBSOCKET_EXTENSIONS, agreed.to_string());
    }
    response
        .body(Body::empty())
        .expect("base64 and constants are valid header values")
}

fn refuse(problem: Problem) -> Response {
    let upgrade_required = problem.status == StatusCode::UPGRADE_REQUIRED;
    let mut response = problem.into_response();
    let headers = response.headers_mut();
    if upgrade_required {
        // RFC 9110 section 15.5.22 and RFC 6455 section 4.4 want both.
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        );
    }
    response
}

/// Waits until the 101 is written, and takes the socket out of hyper.
async fn hand_over<N: Node>(
    front: Arc<Front<N>>,
    upgrade: OnUpgrade,
    deflate: Option<Window>,
    Guest {
        identity,
        place,
        share,
        self_test,
    }: Guest,
) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(e) => return tracing::debug!("handshake ended before its answer: {e}"),
    };
    let (socket, tls, leftover) = take_apart(upgraded);
    match socket.into_std() {
        Ok(socket) => {
            front
                .node
                .adopt(Handshaken {
                    arrival: Arrival {
                        socket,
                        tls,
                        leftover,
                        identity,
                        share,
                        turned_away: (!self_test).then(|| front.door.turns_away()).flatten(),
                        deflate,
                        self_test,
                    },
                    place,
                })
                .await;
        }
        Err(e) => tracing::debug!("take a socket out of the runtime: {e}"),
    }
}

/// The socket, the TLS on it, and what the client sent after its request.
fn take_apart(upgraded: Upgraded) -> (TcpStream, Option<Box<ServerConnection>>, Bytes) {
    let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => return (parts.io.into_inner(), None, parts.read_buf),
        Err(upgraded) => upgraded,
    };
    let parts = upgraded
        .downcast::<TokioIo<TlsStream<TcpStream>>>()
        .unwrap_or_else(|_| unreachable!("`accept` serves TCP, with TLS or without, in TokioIo"));
    let (socket, tls) = parts.io.into_inner().into_inner();
    (socket, Some(Box::new(tls)), parts.read_buf)
}

#[cfg(test)]
#[path = "upgrade_tests.rs"]
#[expect(clippy::too_many_lines, reason = "tables")]
mod tests;
