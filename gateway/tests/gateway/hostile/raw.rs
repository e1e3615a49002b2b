//! A client that may break every rule: bytes on a socket.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::program::Gateway;
use crate::wait::within;

/// Of a handshake that is in order, without the line before and the empty one after.
pub const HANDSHAKE: &str = "host: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
pub const DEFLATE: &str = "sec-websocket-extensions: permessage-deflate\r\n";

/// A frame as a client must send it: masked, its length in the shortest form.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len() as u64);
    let mask = [7, 11, 13, 17];
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    frame
}

/// The header of such a frame, whatever follows it.
pub fn header(first: u8, len: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ 0..=125), _) => bytes.push(0x80 | short),
        (_, Ok(medium)) => {
            bytes.push(0x80 | 126);
            bytes.extend(medium.to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(len.to_be_bytes());
        }
    }
    bytes.extend([7, 11, 13, 17]);
    bytes
}

pub fn text(json: &str) -> Vec<u8> {
    masked(0x81, json.as_bytes())
}

/// What the server said until it ended the connection.
#[derive(Debug, Default)]
pub struct Said {
    pub texts: Vec<String>,
    pub pongs: usize,
    pub close: Option<(u16, String)>,
}

pub struct Raw {
    socket: TcpStream,
    received: Vec<u8>,
}

impl Raw {
    pub async fn connect(gateway: &Gateway) -> Raw {
        let socket = TcpStream::connect(gateway.clients).await.unwrap();
        let received = Vec::new();
        Raw { socket, received }
    }

    /// One whose kernel keeps as little as it can for it.
    pub async fn narrow(gateway: &Gateway) -> Raw {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let socket = socket.connect(gateway.clients).await.unwrap();
        let received = Vec::new();
        Raw { socket, received }
    }

    /// A WebSocket whose welcome has come. `more`: header lines.
    pub async fn upgrade(mut self, more: &str) -> Raw {
        let head = format!("GET /ws HTTP/1.1\r\n{HANDSHAKE}{more}\r\n");
        self.send(head.as_bytes()).await;
        within("101 and a welcome", async {
            while self.frame().is_none() {
                assert!(self.more().await, "closed: {:?}", self.shown());
            }
        })
        .await;
        assert!(
            self.shown().starts_with("HTTP/1.1 101"),
            "{:?}",
            self.shown()
        );
        let end = self.frame().unwrap();
        self.received.drain(..end);
        self
    }

    /// Where the first frame after the head ends, if it is all there.
    fn frame(&self) -> Option<usize> {
        let head = self
            .received
            .windows(4)
            .position(|four| four == b"\r\n\r\n")?
            + 4;
        let (_, _, used) = unframed(&self.received[head..])?;
        Some(head + used)
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.received).into_owned()
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        within("send", self.socket.write_all(bytes)).await.unwrap();
    }

    /// To somebody who may have closed meanwhile; whether it went.
    pub async fn try_send(&mut self, bytes: &[u8]) -> bool {
        within("send", self.socket.write_all(bytes)).await.is_ok()
    }

    /// Reads once; false at the end.
    async fn more(&mut self) -> bool {
        match self.socket.read_buf(&mut self.received).await {
            Ok(count) => count > 0,
            Err(e) if e.kind() == ErrorKind::ConnectionReset => false,
            Err(e) => panic!("read: {e}"),
        }
    }

    /// Reads until the server ends the connection.
    pub async fn end(&mut self) -> Said {
        within("the end", async { while self.more().await {} }).await;
        let (mut said, mut rest) = (Said::default(), &self.received[..]);
        while let Some((first, payload, used)) = unframed(rest) {
            match first {
                0x81 => said
                    .texts
                    .push(String::from_utf8(payload.to_vec()).unwrap()),
                0x8a => said.pongs += 1,
                0x88 => {
                    let (code, reason) = payload.split_first_chunk().unwrap_or((&[0; 2], &[]));
                    let reason = String::from_utf8(reason.to_vec()).unwrap();
                    said.close = Some((u16::from_be_bytes(*code), reason));
                }
                other => panic!("a frame that begins with {other:#x}"),
            }
            rest = &rest[used..];
        }
        assert!(rest.is_empty(), "half a frame at the end: {rest:?}");
        said
    }

    /// Reads one answer over HTTP, and the stream to its end if that is `whole`.
    pub async fn answer(&mut self, whole: bool) -> String {
        within("an answer", async {
            while (whole || !self.is_answered()) && self.more().await {}
        })
        .await;
        self.shown()
    }

    fn is_answered(&self) -> bool {
        let text = self.shown().to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            return false;
        };
        let length = head
            .split_once("content-length: ")
            .map_or("0", |(_, after)| after);
        let length = length.split("\r\n").next().unwrap_or_default();
        body.len() >= length.parse().unwrap()
    }

    /// Nothing more will be said, and the rest is not read either.
    pub async fn hang_up(mut self) {
        let _ = self.socket.shutdown().await;
    }

    /// The kernel tells the server in the rudest way that it has.
    pub fn reset(self) {
        socket2::SockRef::from(&self.socket)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
}

/// First byte, payload and length of the server's frame that `bytes` begins with.
fn unframed(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (&[first, short], rest) = bytes.split_first_chunk()?;
    let (len, rest) = match short {
        126 => rest
            .split_first_chunk()
            .map(|(len, rest)| (u16::from_be_bytes(*len).into(), rest))?,
        127 => rest
            .split_first_chunk()
            .map(|(len, rest)| (u64::from_be_bytes(*len), rest))?,
        short => (u64::from(short), rest),
    };
    let payload = rest.get(..usize::try_from(len).ok()?)?;
    let used = bytes.len() - rest.len() + payload.len();
    Some((first, payload, used))
}
