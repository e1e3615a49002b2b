//! The floor: one thread that writes prepared bytes to sockets and does nothing else. No server that asks the
//! kernel once for each socket can be faster; io_uring was no faster on the same rig.
//!
//! `/pub` publishes, every other path receives. It believes every handshake and knows no names and no limits.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::wire;

const LISTENER: Token = Token(usize::MAX);
const READ_BYTES: usize = 64 * 1024;

struct Connection {
    socket: TcpStream,
    /// The handshake's head, then the part of a frame that has come.
    unread: Vec<u8>,
    /// What the kernel did not take.
    unsent: VecDeque<u8>,
    role: Role,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Stranger,
    Subscriber,
    Publisher,
}

struct Floor {
    poll: Poll,
    listener: TcpListener,
    connections: Slab<Connection>,
    buffer: Vec<u8>,
    /// Frames published in this round.
    outgoing: Vec<u8>,
}

/// Serves on a free port of loopback, which it prints, until it is killed.
pub fn run() -> io::Result<()> {
    let mut listener = TcpListener::bind("127.0.0.1:0".parse().expect("an address"))?;
    let poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    writeln!(io::stdout(), "READY {}", listener.local_addr()?.port())?;
    let mut floor = Floor {
        poll,
        listener,
        connections: Slab::new(),
        buffer: vec![0; READ_BYTES],
        outgoing: Vec::new(),
    };
    let mut events = Events::with_capacity(1_024);
    loop {
        match floor.poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            if event.token() == LISTENER {
                floor.accept()?;
                continue;
            }
            if event.is_writable() {
                floor.resume(event.token().0);
            }
            if event.is_readable() {
                floor.read(event.token().0);
            }
        }
        floor.fan_out();
    }
}

impl Floor {
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            socket.set_nodelay(true)?;
            let entry = self.connections.vacant_entry();
            self.poll.registry().register(
                &mut socket,
                Token(entry.key()),
                Interest::READABLE | Interest::WRITABLE,
            )?;
            entry.insert(Connection {
                socket,
                unread: Vec::new(),
                unsent: VecDeque::new(),
                role: Role::Stranger,
            });
        }
    }

    fn read(&mut self, slot: usize) {
        while let Some(connection) = self.connections.get_mut(slot) {
            let count = match connection.socket.read(&mut self.buffer) {
                Ok(count) if count > 0 => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                _ => {
                    self.connections.remove(slot);
                    return;
                }
            };
            connection.unread.extend_from_slice(&self.buffer[..count]);
            if connection.role == Role::Stranger {
                connection.shake_hands();
            }
            if connection.role != Role::Stranger {
                let publishes = connection.role == Role::Publisher;
                let outgoing = &mut self.outgoing;
                wire::take_masked(&mut connection.unread, |opcode, payload| {
                    if publishes && opcode == wire::TEXT {
                        wire::push_plain(opcode, payload, outgoing);
                    }
                });
            }
            if count < self.buffer.len() {
                // The socket is empty: an edge-triggered epoll reports what comes from here on.
                return;
            }
        }
    }

    fn fan_out(&mut self) {
        if self.outgoing.is_empty() {
            return;
        }
        for (_, connection) in &mut self.connections {
            if connection.role == Role::Subscriber {
                connection.send(&self.outgoing);
            }
        }
        self.outgoing.clear();
    }

    fn resume(&mut self, slot: usize) {
        if let Some(connection) = self.connections.get_mut(slot)
            && !connection.unsent.is_empty()
        {
            let unsent: Vec<u8> = std::mem::take(&mut connection.unsent).into();
            connection.send(&unsent);
        }
    }
}

impl Connection {
    fn shake_hands(&mut self) {
        let Some(end) = wire::end_of_head(&self.unread) else {
            return;
        };
        self.role = if self.unread.starts_with(b"GET /pub") {
            Role::Publisher
        } else {
            Role::Subscriber
        };
        self.unread.drain(..end);
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            wire::ACCEPT
        );
        self.send(answer.as_bytes());
    }

    /// A failed socket is found by reading it.
    fn send(&mut self, bytes: &[u8]) {
        let taken = if self.unsent.is_empty() {
            self.socket.write(bytes).unwrap_or(0)
        } else {
            0
        };
        self.unsent.extend(&bytes[taken..]);
    }
}
