//! The channels that have subscribers on this node.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Answer;
use super::access::authorise;
use super::request::Parameters;
use crate::engine::census::Query;
use crate::http::{Front, Node, Problem};
use crate::name::ChannelName;

/// Channels of a page, when nobody says.
const PAGE: usize = 100;
/// Channels of a page, at most.
pub const MAX_PAGE: usize = 1_000;

#[derive(Serialize)]
struct Channels<'a> {
    node: &'a str,
    channels: Vec<Channel<'a>>,
    /// There are more: ask for those after this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a ChannelName>,
}

#[derive(Serialize)]
struct Channel<'a> {
    name: &'a ChannelName,
    /// On this node.
    subscribers: u64,
}

/// `GET /api/channels`.
pub async fn channels<N: Node>(
    State(front): State<Arc<Front<N>>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    authorise(&headers, &front.running().access)?;
    let mut query = query(&uri)?;
    let limit = query.limit;
    // One more tells whether there is a next page.
    query.limit += 1;
    let mut found = front.node.channels(query).await.map_err(|e| {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Problem::new(status, "unavailable", format!("channels not counted: {e}"))
    })?;
    let more = found.len() > limit;
    found.truncate(limit);
    let running = front.running();
    let page = Channels {
        node: &running.rules.node,
        next: found.last().filter(|_| more).map(|(name, _)| name),
        channels: found
            .iter()
            .map(|(name, subscribers)| Channel {
                name,
                subscribers: *subscribers,
            })
            .collect(),
    };
    Ok(Answer::ok(&page).into_response())
}

fn query(uri: &Uri) -> Result<Query, Problem> {
    let mut parameters = Parameters::read(uri)?;
    let prefix = parameters.take("prefix")?.unwrap_or_default();
    let after = match parameters.take("after")? {
        Some(name) => Some(
            ChannelName::parse(&name)
                .map_err(|e| Problem::field("after", format!("after: the channel name {e}")))?,
        ),
        None => None,
    };
    let limit = parameters.limit(PAGE, MAX_PAGE)?;
    parameters.nothing_else(&["prefix", "after", "limit"])?;
    Ok(Query {
        prefix,
        after,
        limit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        for (uri, expected) in [
            ("/api/channels", Ok(("", None, 100))),
            ("/api/channels?", Ok(("", None, 100))),
            (
                "/api/channels?prefix=room%3A&after=room%3Aa&limit=7",
                Ok(("room:", Some("room:a"), 7)),
            ),
            ("/api/channels?limit=1000", Ok(("", None, 1_000))),
            ("/api/channels?limit=1001", Err("limit")),
            ("/api/channels?limit=0", Err("limit")),
            ("/api/channels?limit=-1", Err("limit")),
            ("/api/channels?limit=", Err("limit")),
            ("/api/channels?limit=1&limit=2", Err("limit")),
            ("/api/channels?after=", Err("after")),
            ("/api/channels?page=2", Err("page")),
        ] {
            let found = query(&uri.parse().unwrap());
            let found = match &found {
                Ok(query) => Ok((
                    query.prefix.as_str(),
                    query.after.as_ref().map(ChannelName::as_str),
                    query.limit,
                )),
                Err(problem) => Err(problem.field.as_deref().unwrap_or("")),
            };
            assert_eq!(found, expected, "{uri}");
        }
    }
}
