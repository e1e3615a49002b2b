//! Who is in a channel.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Answer;
use super::access::authorise;
use super::request::Parameters;
use crate::http::{Front, Node, Problem};
use crate::name::ChannelName;
use crate::presence::List;
use crate::registry::ReadError;

#[derive(Serialize)]
struct Presence<'a> {
    node: &'a str,
    channel: &'a ChannelName,
    #[serde(flatten)]
    list: List,
}

/// `GET /api/presence`.
pub async fn presence<N: Node>(
    State(front): State<Arc<Front<N>>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let running = front.running();
    authorise(&headers, &running.access)?;
    let channel = channel(&uri)?;
    if !running.rules.has_presence(&channel) {
        let status = StatusCode::NOT_FOUND;
        let message = format!("presence of {channel} refused: its policy has none");
        return Err(Problem::new(status, "no_presence", message));
    }
    let list = (front.present)(channel.clone()).await;
    let found = Presence {
        node: &running.rules.node,
        list: list.map_err(|e| unread(&channel, &e))?,
        channel: &channel,
    };
    Ok(Answer::ok(&found).into_response())
}

/// The caller is told without the cause, which may name hosts.
fn unread(channel: &ChannelName, error: &ReadError) -> Problem {
    tracing::warn!("{error}");
    let message =
        format!("presence of {channel} not read: the broker is not reachable; try again later");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
}

fn channel(uri: &Uri) -> Result<ChannelName, Problem> {
    let mut parameters = Parameters::read(uri)?;
    let channel = parameters.channel()?;
    parameters.nothing_else(&["channel"])?;
    Ok(channel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        for (uri, expected) in [
            ("/api/presence?channel=room%3Aa", Ok("room:a")),
            ("/api/presence", Err("channel")),
            ("/api/presence?channel=", Err("channel")),
            ("/api/presence?channel=a&channel=b", Err("channel")),
            ("/api/presence?channel=a&room=b", Err("room")),
        ] {
            let found = channel(&uri.parse().unwrap());
            let found = match &found {
                Ok(channel) => Ok(channel.as_str()),
                Err(problem) => Err(problem.field.as_deref().unwrap_or("")),
            };
            assert_eq!(found, expected, "{uri}");
        }
    }
}
