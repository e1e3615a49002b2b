//! The server's side of RFC 6455 as a codec over bytes: masked client frames in, unmasked server frames out.
//!
//! Bytes arrive in any pieces; "incomplete" is a normal result. Payloads are unmasked in place and checked as
//! they arrive, so that a text with a bad byte ends the connection at that byte, and a message over the limit
//! at its header, before anything of it is stored. An idle connection's decoder is one null pointer.

use std::str;

use bytes::Bytes;

use super::close::{CloseCode, allowed_on_the_wire};
use super::deflate::Inflater;

/// Longest header of a client frame: 2 bytes, 8 of length, 4 of mask.
const MAX_HEADER: usize = 14;
/// The reserved bits of the first byte, and the one that permessage-deflate gives a meaning (RFC 7692 section 6).
const RESERVED: u8 = 0x70;
pub(super) const RSV1: u8 = 0x40;
/// Longest payload of a control frame (section 5.5).
const MAX_CONTROL: u64 = 125;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xa,
}

/// A complete message or control frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    /// With the code that the peer gave, if any.
    Close(Option<u16>),
}

/// Whether to go on decoding after a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Go,
    Stop,
}

/// What a connection may send.
pub struct Reading<'a> {
    /// Of a message, as it was sent and, if it was compressed, also as it was before.
    pub max_message_bytes: u32,
    /// None: permessage-deflate was not agreed on.
    pub inflater: Option<&'a mut Inflater>,
}

#[derive(Debug, Default)]
pub struct Decoder(Option<Box<Partial>>);

/// What has to be remembered between two reads.
#[derive(Debug, Default)]
struct Partial {
    /// The beginning of a header.
    head: [u8; MAX_HEADER],
    head_len: usize,
    /// The frame whose payload is not complete, and how much of it has come.
    frame: Option<(Header, u64)>,
    /// Payload of an incomplete control frame; they may come between the fragments of a message.
    control: Vec<u8>,
    message: Option<Message>,
}

/// A message whose last fragment has not come. Never longer than the limit.
#[derive(Debug)]
struct Message {
    opcode: Opcode,
    compressed: bool,
    bytes: Vec<u8>,
    /// So many of the bytes are known to be UTF-8.
    valid: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    fin: bool,
    compressed: bool,
    opcode: Opcode,
    len: u64,
    mask: [u8; 4],
}

impl Decoder {
    /// Takes all of `input` (which it unmasks in place) and shows each complete frame to `visit`.
    ///
    /// An error is the code to close with; the decoder must not be used after it, nor after [`Next::Stop`].
    pub fn feed(
        &mut self,
        mut input: &mut [u8],
        reading: &mut Reading<'_>,
        visit: &mut impl FnMut(Frame<'_>) -> Next,
    ) -> Result<(), CloseCode> {
        while !input.is_empty() {
            let Some((header, received)) = self.resume(&mut input, reading)? else {
                return Ok(());
            };
            let wanted = header.len - received;
            let take =
                usize::try_from(wanted).map_or(input.len(), |wanted| wanted.min(input.len()));
            let (payload, rest) = input.split_at_mut(take);
            input = rest;
            unmask(payload, header.mask, received);
            let next = if payload.len() as u64 == header.len && header.stands_alone() {
                visit(reading.whole(header.opcode, header.compressed, payload)?)
            } else {
                match self.append(header, received, payload)? {
                    Some(whole) => {
                        visit(reading.whole(whole.opcode, whole.compressed, &whole.bytes)?)
                    }
                    None => Next::Go,
                }
            };
            if next == Next::Stop {
                return Ok(());
            }
            self.forget_if_idle();
        }
        Ok(())
    }

    /// The frame under way, or the next one; None when more bytes are needed to go on.
    fn resume(
        &mut self,
        input: &mut &mut [u8],
        reading: &Reading<'_>,
    ) -> Result<Option<(Header, u64)>, CloseCode> {
        if let Some(frame) = self.0.as_mut().and_then(|partial| partial.frame.take()) {
            return Ok(Some(frame));
        }
        let header = match &mut self.0 {
            Some(partial) if partial.head_len > 0 => partial.complete_head(input)?,
            _ => match Header::parse(input)? {
                Some((header, used)) => {
                    *input = &mut std::mem::take(input)[used..];
                    Some(header)
                }
                None => {
                    let partial = self.0.get_or_insert_default();
                    partial.head[..input.len()].copy_from_slice(input);
                    partial.head_len = input.len();
                    None
                }
            },
        };
        let Some(header) = header else {
            return Ok(None);
        };
        self.check(&header, reading)?;
        if header.len > 0 && input.is_empty() {
            self.0.get_or_insert_default().frame = Some((header, 0));
            return Ok(None);
        }
        Ok(Some((header, 0)))
    }

    /// The rules that need what was agreed on or the frames before: compression (RFC 7692 section 6),
    /// fragmentation (section 5.4) and the size of the whole.
    fn check(&self, header: &Header, reading: &Reading<'_>) -> Result<(), CloseCode> {
        if header.compressed && reading.inflater.is_none() {
            return Err(CloseCode::Protocol);
        }
        let message = self.0.as_ref().and_then(|p| p.message.as_ref());
        let before = match (header.opcode, message) {
            (Opcode::Continuation, Some(message)) => message.bytes.len() as u64,
            (Opcode::Continuation, None) | (Opcode::Text | Opcode::Binary, Some(_)) => {
                return Err(CloseCode::Protocol);
            }
            _ => 0,
        };
        match before.checked_add(header.len) {
            Some(total)
                if total <= u64::from(reading.max_message_bytes) || header.opcode.is_control() =>
            {
                Ok(())
            }
            _ => Err(CloseCode::TooBig),
        }
    }

    /// Keeps a piece of a frame that is incomplete or a fragment; returns what the piece completes.
    fn append(
        &mut self,
        header: Header,
        received: u64,
        payload: &[u8],
    ) -> Result<Option<Message>, CloseCode> {
        let partial = self.0.get_or_insert_default();
        let received = received + payload.len() as u64;
        let complete = received == header.len;
        if !complete {
            partial.frame = Some((header, received));
        }
        if header.opcode.is_control() {
            partial.control.extend_from_slice(payload);
            return Ok(complete.then(|| Message {
                bytes: std::mem::take(&mut partial.control),
                ..Message::new(&header)
            }));
        }
        let message = partial.message.get_or_insert_with(|| Message::new(&header));
        message.bytes.extend_from_slice(payload);
        message.check_utf8()?;
        if !(complete && header.fin) {
            return Ok(None);
        }
        Ok(partial.message.take())
    }

    /// Idle connections are most of them: what a partial frame took is given back.
    fn forget_if_idle(&mut self) {
        if let Some(partial) = &self.0
            && partial.head_len == 0
            && partial.frame.is_none()
            && partial.message.is_none()
        {
            self.0 = None;
        }
    }
}

impl Partial {
    fn complete_head(&mut self, input: &mut &mut [u8]) -> Result<Option<Header>, CloseCode> {
        loop {
            if let Some((header, used)) = Header::parse(&self.head[..self.head_len])? {
                debug_assert_eq!(
                    used, self.head_len,
                    "a header was complete before its last byte"
                );
                self.head_len = 0;
                return Ok(Some(header));
            }
            let Some((first, rest)) = std::mem::take(input).split_first_mut() else {
                return Ok(None);
            };
            self.head[self.head_len] = *first;
            self.head_len += 1;
            *input = rest;
        }
    }
}

impl Message {
    /// None of it has come.
    fn new(first: &Header) -> Self {
        Message {
            opcode: first.opcode,
            compressed: first.compressed,
            bytes: Vec::new(),
            valid: 0,
        }
    }

    /// Fails at the first byte that no continuation can make valid.
    fn check_utf8(&mut self) -> Result<(), CloseCode> {
        if self.opcode != Opcode::Text || self.compressed {
            return Ok(());
        }
        match str::from_utf8(&self.bytes[self.valid..]) {
            Ok(_) => self.valid = self.bytes.len(),
            Err(error) if error.error_len().is_none() => self.valid += error.valid_up_to(),
            Err(_) => return Err(CloseCode::InvalidUtf8),
        }
        Ok(())
    }
}

impl Reading<'_> {
    /// A message or control frame from all of its payload.
    fn whole<'b>(
        &'b mut self,
        opcode: Opcode,
        compressed: bool,
        payload: &'b [u8],
    ) -> Result<Frame<'b>, CloseCode> {
        let payload = match &mut self.inflater {
            Some(inflater) if compressed => inflater.inflate(payload, self.max_message_bytes)?,
            _ => payload,
        };
        Ok(match opcode {
            Opcode::Text => {
                Frame::Text(str::from_utf8(payload).map_err(|_| CloseCode::InvalidUtf8)?)
            }
            Opcode::Binary | Opcode::Continuation => Frame::Binary(payload),
            Opcode::Ping => Frame::Ping(payload),
            Opcode::Pong => Frame::Pong(payload),
            Opcode::Close => Frame::Close(close_code(payload)?),
        })
    }
}

impl Header {
    /// A whole message or control frame, once its payload has come.
    fn stands_alone(&self) -> bool {
        self.fin && self.opcode != Opcode::Continuation
    }

    /// None while bytes are missing; else the header and its length. Rules that need only the header are
    /// checked at its first two bytes (section 5.2).
    fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, CloseCode> {
        let [first, second, ..] = *bytes else {
            return Ok(None);
        };
        if first & RESERVED & !RSV1 != 0 {
            return Err(CloseCode::Protocol);
        }
        let compressed = first & RSV1 != 0;
        let fin = first & 0x80 != 0;
        let opcode = Opcode::from_bits(first & 0x0f).ok_or(CloseCode::Protocol)?;
        if second & 0x80 == 0 {
            // Section 5.1: a server must close on an unmasked frame.
            return Err(CloseCode::Protocol);
        }
        // RFC 7692 section 6.1: only the first frame of a message says that it is compressed.
        if compressed && (opcode.is_control() || opcode == Opcode::Continuation) {
            return Err(CloseCode::Protocol);
        }
        let short = second & 0x7f;
        if opcode.is_control() && (!fin || u64::from(short) > MAX_CONTROL) {
            return Err(CloseCode::Protocol);
        }
        let (len, at) = match short {
            126 => match bytes.get(2..4).and_then(|b| b.try_into().ok()) {
                Some(b) => (u64::from(u16::from_be_bytes(b)), 4),
                None => return Ok(None),
            },
            127 => match bytes.get(2..10).and_then(|b| b.try_into().ok()) {
                Some(b) => (u64::from_be_bytes(b), 10),
                None => return Ok(None),
            },
            short => (u64::from(short), 2),
        };
        // The shortest form must be used, and the highest bit be 0.
        if (short == 126 && len < 126) || (short == 127 && (len < 65_536 || len >> 63 != 0)) {
            return Err(CloseCode::Protocol);
        }
        match bytes.get(at..at + 4).and_then(|b| b.try_into().ok()) {
            Some(mask) => Ok(Some((
                Header {
                    fin,
                    compressed,
                    opcode,
                    len,
                    mask,
                },
                at + 4,
            ))),
            None => Ok(None),
        }
    }
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xa => Opcode::Pong,
            _ => return None,
        })
    }

    fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// Section 5.5.1: nothing, or a code that may be sent and a reason in UTF-8.
fn close_code(payload: &[u8]) -> Result<Option<u16>, CloseCode> {
    match payload {
        [] => Ok(None),
        [_] => Err(CloseCode::Protocol),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !allowed_on_the_wire(code) {
                return Err(CloseCode::Protocol);
            }
            str::from_utf8(reason).map_err(|_| CloseCode::InvalidUtf8)?;
            Ok(Some(code))
        }
    }
}

/// Section 5.3, for a piece that begins `offset` bytes into the payload; eight bytes at a time.
fn unmask(payload: &mut [u8], mut mask: [u8; 4], offset: u64) {
    mask.rotate_left((offset % 4) as usize);
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in tail.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

/// Appends an unmasked, unfragmented server frame, with the shortest length.
pub fn encode(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    encode_with(0x80 | opcode as u8, payload, out);
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "each arm's range fits its type"
)]
pub(super) fn encode_with(first: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(payload.len() + 10);
    out.push(first);
    match payload.len() {
        len @ 0..=125 => out.push(len as u8),
        len @ 126..=65_535 => {
            out.push(126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// The same of what `write` appends, which is mostly short.
pub fn encode_written(opcode: Opcode, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    out.extend_from_slice(&[0x80 | opcode as u8, 0]);
    write(out);
    match u8::try_from(out.len() - begin - 2) {
        Ok(len @ 0..=125) => out[begin + 1] = len,
        _ => {
            let payload = out.split_off(begin + 2);
            out.truncate(begin);
            encode(opcode, &payload, out);
        }
    }
}

/// One frame as bytes that many sockets can share.
pub fn frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    let mut out = Vec::new();
    encode(opcode, payload, &mut out);
    out.into()
}

/// A client's message as the server's own; None for a control frame.
pub fn same(message: &Frame<'_>) -> Option<Bytes> {
    match message {
        Frame::Text(text) => Some(frame(Opcode::Text, text.as_bytes())),
        Frame::Binary(bytes) => Some(frame(Opcode::Binary, bytes)),
        Frame::Ping(_) | Frame::Pong(_) | Frame::Close(_) => None,
    }
}

/// The close frame for a cause; none is sent for [`CloseCode::Abnormal`].
pub fn close(code: CloseCode) -> Bytes {
    if code == CloseCode::Abnormal {
        return Bytes::new();
    }
    let mut payload = code.code().to_be_bytes().to_vec();
    payload.extend_from_slice(code.reason().as_bytes());
    frame(Opcode::Close, &payload)
}

#[cfg(test)]
#[path = "frame_tests.rs"]
#[expect(
    clippy::cast_possible_truncation,
    clippy::too_many_lines,
    reason = "tables of small frames"
)]
mod tests;
