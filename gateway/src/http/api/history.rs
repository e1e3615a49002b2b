//! What was said in a channel.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::value::RawValue;

use super::Answer;
use super::access::authorise;
use super::request::Parameters;
use crate::broker::HistoryError;
use crate::history::{Kept, Page, Range};
use crate::http::{Front, Node, Problem};
use crate::message::{MessageKind, Position};
use crate::name::{ChannelKind, ChannelName};
use crate::session::Rules;

/// Messages of a page, when nobody says.
const PAGE: usize = 100;
/// Messages of a page, at most.
const MAX_PAGE: usize = 1_000;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Query {
    channel: ChannelName,
    since: Option<Position>,
    limit: u32,
}

#[derive(Serialize)]
struct History<'a> {
    node: &'a str,
    channel: &'a ChannelName,
    /// Of the newest message: where the log stands.
    #[serde(flatten)]
    top: Position,
    /// Nothing is missing between `since` and the first message or, without one, where the log stands.
    whole: bool,
    /// Oldest first.
    messages: Vec<Said<'a>>,
    /// There are more: ask for what came after this.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Serialize)]
struct Said<'a> {
    offset: u64,
    #[serde(rename = "type")]
    kind: MessageKind,
    data: &'a RawValue,
    /// The user, or the connection of somebody who is nobody in particular. None: a backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    timestamp: u64,
}

/// `GET /api/history`.
pub async fn history<N: Node>(
    State(front): State<Arc<Front<N>>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let running = front.running();
    authorise(&headers, &running.access)?;
    let query = query(&uri)?;
    let range = range(&query, &running.rules, front.caps().message)?;
    let read = front.node.history(query.channel.clone(), range);
    let page = read.await.map_err(|e| unread(&e))?;
    let found = answer(&query, &page, &running.rules.node);
    Ok(Answer::ok(&found).into_response())
}

fn query(uri: &Uri) -> Result<Query, Problem> {
    let mut parameters = Parameters::read(uri)?;
    let channel = parameters.channel()?;
    let since = match parameters.take("since")? {
        Some(text) => Some(Position::parse(&text).ok_or_else(|| {
            Problem::field("since", "since must be a position, as in 1700000000000:12")
        })?),
        None => None,
    };
    let limit = parameters.limit(PAGE, MAX_PAGE)?;
    parameters.nothing_else(&["channel", "since", "limit"])?;
    Ok(Query {
        channel,
        since,
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
    })
}

/// `max_message`: bytes. A page has room for a message, however large, or whoever reads page by page would never get
/// past it.
fn range(query: &Query, rules: &Rules, max_message: usize) -> Result<Range, Problem> {
    // What goes to single connections is kept for nobody.
    let inbox = matches!(
        query.channel.kind(),
        ChannelKind::Node(_) | ChannelKind::SelfTest
    );
    let range = rules.range(&query.channel, query.since);
    let Some(range) = range.filter(|_| !inbox) else {
        let status = StatusCode::NOT_FOUND;
        let message = format!(
            "history of {} refused: nothing of it is kept",
            query.channel
        );
        return Err(Problem::new(status, "no_history", message));
    };
    Ok(Range {
        limit: query.limit.min(range.limit),
        bytes: range.bytes.max(max_message),
        ..range
    })
}

fn answer<'a>(query: &'a Query, page: &'a Page, node: &'a str) -> History<'a> {
    // Without `since` it is the newest that was asked for: what there is beside them is older.
    let more = query.since.is_some() && !page.complete;
    let last = page.messages.last().filter(|_| more);
    let epoch = page.top.epoch;
    let next = last.map(|&Kept { offset, .. }| Position { epoch, offset }.to_string());
    History {
        node,
        channel: &query.channel,
        top: page.top,
        whole: page.whole,
        messages: page.messages.iter().map(said).collect(),
        next,
    }
}

fn said(kept: &Kept) -> Said<'_> {
    let message = &kept.message;
    let from = message.from.as_ref();
    Said {
        offset: kept.offset,
        kind: message.kind,
        data: &message.data,
        from: from.map(|from| from.user.as_deref().unwrap_or(from.connection.as_str())),
        timestamp: message.timestamp,
    }
}

/// The caller is told without the cause, which may name hosts.
fn unread(error: &HistoryError) -> Problem {
    tracing::debug!("{error}");
    let message = format!(
        "history of {} not read: the broker is not reachable; try again later",
        error.channel
    );
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
