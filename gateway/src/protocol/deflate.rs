//! permessage-deflate (RFC 7692) without context takeover in either direction: every message is compressed by
//! itself. So one compressed frame serves all its receivers, and no connection keeps a window (32 KiB and more)
//! between two messages: one compressor and one decompressor serve all connections of a thread.

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::close::CloseCode;
use super::frame::{RSV1, encode_with};

/// What a sender leaves away from the end of every message, and a receiver adds (section 7.2.1 and 7.2.2).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// An empty block that ends a stream (RFC 1951 section 3.2.4). Between two blocks it is read as that, inside of one as
/// something else: so a message that stops in the middle of a block is told from a whole one.
const END: [u8; 5] = [1, 0, 0, 0xff, 0xff];
/// The opcodes of text and binary messages, with FIN: what may be compressed.
const WHOLE_MESSAGES: [u8; 2] = [0x81, 0x82];
/// Room for an inflated message that stays with the thread.
const KEPT_BYTES: usize = 64 * 1024;
/// zlib's own default: beyond it each percent costs more time than it is worth.
const LEVEL: u32 = 6;

/// How far back in a message the client can look, as base-2 logarithm. Two are enough: what is compressed with a
/// smaller window can be read with any larger one, so every limit below 15 gets the smallest, and is rare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Window {
    /// 15 bits: all that deflate can use. Every browser.
    Full,
    /// 9 bits. The RFC also knows 8, which deflate's implementations do not write.
    Narrow,
}

/// All of them, each at its own index.
pub const WINDOWS: [Window; 2] = [Window::Full, Window::Narrow];

impl Window {
    /// The one for a client that asks for at most so many bits; None: it cannot be served.
    pub fn within(bits: u8) -> Option<Window> {
        match bits {
            15 => Some(Window::Full),
            9..=14 => Some(Window::Narrow),
            _ => None,
        }
    }

    fn bits(self) -> u8 {
        match self {
            Window::Full => 15,
            Window::Narrow => 9,
        }
    }
}

/// Compresses frames. What it needs (a quarter of a megabyte) is taken at the first frame.
#[derive(Debug)]
pub struct Deflater {
    min_message_bytes: usize,
    streams: [Option<Compress>; WINDOWS.len()],
}

impl Deflater {
    /// Shorter messages, in bytes, stay as they are: their receivers would pay for nothing.
    pub fn new(min_message_bytes: usize) -> Self {
        Deflater {
            min_message_bytes,
            streams: [None, None],
        }
    }

    /// From now on.
    pub fn set_min_message_bytes(&mut self, min_message_bytes: usize) {
        self.min_message_bytes = min_message_bytes;
    }

    /// One complete server frame, compressed; or as it is, if it is no message, is short, or would not shrink.
    pub fn deflate(&mut self, frame: &Bytes, window: Window) -> Bytes {
        match message_of(frame) {
            Some((first, payload)) if payload.len() >= self.min_message_bytes => {
                let stream = self.streams[window as usize].get_or_insert_with(|| {
                    Compress::new_with_window_bits(Compression::new(LEVEL), false, window.bits())
                });
                match shrink(stream, payload) {
                    Some(smaller) => {
                        let mut out = Vec::new();
                        encode_with(first | RSV1, &smaller, &mut out);
                        out.into()
                    }
                    None => frame.clone(),
                }
            }
            _ => frame.clone(),
        }
    }
}

/// The first byte and the payload, if `frame` is one whole message and nothing else.
fn message_of(frame: &[u8]) -> Option<(u8, &[u8])> {
    let [first, short, ..] = *frame else {
        return None;
    };
    let head = match short {
        0..=125 => 2,
        126 => 4,
        _ => 10,
    };
    let payload = frame.get(head..)?;
    let said = match short {
        0..=125 => u64::from(short),
        _ => frame[2..head]
            .iter()
            .fold(0, |len, byte| (len << 8) | u64::from(*byte)),
    };
    (WHOLE_MESSAGES.contains(&first) && said == payload.len() as u64).then_some((first, payload))
}

/// Section 7.2.1. None when nothing is gained.
fn shrink(stream: &mut Compress, payload: &[u8]) -> Option<Vec<u8>> {
    stream.reset();
    // With no room for more than the payload itself, "does not shrink" shows as a buffer that is full.
    let mut out = Vec::with_capacity(payload.len() + TAIL.len());
    let status = stream.compress_vec(payload, &mut out, FlushCompress::Sync);
    let complete = matches!(status, Ok(Status::Ok))
        && stream.total_in() == payload.len() as u64
        && out.ends_with(&TAIL);
    out.truncate(out.len().saturating_sub(TAIL.len()));
    (complete && out.len() < payload.len()).then_some(out)
}

/// Decompresses messages. What it needs is taken at the first one.
#[derive(Debug, Default)]
pub struct Inflater {
    stream: Option<Decompress>,
    out: Vec<u8>,
}

impl Inflater {
    /// The payload of a message as it was before compression (section 7.2.2).
    ///
    /// [`CloseCode::TooBig`] as soon as it is longer than `max_message_bytes`: a kilobyte can say a megabyte.
    /// [`CloseCode::Protocol`] if it is not deflate, or not whole.
    pub fn inflate(&mut self, message: &[u8], max_message_bytes: u32) -> Result<&[u8], CloseCode> {
        self.out.clear();
        // The memory of one large message is not kept for ever.
        self.out.shrink_to(KEPT_BYTES);
        let stream = self.stream.get_or_insert_with(|| Decompress::new(false));
        stream.reset(false);
        let max = usize::try_from(max_message_bytes).unwrap_or(usize::MAX);
        // A sender may end its stream in the message, and says so with an empty block after it (section 7.2.3.4).
        let ends = read(stream, &mut self.out, message, max)?;
        // Nothing is begun: an empty message, or one whose sender leaves the empty block away.
        if stream.total_in() == 0 {
            return Ok(&self.out);
        }
        let ends = ends + read(stream, &mut self.out, &TAIL, max)?;
        let len = self.out.len();
        let whole = read(stream, &mut self.out, &END, max)? == 1
            && stream.total_in() == 0
            && self.out.len() == len;
        if ends > 1 || !whole {
            return Err(CloseCode::Protocol);
        }
        Ok(&self.out)
    }
}

/// Inflates all of `rest`, and begins a new stream where one ends; returns how many ended, which is one at most. Of the
/// stream under way, `total_in` says how many bytes were read.
fn read(
    stream: &mut Decompress,
    out: &mut Vec<u8>,
    mut rest: &[u8],
    max: usize,
) -> Result<u32, CloseCode> {
    let mut ends = 0;
    loop {
        if out.len() == out.capacity() {
            let more = out.len().max(rest.len()).min(max + 1).max(256);
            out.reserve(more);
        }
        let (read, written) = (stream.total_in(), out.len());
        let status = stream.decompress_vec(rest, out, FlushDecompress::Sync);
        // First, since how far it comes before a mistake depends on the room that earlier messages have left.
        if out.len() > max {
            return Err(CloseCode::TooBig);
        }
        let status = status.map_err(|_| CloseCode::Protocol)?;
        let used = usize::try_from(stream.total_in() - read).unwrap_or(rest.len());
        rest = &rest[used..];
        if status == Status::StreamEnd {
            ends += 1;
            if ends > 1 {
                // A message of many streams, each with its own cost to set up.
                return Err(CloseCode::Protocol);
            }
            stream.reset(false);
        } else if used == 0 && out.len() == written {
            return if rest.is_empty() {
                Ok(ends)
            } else {
                Err(CloseCode::Protocol)
            };
        }
    }
}

#[cfg(test)]
#[path = "deflate_tests.rs"]
mod tests;
