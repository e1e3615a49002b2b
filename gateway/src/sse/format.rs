//! What is said, as events. Pure. Every event is a JSON object of the native protocol in `data`, so that a page has one
//! way to understand both.

use serde::Serialize;

use crate::message::{Delivery, Position};
use crate::name::ChannelName;
use crate::protocol::close::{CloseCode, Reconnect};
use crate::protocol::native;

/// A line that means nothing: it keeps proxies from closing what is quiet.
pub const COMMENT: &[u8] = b":\n\n";

/// What WebSocket clients are told in other ways.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Said<'a> {
    Subscribed {
        channel: &'a str,
        timestamp: u64,
        /// Where the channel's log stands, if it has one.
        #[serde(flatten, skip_serializing_if = "Option::is_none")]
        top: Option<Position>,
        #[serde(skip_serializing_if = "Option::is_none")]
        recovered: Option<bool>,
    },
    /// The last event.
    Close {
        code: u16,
        reason: &'a str,
        /// Whether coming back helps. An `EventSource` comes back by itself, unless its page closes it.
        reconnect: bool,
    },
}

/// A delivery, the same for every client.
pub fn delivery(delivery: &Delivery) -> Vec<u8> {
    event(&native::delivery_text(delivery))
}

pub fn reply(reply: &native::Reply<'_>) -> Vec<u8> {
    event(&native::reply_text(reply, None))
}

/// `recovered`: whether what the client has missed follows; None when it asked for nothing.
pub fn subscribed(
    channel: &ChannelName,
    timestamp: u64,
    top: Option<Position>,
    recovered: Option<bool>,
) -> Vec<u8> {
    said(&Said::Subscribed {
        channel: channel.as_str(),
        timestamp,
        top,
        recovered,
    })
}

pub fn close(code: CloseCode) -> Vec<u8> {
    let row = code.row();
    said(&Said::Close {
        code: row.code,
        reason: row.reason,
        reconnect: matches!(row.reconnect, Reconnect::Yes | Reconnect::Backoff),
    })
}

/// How long an `EventSource` waits before it comes back, in milliseconds.
pub fn retry(after_ms: u64) -> Vec<u8> {
    format!("retry: {after_ms}\n\n").into_bytes()
}

fn said(said: &Said<'_>) -> Vec<u8> {
    event(&serde_json::to_vec(said).expect("texts and numbers always serialise"))
}

/// A publisher's JSON may have line breaks between its parts; each line is a line of `data`, or it would end the event
/// and begin whatever its author likes.
fn event(json: &[u8]) -> Vec<u8> {
    let mut event = Vec::with_capacity(json.len() + 8);
    let mut rest = json;
    loop {
        let end = rest.iter().position(|b| matches!(b, b'\r' | b'\n'));
        let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
        event.extend_from_slice(b"data: ");
        event.extend_from_slice(line);
        event.push(b'\n');
        rest = match after {
            [] => break,
            [b'\r', b'\n', after @ ..] | [_, after @ ..] => after,
        };
    }
    event.push(b'\n');
    event
}

/// Where a client stands in each of its channels: what its last event's `id` says, for all of them, since it will come
/// back with the last one only.
#[derive(Debug)]
pub struct Cursor(Vec<(ChannelName, Option<Position>)>);

impl Cursor {
    /// In the order of the request, which is the same when the client returns. `last_id` is not ours to trust: what
    /// is not of the form that `moved` writes says nothing.
    pub fn new(channels: &[ChannelName], last_id: &str) -> Cursor {
        let places: Vec<_> = last_id.split(',').map(Position::parse).collect();
        let fits = places.len() == channels.len();
        let place = |index: usize| places.get(index).copied().flatten().filter(|_| fits);
        let channels = channels.iter().enumerate();
        Cursor(channels.map(|(i, name)| (name.clone(), place(i))).collect())
    }

    /// Where the client stands in its channels.
    pub fn places(&self) -> impl Iterator<Item = (&ChannelName, Option<Position>)> {
        self.0.iter().map(|(name, position)| (name, *position))
    }

    /// The line before an event at this position: `id: 7:12,,9:3`, as epoch and offset.
    pub fn moved(&mut self, channel: &ChannelName, position: Position) -> Option<String> {
        let (_, known) = self.0.iter_mut().find(|(name, _)| name == channel)?;
        *known = Some(position);
        let places: Vec<_> = self
            .0
            .iter()
            .map(|(_, position)| position.map_or(String::new(), |p| p.to_string()))
            .collect();
        Some(format!("id: {}\n", places.join(",")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    #[test]
    fn no_line_break_ends_an_event_early() {
        for (json, expected) in [
            ("{}", "data: {}\n\n"),
            ("{\n}", "data: {\ndata: }\n\n"),
            ("{\r\n}", "data: {\ndata: }\n\n"),
            ("{\r}", "data: {\ndata: }\n\n"),
            (
                "[1,\n\nevent: x\r\r2]",
                "data: [1,\ndata: \ndata: event: x\ndata: \ndata: 2]\n\n",
            ),
            ("1\n", "data: 1\ndata: \n\n"),
        ] {
            let made = String::from_utf8(event(json.as_bytes())).unwrap();
            assert_eq!(made, expected, "{json:?}");
        }
    }

    #[test]
    fn what_is_said() {
        for (made, expected) in [
            (
                subscribed(&name("news"), 5, None, None),
                r#"{"type":"subscribed","channel":"news","timestamp":5}"#,
            ),
            (
                subscribed(&name("news"), 5, None, Some(false)),
                r#"{"type":"subscribed","channel":"news","timestamp":5,"recovered":false}"#,
            ),
            (
                subscribed(&name("news"), 5, Position::parse("7:12"), Some(true)),
                r#"{"type":"subscribed","channel":"news","timestamp":5,"epoch":7,"offset":12,"recovered":true}"#,
            ),
            (
                close(CloseCode::Drain),
                r#"{"type":"close","code":1012,"reason":"Server restarting","reconnect":true}"#,
            ),
            (
                close(CloseCode::Unauthorized),
                r#"{"type":"close","code":3000,"reason":"Unauthorized","reconnect":false}"#,
            ),
        ] {
            let made = String::from_utf8(made).unwrap();
            assert_eq!(made, format!("data: {expected}\n\n"));
        }
        assert_eq!(retry(700), b"retry: 700\n\n");
    }

    #[test]
    fn an_id_says_where_every_channel_stands() {
        let at = |epoch, offset| Position { epoch, offset };
        let mut cursor = Cursor::new(&["a", "b", "c"].map(name), "");
        for (channel, position, expected) in [
            ("a", at(7, 12), Some("id: 7:12,,\n")),
            ("c", at(9, 3), Some("id: 7:12,,9:3\n")),
            ("a", at(7, 13), Some("id: 7:13,,9:3\n")),
            ("user:ann", at(1, 1), None),
        ] {
            let line = cursor.moved(&name(channel), position);
            assert_eq!(line.as_deref(), expected);
        }
    }

    #[test]
    fn a_client_returns_with_what_it_was_told() {
        for (last_id, expected) in [
            ("7:12,,9:3", "id: 7:12,1:1,9:3\n"),
            (",,", "id: ,1:1,\n"),
            ("7:12,x,9:", "id: 7:12,1:1,\n"),
            // Of another request, or nobody's.
            ("7:12,9:3", "id: ,1:1,\n"),
            ("7:12,,,9:3", "id: ,1:1,\n"),
            ("", "id: ,1:1,\n"),
            ("42", "id: ,1:1,\n"),
        ] {
            let mut cursor = Cursor::new(&["a", "b", "c"].map(name), last_id);
            let at = Position::parse("1:1").unwrap();
            assert_eq!(cursor.moved(&name("b"), at).as_deref(), Some(expected));
        }
    }
}
