//! Subscribing a user's connections to channels, and unsubscribing them, on whichever nodes they are.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::value::{RawValue, to_raw_value};

use super::idempotency::once;
use super::publish::{Address, Outgoing, hand_on};
use super::request::{Asked, Members};
use crate::http::{Front, Node, Problem, now};
use crate::message::{Message, MessageKind};
use crate::name::ChannelName;
use crate::session::may_be_given;

/// `POST /api/subscribe`.
pub async fn subscribe<N: Node>(
    State(front): State<Arc<Front<N>>>,
    request: Request,
) -> Result<Response, Problem> {
    order(front, request, MessageKind::Subscribe).await
}

/// `POST /api/unsubscribe`.
pub async fn unsubscribe<N: Node>(
    State(front): State<Arc<Front<N>>>,
    request: Request,
) -> Result<Response, Problem> {
    order(front, request, MessageKind::Unsubscribe).await
}

/// It travels as a message to the user does, so that each node with a connection of the user gets it, and in the order
/// of the calls.
async fn order<N: Node>(
    front: Arc<Front<N>>,
    request: Request,
    kind: MessageKind,
) -> Result<Response, Problem> {
    let asked = Asked::read(&front, request).await?;
    once(front, asked, |front, body| async move {
        let outgoing = outgoing(&body, front.caps().channels, kind)?;
        hand_on(&front.node, outgoing).await
    })
    .await
}

/// `max`: channels. A connection has no more, so more of them would be refused one by one.
fn outgoing(body: &[u8], max: usize, kind: MessageKind) -> Result<Outgoing, Problem> {
    let mut members = Members::read(body, "the body")?;
    let address = Address::user(&members.text("user")?)?;
    let items = members.items("channels", max)?;
    members.nothing_else(&["user", "channels"])?;
    if items.count == 0 {
        return Err(Problem::field("channels", "channels is empty"));
    }
    if items.count > max {
        let message = format!(
            "channels has {} names, and a connection has at most {max}",
            items.count
        );
        return Err(Problem {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            code: "too_many",
            ..Problem::field("channels", message)
        });
    }
    let named = items.kept.iter().enumerate();
    let channels: Vec<ChannelName> = named
        .map(|(index, item)| channel(index, item))
        .collect::<Result<_, _>>()?;
    let message = Message {
        kind,
        data: to_raw_value(&channels).expect("names are texts").into(),
        from: None,
        timestamp: u64::try_from(now().as_millis()).unwrap_or(u64::MAX),
        except: None,
        only: None,
    };
    Ok(Outgoing {
        channel: address.channel,
        message,
    })
}

fn channel(index: usize, item: &RawValue) -> Result<ChannelName, Problem> {
    let field = format!("channels[{index}]");
    let wrong = |what: String| Problem::field(&field, format!("{field}{what}"));
    let name: String =
        serde_json::from_str(item.get()).map_err(|_| wrong(" must be a text".to_owned()))?;
    let channel =
        ChannelName::parse(&name).map_err(|e| wrong(format!(": the channel name {e}")))?;
    if may_be_given(&channel) {
        return Ok(channel);
    }
    Err(wrong(format!(
        ": {name:?} is a user's own or the gateway's, and cannot be given"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked() {
        for (body, expected) in [
            (
                r#"{"user":"ann","channels":["news","room:a"]}"#,
                Ok(("user:ann", r#"["news","room:a"]"#)),
            ),
            (
                r#"{"user":"ann","channels":["system:notifications"]}"#,
                Ok(("user:ann", r#"["system:notifications"]"#)),
            ),
            ("[]", Err(("", 400))),
            (r#"{"channels":["a"]}"#, Err(("user", 422))),
            (r#"{"user":7,"channels":["a"]}"#, Err(("user", 422))),
            (r#"{"user":"","channels":["a"]}"#, Err(("user", 422))),
            (r#"{"user":"~n.1","channels":["a"]}"#, Err(("user", 422))),
            (r#"{"user":"ann"}"#, Err(("channels", 422))),
            (r#"{"user":"ann","channels":[]}"#, Err(("channels", 422))),
            (r#"{"user":"ann","channels":"a"}"#, Err(("channels", 422))),
            (
                r#"{"user":"ann","channels":["a","b","c"]}"#,
                Err(("channels", 413)),
            ),
            (
                r#"{"user":"ann","channels":["a",7]}"#,
                Err(("channels[1]", 422)),
            ),
            (
                r#"{"user":"ann","channels":[""]}"#,
                Err(("channels[0]", 422)),
            ),
            (
                r#"{"user":"ann","channels":["user:bob"]}"#,
                Err(("channels[0]", 422)),
            ),
            (
                r#"{"user":"ann","channels":["broadcast"]}"#,
                Err(("channels[0]", 422)),
            ),
            (
                r#"{"user":"ann","channels":["node:gw-0"]}"#,
                Err(("channels[0]", 422)),
            ),
            (
                r#"{"user":"ann","channels":["a"],"channel":"b"}"#,
                Err(("channel", 422)),
            ),
        ] {
            let found = outgoing(body.as_bytes(), 2, MessageKind::Subscribe);
            let found = match &found {
                Ok(outgoing) => Ok((outgoing.channel.as_str(), outgoing.message.data.get())),
                Err(problem) => Err((
                    problem.field.as_deref().unwrap_or(""),
                    problem.status.as_u16(),
                )),
            };
            assert_eq!(found, expected, "{body}");
        }
    }
}
