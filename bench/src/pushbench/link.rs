//! A socket that never blocks, with what came and was not understood yet, and what is still to be sent.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

/// Of one read. It lies on the stack and is cleared each time, thousands of times a second.
const READ_BYTES: usize = 8 * 1024;

pub struct Link {
    socket: TcpStream,
    pub inbox: Vec<u8>,
    outbox: Vec<u8>,
    /// When something came last; before, when it was begun.
    pub heard: Instant,
    is_connected: bool,
}

impl Link {
    /// Begins to connect, from that address if there is one.
    pub fn begin(to: SocketAddr, from: Option<IpAddr>) -> io::Result<Link> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(from) = from {
            socket.bind(&SocketAddr::from((from, 0)).into())?;
        }
        match socket.connect(&to.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => Err(error),
            _ => Ok(Link {
                socket: TcpStream::from_std(socket.into()),
                inbox: Vec::new(),
                outbox: Vec::new(),
                heard: Instant::now(),
                is_connected: false,
            }),
        }
    }

    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut self.socket, token, both)
    }

    /// Its events have this token from now on.
    pub fn rename(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.reregister(&mut self.socket, token, both)
    }

    /// Whether it is connected by now.
    pub fn connected(&mut self) -> io::Result<bool> {
        if !self.is_connected {
            if let Some(error) = self.socket.take_error()? {
                return Err(error);
            }
            self.is_connected = self.socket.peer_addr().is_ok();
        }
        Ok(self.is_connected)
    }

    /// Sends what the kernel takes, and the rest with the next events.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.outbox.extend_from_slice(bytes);
        self.flush()
    }

    pub fn flush(&mut self) -> io::Result<()> {
        let mut sent = 0;
        let outcome = loop {
            if sent == self.outbox.len() {
                break Ok(());
            }
            match self.socket.write(&self.outbox[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.outbox.drain(..sent);
        outcome
    }

    /// All that has come, into the inbox. Whether the other side will say more.
    pub fn read(&mut self) -> io::Result<bool> {
        let mut buffer = [0; READ_BYTES];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.heard = Instant::now();
                    self.inbox.extend_from_slice(&buffer[..count]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
