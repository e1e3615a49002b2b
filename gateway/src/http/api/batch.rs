//! Many messages in one call, each with its own result, in their order.

use std::future::ready;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures::StreamExt;
use futures::future::Either;
use futures::stream::FuturesOrdered;
use serde::Serialize;
use serde_json::value::RawValue;

use super::Answer;
use super::idempotency::once;
use super::publish::{Address, Outgoing, refused};
use super::request::{Asked, Members};
use crate::http::{Front, Inner, Node, Problem};

/// Messages of one call that the broker has not answered. One call must not fill a broker's queue, in which those of
/// all others wait.
const UNDER_WAY: usize = 512;

/// `POST /api/batch`.
pub async fn batch<N: Node>(
    State(front): State<Arc<Front<N>>>,
    request: Request,
) -> Result<Response, Problem> {
    let asked = Asked::read(&front, request).await?;
    once(front, asked, |front, body| async move {
        let items = items(&body, front.caps().batch)?;
        let results = carry_out(&front, items).await;
        Ok(Answer::ok(&Results::of(&results)))
    })
    .await
}

fn items(body: &[u8], max: usize) -> Result<Vec<&RawValue>, Problem> {
    let mut members = Members::read(body, "the body")?;
    let items = members.items("messages", max)?;
    members.nothing_else(&["messages"])?;
    if items.count > max {
        let message = format!(
            "{} messages are more than {max} (api.maxBatchMessages)",
            items.count
        );
        return Err(Problem {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            code: "too_many",
            ..Problem::field("messages", message)
        });
    }
    Ok(items.kept)
}

/// Milliseconds since the Unix epoch, or why not.
type Outcome = Result<u64, Problem>;

/// A message takes its place in its channel when `publish` is called, so the calls are made one after the other.
/// After the first message that the broker did not take no more are handed to it: what the caller then sends again
/// keeps its order, and a broker that is away is not waited for 20,000 times.
async fn carry_out<N: Node>(front: &Front<N>, items: Vec<&RawValue>) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(items.len());
    let mut under_way = FuturesOrdered::new();
    let mut failed = false;
    let max_message = front.caps().message;
    for item in items {
        if under_way.len() >= UNDER_WAY
            && let Some(outcome) = under_way.next().await
        {
            failed |= is_broker_s(&outcome);
            outcomes.push(outcome);
        }
        under_way.push_back(match outgoing(item, max_message) {
            Err(problem) => Either::Left(ready(Err(problem))),
            Ok(_) if failed => Either::Left(ready(Err(unsent()))),
            Ok(Outgoing { channel, message }) => {
                let timestamp = message.timestamp;
                let published = front.node.publish(channel, message);
                Either::Right(async move {
                    published.await.map_err(|error| refused(&error))?;
                    Ok(timestamp)
                })
            }
        });
    }
    outcomes.extend(under_way.collect::<Vec<_>>().await);
    outcomes
}

fn is_broker_s(outcome: &Outcome) -> bool {
    outcome
        .as_ref()
        .is_err_and(|problem| problem.status.is_server_error())
}

fn unsent() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "unavailable",
        "not sent: the broker did not take an earlier message of this batch",
    )
}

/// One message: `data` and exactly one of `channel`, `user` and `connection`.
fn outgoing(item: &RawValue, max_message: usize) -> Result<Outgoing, Problem> {
    let mut members = Members::read(item.get().as_bytes(), "the message")?;
    let mut addresses = Vec::new();
    for (name, make) in [
        ("channel", Address::channel as fn(&str) -> _),
        ("user", Address::user),
        ("connection", Address::connection),
    ] {
        if members.has(name) {
            addresses.push(make(&members.text(name)?)?);
        }
    }
    let (Some(address), true) = (addresses.pop(), addresses.is_empty()) else {
        let message = "a message has exactly one of channel, user and connection";
        return Err(Problem::field("channel", message));
    };
    let known = address.members();
    let outgoing = address.message(&mut members, max_message)?;
    members.nothing_else(known)?;
    Ok(outgoing)
}

#[derive(Serialize)]
struct Results<'a> {
    accepted: usize,
    refused: usize,
    /// One for each message, in their order.
    results: Vec<ItemResult<'a>>,
}

#[derive(Serialize)]
struct ItemResult<'a> {
    accepted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Inner<'a>>,
}

impl<'a> Results<'a> {
    fn of(outcomes: &'a [Outcome]) -> Results<'a> {
        let results: Vec<_> = outcomes
            .iter()
            .map(|outcome| ItemResult {
                accepted: outcome.is_ok(),
                timestamp: outcome.as_ref().ok().copied(),
                error: outcome.as_ref().err().map(Problem::inner),
            })
            .collect();
        let accepted = results.iter().filter(|result| result.accepted).count();
        Results {
            accepted,
            refused: results.len() - accepted,
            results,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message() {
        for (item, expected) in [
            (r#"{"channel":"a","data":1}"#, Ok("a")),
            (r#"{"user":"ann","data":1}"#, Ok("user:ann")),
            (r#"{"connection":"~n.1","data":1}"#, Ok("node:n")),
            (r#"{"channel":"broadcast","data":1}"#, Ok("broadcast")),
            ("7", Err(("", 400))),
            ("{}", Err(("channel", 422))),
            (r#"{"data":1}"#, Err(("channel", 422))),
            (
                r#"{"channel":"a","user":"b","data":1}"#,
                Err(("channel", 422)),
            ),
            (r#"{"channel":"a"}"#, Err(("data", 422))),
            (r#"{"user":7,"data":1}"#, Err(("user", 422))),
            (r#"{"user":"","data":1}"#, Err(("user", 422))),
            (r#"{"connection":"ann","data":1}"#, Err(("connection", 422))),
            (
                r#"{"channel":"a","data":"12345678901"}"#,
                Err(("data", 413)),
            ),
            (r#"{"channel":"a","data":1,"to":2}"#, Err(("to", 422))),
        ] {
            let json = RawValue::from_string(item.to_owned()).unwrap();
            let found = outgoing(&json, 10);
            let found = match &found {
                Ok(outgoing) => Ok(outgoing.channel.as_str()),
                Err(problem) => Err((
                    problem.field.as_deref().unwrap_or(""),
                    problem.status.as_u16(),
                )),
            };
            assert_eq!(found, expected, "{item}");
        }
    }

    #[test]
    fn as_many_as_allowed() {
        for (body, expected) in [
            (r#"{"messages":[]}"#, Ok(0)),
            (r#"{"messages":[1,2,3]}"#, Ok(3)),
            (r#"{"messages":[1,2,3,4]}"#, Err((413, "too_many"))),
            (r#"{"messages":{}}"#, Err((422, "bad_field"))),
            (r#"{"messages":[1],"x":1}"#, Err((422, "bad_field"))),
            ("[]", Err((400, "bad_json"))),
        ] {
            let found = items(body.as_bytes(), 3).map(|items| items.len());
            let found = found.map_err(|problem| (problem.status.as_u16(), problem.code));
            assert_eq!(found, expected, "{body}");
        }
    }
}
