//! What a gateway says, as far as a client of a load needs it: the JSON objects of docs/native-protocol.md, which event
//! streams carry too. And what our publishers write into messages. Pure.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::judge::{Position, Stamp};

/// Beyond two pings: the other side may be slow for a moment.
const GRACE: Duration = Duration::from_secs(5);

/// What a publisher sends as `data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    #[serde(rename = "p")]
    pub publisher: u64,
    #[serde(rename = "s")]
    pub sequence: u64,
    /// When it was sent, in microseconds since 1970.
    #[serde(rename = "t")]
    pub sent: u64,
}

impl Payload {
    pub fn stamp(self) -> Stamp {
        Stamp {
            publisher: self.publisher,
            sequence: self.sequence,
        }
    }

    /// JSON of at least `bytes` bytes, as long as that is more than the numbers take.
    pub fn text(self, bytes: usize) -> String {
        let Payload {
            publisher,
            sequence,
            sent,
        } = self;
        let text = format!(r#"{{"p":{publisher},"s":{sequence},"t":{sent},"x":""}}"#);
        let padding = "x".repeat(bytes.saturating_sub(text.len()));
        format!(r#"{}{padding}"}}"#, &text[..text.len() - 2])
    }
}

/// A message of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    pub offset: Option<u64>,
    /// None: somebody else's.
    pub payload: Option<Payload>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Welcome {
        node: String,
        /// After so long without a sign of life the gateway is gone.
        silence: Duration,
        /// The subscriptions of the connection before go on, and need not be asked for.
        is_resumed: bool,
    },
    Subscribed {
        channel: String,
        at: Option<Position>,
        recovered: Option<bool>,
        /// What was missed, over WebSocket.
        missed: Vec<Message>,
    },
    Message {
        channel: String,
        message: Message,
    },
    /// A message of before, on a connection that was resumed.
    Missed {
        channel: String,
        message: Message,
    },
    Moved {
        channel: String,
        at: Position,
        recovered: bool,
    },
    Reconnect {
        after_ms: u64,
    },
    /// The last event of a stream.
    Close {
        code: u16,
        reason: String,
    },
    /// A request was refused.
    Error {
        code: String,
        message: String,
    },
    Other,
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    channel: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    node: Option<Cow<'a, str>>,
    #[serde(default)]
    ping: Option<u64>,
    #[serde(default)]
    epoch: Option<u64>,
    #[serde(default)]
    offset: Option<u64>,
    #[serde(default)]
    recovered: Option<bool>,
    #[serde(borrow, default)]
    messages: Vec<RawMessage<'a>>,
    /// Of a chat anything, of an error a text.
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    after_ms: Option<u64>,
    /// Of an error a word, of a close a number.
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct RawMessage<'a> {
    #[serde(default)]
    offset: Option<u64>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

impl RawMessage<'_> {
    fn read(&self) -> Message {
        let payload = self.message.or(self.data);
        Message {
            offset: self.offset,
            payload: payload.and_then(|raw| serde_json::from_str(raw.get()).ok()),
        }
    }
}

/// One JSON object of the gateway. An error: it is none, or lacks what its type has.
pub fn understand(text: &[u8]) -> Result<Said, String> {
    let raw = Raw::of(text)?;
    let kind = raw.kind.as_deref().ok_or("an object without `type`")?;
    read(kind, &raw)
}

/// One whose type is said beside it.
pub fn understand_as(kind: &str, text: &[u8]) -> Result<Said, String> {
    read(kind, &Raw::of(text)?)
}

impl Raw<'_> {
    fn of(text: &[u8]) -> Result<Raw<'_>, String> {
        serde_json::from_slice(text).map_err(|error| error.to_string())
    }
}

fn read(kind: &str, raw: &Raw) -> Result<Said, String> {
    let lacks = |what: &str| format!("a `{kind}` without `{what}`");
    let channel = || {
        let name = raw.channel.as_deref();
        name.map(str::to_owned).ok_or_else(|| lacks("channel"))
    };
    let at = match (raw.epoch, raw.offset) {
        (Some(epoch), Some(offset)) => Some(Position { epoch, offset }),
        _ => None,
    };
    Ok(match kind {
        "welcome" => Said::Welcome {
            node: raw.node.as_deref().ok_or_else(|| lacks("node"))?.to_owned(),
            // Pings come at these intervals, and an event stream is not silent for longer either.
            silence: Duration::from_secs(raw.ping.ok_or_else(|| lacks("ping"))? * 2) + GRACE,
            is_resumed: false,
        },
        "subscribed" => Said::Subscribed {
            channel: channel()?,
            at,
            recovered: raw.recovered,
            missed: raw.messages.iter().map(RawMessage::read).collect(),
        },
        "position" => Said::Moved {
            channel: channel()?,
            at: at.ok_or_else(|| lacks("offset"))?,
            recovered: raw.recovered.ok_or_else(|| lacks("recovered"))?,
        },
        "reconnect" => Said::Reconnect {
            after_ms: raw.after_ms.ok_or_else(|| lacks("after_ms"))?,
        },
        "close" => Said::Close {
            code: raw
                .code
                .and_then(|raw| raw.get().parse().ok())
                .ok_or_else(|| lacks("code"))?,
            reason: raw.reason.as_deref().unwrap_or_default().to_owned(),
        },
        "error" => {
            let word = |raw: Option<&RawValue>| {
                raw.and_then(|raw| serde_json::from_str(raw.get()).ok())
                    .unwrap_or_default()
            };
            Said::Error {
                code: word(raw.code),
                message: word(raw.message),
            }
        }
        "chat" => Said::Message {
            channel: channel()?,
            message: RawMessage {
                offset: raw.offset,
                message: raw.message,
                data: raw.data,
            }
            .read(),
        },
        _ => Said::Other,
    })
}

/// What a `subscribe` has beside its type, with `recover` where the subscriber has been before.
pub fn subscription(channel: &str, recover: Option<Position>) -> String {
    let mut text = format!(r#""channel":"{channel}""#);
    if let Some(Position { epoch, offset }) = recover {
        text += &format!(r#","recover":{{"epoch":{epoch},"offset":{offset}}}"#);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYLOAD: Payload = Payload {
        publisher: 9_007_199_254_740_991,
        sequence: 3,
        sent: 1_700_000_000_000_000,
    };

    #[test]
    fn a_payload_has_its_size_and_comes_back() {
        for bytes in [0, 60, 61, 128, 4_000] {
            let text = PAYLOAD.text(bytes);
            assert_eq!(text.len(), bytes.max(56), "{text}");
            assert_eq!(serde_json::from_str::<Payload>(&text).unwrap(), PAYLOAD);
        }
    }

    const fn at(epoch: u64, offset: u64) -> Position {
        Position { epoch, offset }
    }

    fn all_understood(cases: impl IntoIterator<Item = (String, Said)>) {
        for (text, expected) in cases {
            assert_eq!(understand(text.as_bytes()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn messages_and_acknowledgements_are_understood() {
        let payload = PAYLOAD.text(0);
        let channel = || "a".to_owned();
        let message = |offset, payload| Message { offset, payload };
        let missed = r#"{"type":"chat","channel":"a","message":PAYLOAD,"timestamp":1,"offset":5}"#;
        let missed = missed.replace("PAYLOAD", &payload);
        all_understood([
            (
                r#"{"type":"subscribed","channel":"a","timestamp":1}"#.to_owned(),
                Said::Subscribed {
                    channel: channel(),
                    at: None,
                    recovered: None,
                    missed: vec![],
                },
            ),
            (
                format!(
                    r#"{{"type":"subscribed","channel":"a","timestamp":1,"epoch":2,"offset":5,"recovered":true,
                    "messages":[{missed}]}}"#
                ),
                Said::Subscribed {
                    channel: channel(),
                    at: Some(at(2, 5)),
                    recovered: Some(true),
                    missed: vec![message(Some(5), Some(PAYLOAD))],
                },
            ),
            (
                missed,
                Said::Message {
                    channel: channel(),
                    message: message(Some(5), Some(PAYLOAD)),
                },
            ),
            (
                r#"{"type":"chat","channel":"a","message":"hi","timestamp":1}"#.to_owned(),
                Said::Message {
                    channel: channel(),
                    message: message(None, None),
                },
            ),
        ]);
    }

    #[test]
    fn the_rest_of_the_protocol_is_understood() {
        let owned = |(text, said): (&str, Said)| (text.to_owned(), said);
        let cases = [
            (
                r#"{"type":"welcome","connection":"~1","node":"gw-a","ping":25}"#,
                Said::Welcome {
                    node: "gw-a".to_owned(),
                    silence: Duration::from_secs(55),
                    is_resumed: false,
                },
            ),
            (
                r#"{"type":"position","channel":"a","epoch":3,"offset":1,"recovered":false}"#,
                Said::Moved {
                    channel: "a".to_owned(),
                    at: at(3, 1),
                    recovered: false,
                },
            ),
            (
                r#"{"type":"reconnect","after_ms":70}"#,
                Said::Reconnect { after_ms: 70 },
            ),
            (
                r#"{"type":"close","code":1012,"reason":"Server restarting","reconnect":true}"#,
                Said::Close {
                    code: 1012,
                    reason: "Server restarting".to_owned(),
                },
            ),
            (
                r#"{"type":"error","code":"denied","message":"not \"yours\""}"#,
                Said::Error {
                    code: "denied".to_owned(),
                    message: r#"not "yours""#.to_owned(),
                },
            ),
            (r#"{"type":"pong"}"#, Said::Other),
        ];
        all_understood(cases.map(owned));
        for text in [
            "",
            "[]",
            "{}",
            r#"{"type":"welcome"}"#,
            r#"{"type":"chat"}"#,
        ] {
            assert!(understand(text.as_bytes()).is_err(), "{text}");
        }
        let said = understand_as("reconnect", br#"{"type":"pong","after_ms":70}"#);
        assert_eq!(said, Ok(Said::Reconnect { after_ms: 70 }));
    }

    #[test]
    fn a_subscription_says_where_it_was() {
        for (recover, expected) in [
            (None, r#""channel":"a""#),
            (
                Some(Position {
                    epoch: 7,
                    offset: 12,
                }),
                r#""channel":"a","recover":{"epoch":7,"offset":12}"#,
            ),
        ] {
            assert_eq!(subscription("a", recover), expected);
        }
    }
}
