//! The load: many subscribers and one publisher in one thread, which never sleeps while it measures. A client that
//! sleeps has to be woken by the kernel, and the server would pay for that.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::opening::{Opening, Words};
use crate::programs::Peer;
use crate::server::Server;
use crate::wire::{self, Scanner};

const PUBLISHER: Token = Token(usize::MAX);
/// One read; more than a subscriber's socket holds in a round.
const READ_BYTES: usize = 256 * 1024;
/// Shown of what a server said before it closed: a close frame with its reason.
const LAST_BYTES: usize = 125;
/// Without a byte for so long, something is lost.
const STALLED: Duration = Duration::from_secs(20);
/// Handshakes under way at once: enough that the server never waits for the client.
pub const BATCH: usize = 64;

/// Why a measurement ended early.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{peer}: connection {number}: {cause}")]
    Connect {
        peer: Peer,
        number: usize,
        cause: io::Error,
    },
    #[error("{peer}: poll sockets: {0}", peer = .1)]
    Poll(io::Error, Peer),
    #[error("{peer}: subscriber {number} was disconnected; the last it heard was {heard:?}")]
    Disconnected {
        peer: Peer,
        number: usize,
        heard: String,
    },
    #[error("{peer}: the publisher was disconnected, or answered: {answer:?}")]
    Publisher { peer: Peer, answer: String },
    #[error("{peer}: {received} of {expected} deliveries came, and then nothing")]
    Stalled {
        peer: Peer,
        received: u64,
        expected: u64,
    },
    #[error("{peer}: messages of {len} bytes came where {expected} were expected")]
    Length {
        peer: Peer,
        len: usize,
        expected: usize,
    },
}

/// Which channels a subscriber has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// All the same one.
    Shared,
    /// That one, and one of its own.
    SharedAndOwn,
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    Everyone,
    /// The subscriber of this number, on its own channel.
    Own(usize),
}

impl To {
    fn channel(self) -> String {
        match self {
            To::Everyone => "c".to_owned(),
            To::Own(number) => format!("c{number}"),
        }
    }
}

struct Member {
    socket: TcpStream,
    scanner: Scanner,
}

/// Subscribers of one server, and a publisher.
pub struct Crowd {
    peer: Peer,
    poll: Poll,
    events: Events,
    members: Vec<Member>,
    publisher: TcpStream,
    /// What the server has not taken of the publisher's frames.
    unsent: Vec<u8>,
    buffer: Vec<u8>,
    received: u64,
    /// Bytes of the payload of the last delivery.
    len: usize,
    /// What messages look like from now on; others are an error.
    expected_len: Option<usize>,
}

/// A batch of connections whose handshake is done; `first` is the number of the first.
fn open_batch(server: &Server, first: usize, count: usize) -> Result<Vec<Opening>, LoadError> {
    let words = Words::of(server.peer);
    let mut batch = Vec::with_capacity(count);
    for number in first..first + count {
        let begun = Opening::begin(server.address, &words.subscriber_path(number));
        batch.push(begun.map_err(failed(server.peer, number))?);
    }
    for (at, opening) in batch.iter_mut().enumerate() {
        let switched = opening.switched();
        switched.map_err(failed(server.peer, first + at))?;
    }
    Ok(batch)
}

/// Subscribes each connection of a batch to its channel.
fn subscribe(
    peer: Peer,
    first: usize,
    batch: &mut [Opening],
    channel: impl Fn(usize) -> To,
) -> Result<(), LoadError> {
    let words = Words::of(peer);
    for (opening, number) in batch.iter_mut().zip(first..) {
        let asked = words.ask(opening, &channel(number).channel());
        asked.map_err(failed(peer, number))?;
    }
    for (opening, number) in batch.iter_mut().zip(first..) {
        words.answered(opening).map_err(failed(peer, number))?;
    }
    Ok(())
}

fn failed(peer: Peer, number: usize) -> impl FnOnce(io::Error) -> LoadError {
    move |cause| LoadError::Connect {
        peer,
        number,
        cause,
    }
}

/// Opens so many connections and lets them go.
pub fn come_and_go(server: &Server, count: usize) -> Result<(), LoadError> {
    for first in (0..count).step_by(BATCH) {
        open_batch(server, first, BATCH.min(count - first))?;
    }
    Ok(())
}

impl Crowd {
    /// Connects and subscribes all of them, and returns when each has its acknowledgement.
    pub fn gather(server: &Server, count: usize, channels: Channels) -> Result<Crowd, LoadError> {
        let peer = server.peer;
        let words = Words::of(peer);
        let poll = Poll::new().map_err(|e| LoadError::Poll(e, peer))?;
        let publisher = Opening::begin(server.address, &words.publisher_path())
            .and_then(|mut opening| {
                opening.switched()?;
                words.greeted(&mut opening)?;
                adopt(&poll, opening, PUBLISHER)
            })
            .map_err(failed(peer, count))?;
        let mut crowd = Crowd {
            peer,
            poll,
            events: Events::with_capacity(1_024),
            members: Vec::with_capacity(count),
            publisher,
            unsent: Vec::new(),
            buffer: vec![0; READ_BYTES],
            received: 0,
            len: 0,
            expected_len: None,
        };
        for first in (0..count).step_by(BATCH) {
            let mut batch = open_batch(server, first, BATCH.min(count - first))?;
            subscribe(peer, first, &mut batch, |_| To::Everyone)?;
            if channels == Channels::SharedAndOwn {
                subscribe(peer, first, &mut batch, To::Own)?;
            }
            for (opening, number) in batch.into_iter().zip(first..) {
                let socket = adopt(&crowd.poll, opening, Token(number));
                crowd.members.push(Member {
                    socket: socket.map_err(failed(peer, number))?,
                    scanner: Scanner::default(),
                });
            }
            // The first ones are pinged while the last ones come.
            crowd.turn(|_| ())?;
        }
        Ok(crowd)
    }

    /// Frames for [`Crowd::publish`] that arrive with a payload of `size` bytes, one for each of `to`. What the
    /// server adds is found out with a first message to everyone.
    pub fn prepare(&mut self, size: usize, to: &[To]) -> Result<Vec<u8>, LoadError> {
        let words = Words::of(self.peer);
        self.expected_len = None;
        let mut frames = Vec::new();
        for to in to {
            let mut one = Vec::new();
            let text = words.message(&to.channel(), 1);
            wire::push_masked(wire::TEXT, text.as_bytes(), &mut one);
            let receivers = match to {
                To::Everyone => self.members.len() as u64,
                To::Own(_) => 1,
            };
            // Channels of their own differ in the length of their name only; asking for each would take long.
            let added = match to {
                To::Own(number) if *number > 0 => {
                    let first = To::Own(0).channel().len();
                    self.len - 1 + to.channel().len() - first
                }
                _ => {
                    self.round(&one, receivers)?;
                    self.len - 1
                }
            };
            let text_len = size.checked_sub(added).ok_or(LoadError::Length {
                peer: self.peer,
                len: added,
                expected: size,
            })?;
            let text = words.message(&to.channel(), text_len.max(1));
            wire::push_masked(wire::TEXT, text.as_bytes(), &mut frames);
        }
        self.expected_len = Some(size);
        Ok(frames)
    }

    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// For messages that come another way than [`Crowd::prepare`] made them.
    pub fn expect_any_length(&mut self) {
        self.expected_len = None;
    }

    /// Publishes the frames and returns when `expected` deliveries have come.
    pub fn round(&mut self, frames: &[u8], expected: u64) -> Result<(), LoadError> {
        self.publish(frames)?;
        let before = self.received;
        let mut last = Instant::now();
        while self.received - before < expected {
            if self.turn(|_| ())? {
                last = Instant::now();
            } else if last.elapsed() > STALLED {
                return Err(LoadError::Stalled {
                    peer: self.peer,
                    received: self.received - before,
                    expected,
                });
            }
        }
        Ok(())
    }

    pub fn publish(&mut self, frames: &[u8]) -> Result<(), LoadError> {
        self.unsent.extend_from_slice(frames);
        self.send()
    }

    fn send(&mut self) -> Result<(), LoadError> {
        while !self.unsent.is_empty() {
            match self.publisher.write(&self.unsent) {
                Ok(count) => {
                    self.unsent.drain(..count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => {
                    return Err(LoadError::Publisher {
                        peer: self.peer,
                        answer: error.to_string(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Reads what there is, without waiting; `delivered` is told the subscriber's number for each delivery.
    /// Whether anything came.
    pub fn turn(&mut self, mut delivered: impl FnMut(usize)) -> Result<bool, LoadError> {
        self.send()?;
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let polled = self.poll.poll(&mut events, Some(Duration::ZERO));
        match polled {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                return Err(LoadError::Poll(error, self.peer));
            }
            _ => {}
        }
        for event in &events {
            if event.token() == PUBLISHER {
                self.hear_publisher()?;
            } else {
                self.read(event.token().0, &mut delivered)?;
            }
        }
        let any = !events.is_empty();
        self.events = events;
        Ok(any)
    }

    fn read(&mut self, number: usize, delivered: &mut impl FnMut(usize)) -> Result<(), LoadError> {
        let member = &mut self.members[number];
        loop {
            let count = match member.socket.read(&mut self.buffer) {
                Ok(count) if count > 0 => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                end => {
                    return Err(LoadError::Disconnected {
                        peer: self.peer,
                        number,
                        heard: format!("{end:?}"),
                    });
                }
            };
            let (mut pinged, mut closed, mut odd) = (false, false, None);
            let expected_len = self.expected_len;
            let (received, len) = (&mut self.received, &mut self.len);
            member
                .scanner
                .feed(&self.buffer[..count], |frame| match frame.opcode {
                    wire::TEXT => {
                        *received += 1;
                        *len = frame.len;
                        if expected_len.is_some_and(|expected| expected != frame.len) {
                            odd = Some(frame.len);
                        }
                        delivered(number);
                    }
                    wire::PING => pinged = true,
                    wire::CLOSE => closed = true,
                    _ => {}
                });
            if pinged {
                // Six bytes always fit a socket that sends nothing else.
                let _ = member.socket.write(&wire::pong());
            }
            if closed {
                let last = &self.buffer[count.saturating_sub(LAST_BYTES)..count];
                return Err(LoadError::Disconnected {
                    peer: self.peer,
                    number,
                    heard: String::from_utf8_lossy(last).into_owned(),
                });
            }
            if let (Some(len), Some(expected)) = (odd, self.expected_len) {
                return Err(LoadError::Length {
                    peer: self.peer,
                    len,
                    expected,
                });
            }
            if count < self.buffer.len() {
                // The socket is empty: an edge-triggered epoll reports what comes from here on.
                return Ok(());
            }
        }
    }

    /// A publisher is told nothing but pings, unless something is wrong.
    fn hear_publisher(&mut self) -> Result<(), LoadError> {
        let count = match self.publisher.read(&mut self.buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            result => result.unwrap_or(0),
        };
        if self.buffer[..count] == [0x80 | wire::PING, 0] {
            let _ = self.publisher.write(&wire::pong());
            return Ok(());
        }
        Err(LoadError::Publisher {
            peer: self.peer,
            answer: String::from_utf8_lossy(&self.buffer[..count]).into_owned(),
        })
    }
}

/// Takes an opened connection into the loop.
fn adopt(poll: &Poll, opening: Opening, token: Token) -> io::Result<TcpStream> {
    let mut socket = TcpStream::from_std(opening.into_socket()?);
    let interest = if token == PUBLISHER {
        Interest::READABLE | Interest::WRITABLE
    } else {
        Interest::READABLE
    };
    poll.registry().register(&mut socket, token, interest)?;
    Ok(socket)
}
