//! Clients that all come back at once, and who is refused comes again later, as the page of a browser would.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::opening::Words;
use crate::server::Server;
use crate::wire;

/// Begun in one step. Few: the thread also reads for those whose delays are measured.
const BEGUN_A_STEP: usize = 4;
const EVENTS_A_STEP: usize = 16;
/// Addresses that they come from.
const SOURCES: usize = 200;
/// After a refusal; doubled with each, up to the most, and spread by half of it.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const MOST_WAIT: Duration = Duration::from_secs(4);

enum State {
    Waiting,
    Connecting(TcpStream),
    /// The handshake is sent; the bytes of the answer.
    Shaking(TcpStream, Vec<u8>),
    /// The subscription is sent.
    Subscribing(TcpStream, Vec<u8>),
    There(TcpStream),
}

/// What the bytes so far mean.
enum Answer {
    NotYet,
    Next,
    Refused,
}

pub struct Returning {
    address: SocketAddr,
    words: Words,
    poll: Poll,
    events: Events,
    clients: Vec<State>,
    refusals: Vec<u32>,
    /// When who comes.
    next: BinaryHeap<Reverse<(Instant, usize)>>,
    there: usize,
    attempts: usize,
    began: Instant,
    /// When the last one was there.
    took: Option<Duration>,
}

impl Returning {
    /// Longer, and those who are not there count as lost.
    pub const PATIENCE: Duration = Duration::from_secs(60);

    pub fn begin(server: &Server, count: usize) -> io::Result<Returning> {
        let began = Instant::now();
        Ok(Returning {
            address: server.address,
            words: Words::of(server.peer),
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_A_STEP),
            clients: (0..count).map(|_| State::Waiting).collect(),
            refusals: vec![0; count],
            next: (0..count).map(|number| Reverse((began, number))).collect(),
            there: 0,
            attempts: 0,
            began,
            took: None,
        })
    }

    pub fn is_over(&self) -> bool {
        self.took.is_some() || self.began.elapsed() > Self::PATIENCE
    }

    /// Some connects, and some of what has come.
    pub fn step(&mut self) -> io::Result<()> {
        let now = Instant::now();
        for _ in 0..BEGUN_A_STEP {
            match self.next.peek() {
                Some(Reverse((due, _))) if *due <= now => {}
                _ => break,
            }
            if let Some(Reverse((_, number))) = self.next.pop() {
                self.connect(number)?;
            }
        }
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, Some(Duration::ZERO)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            self.advance(event.token().0);
        }
        self.events = events;
        if self.there == self.clients.len() && self.took.is_none() {
            self.took = Some(self.began.elapsed());
        }
        Ok(())
    }

    fn connect(&mut self, number: usize) -> io::Result<()> {
        self.attempts += 1;
        let mut socket = connect(self.address, source(number))?;
        self.poll.registry().register(
            &mut socket,
            Token(number),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        self.clients[number] = State::Connecting(socket);
        Ok(())
    }

    /// An end that nobody announced counts as a refusal: it is what a full backlog looks like.
    fn advance(&mut self, number: usize) {
        let state = std::mem::replace(&mut self.clients[number], State::Waiting);
        self.there -= usize::from(matches!(state, State::There(_)));
        match self.next_state(number, state) {
            Ok(Some(state)) => {
                self.there += usize::from(matches!(state, State::There(_)));
                self.clients[number] = state;
            }
            Ok(None) | Err(_) => self.come_again(number),
        }
    }

    /// `None`: refused.
    fn next_state(&self, number: usize, state: State) -> io::Result<Option<State>> {
        Ok(Some(match state {
            State::Connecting(mut socket) => {
                if let Some(error) = socket.take_error()? {
                    return Err(error);
                }
                if socket.peer_addr().is_err() {
                    return Ok(Some(State::Connecting(socket)));
                }
                let path = self.words.subscriber_path(number);
                let request = wire::handshake(&path, "bench");
                socket.write_all(request.as_bytes())?;
                State::Shaking(socket, Vec::new())
            }
            State::Shaking(mut socket, mut bytes) => {
                read(&mut socket, &mut bytes)?;
                match switched(&mut bytes) {
                    Answer::NotYet => State::Shaking(socket, bytes),
                    Answer::Refused => return Ok(None),
                    Answer::Next => {
                        let mut frame = Vec::new();
                        let text = Words::subscribe("home");
                        wire::push_masked(wire::TEXT, text.as_bytes(), &mut frame);
                        socket.write_all(&frame)?;
                        State::Subscribing(socket, bytes)
                    }
                }
            }
            State::Subscribing(mut socket, mut bytes) => {
                read(&mut socket, &mut bytes)?;
                match subscribed(&mut bytes) {
                    Answer::NotYet => State::Subscribing(socket, bytes),
                    Answer::Refused => return Ok(None),
                    Answer::Next => State::There(socket),
                }
            }
            State::There(mut socket) => {
                let mut bytes = Vec::new();
                read(&mut socket, &mut bytes)?;
                if !bytes.is_empty() {
                    // Nothing comes but a ping.
                    socket.write_all(&wire::pong())?;
                }
                State::There(socket)
            }
            State::Waiting => State::Waiting,
        }))
    }

    fn come_again(&mut self, number: usize) {
        let refusals = &mut self.refusals[number];
        let wait = FIRST_WAIT.saturating_mul(1 << (*refusals).min(8));
        *refusals += 1;
        // Spread without a random number: by the client's place among all.
        let wait = wait.min(MOST_WAIT);
        let spread = wait / 2 * u32::try_from(number * 7 % 97).unwrap_or(0) / 97;
        self.next
            .push(Reverse((Instant::now() + wait + spread, number)));
    }

    /// How many are connected now, after a look at each.
    pub fn still_there(&mut self) -> io::Result<usize> {
        let mut count = 0;
        for state in &mut self.clients {
            if let State::There(socket) = state {
                count += usize::from(read(socket, &mut Vec::new()).is_ok());
            }
        }
        Ok(count)
    }
}

impl fmt::Display for Returning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Returning {
            there,
            attempts,
            clients,
            ..
        } = self;
        let took = self.took.unwrap_or(Self::PATIENCE).as_secs_f64();
        write!(
            f,
            "{there} of {} there after {took:.1} s and {attempts} attempts",
            clients.len()
        )
    }
}

/// Begins to connect. Closing resets it.
fn connect(to: SocketAddr, from: Ipv4Addr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// With one address for all, the kernel looks for a free port among thousands that are taken: almost a millisecond for
/// each connect, in which the thread does not read what others are measured by.
fn source(number: usize) -> Ipv4Addr {
    let last = u8::try_from(number % SOURCES).expect("there are fewer");
    Ipv4Addr::new(127, 0, 1, 1 + last)
}

/// What there is; the end of the stream is an error.
fn read(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 1_024];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn switched(bytes: &mut Vec<u8>) -> Answer {
    let Some(end) = wire::end_of_head(bytes) else {
        return Answer::NotYet;
    };
    let is_good = bytes.starts_with(b"HTTP/1.1 101 ");
    bytes.drain(..end);
    if is_good {
        Answer::Next
    } else {
        Answer::Refused
    }
}

fn subscribed(bytes: &mut Vec<u8>) -> Answer {
    while let Some((opcode, payload)) = wire::take_plain(bytes) {
        let text = String::from_utf8_lossy(&payload);
        if opcode == wire::CLOSE {
            return Answer::Refused;
        }
        if text.contains(r#""type":"subscribed""#) {
            return Answer::Next;
        }
    }
    Answer::NotYet
}
