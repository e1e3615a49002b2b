//! All clients of this process: when each of them connects, what is read and answered, and what came of it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mio::{Registry, Token};
use rand::Rng;
use slab::Slab;

use super::client::{Client, State};
use super::comeback::{End, Next};
use super::dialect::{self, Dialect};
use super::judge::Position;
use super::link::Link;
use super::profile::Part;
use super::record::Second;
use super::socketio::SocketIo;
use super::stream::EventStream;
use super::tokens::Tokens;

mod hearing;

pub use hearing::now_micros;

/// Tokens of sockets whose clients have gone on without them, until the other side has closed.
const CLOSING: usize = 1 << 32;
/// Longest wait for that.
const GOODBYE: Duration = Duration::from_secs(5);
/// A client that was told when to come back is closed by then; if not, it goes by itself so much later.
const OVERTIME: Duration = Duration::from_secs(1);
/// Lines about what went wrong; the counts say the rest.
const COMPLAINTS: usize = 20;

pub struct Settings {
    /// At least one; any of them at each attempt.
    pub to: Vec<SocketAddr>,
    /// Source addresses, in turn. None: as the system likes.
    pub from: Vec<IpAddr>,
    pub tokens: Tokens,
    pub channels: Vec<String>,
    /// Channels of each client.
    pub each: usize,
    /// Of a hundred clients so many only listen to an event stream.
    pub streams: usize,
    /// And so many others speak Socket.IO. The rest speaks the native protocol.
    pub socketio: usize,
    pub part: Part,
}

pub struct Swarm {
    settings: Settings,
    registry: Registry,
    clients: Vec<Client>,
    closing: Slab<(Link, Instant)>,
    /// When which client does something, if it is still of that generation.
    timers: BinaryHeap<Reverse<(Instant, usize, u32)>>,
    /// The first so many clients are to be there.
    wanted: usize,
    /// Names of nodes, and how many clients are there.
    nodes: Vec<(String, u64)>,
    /// The latest position that anybody heard of, by channel.
    tops: Vec<Option<Position>>,
    /// Indexes of channels by name.
    numbers: HashMap<String, usize>,
    pub tally: Second,
    complaints: usize,
}

impl Swarm {
    /// With room for so many clients; nobody comes yet.
    pub fn new(settings: Settings, most: usize, registry: Registry) -> Swarm {
        let count = settings.channels.len();
        let clients = (0..most).map(|index| {
            let number = settings.part.client(index);
            let channels = (0..settings.each).map(|nth| (number + nth) % count);
            Client::new(number, settings.dialect(number), channels)
        });
        let numbers = settings.channels.iter().cloned().zip(0..).collect();
        Swarm {
            clients: clients.collect(),
            numbers,
            tops: vec![None; count],
            settings,
            registry,
            closing: Slab::new(),
            timers: BinaryHeap::new(),
            wanted: 0,
            nodes: Vec::new(),
            tally: Second::default(),
            complaints: 0,
        }
    }

    /// So many are to be there from now on.
    pub fn want(&mut self, wanted: usize) {
        let wanted = wanted.min(self.clients.len());
        for index in self.wanted..wanted {
            self.connect(index);
        }
        for index in (wanted..self.wanted).rev() {
            let goodbye = self.clients[index].dialect.goodbye();
            let state = self.clients[index].leave();
            self.part_with(state, &goodbye);
        }
        self.wanted = wanted;
    }

    /// What is due.
    pub fn tick(&mut self, now: Instant) {
        while let Some(Reverse((due, index, generation))) = self.timers.peek().copied() {
            if due > now {
                break;
            }
            self.timers.pop();
            let client = &mut self.clients[index];
            if client.generation != generation {
                continue;
            }
            if client.is_there() {
                // Told when to come back, and still not closed.
                self.left_by_itself(index);
            } else {
                self.connect(index);
            }
        }
    }

    /// Ends what nobody ended; to be called about once a second.
    pub fn sweep(&mut self, now: Instant) {
        for index in 0..self.clients.len() {
            if let Some(end) = self.clients[index].overdue(now) {
                self.ended(index, &end);
            }
        }
        let is_over = |since: Instant| now - since > GOODBYE;
        self.closing.retain(|_, (_, since)| !is_over(*since));
    }

    /// Whether the event was of this swarm.
    pub fn event(&mut self, token: Token) {
        let Token(number) = token;
        if number < self.clients.len() {
            if let Err(end) = self.advance(number) {
                self.ended(number, &end);
            }
            return;
        }
        let Some(key) = number.checked_sub(CLOSING) else {
            return;
        };
        if let Some((link, _)) = self.closing.get_mut(key) {
            link.inbox.clear();
            let is_open = link.flush().is_ok() && matches!(link.read(), Ok(true));
            if !is_open {
                self.closing.remove(key);
            }
        }
    }

    fn connect(&mut self, index: usize) {
        self.tally.attempts += 1;
        let (to, from) = (&self.settings.to, &self.settings.from);
        let place = self.clients[index].goes_to(to.len(), rand::rng().random());
        let from = (!from.is_empty()).then(|| from[index % from.len()]);
        let begun = Link::begin(to[place], from).and_then(|mut link| {
            link.register(&self.registry, Token(index))?;
            Ok(link)
        });
        match begun {
            Ok(link) => {
                self.clients[index].change(State::Connecting(link));
            }
            Err(error) => {
                self.complain(&format!("client {index} cannot connect: {error}"));
                self.ended(index, &End::Unreachable);
            }
        }
    }

    /// Goes on with a client's socket as far as it can.
    fn advance(&mut self, index: usize) -> Result<(), End> {
        let unreachable = |_| End::Unreachable;
        let client = &mut self.clients[index];
        if let State::Connecting(link) = &mut client.state {
            if !link.connected().map_err(unreachable)? {
                return Ok(());
            }
            let request = self.settings.request(client);
            if let State::Connecting(mut link) = client.change(State::Absent) {
                let sent = link.send(request.as_bytes());
                client.change(State::Shaking(link));
                sent.map_err(unreachable)?;
            }
        }
        let (link, end) = match &mut client.state {
            State::Shaking(link) | State::Greeting(link) => (link, End::Unreachable),
            State::There { link, .. } => (link, End::Cut),
            _ => return Ok(()),
        };
        // What came before the end counts.
        let is_open = link.flush().is_ok() & matches!(link.read(), Ok(true));
        self.shaken(index)?;
        self.hear(index)?;
        if is_open { Ok(()) } else { Err(end) }
    }

    /// Looks at the answer to the handshake, if it is there.
    fn shaken(&mut self, index: usize) -> Result<(), End> {
        let client = &mut self.clients[index];
        let State::Shaking(link) = &mut client.state else {
            return Ok(());
        };
        let Some((status, end)) = dialect::status(&link.inbox) else {
            return Ok(());
        };
        let head: Vec<u8> = link.inbox.drain(..end).collect();
        if status != client.dialect.welcome_status() {
            let said = [head, std::mem::take(&mut link.inbox)].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            self.complain(&format!("client {index} is refused: {said:?}"));
            return Err(End::Refused(status));
        }
        if let State::Shaking(link) = client.change(State::Absent) {
            client.change(State::Greeting(link));
        }
        Ok(())
    }

    /// A connection is over, or did not begin.
    fn ended(&mut self, index: usize, end: &End) {
        let client = &mut self.clients[index];
        let answer = client.dialect.answer(end);
        let counts = if client.is_there() {
            &mut self.tally.closes
        } else {
            &mut self.tally.refused
        };
        *counts.entry(end.label()).or_default() += 1;
        let now = Instant::now();
        let next = client.ended(end, now, rand::rng().random());
        let state = match next {
            Next::Comes(after) => {
                let state = client.change(State::Waiting);
                let timer = (now + after, index, client.generation);
                self.timers.push(Reverse(timer));
                state
            }
            Next::Stays => client.change(State::Never),
        };
        if next == Next::Stays {
            let label = end.label();
            self.complain(&format!("client {index} does not come back after {label}"));
        }
        self.part_with(state, &answer);
    }

    fn left_by_itself(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.advice = None;
        for subscription in &mut client.subscriptions {
            subscription.is_acknowledged = false;
        }
        let goodbye = client.dialect.goodbye();
        let state = client.change(State::Waiting);
        self.part_with(state, &goodbye);
        self.connect(index);
    }

    /// Counts who was there as gone, and closes with these bytes or without a word.
    fn part_with(&mut self, state: State, goodbye: &[u8]) {
        let link = match state {
            State::There { link, node, .. } => {
                self.nodes[node].1 -= 1;
                link
            }
            State::Greeting(link) => link,
            // Dropped is closed.
            _ => return,
        };
        let mut link = link;
        if goodbye.is_empty() || link.send(goodbye).is_err() {
            return;
        }
        // The other side closes first, as RFC 6455 section 7.1.1 wants, so that no port of ours waits.
        let entry = self.closing.vacant_entry();
        let token = Token(CLOSING + entry.key());
        if link.rename(&self.registry, token).is_ok() {
            entry.insert((link, Instant::now()));
        }
    }

    /// The counts of the second that has gone by.
    pub fn take_second(&mut self, unix: u64) -> Second {
        let mut second = std::mem::take(&mut self.tally);
        second.unix = unix;
        second.wanted = self.wanted as u64;
        let there = self.nodes.iter().filter(|(_, count)| *count > 0);
        second.nodes = there.cloned().collect();
        second.connected = second.nodes.values().sum();
        second.finish();
        second
    }

    /// The latest position that anybody heard of, by channel.
    pub fn tops(&self) -> Vec<Option<Position>> {
        self.tops.clone()
    }

    /// Whether everybody who is wanted is there and has come to these positions.
    pub fn is_settled(&self, tops: &[Option<Position>]) -> bool {
        let wanted = &self.clients[..self.wanted];
        wanted
            .iter()
            .all(|client| client.hears_all() && client.behind(tops) == 0)
    }

    /// Those who are wanted, by how often each has come back since this was asked last.
    pub fn end_stage(&mut self) -> BTreeMap<u64, u64> {
        let mut clients_by_reconnects = BTreeMap::new();
        for client in &mut self.clients[..self.wanted] {
            let reconnects = std::mem::take(&mut client.reconnects_of_stage);
            *clients_by_reconnects.entry(reconnects).or_default() += 1;
        }
        clients_by_reconnects
    }

    /// How it all ended, measured by these positions.
    pub fn end(&self, tops: &[Option<Position>]) -> super::record::End {
        let mut end = super::record::End::default();
        for client in &self.clients[..self.wanted] {
            if client.hears_all() {
                end.missing += client.behind(tops);
            } else {
                end.absent += 1;
            }
        }
        for client in &self.clients {
            let clients = end.clients_by_reconnects.entry(client.reconnects);
            *clients.or_default() += 1;
        }
        end
    }

    fn complain(&mut self, what: &str) {
        self.complaints += 1;
        match self.complaints.cmp(&COMPLAINTS) {
            std::cmp::Ordering::Less => eprintln!("pushbench: {what}"),
            std::cmp::Ordering::Equal => eprintln!("pushbench: {what}; no more lines like this"),
            std::cmp::Ordering::Greater => {}
        }
    }
}

impl Settings {
    fn dialect(&self, client: usize) -> Dialect {
        // 37 has no factor in common with 100: they are spread over all clients.
        let place = client * 37 % 100;
        if place < self.streams {
            Dialect::Stream(EventStream::default())
        } else if place < self.streams + self.socketio {
            Dialect::SocketIo(SocketIo::default())
        } else {
            Dialect::Native
        }
    }

    /// What a client says first.
    fn request(&self, client: &mut Client) -> String {
        let token = self.tokens.of(client.number);
        let channels = client.subscriptions.iter();
        let channels = channels.map(|one| &*self.channels[one.channel]);
        client.dialect.request(channels, token.as_deref())
    }
}
