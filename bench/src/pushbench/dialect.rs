//! Bytes of a gateway → what it said, over WebSocket and over event streams. Pure.

use super::spoken::{Said, understand};
use crate::wire;

/// What was heard on a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    Said(Said),
    /// To be answered with these bytes.
    Ping(Vec<u8>),
    /// The last thing; over WebSocket to be answered with the same code.
    Closed {
        code: u16,
        reason: String,
    },
    /// It is not of the protocol.
    Strange(String),
}

/// The status of an answer, and the bytes of its head; None: it is not there whole.
pub fn status(bytes: &[u8]) -> Option<(u16, usize)> {
    let end = wire::end_of_head(bytes)?;
    let line = bytes.strip_prefix(b"HTTP/1.1 ").unwrap_or_default();
    let digits = std::str::from_utf8(line.get(..3).unwrap_or_default()).ok();
    Some((digits.and_then(|d| d.parse().ok()).unwrap_or(0), end))
}

/// Takes whole frames off the front.
pub fn take_frames(inbox: &mut Vec<u8>) -> Vec<Heard> {
    let mut heard = Vec::new();
    let mut at = 0;
    while let Some((opcode, payload, used)) = wire::first_plain(&inbox[at..]) {
        heard.push(match opcode {
            wire::TEXT => understand(payload).map_or_else(Heard::Strange, Heard::Said),
            wire::PING => Heard::Ping(payload.to_vec()),
            wire::CLOSE => closed(payload),
            wire::PONG => Heard::Said(Said::Other),
            other => Heard::Strange(format!("a frame with opcode {other}")),
        });
        at += used;
    }
    inbox.drain(..at);
    heard
}

/// A close frame without a code is 1005 (RFC 6455 section 7.1.5).
fn closed(payload: &[u8]) -> Heard {
    let (code, reason) = match payload {
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        _ => (1005, &[][..]),
    };
    Heard::Closed {
        code,
        reason: String::from_utf8_lossy(reason).into_owned(),
    }
}

/// A client's close frame.
pub fn close(code: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    wire::push_masked(wire::CLOSE, &code.to_be_bytes(), &mut frame);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let heard = take_frames(&mut bytes);
        assert_eq!(bytes.len(), 1, "half a frame waits");
        assert_eq!(heard.len(), 5);
        assert_eq!(heard[0], Heard::Said(Said::Other));
        assert_eq!(heard[1], Heard::Ping(b"x".to_vec()));
        assert!(matches!(heard[2], Heard::Strange(_)));
        assert_eq!(heard[3], Heard::Strange("a frame with opcode 2".to_owned()));
        let reason = "Server restarting".to_owned();
        assert_eq!(heard[4], Heard::Closed { code: 1012, reason });
        bytes.push(0);
        let reason = String::new();
        assert_eq!(
            take_frames(&mut bytes),
            [Heard::Closed { code: 1005, reason }]
        );
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

    #[test]
    fn a_clients_close_is_masked() {
        let mut frame = close(1_000);
        let mut seen = Vec::new();
        wire::take_masked(&mut frame, |opcode, payload| {
            seen.push((opcode, payload.to_vec()));
        });
        assert_eq!(seen, [(wire::CLOSE, vec![3, 232])]);
    }
}
