//! A connection before it joins the load: connect, handshake, subscribe; blocking, with a deadline. And the words
//! of each server for it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::programs::Peer;
use crate::server::token;
use crate::wire;

/// A server that takes longer than this for one answer has lost it.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Opening {
    socket: TcpStream,
    /// Read and not yet understood.
    bytes: Vec<u8>,
}

impl Opening {
    /// Connects and sends the handshake.
    pub fn begin(address: SocketAddr, path: &str) -> io::Result<Opening> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        // Closing resets: thousands of ports in TIME_WAIT would be missing in the next round.
        socket.set_linger(Some(Duration::ZERO))?;
        socket.set_tcp_nodelay(true)?;
        socket.connect_timeout(&address.into(), PATIENCE)?;
        let mut socket = TcpStream::from(socket);
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(wire::handshake(path, &address.to_string()).as_bytes())?;
        Ok(Opening {
            socket,
            bytes: Vec::new(),
        })
    }

    /// Waits until the server has switched protocols.
    pub fn switched(&mut self) -> io::Result<()> {
        let end = loop {
            match wire::end_of_head(&self.bytes) {
                Some(end) => break end,
                None => self.read()?,
            }
        };
        let head = String::from_utf8_lossy(&self.bytes[..end]).into_owned();
        self.bytes.drain(..end);
        if head.starts_with("HTTP/1.1 101 ") && head.contains(wire::ACCEPT) {
            return Ok(());
        }
        Err(io::Error::other(format!("the server answered {head:?}")))
    }

    pub fn send(&mut self, text: &str) -> io::Result<()> {
        self.send_many(text, 1)
    }

    /// The same text so many times, in one write.
    pub fn send_many(&mut self, text: &str, count: usize) -> io::Result<()> {
        let mut frame = Vec::new();
        for _ in 0..count {
            wire::push_masked(wire::TEXT, text.as_bytes(), &mut frame);
        }
        self.socket.write_all(&frame)
    }

    /// The next text message.
    pub fn text(&mut self) -> io::Result<String> {
        loop {
            if let Some((opcode, payload)) = wire::take_plain(&mut self.bytes) {
                if opcode == wire::TEXT {
                    return Ok(String::from_utf8_lossy(&payload).into_owned());
                }
                continue;
            }
            self.read()?;
        }
    }

    /// Bytes as they are: frames that were made before.
    pub fn send_frames(&mut self, frames: &[u8]) -> io::Result<()> {
        self.socket.write_all(frames)
    }

    /// The next so many text messages, without a copy of each: a client that shares the machine with what it measures
    /// takes from it.
    pub fn texts(&mut self, mut count: usize, mut see: impl FnMut(&[u8])) -> io::Result<()> {
        loop {
            let mut at = 0;
            while count > 0
                && let Some((opcode, payload, used)) = wire::first_plain(&self.bytes[at..])
            {
                if opcode == wire::TEXT {
                    see(payload);
                    count -= 1;
                }
                at += used;
            }
            self.bytes.drain(..at);
            if count == 0 {
                return Ok(());
            }
            self.read()?;
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16_384];
        let count = self.socket.read(&mut buffer)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.bytes.extend_from_slice(&buffer[..count]);
        Ok(())
    }

    /// The socket, for a loop. Nothing may have come that was not asked for: it would be lost here.
    pub fn into_socket(self) -> io::Result<TcpStream> {
        if !self.bytes.is_empty() {
            let text = String::from_utf8_lossy(&self.bytes).into_owned();
            return Err(io::Error::other(format!("the server also said {text:?}")));
        }
        self.socket.set_nonblocking(true)?;
        Ok(self.socket)
    }
}

/// How one speaks with a server. The gateway has its protocol; the floor and the peers have none: `/sub` receives
/// what is sent to `/pub`.
pub struct Words {
    is_native: bool,
}

impl Words {
    pub fn of(peer: Peer) -> Words {
        Words {
            is_native: peer == Peer::Gateway,
        }
    }

    /// Each subscriber is a user of its own, as in life.
    pub fn subscriber_path(&self, number: usize) -> String {
        let path = if self.is_native { "/ws" } else { "/sub" };
        format!("{path}?token={}", token(&format!("s{number}")))
    }

    pub fn publisher_path(&self) -> String {
        if self.is_native {
            format!("/ws?token={}", token("p"))
        } else {
            "/pub".to_owned()
        }
    }

    /// Waits for what the server says by itself.
    pub fn greeted(&self, opening: &mut Opening) -> io::Result<()> {
        if self.is_native {
            self.expect(opening, "welcome")?;
        }
        Ok(())
    }

    pub fn ask(&self, opening: &mut Opening, channel: &str) -> io::Result<()> {
        if self.is_native {
            opening.send(&Words::subscribe(channel))?;
        }
        Ok(())
    }

    /// The gateway's words for it.
    pub fn subscribe(channel: &str) -> String {
        format!(r#"{{"type":"subscribe","channel":"{channel}"}}"#)
    }

    pub fn answered(&self, opening: &mut Opening) -> io::Result<()> {
        if self.is_native {
            self.expect(opening, "subscribed")?;
        }
        Ok(())
    }

    /// A greeting may come before what is waited for; anything else is an error.
    fn expect(&self, opening: &mut Opening, kind: &str) -> io::Result<()> {
        loop {
            let text = opening.text()?;
            if text.contains(&format!(r#""type":"{kind}""#)) {
                return Ok(());
            }
            if !text.contains(r#""type":"welcome""#) {
                return Err(io::Error::other(format!("the server said {text}")));
            }
        }
    }

    /// What a publisher sends: a text of `len` bytes, and around it what the server needs to know.
    pub fn message(&self, channel: &str, len: usize) -> String {
        let text = "x".repeat(len);
        if self.is_native {
            format!(r#"{{"type":"chat","channel":"{channel}","message":"{text}"}}"#)
        } else {
            text
        }
    }
}
