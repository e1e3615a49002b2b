//! The floor of whatever stands between a client and Redis: one thread that hands bytes on, both ways, and looks at none.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX);
const READ_BYTES: usize = 64 * 1024;

/// One end of a pair.
struct End {
    socket: TcpStream,
    /// Where the other end is.
    other: usize,
}

struct Relay {
    poll: Poll,
    ends: Slab<End>,
    buffer: Vec<u8>,
}

/// Serves on a free port of loopback, which it prints, until it is killed. Each connection gets one of its own to `to`.
pub fn run(to: SocketAddr) -> io::Result<()> {
    let mut listener = TcpListener::bind("127.0.0.1:0".parse().expect("an address"))?;
    let mut relay = Relay {
        poll: Poll::new()?,
        ends: Slab::new(),
        buffer: vec![0; READ_BYTES],
    };
    let registry = relay.poll.registry();
    registry.register(&mut listener, LISTENER, Interest::READABLE)?;
    writeln!(io::stdout(), "READY {}", listener.local_addr()?.port())?;
    let mut events = Events::with_capacity(16);
    loop {
        match relay.poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Some((socket, _)) = unless_blocked(listener.accept())? {
                    relay.join(socket, to)?;
                }
            } else if event.is_readable() {
                relay.hand_on(event.token().0)?;
            }
        }
    }
}

impl Relay {
    fn join(&mut self, near: TcpStream, to: SocketAddr) -> io::Result<()> {
        let far = std::net::TcpStream::connect(to)?;
        far.set_nonblocking(true)?;
        let near = self.add(near)?;
        let far = self.add(TcpStream::from_std(far))?;
        (self.ends[near].other, self.ends[far].other) = (far, near);
        Ok(())
    }

    fn add(&mut self, mut socket: TcpStream) -> io::Result<usize> {
        socket.set_nodelay(true)?;
        let entry = self.ends.vacant_entry();
        let slot = entry.key();
        let registry = self.poll.registry();
        registry.register(&mut socket, Token(slot), Interest::READABLE)?;
        entry.insert(End {
            socket,
            other: slot,
        });
        Ok(slot)
    }

    /// What has come, to the other end. A bench sends a message at a time: an end that takes no more is an error.
    fn hand_on(&mut self, slot: usize) -> io::Result<()> {
        let Relay { ends, buffer, .. } = self;
        while let Some(end) = ends.get_mut(slot) {
            let Some(count) = unless_blocked(end.socket.read(buffer))? else {
                return Ok(());
            };
            let other = end.other;
            if count == 0 {
                ends.remove(slot);
                ends.try_remove(other);
                return Ok(());
            }
            ends[other].socket.write_all(&buffer[..count])?;
            if count < buffer.len() {
                // The socket is empty: an edge-triggered epoll reports what comes from here on.
                return Ok(());
            }
        }
        Ok(())
    }
}

fn unless_blocked<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        result => result.map(Some),
    }
}
