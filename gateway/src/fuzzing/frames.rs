//! Frames of a client: the network may cut them anywhere, and tungstenite must say the same of them.

use std::io::{self, Cursor, Read, Write};

use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{Bytes, pieces};
use crate::protocol::close::CloseCode;
use crate::protocol::deflate::Inflater;
use crate::protocol::frame::{Decoder, Frame, Next, Reading};

/// At least a control frame's, which is no message and has a limit of its own.
const LIMITS: [u32; 4] = [125, 500, 70_000, 1_000];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

/// First byte: what was agreed on, and how the rest is to be read. Second byte: how the network cuts. Then frames.
pub fn frames(input: &[u8]) {
    let mut input = Bytes(input);
    let (how, cut) = (input.byte(), input.byte());
    let limit = LIMITS[usize::from(how >> 1 & 3)];
    let compression = how & 1 != 0;
    let stream = if how & 8 == 0 {
        input.0.to_vec()
    } else {
        well_formed(&mut input)
    };
    let whole = decode([&stream[..]], limit, compression);
    let cut = decode(pieces(&stream, cut), limit, compression);
    assert_eq!(cut, whole, "how the network cuts must not matter");
    let single = decode(stream.chunks(1), limit, compression);
    assert_eq!(single, whole, "byte by byte");
    if !compression {
        agree(&whole, &stream, limit);
    }
}

/// Frames whose heads fit their payloads: first byte, length, payload, and again.
fn well_formed(input: &mut Bytes<'_>) -> Vec<u8> {
    let mut stream = Vec::new();
    while !input.0.is_empty() {
        let (first, len) = (input.byte(), usize::from(input.byte()));
        // Some that need the longer forms of a length.
        let len = if len > 250 { len * 280 } else { len };
        stream.extend(client(first, input.take(len)));
    }
    stream
}

/// One masked frame.
pub(super) fn client(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x12, 0x00, 0x9c, 0xff];
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | u8::try_from(len).expect("in range")),
        len @ 126..=65_535 => {
            frame.push(0xfe);
            frame.extend(u16::try_from(len).expect("in range").to_be_bytes());
        }
        len => {
            frame.push(0xff);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

/// What the pieces say, to the first close frame or error.
pub(super) fn decode<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    max_message_bytes: u32,
    compression: bool,
) -> (Vec<Seen>, Result<(), CloseCode>) {
    let mut inflater = Inflater::default();
    let mut reading = Reading {
        max_message_bytes,
        inflater: compression.then_some(&mut inflater),
    };
    let (mut decoder, mut seen) = (Decoder::default(), Vec::new());
    for piece in pieces {
        let mut closed = false;
        let fed = decoder.feed(&mut piece.to_vec(), &mut reading, &mut |frame| {
            closed = matches!(frame, Frame::Close(_));
            seen.push(match frame {
                Frame::Text(text) => Seen::Text(text.to_owned()),
                Frame::Binary(bytes) => Seen::Binary(bytes.to_vec()),
                Frame::Ping(bytes) => Seen::Ping(bytes.to_vec()),
                Frame::Pong(bytes) => Seen::Pong(bytes.to_vec()),
                Frame::Close(code) => Seen::Close(code),
            });
            if closed { Next::Stop } else { Next::Go }
        });
        if fed.is_err() || closed {
            return (seen, fed);
        }
    }
    (seen, Ok(()))
}

/// Where the two may differ: tungstenite takes a length that is not in its shortest form, and it looks at a frame once
/// all of it has come, and so does not see what is wrong with one that never ends.
fn agree((seen, result): &(Vec<Seen>, Result<(), CloseCode>), stream: &[u8], limit: u32) {
    let (theirs, end) = tungstenite(stream, limit);
    let incomplete = matches!(
        end,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
    );
    match result {
        Ok(()) => {
            assert_eq!(&theirs, seen, "tungstenite sees other messages, and {end}");
            let closed = matches!(seen.last(), Some(Seen::Close(_)));
            assert!(
                if closed {
                    matches!(end, Error::ConnectionClosed)
                } else {
                    incomplete
                },
                "tungstenite refuses what we take: {end}"
            );
        }
        Err(code) => {
            if *code == CloseCode::Protocol && has_long_length(stream) {
                return;
            }
            // A forbidden close code it reports as its own answer to that.
            let theirs: Vec<_> = match &theirs[..] {
                [before @ .., Seen::Close(Some(1002))] if before.len() == seen.len() => {
                    before.to_vec()
                }
                _ => theirs,
            };
            assert_eq!(
                &theirs, seen,
                "before we refuse with {code:?}, tungstenite sees other messages, and {end}"
            );
            // With the rest of the frame, and something behind it that is no frame of a client, it refuses too.
            let mut longer = stream.to_vec();
            longer.resize(stream.len() + limit as usize + 100, 0);
            let (_, end) = tungstenite(&longer, limit);
            assert!(
                !matches!(
                    end,
                    Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
                ),
                "tungstenite takes what we refuse with {code:?}"
            );
        }
    }
}

/// Whether a length that could be shorter begins somewhere. More than needed, since it does not ask where frames begin.
fn has_long_length(stream: &[u8]) -> bool {
    let long = |bytes: &[u8]| match bytes {
        [0xfe, 0, len, ..] => *len < 126,
        [0xff, 0, 0, 0, 0, 0, 0, _, _, ..] => true,
        _ => false,
    };
    (0..stream.len()).any(|at| long(&stream[at..]))
}

fn tungstenite(stream: &[u8], limit: u32) -> (Vec<Seen>, Error) {
    let limit = Some(limit as usize);
    let config = WebSocketConfig::default()
        .max_message_size(limit)
        .max_frame_size(limit)
        .read_buffer_size(256);
    let mut socket =
        WebSocket::from_raw_socket(Deaf(Cursor::new(stream)), Role::Server, Some(config));
    let mut seen = Vec::new();
    loop {
        seen.push(match socket.read() {
            Ok(Message::Text(text)) => Seen::Text(text.as_str().to_owned()),
            Ok(Message::Binary(bytes)) => Seen::Binary(bytes.to_vec()),
            Ok(Message::Ping(bytes)) => Seen::Ping(bytes.to_vec()),
            Ok(Message::Pong(bytes)) => Seen::Pong(bytes.to_vec()),
            Ok(Message::Close(close)) => Seen::Close(close.map(|close| close.code.into())),
            Ok(Message::Frame(_)) => unreachable!("tungstenite reads none"),
            Err(end) => return (seen, end),
        });
    }
}

/// Reads, and takes whatever is written.
struct Deaf<'a>(Cursor<&'a [u8]>);

impl Read for Deaf<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.0.read(room)
    }
}

impl Write for Deaf<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
