//! The HTTP API: publish from a backend.
//!
//! ```text
//! POST /api/publish   {"channel": "news", "data": {…}, "exclude"?: "~node.1"}  → 200 {"accepted":true,"timestamp":…}
//! POST /api/broadcast {"data": {…}, "exclude"?: "~node.1"}                     → the same
//! ```
//! The key comes as `Authorization: Bearer <key>` or `X-API-Key: <key>`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use subtle::ConstantTimeEq;

use super::{Front, Node, Problem, bearer, now};
use crate::broker::PublishError;
use crate::config::ApiAccess;
use crate::message::{ConnectionId, Message, MessageKind};
use crate::name::{ChannelKind, ChannelName};

/// `POST /api/publish`.
pub async fn publish<N: Node>(
    State(front): State<Arc<Front<N>>>,
    request: Request,
) -> Result<Response, Problem> {
    let body = authorised_body(&front, request).await?;
    let mut members = Members::read(&body)?;
    let channel = channel(&members.text("channel")?)?;
    let message = members.message(&channel, front.max_message)?;
    members.nothing_else(&["channel", "data", "exclude"])?;
    accept(&front, channel, message).await
}

/// `POST /api/broadcast`.
pub async fn broadcast<N: Node>(
    State(front): State<Arc<Front<N>>>,
    request: Request,
) -> Result<Response, Problem> {
    let body = authorised_body(&front, request).await?;
    let mut members = Members::read(&body)?;
    let channel = ChannelName::broadcast();
    let message = members.message(&channel, front.max_message)?;
    members.nothing_else(&["data", "exclude"])?;
    accept(&front, channel, message).await
}

async fn accept<N: Node>(
    front: &Front<N>,
    channel: ChannelName,
    message: Message,
) -> Result<Response, Problem> {
    let timestamp = message.timestamp;
    match front.node.publish(channel, message).await {
        Ok(()) => {
            let body = serde_json::json!({"accepted": true, "timestamp": timestamp});
            Ok(axum::Json(body).into_response())
        }
        Err(e @ PublishError::Unavailable { .. }) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            e.to_string(),
        )),
        // Not 503: a client that simply tries again may deliver twice.
        Err(e @ PublishError::Unanswered { .. }) => Err(Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "unanswered",
            e.to_string(),
        )),
    }
}

/// Checks who asks before reading what: a stranger's megabytes are not even received.
async fn authorised_body<N: Node>(
    front: &Front<N>,
    request: Request,
) -> Result<bytes::Bytes, Problem> {
    let (parts, body) = request.into_parts();
    authorise(&parts.headers, &front.access)?;
    let json = parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    if json.is_none_or(|kind| kind.split(';').next() != Some("application/json")) {
        let message = "the body must be Content-Type: application/json";
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "bad_content_type",
            message,
        ));
    }
    match tokio::time::timeout(front.patience, to_bytes(body, front.max_request)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(e)) if is_too_long(&e) => {
            let message = format!("the body is longer than {} bytes", front.max_request);
            Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_big",
                message,
            ))
        }
        Ok(Err(e)) => {
            let message = format!("the body cannot be read: {e}");
            Err(Problem::new(StatusCode::BAD_REQUEST, "bad_body", message))
        }
        Err(_) => {
            let message = "the body did not come in time";
            Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "too_slow",
                message,
            ))
        }
    }
}

fn is_too_long(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Whether the request comes with an API key, where that is needed.
pub(super) fn authorise(headers: &HeaderMap, access: &ApiAccess) -> Result<(), Problem> {
    let refused = |message: &str| {
        Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            message,
        ))
    };
    match access {
        ApiAccess::Off => refused("the API is off: set api.keyFile"),
        // A browser adds `Host` itself: a page of a stranger that had its name resolve to this machine
        // ("DNS rebinding") cannot pretend to be local.
        ApiAccess::Loopback if is_local(headers) => Ok(()),
        ApiAccess::Loopback => refused("without api.keyFile the API answers to localhost only"),
        ApiAccess::Keys(keys) => {
            let own = headers.get("x-api-key").map(|value| value.as_bytes());
            let given = own
                .or_else(|| bearer(headers).map(str::as_bytes))
                .unwrap_or_default();
            // Every key is compared to its end, so that the time tells nothing about any of them.
            let matches = keys.iter().fold(subtle::Choice::from(0), |found, key| {
                found | key[..].ct_eq(given)
            });
            if bool::from(matches) {
                Ok(())
            } else {
                refused("the API key is missing or wrong")
            }
        }
    }
}

fn is_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers
        .get(header::HOST)
        .and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    matches!(
        name.map_or(host, |(name, _)| name),
        "localhost" | "127.0.0.1" | "[::1]"
    )
}

fn channel(name: &str) -> Result<ChannelName, Problem> {
    let channel = ChannelName::parse(name)
        .map_err(|e| Problem::field("channel", format!("the channel name {e}")))?;
    if matches!(channel.kind(), ChannelKind::Node(_)) {
        let message =
            format!("publish to {name:?}: names that begin with node: are the gateway's own");
        return Err(Problem::field("channel", message));
    }
    Ok(channel)
}

/// The members of a JSON object, each as it was written.
struct Members<'a>(BTreeMap<Cow<'a, str>, &'a RawValue>);

impl<'a> Members<'a> {
    fn read(body: &'a [u8]) -> Result<Self, Problem> {
        serde_json::from_slice(body).map(Members).map_err(|e| {
            let message = format!("the body is not a JSON object: {e}");
            Problem::new(StatusCode::BAD_REQUEST, "bad_json", message)
        })
    }

    fn text(&mut self, name: &str) -> Result<String, Problem> {
        self.optional(name, "a text")?
            .ok_or_else(|| Problem::field(name, format!("{name} is missing")))
    }

    fn optional<T: DeserializeOwned>(
        &mut self,
        name: &str,
        wanted: &str,
    ) -> Result<Option<T>, Problem> {
        let Some(json) = self.0.remove(name) else {
            return Ok(None);
        };
        serde_json::from_str(json.get())
            .map(Some)
            .map_err(|_| Problem::field(name, format!("{name} must be {wanted}")))
    }

    fn message(&mut self, channel: &ChannelName, max: usize) -> Result<Message, Problem> {
        let data = self
            .0
            .remove("data")
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
        let except = match self.optional::<String>("exclude", "a text")? {
            None => None,
            Some(id) => Some(ConnectionId::parse(&id).ok_or_else(|| {
                Problem::field("exclude", format!("exclude: {id:?} is not a connection"))
            })?),
        };
        Ok(Message {
            kind: MessageKind::of(channel),
            data: Arc::from(data.to_owned()),
            from: None,
            timestamp: u64::try_from(now().as_millis()).unwrap_or(u64::MAX),
            except,
            only: None,
        })
    }

    /// A member that is not known is a mistake: `"exlude"` would otherwise send to whom it should not.
    fn nothing_else(&self, known: &[&str]) -> Result<(), Problem> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => {
                let message = format!("{name:?} is not known here; known: {}", known.join(", "));
                Err(Problem::field(name, message))
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::too_many_lines, reason = "tables")]
mod tests {
    use super::*;

    #[test]
    fn keys_and_hosts() {
        let keys = ApiAccess::Keys(vec![b"first-key".to_vec(), b"second".to_vec()]);
        for (what, access, header, good) in [
            ("first", &keys, ("x-api-key", "first-key"), true),
            ("second", &keys, ("authorization", "Bearer second"), true),
            ("none", &keys, ("host", "localhost"), false),
            ("empty", &keys, ("x-api-key", ""), false),
            ("prefix", &keys, ("x-api-key", "first"), false),
            ("longer", &keys, ("x-api-key", "first-key2"), false),
            (
                "local",
                &ApiAccess::Loopback,
                ("host", "localhost:8080"),
                true,
            ),
            (
                "local v4",
                &ApiAccess::Loopback,
                ("host", "127.0.0.1"),
                true,
            ),
            (
                "local v6",
                &ApiAccess::Loopback,
                ("host", "[::1]:8080"),
                true,
            ),
            (
                "rebound",
                &ApiAccess::Loopback,
                ("host", "evil.example:8080"),
                false,
            ),
            ("no host", &ApiAccess::Loopback, ("x", "y"), false),
            ("off", &ApiAccess::Off, ("host", "localhost"), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header.0, header.1.parse().unwrap());
            assert_eq!(authorise(&headers, access).is_ok(), good, "{what}");
        }
    }

    #[test]
    fn bodies() {
        let read = |body: &str| -> Result<Message, Problem> {
            let mut members = Members::read(body.as_bytes())?;
            let channel = channel(&members.text("channel")?)?;
            let message = members.message(&channel, 20)?;
            members.nothing_else(&["channel", "data", "exclude"])?;
            Ok(message)
        };
        for (body, field, status, message) in [
            (
                "",
                "",
                400,
                "the body is not a JSON object: EOF while parsing a value at line 1 column 0",
            ),
            (
                "[1]",
                "",
                400,
                "the body is not a JSON object: invalid type: sequence, expected a map at line 1 column 0",
            ),
            ("{}", "channel", 422, "channel is missing"),
            (
                r#"{"channel":5,"data":1}"#,
                "channel",
                422,
                "channel must be a text",
            ),
            (
                r#"{"channel":"","data":1}"#,
                "channel",
                422,
                "the channel name is empty",
            ),
            (
                r#"{"channel":"node:a","data":1}"#,
                "channel",
                422,
                "publish to \"node:a\": names that begin with node: are the gateway's own",
            ),
            (r#"{"channel":"a"}"#, "data", 422, "data is missing"),
            (
                r#"{"channel":"a","data":"123456789012345678901"}"#,
                "data",
                413,
                "data is longer than 20 bytes",
            ),
            (
                r#"{"channel":"a","data":1,"exclude":"ann"}"#,
                "exclude",
                422,
                "exclude: \"ann\" is not a connection",
            ),
            (
                r#"{"channel":"a","data":1,"exlude":"~n.1"}"#,
                "exlude",
                422,
                "\"exlude\" is not known here; known: channel, data, exclude",
            ),
        ] {
            let problem = read(body).unwrap_err();
            assert_eq!(
                (
                    problem.field.as_deref().unwrap_or(""),
                    problem.status.as_u16(),
                    &*problem.message
                ),
                (field, status, message),
                "{body}"
            );
        }
        let message = read(r#"{"channel":"room:a","data": {"x": 1 },"exclude":"~n.a"}"#).unwrap();
        assert_eq!(message.data.get(), r#"{"x": 1 }"#, "as it was written");
        assert_eq!(message.kind, MessageKind::Room);
        assert_eq!(message.except.unwrap().as_str(), "~n.a");
        assert_eq!(
            read(r#"{"channel":"user:ann","data":null}"#).unwrap().kind,
            MessageKind::Private
        );
    }
}
