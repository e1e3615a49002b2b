//! Bytes of a gateway → what it said, in each of the three ways to be its client, and what is said to it. Pure.

use std::time::{Duration, Instant};

use super::comeback::{self, End, Next};
use super::judge::Position;
use super::socketio::SocketIo;
use super::spoken::{Said, subscription, understand};
use super::stream::{self, EventStream};
use crate::wire;

/// What was heard on a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    Said(Said),
    /// To be answered with these bytes.
    Asked(Vec<u8>),
    /// The last thing.
    Ended(End),
    /// It is not of the protocol.
    Strange(String),
}

/// How a client speaks, with what it remembers.
pub enum Dialect {
    /// The native protocol over WebSocket.
    Native,
    /// The same in an event stream, to which it only listens.
    Stream(EventStream),
    SocketIo(SocketIo),
}

impl Dialect {
    /// Somebody else, who speaks the same.
    pub fn forget(&mut self) {
        match self {
            Dialect::Native => {}
            Dialect::Stream(stream) => *stream = EventStream::default(),
            Dialect::SocketIo(socketio) => *socketio = SocketIo::default(),
        }
    }

    /// Another connection begins: what it says first.
    pub fn request<'a>(
        &mut self,
        channels: impl Iterator<Item = &'a str>,
        token: Option<&str>,
    ) -> String {
        let path = match self {
            Dialect::Native => match token {
                Some(token) => format!("/ws?token={token}"),
                None => "/ws".to_owned(),
            },
            Dialect::Stream(stream) => {
                stream.begin();
                return stream::request(channels, token, &stream.last_id);
            }
            Dialect::SocketIo(socketio) => {
                socketio.begin(token);
                "/socket.io/?EIO=4&transport=websocket".to_owned()
            }
        };
        wire::handshake(&path, "pushbench")
    }

    /// The status of the answer to that.
    pub fn welcome_status(&self) -> u16 {
        match self {
            Dialect::Native | Dialect::SocketIo(_) => 101,
            Dialect::Stream(_) => 200,
        }
    }

    /// Takes what can be understood off the front.
    pub fn take(&mut self, inbox: &mut Vec<u8>, now: Instant) -> Vec<Heard> {
        match self {
            Dialect::Native => take_frames(inbox, |text, heard| {
                heard.push(understand(text).map_or_else(Heard::Strange, Heard::Said));
            }),
            Dialect::Stream(stream) => stream.take(inbox),
            Dialect::SocketIo(socketio) => take_frames(inbox, |packet, heard| {
                socketio.packet(packet, now, heard);
            }),
        }
    }

    /// Asks for these channels, which are numbered. The request of an event stream has named them.
    pub fn subscribe<'a>(
        &self,
        channels: impl Iterator<Item = (&'a str, Option<Position>)>,
    ) -> Vec<u8> {
        let mut frames = Vec::new();
        for (number, (channel, recover)) in channels.enumerate() {
            let asked = subscription(channel, recover);
            let text = match self {
                Dialect::Native => format!(r#"{{"type":"subscribe",{asked}}}"#),
                Dialect::Stream(_) => continue,
                Dialect::SocketIo(_) => format!(r#"42{number}["subscribe",{{{asked}}}]"#),
            };
            wire::push_masked(wire::TEXT, text.as_bytes(), &mut frames);
        }
        frames
    }

    /// When something was heard that says that the other side is alive, if bytes were heard then.
    pub fn sign_of_life(&self, heard: Instant) -> Instant {
        match self {
            Dialect::Native | Dialect::Stream(_) => heard,
            Dialect::SocketIo(socketio) => socketio.pinged().unwrap_or(heard),
        }
    }

    /// The server did not acknowledge all that this client asked for, so what it kept for it may be more or less.
    pub fn give_up_session(&mut self) {
        if let Dialect::SocketIo(socketio) = self {
            socketio.give_up_session();
        }
    }

    /// What it closes with by itself.
    pub fn goodbye(&self) -> Vec<u8> {
        match self {
            Dialect::Native => close(Some(1_000)),
            Dialect::Stream(_) => Vec::new(),
            Dialect::SocketIo(_) => {
                let mut frames = text("41");
                frames.extend(close(None));
                frames
            }
        }
    }

    /// What it closes with after such an end; nothing: it lets the socket go.
    pub fn answer(&self, end: &End) -> Vec<u8> {
        match (self, end) {
            (Dialect::Stream(_), _) => Vec::new(),
            (_, End::Closed { code, .. }) if *code != 1_005 => close(Some(*code)),
            (Dialect::SocketIo(_), End::Disconnected | End::Denied(_)) => close(None),
            _ => Vec::new(),
        }
    }

    /// What it does after such an end; the rest is as `comeback::next` has it.
    pub fn next(
        &mut self,
        end: &End,
        advice: Option<Duration>,
        failures: u32,
        chance: f64,
    ) -> Next {
        match self {
            Dialect::Native | Dialect::Stream(_) => comeback::next(end, advice, failures, chance),
            // It has not heard of advice, and counts for itself.
            Dialect::SocketIo(socketio) => socketio.next(end, chance),
        }
    }
}

/// The status of an answer, and the bytes of its head; None: it is not there whole.
pub fn status(bytes: &[u8]) -> Option<(u16, usize)> {
    let end = wire::end_of_head(bytes)?;
    let line = bytes.strip_prefix(b"HTTP/1.1 ").unwrap_or_default();
    let digits = std::str::from_utf8(line.get(..3).unwrap_or_default()).ok();
    Some((digits.and_then(|d| d.parse().ok()).unwrap_or(0), end))
}

/// Takes whole frames off the front; what texts mean is `read`.
fn take_frames(inbox: &mut Vec<u8>, mut read: impl FnMut(&[u8], &mut Vec<Heard>)) -> Vec<Heard> {
    let mut heard = Vec::new();
    let mut at = 0;
    while let Some((opcode, payload, used)) = wire::first_plain(&inbox[at..]) {
        match opcode {
            wire::TEXT => read(payload, &mut heard),
            wire::PING => heard.push(Heard::Asked(frame(wire::PONG, payload))),
            wire::CLOSE => heard.push(Heard::Ended(closed(payload))),
            wire::PONG => heard.push(Heard::Said(Said::Other)),
            other => heard.push(Heard::Strange(format!("a frame with opcode {other}"))),
        }
        at += used;
    }
    inbox.drain(..at);
    heard
}

/// A close frame without a code is 1005 (RFC 6455 section 7.1.5).
fn closed(payload: &[u8]) -> End {
    let (code, reason) = match payload {
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        _ => (1005, &[][..]),
    };
    End::Closed {
        code,
        reason: String::from_utf8_lossy(reason).into_owned(),
    }
}

/// A client's close frame, without a code if there is none.
fn close(code: Option<u16>) -> Vec<u8> {
    let code = code.map(u16::to_be_bytes);
    frame(wire::CLOSE, code.as_ref().map_or(&[], |code| code))
}

/// A client's frame with a text.
pub fn text(text: &str) -> Vec<u8> {
    frame(wire::TEXT, text.as_bytes())
}

fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    wire::push_masked(opcode, payload, &mut frame);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server of these hears.
    fn read(mut frames: Vec<u8>) -> Vec<(u8, String)> {
        let mut seen = Vec::new();
        wire::take_masked(&mut frames, |opcode, payload| {
            seen.push((opcode, String::from_utf8_lossy(payload).into_owned()));
        });
        assert!(frames.is_empty(), "a frame is not whole");
        seen
    }

    fn socketio() -> Dialect {
        Dialect::SocketIo(SocketIo::default())
    }

    fn stream() -> Dialect {
        Dialect::Stream(EventStream::default())
    }

    fn closed(code: u16) -> End {
        let reason = String::new();
        End::Closed { code, reason }
    }

    #[test]
    fn frames_are_what_the_gateway_said() {
        let mut bytes = Vec::new();
        wire::push_plain(wire::TEXT, br#"{"type":"pong"}"#, &mut bytes);
        wire::push_plain(wire::PING, b"x", &mut bytes);
        wire::push_plain(wire::TEXT, b"no", &mut bytes);
        wire::push_plain(2, b"", &mut bytes);
        wire::push_plain(wire::CLOSE, b"\x03\xf4Server restarting", &mut bytes);
        wire::push_plain(wire::CLOSE, b"", &mut bytes);
        bytes.pop();
        let now = Instant::now();
        let heard = Dialect::Native.take(&mut bytes, now);
        assert_eq!(bytes.len(), 1, "half a frame waits");
        assert_eq!(heard.len(), 5);
        assert_eq!(heard[0], Heard::Said(Said::Other));
        let Heard::Asked(pong) = &heard[1] else {
            panic!("{heard:?}")
        };
        assert_eq!(read(pong.clone()), [(wire::PONG, "x".to_owned())]);
        assert!(matches!(heard[2], Heard::Strange(_)));
        assert_eq!(heard[3], Heard::Strange("a frame with opcode 2".to_owned()));
        let reason = "Server restarting".to_owned();
        assert_eq!(heard[4], Heard::Ended(End::Closed { code: 1012, reason }));
        bytes.push(0);
        assert_eq!(
            socketio().take(&mut bytes, now),
            [Heard::Ended(closed(1005))]
        );
    }

    #[test]
    fn each_begins_in_its_own_way() {
        for (mut dialect, token, expected) in [
            (Dialect::Native, None, "GET /ws HTTP/1.1\r\n"),
            (Dialect::Native, Some("t"), "GET /ws?token=t HTTP/1.1\r\n"),
            (
                stream(),
                Some("t"),
                "GET /sse?channel=a&token=t HTTP/1.1\r\n",
            ),
            (
                socketio(),
                Some("t"),
                "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n",
            ),
        ] {
            let request = dialect.request(["a"].into_iter(), token);
            assert!(request.starts_with(expected), "{request}");
        }
    }

    #[test]
    fn channels_are_asked_for_where_the_request_did_not() {
        let at = Position {
            epoch: 7,
            offset: 12,
        };
        let native = [
            r#"{"type":"subscribe","channel":"a"}"#,
            r#"{"type":"subscribe","channel":"b","recover":{"epoch":7,"offset":12}}"#,
        ];
        let in_socketio = [
            r#"420["subscribe",{"channel":"a"}]"#,
            r#"421["subscribe",{"channel":"b","recover":{"epoch":7,"offset":12}}]"#,
        ];
        for (dialect, expected) in [
            (Dialect::Native, &native[..]),
            (stream(), &[]),
            (socketio(), &in_socketio),
        ] {
            let asked = dialect.subscribe([("a", None), ("b", Some(at))].into_iter());
            let texts = expected.iter().map(|text| (wire::TEXT, (*text).to_owned()));
            assert_eq!(read(asked), texts.collect::<Vec<_>>());
        }
    }

    #[test]
    fn each_ends_in_its_own_way() {
        let close = |payload: &str| (wire::CLOSE, payload.to_owned());
        assert_eq!(read(Dialect::Native.goodbye()), [close("\u{3}\u{fffd}")]);
        assert_eq!(read(stream().goodbye()), []);
        let left = [(wire::TEXT, "41".to_owned()), close("")];
        assert_eq!(read(socketio().goodbye()), left);
        let echo = [close("\u{3}\u{fffd}")];
        for (dialect, end, expected) in [
            (Dialect::Native, closed(1012), &echo[..]),
            (Dialect::Native, closed(1005), &[]),
            (Dialect::Native, End::Cut, &[]),
            (stream(), closed(1012), &[]),
            (socketio(), closed(1012), &echo),
            (socketio(), End::Disconnected, &[close("")]),
            (socketio(), End::Denied(String::new()), &[close("")]),
            (socketio(), End::Silent, &[]),
        ] {
            assert_eq!(read(dialect.answer(&end)), expected, "{end:?}");
        }
    }

    #[test]
    fn a_status_is_in_the_first_line() {
        for (bytes, expected) in [
            ("HTTP/1.1 101 Switching\r\n\r\nx", Some((101, 26))),
            ("HTTP/1.1 503 No\r\nA: b\r\n", None),
            ("HTTP/1.1 x\r\n\r\n", Some((0, 14))),
            ("\r\n\r\n", Some((0, 4))),
        ] {
            assert_eq!(status(bytes.as_bytes()), expected, "{bytes:?}");
        }
    }
}
