//! Bytes of a Socket.IO server → what it said, and what is said to it: packets of Engine.IO 4, each a text over WebSocket
//! (<https://socket.io/docs/v4/engine-io-protocol/>), and in them those of Socket.IO 5
//! (<https://socket.io/docs/v4/socket-io-protocol/>). Pure.
//!
//! Socket.IO does not say what events mean. They are taken as the native protocol in other clothes, and this is what
//! `pushbench` expects of a server, in the namespace `/`:
//!
//! - An event's name is the native `type`, and its first argument the native object, with or without `type`:
//!   `42["chat",{"channel","message","from","timestamp","offset"?}]`. Heeded are `chat`, `position`, `subscribed` and `error`.
//! - `welcome`, with `node`, follows every CONNECT: then the client is there.
//! - A request is an event with an acknowledgement, whose argument is the native answer with its `type`:
//!   `420["subscribe",{"channel","recover"?}]`, then `430[{"type":"subscribed","channel","epoch"?,…}]` or
//!   `430[{"type":"error","code","message"}]`.
//! - The token is what a client gives as `auth`: `40{"token"}`.
//! - Where there is connection state recovery, CONNECT is answered with a `pid`, and the last argument of events is an
//!   offset, a text. Who comes back says both. The same `pid` in the answer means that its subscriptions are as they were,
//!   and that the events that it missed have come before the answer. With another one, or none, it subscribes again with
//!   `recover`.
//!
//! As in socket.io-client, a `reconnect` message means nothing, nor does a close code (`comeback::next_of_socketio`).

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::comeback::{End, Next, next_of_socketio};
use super::dialect::{Heard, text};
use super::spoken::{Said, understand, understand_as};

/// What is needed to resume.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Session {
    pid: String,
    offset: Option<String>,
}

/// The answer to CONNECT.
#[derive(Debug)]
struct Answer {
    pid: Option<String>,
    is_resumed: bool,
}

#[derive(Debug, Default)]
pub struct SocketIo {
    session: Option<Session>,
    /// Before the next one, since a connection was open.
    waits: u32,
    connection: Connection,
}

/// What ends with the connection.
#[derive(Debug, Default)]
struct Connection {
    /// The packet that follows the server's first one.
    connect: String,
    /// Longest time between two pings; before the first packet zero.
    silence: Duration,
    pinged: Option<Instant>,
    answer: Option<Answer>,
    is_there: bool,
    /// Events before `welcome`.
    early: Vec<Event>,
}

#[derive(Debug)]
struct Event {
    said: Said,
    offset: Option<String>,
}

#[derive(Deserialize)]
struct Open {
    #[serde(rename = "pingInterval")]
    interval_ms: u64,
    #[serde(rename = "pingTimeout")]
    timeout_ms: u64,
}

#[derive(Deserialize)]
struct Connected {
    // Without it the server speaks an older protocol.
    #[serde(rename = "sid")]
    _id: String,
    pid: Option<String>,
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

#[derive(Deserialize)]
struct Welcome {
    node: String,
}

impl SocketIo {
    /// Another connection begins. It knows where it was.
    pub fn begin(&mut self, token: Option<&str>) {
        let session = self.session.as_ref();
        let fields = [
            ("token", token),
            ("pid", session.map(|session| &*session.pid)),
            (
                "offset",
                session.and_then(|session| session.offset.as_deref()),
            ),
        ];
        let fields = fields
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), Value::from(value?))));
        let fields: Map<_, _> = fields.collect();
        let mut connect = "40".to_owned();
        if !fields.is_empty() {
            connect += &Value::from(fields).to_string();
        }
        self.connection = Connection {
            connect,
            ..Connection::default()
        };
    }

    /// It subscribes anew on the next connection.
    pub fn give_up_session(&mut self) {
        self.session = None;
    }

    /// When the server pinged last, or opened the connection. Nothing else says that it is alive.
    pub fn pinged(&self) -> Option<Instant> {
        self.connection.pinged
    }

    /// What it does after its connection ended like this; `chance` from 0 to 1.
    pub fn next(&mut self, end: &End, chance: f64) -> Next {
        let next = next_of_socketio(end, self.waits, chance);
        self.waits += 1;
        next
    }

    /// One packet of Engine.IO.
    pub fn packet(&mut self, packet: &[u8], now: Instant, heard: &mut Vec<Heard>) {
        let (kind, rest) = packet.split_first().unwrap_or((&b' ', &[]));
        let outcome = match kind {
            b'0' => self.opened(rest, now).map(|asked| heard.push(asked)),
            b'1' => {
                let reason = String::new();
                heard.push(Heard::Ended(End::Closed { code: 1005, reason }));
                Ok(())
            }
            b'2' => {
                self.connection.pinged = Some(now);
                heard.push(Heard::Asked(text("3")));
                Ok(())
            }
            b'4' => self.message(rest, heard),
            b'6' => Ok(()),
            _ => Err("no packet of Engine.IO".to_owned()),
        };
        if let Err(why) = outcome {
            let packet = String::from_utf8_lossy(packet);
            heard.push(Heard::Strange(format!("{why}: {packet:.100}")));
        }
    }

    fn opened(&mut self, open: &[u8], now: Instant) -> Result<Heard, String> {
        let open: Open = parse(open)?;
        let silence_ms = open.interval_ms.saturating_add(open.timeout_ms);
        self.connection.silence = Duration::from_millis(silence_ms);
        self.connection.pinged = Some(now);
        self.waits = 0;
        Ok(Heard::Asked(text(&self.connection.connect)))
    }

    /// One packet of Socket.IO.
    fn message(&mut self, packet: &[u8], heard: &mut Vec<Heard>) -> Result<(), String> {
        let (kind, rest) = packet.split_first().ok_or("an empty packet of Socket.IO")?;
        if rest.starts_with(b"/") {
            // Of a namespace that nobody connected to.
            return Ok(());
        }
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        match kind {
            b'0' => self.answered(rest)?,
            b'1' => heard.push(Heard::Ended(End::Disconnected)),
            b'2' => self.event(&rest[digits..], heard)?,
            b'3' => {
                let arguments: Vec<&RawValue> = parse(&rest[digits..])?;
                let answer = arguments.first().ok_or("an answer without an argument")?;
                heard.push(Heard::Said(understand(answer.get().as_bytes())?));
            }
            b'4' => {
                let Refusal { message } = parse(rest)?;
                heard.push(Heard::Ended(End::Denied(message)));
            }
            _ => return Err("no packet of Socket.IO, or a binary one".to_owned()),
        }
        Ok(())
    }

    fn answered(&mut self, answer: &[u8]) -> Result<(), String> {
        let Connected { pid, .. } = parse(answer)?;
        let asked = self.session.as_ref().map(|session| &session.pid);
        let is_resumed = pid.is_some() && pid.as_ref() == asked;
        self.connection.answer = Some(Answer { pid, is_resumed });
        Ok(())
    }

    fn event(&mut self, arguments: &[u8], heard: &mut Vec<Heard>) -> Result<(), String> {
        let arguments: Vec<&RawValue> = parse(arguments)?;
        let [name, rest @ ..] = &arguments[..] else {
            return Err("an event without a name".to_owned());
        };
        let name: String = parse(name.get().as_bytes())?;
        let offset = rest
            .last()
            .and_then(|last| parse(last.get().as_bytes()).ok());
        let argument = rest.first().map_or("{}", |first| first.get()).as_bytes();
        let said = match &*name {
            // One that was missed is of another connection.
            "welcome" if self.connection.answer.is_some() && !self.connection.is_there => {
                let Welcome { node } = parse(argument)?;
                self.welcome(node, heard);
                Said::Other
            }
            "chat" | "position" | "subscribed" | "error" => understand_as(&name, argument)?,
            _ => Said::Other,
        };
        let event = Event { said, offset };
        if self.connection.is_there {
            self.reached(event, heard);
        } else {
            let is_missed = self.connection.answer.is_none();
            self.connection.early.push(event.of_before(is_missed));
        }
        Ok(())
    }

    /// The client is there; what came before follows.
    fn welcome(&mut self, node: String, heard: &mut Vec<Heard>) {
        let Connection {
            silence, answer, ..
        } = &mut self.connection;
        let silence = *silence;
        let answer = answer.take();
        let (pid, is_resumed) =
            answer.map_or((None, false), |answer| (answer.pid, answer.is_resumed));
        if !is_resumed {
            self.session = pid.map(|pid| Session { pid, offset: None });
        }
        heard.push(Heard::Said(Said::Welcome {
            node,
            silence,
            is_resumed,
        }));
        self.connection.is_there = true;
        for event in std::mem::take(&mut self.connection.early) {
            self.reached(event, heard);
        }
    }

    /// It has come to the client, which will not ask for it again.
    fn reached(&mut self, event: Event, heard: &mut Vec<Heard>) {
        if let (Some(session), Some(offset)) = (&mut self.session, event.offset) {
            session.offset = Some(offset);
        }
        heard.push(Heard::Said(event.said));
    }
}

impl Event {
    /// As it is told when the client is there.
    fn of_before(self, is_missed: bool) -> Event {
        let said = match self.said {
            Said::Message { channel, message } if is_missed => Said::Missed { channel, message },
            said => said,
        };
        Event { said, ..self }
    }
}

fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

#[cfg(test)]
#[path = "socketio_tests.rs"]
mod tests;
