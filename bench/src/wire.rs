//! WebSocket bytes (RFC 6455), as far as a load client and the floor need them. Pure.

/// The key and the accept value of RFC 6455 section 1.3. Every handshake of a bench uses them: what is measured
/// is the server's arithmetic, not the client's.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Section 11.8.
pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// Longest head of a server's frame: two bytes and a length of eight.
const MAX_HEAD: usize = 10;

/// The request of a client's handshake (section 4.1).
pub fn handshake(path: &str, host: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
}

/// Where the body begins, once the head of an HTTP message is complete.
pub fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(end + 4)
}

/// Appends a client's frame. The mask is fixed: it costs a server the same, and there is no proxy to protect.
pub fn push_masked(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    const MASK: [u8; 4] = [0x5a, 0x17, 0xc3, 0x2e];
    push_head(opcode, payload.len(), 0x80, out);
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(b, m)| b ^ m));
}

/// A client's answer to a ping without a payload.
pub fn pong() -> Vec<u8> {
    let mut frame = Vec::new();
    push_masked(PONG, b"", &mut frame);
    frame
}

/// Appends a server's frame.
pub fn push_plain(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    push_head(opcode, payload.len(), 0, out);
    out.extend_from_slice(payload);
}

fn push_head(opcode: u8, len: usize, masked: u8, out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short), _) if short < 126 => out.push(masked | short),
        (_, Ok(medium)) => {
            out.push(masked | 126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// Takes whole masked frames from the front of `bytes`; what is left is the beginning of the next one.
pub fn take_masked(bytes: &mut Vec<u8>, mut frame: impl FnMut(u8, &[u8])) {
    let mut at = 0;
    while let Some((head, len)) = head_of(&bytes[at..]) {
        let (mask, payload) = (at + head, at + head + 4);
        if bytes.len() < payload + len {
            break;
        }
        let key: [u8; 4] = bytes[mask..payload].try_into().expect("four bytes");
        for (byte, key) in bytes[payload..payload + len]
            .iter_mut()
            .zip(key.iter().cycle())
        {
            *byte ^= key;
        }
        frame(bytes[at] & 0x0f, &bytes[payload..payload + len]);
        at = payload + len;
    }
    bytes.drain(..at);
}

/// Takes the first of a server's frames, if it is there whole: opcode and payload.
pub fn take_plain(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (opcode, payload, used) = first_plain(bytes)?;
    let payload = payload.to_vec();
    bytes.drain(..used);
    Some((opcode, payload))
}

/// The first of a server's frames, if it is there whole: opcode, payload, and its length with its head.
pub fn first_plain(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (head, len) = head_of(bytes)?;
    let payload = bytes.get(head..head + len)?;
    Some((bytes[0] & 0x0f, payload, head + len))
}

/// Length of a frame's head without its mask, and of its payload; `None`: not all of the head is there.
fn head_of(bytes: &[u8]) -> Option<(usize, usize)> {
    let (head, len) = match bytes.get(1)? & 0x7f {
        126 => (4, bytes.get(2..4)?),
        127 => (10, bytes.get(2..10)?),
        short => return Some((2, usize::from(short))),
    };
    let len = len
        .iter()
        .fold(0, |len, byte| (len << 8) | usize::from(*byte));
    Some((head, len))
}

/// A frame that a server has sent whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    pub opcode: u8,
    /// Bytes of payload.
    pub len: usize,
}

/// Counts a server's frames without keeping them, however the kernel cuts them.
#[derive(Debug, Default, Clone)]
pub struct Scanner {
    head: [u8; MAX_HEAD],
    have: usize,
    /// Bytes of the current frame that have not come; 0 while its head is being read.
    left: usize,
    len: usize,
}

impl Scanner {
    pub fn feed(&mut self, mut bytes: &[u8], mut frame: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            if self.left == 0 {
                self.head[self.have] = bytes[0];
                self.have += 1;
                bytes = &bytes[1..];
                let Some((_, len)) = head_of(&self.head[..self.have]) else {
                    continue;
                };
                (self.left, self.len) = (len, len);
            }
            let taken = self.left.min(bytes.len());
            self.left -= taken;
            bytes = &bytes[taken..];
            if self.left == 0 {
                self.have = 0;
                frame(Frame {
                    opcode: self.head[0] & 0x0f,
                    len: self.len,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: [usize; 7] = [0, 1, 125, 126, 300, 65_535, 65_536];

    #[test]
    fn a_scanner_sees_every_frame_however_it_is_cut() {
        let mut stream = Vec::new();
        for len in LENGTHS {
            push_plain(TEXT, &vec![0x81; len], &mut stream);
        }
        push_plain(PING, b"", &mut stream);
        let mut expected: Vec<_> = LENGTHS
            .map(|len| Frame { opcode: TEXT, len })
            .into_iter()
            .collect();
        expected.push(Frame {
            opcode: PING,
            len: 0,
        });
        for step in [1, 2, 3, 7, 127, 4_096, stream.len()] {
            let mut scanner = Scanner::default();
            let mut seen = Vec::new();
            for part in stream.chunks(step) {
                scanner.feed(part, |frame| seen.push(frame));
            }
            assert_eq!(seen, expected, "in steps of {step}");
        }
    }

    #[test]
    fn a_masked_frame_comes_back_and_half_of_one_waits() {
        for len in LENGTHS {
            let payload: Vec<u8> = (0..=255).cycle().take(len).collect();
            let mut bytes = Vec::new();
            push_masked(TEXT, &payload, &mut bytes);
            let whole = bytes.len();
            push_masked(PONG, b"x", &mut bytes);
            bytes.pop();
            let rest = bytes.len() - whole;
            let mut seen = Vec::new();
            take_masked(&mut bytes, |opcode, payload| {
                seen.push((opcode, payload.to_vec()));
            });
            assert_eq!(seen, [(TEXT, payload)], "of {len} bytes");
            assert_eq!(bytes.len(), rest);
        }
    }

    #[test]
    fn a_servers_frame_is_taken_when_it_is_whole() {
        for len in LENGTHS {
            let payload = vec![7; len];
            let mut bytes = Vec::new();
            push_plain(TEXT, &payload, &mut bytes);
            let mut half = bytes[..bytes.len() - 1].to_vec();
            assert_eq!(take_plain(&mut half), None, "of {len} bytes");
            bytes.push(1);
            assert_eq!(take_plain(&mut bytes), Some((TEXT, payload)));
            assert_eq!(bytes, [1]);
        }
    }

    #[test]
    fn a_head_ends_with_an_empty_line() {
        for (bytes, end) in [
            ("", None),
            ("HTTP/1.1 101\r\nA: b\r\n", None),
            ("HTTP/1.1 101\r\n\r\nrest", Some(16)),
        ] {
            assert_eq!(end_of_head(bytes.as_bytes()), end, "{bytes:?}");
        }
        assert_eq!(
            end_of_head(handshake("/", "h").as_bytes()),
            Some(handshake("/", "h").len())
        );
    }
}
