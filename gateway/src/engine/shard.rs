//! The loop: one thread, its own epoll, its own connections, no locks.
//!
//! A round is: events from the kernel, commands, reads, timers, then one write for each socket that has
//! something to say. Sockets are registered once, edge-triggered; a socket that may have more to read than one
//! round takes waits in `unread`, so that a flood on one delays the others by one buffer at most.

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use tokio::sync::mpsc::{self, error::TryRecvError, error::TrySendError};

use super::batch::Batches;
use super::command::{Arrival, Command, ConnectionKey, Event, NewConnection, ShardId};
use super::connection::{CLOSE_DEADLINE_MS, Closing, Connection};
use super::heartbeat::{Heartbeat, Verdict, units};
use super::inbox::Gate;
use super::outbox::{Flushed, Full, Outbox, Tag};
use super::pace::Pace;
use super::room::{Bell, Room};
use super::subscriptions::{Asked, Left, Subscriptions};
use super::timers::Wheel;
use super::weight::Scale;
use super::{LARGEST_UNDER_WAY, Settings};
use crate::history::Range;
use crate::limits::{Limit, bucket};
use crate::metrics::{Metrics, ShardMetrics};
use crate::name::ChannelName;
use crate::protocol::close::CloseCode;
use crate::protocol::deflate::{Deflater, Inflater, WINDOWS};
use crate::protocol::frame::{self, Decoder, Frame, Next, Opcode, Reading};
use crate::protocol::native::{self, ErrorCode, Refusal, Reply};
use crate::session::{Ack, Context, Effect, Now, Rules, Session};
use crate::slack;

mod authenticate;
mod close;
mod configure;
mod deliver;
mod disconnect;
mod drain;
mod evict;
mod give;
mod presence;
mod read;
mod recover;
mod registry;

pub const WAKE: Token = Token(usize::MAX);

/// One read; also what a flooding client gets of a round.
const READ_BYTES: usize = 64 * 1024;
/// Room for so many connections stays when the last one has gone.
const KEPT_CONNECTIONS: usize = 64;
/// Commands taken before sockets are looked at again.
const COMMANDS_A_ROUND: usize = 1_024;

pub struct Queues {
    pub commands: mpsc::Receiver<Command>,
    pub events: mpsc::Sender<Event>,
    pub bell: Arc<Bell>,
    /// Before the other end of `events`.
    pub gate: Gate,
}

/// What all shards share, read-only or atomic.
pub struct Shared {
    pub settings: Settings,
    pub rules: Arc<Rules>,
    pub metrics: Arc<Metrics>,
}

pub struct Shard {
    id: ShardId,
    poll: Poll,
    queues: Queues,
    shared: Shared,
    metrics: ShardMetrics,
    started: Instant,
    connections: Slab<Connection>,
    generation: u32,
    by_number: HashMap<u64, ConnectionKey>,
    subscriptions: Subscriptions,
    wheel: Wheel,
    /// Events that found the queue full. While there is one, no socket is read, which bounds them.
    backlog: VecDeque<Event>,
    /// For the first of them.
    room: Room,
    /// While it is full, no socket is read either.
    published: Arc<Scale>,
    unread: Vec<ConnectionKey>,
    dirty: Vec<ConnectionKey>,
    /// Deliveries taken from the queue together.
    staged: Vec<Arc<super::command::EncodedDelivery>>,
    /// Deliveries that wait for others.
    batches: Batches,
    buffer: Box<[u8]>,
    inflater: Inflater,
    deflater: Deflater,
    draining: Option<Draining>,
    more_commands: bool,
    stopped: bool,
}

/// Connections are closed one by one, at a pace.
struct Draining {
    round: u32,
    pace: Pace,
    next_at: Instant,
    left: Vec<ConnectionKey>,
}

/// What one frame asks for, beyond the session's own effects.
enum Act {
    Session(Effect),
    /// A frame that answers this one.
    Answer(Bytes),
    /// The client did what cannot be answered.
    Fail(CloseCode),
    /// It sends faster than it may, and goes on after being told.
    Abuse,
    PeerClosed(Option<u16>),
}

impl Shard {
    pub fn new(id: ShardId, poll: Poll, queues: Queues, shared: Shared) -> Self {
        let largest = shared.settings.max_message_bytes as usize;
        let published = Scale::new(queues.bell.clone(), LARGEST_UNDER_WAY * largest);
        Shard {
            id,
            inflater: Inflater::default(),
            deflater: Deflater::new(shared.settings.min_deflate_bytes),
            poll,
            queues,
            metrics: shared.metrics.shard(),
            shared,
            started: Instant::now(),
            connections: Slab::new(),
            generation: 0,
            by_number: HashMap::new(),
            subscriptions: Subscriptions::default(),
            wheel: Wheel::new(),
            backlog: VecDeque::new(),
            room: Room::default(),
            published,
            unread: Vec::new(),
            dirty: Vec::new(),
            staged: Vec::new(),
            batches: Batches::default(),
            buffer: vec![0; READ_BYTES].into(),
            draining: None,
            more_commands: false,
            stopped: false,
        }
    }

    pub fn run(mut self) {
        let mut events = Events::with_capacity(1_024);
        let mut due = Vec::new();
        while !self.stopped {
            match self.poll.poll(&mut events, self.timeout()) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, shard = self.id.0, "epoll failed: this shard ends");
                    break;
                }
            }
            let now = self.now();
            for event in &events {
                if event.token() != WAKE {
                    self.ready(event);
                }
            }
            self.take_commands(now);
            self.deliver_due(now);
            self.read(now);
            self.wheel.take_due(now.monotonic_ms, &mut due);
            for (tick, key) in due.drain(..) {
                self.tick(tick, key, now);
            }
            self.drain(now);
            self.send_backlog();
            self.flush(now);
            if self.connections.is_empty() && self.connections.capacity() > KEPT_CONNECTIONS {
                self.rest();
            }
            if self.metrics.has_deliveries() {
                self.metrics.written(self.now().unix_ms);
            }
            self.metrics.flush();
        }
        self.close_all();
        self.tell_the_rest();
    }

    fn now(&self) -> Now {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Now {
            monotonic_ms: millis(self.started.elapsed()),
            unix_ms: millis(
                SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default(),
            ),
        }
    }

    fn timeout(&self) -> Option<Duration> {
        if self.more_commands || (!self.unread.is_empty() && self.may_read()) {
            return Some(Duration::ZERO);
        }
        let drain = self.draining.as_ref().filter(|d| !d.left.is_empty());
        let drain = drain.map(|d| d.next_at.saturating_duration_since(Instant::now()));
        let timers = (!self.connections.is_empty())
            .then(|| Duration::from_millis(self.wheel.next_tick_ms(self.now().monotonic_ms)));
        let batch = self.batches.next_due();
        let batch = batch.map(|at| at.saturating_duration_since(Instant::now()));
        drain.into_iter().chain(timers).chain(batch).min()
    }

    fn connection(&mut self, key: ConnectionKey) -> Option<&mut Connection> {
        live(&mut self.connections, key)
    }

    fn ready(&mut self, event: &mio::event::Event) {
        let Some(connection) = self.connections.get_mut(event.token().0) else {
            return;
        };
        let slot = u32::try_from(event.token().0).expect("slots are u32");
        let key = ConnectionKey {
            slot,
            generation: connection.generation,
        };
        connection.read_closed |= event.is_read_closed() || event.is_error();
        let waits = !connection.outbox.is_empty() || connection.wire().owes();
        if event.is_writable() && waits && !connection.dirty {
            connection.dirty = true;
            self.dirty.push(key);
        }
        if (event.is_readable() || connection.read_closed)
            && connection.is_heard()
            && !connection.unread
        {
            connection.unread = true;
            self.unread.push(key);
        }
    }

    fn take_commands(&mut self, now: Now) {
        self.queues.bell.listen();
        self.more_commands = false;
        for _ in 0..COMMANDS_A_ROUND {
            match self.queues.commands.try_recv() {
                Ok(Command::Deliver(delivery)) => self.staged.push(delivery),
                Ok(command) => {
                    // A connection subscribed by this command gets nothing that was delivered before it.
                    self.deliver_staged(now);
                    self.carry_out(command, now);
                }
                Err(TryRecvError::Empty) => return self.deliver_staged(now),
                Err(TryRecvError::Disconnected) => {
                    self.stopped = true;
                    return;
                }
            }
        }
        self.deliver_staged(now);
        self.more_commands = true;
    }

    fn carry_out(&mut self, command: Command, now: Now) {
        match command {
            Command::Adopt(new) => self.adopt(new, now),
            Command::Live { channel, round } => {
                self.deliver_waiting(&channel, now);
                for (key, ack) in self.subscriptions.live(&channel, round) {
                    self.joined(key, &channel, &ack, now);
                }
            }
            Command::Refused {
                channel,
                round,
                refusal,
            } => {
                for (key, ack) in self.subscriptions.refused(&channel, round) {
                    if let Some(connection) = self.connection(key) {
                        connection.session.forget(&channel);
                    }
                    if ack.is_own() {
                        self.begin_close(key, CloseCode::TryAgainLater, now);
                    } else {
                        self.refuse(key, &refusal, ack.id(), now);
                    }
                }
            }
            Command::History {
                key,
                channel,
                purpose,
                found,
            } => self.history(key, &channel, (purpose, found), now),
            Command::Reply { key, frame } => self.reply(key, frame, now),
            Command::Replies(all) => all.iter().for_each(|some| self.replies(some, now)),
            Command::KeysCame { key, token, id } => self.keys_came(key, &token, id, now),
            Command::PlaceCame {
                key,
                identity,
                id,
                place,
            } => self.place_came(key, (identity, id), place, now),
            Command::Deliver(delivery) => self.staged.push(delivery),
            Command::Disconnect(order) => self.disconnect(&order, now),
            Command::Give(order) => self.give(&order, now),
            // One that no longer waits for the answer needs none.
            Command::Count { query, answer } => drop(answer.send(self.subscriptions.page(&query))),
            Command::Hold { round, from } => self.tell_page(round, from, now),
            Command::Who { channel, answer } => drop(answer.send(self.who(&channel, now))),
            Command::Drain { round, pace } => self.begin_drain(round, pace),
            Command::Readmit => self.draining = None,
            Command::Configure(new) => self.configure(&new, now),
            Command::EvictOldest { percent } => self.evict_oldest(percent, now),
            Command::Stop => self.stopped = true,
        }
    }

    fn adopt(&mut self, new: NewConnection, now: Now) {
        let NewConnection { number, arrival } = new;
        let Arrival {
            socket,
            tls,
            leftover,
            identity,
            share,
            turned_away,
            deflate,
            self_test,
        } = arrival;
        let mut socket = mio::net::TcpStream::from_std(socket);
        let entry = self.connections.vacant_entry();
        let token = Token(entry.key());
        if let Err(error) = self.poll.registry().register(
            &mut socket,
            token,
            Interest::READABLE | Interest::WRITABLE,
        ) {
            tracing::warn!(%error, "registering a socket failed: connection dropped");
            // It was counted when it entered the queue.
            if !self_test {
                self.metrics.closed(CloseCode::Internal, 0);
            }
            return;
        }
        self.generation = self.generation.wrapping_add(1);
        let slot =
            u32::try_from(token.0).expect("slots are u32: there are fewer sockets than that");
        let key = ConnectionKey {
            slot,
            generation: self.generation,
        };
        let intervals = self.shared.settings.intervals();
        entry.insert(Connection {
            socket,
            tls,
            generation: self.generation,
            share: share.boxed(),
            session: if self_test {
                Session::self_test(number, now)
            } else {
                Session::new(number, identity, now)
            },
            decoder: Decoder::default(),
            deflate,
            outbox: Outbox::default(),
            heartbeat: Heartbeat::new(now.monotonic_ms, number, intervals),
            timer: 0,
            closing: None,
            dirty: false,
            unread: false,
            early: Some(leftover.into()),
            read_closed: false,
        });
        self.by_number.insert(number, key);
        // A round can make all of them dirty: a list that grows in it leaves its smaller copies behind, 20 bytes a connection.
        self.dirty.reserve(self.connections.len());
        if let Some(draining) = self.draining.as_mut().filter(|_| !self_test) {
            draining.left.push(key);
        }
        if let Some(code) = turned_away {
            return self.begin_close(key, code, now);
        }
        let open = self.connection(key).map(|c| c.session.open());
        if let Some(open) = open {
            self.effect(key, open, now);
        }
        self.schedule(key, now);
    }

    /// The first thing said on a connection; what the client has said is heard after it.
    fn welcome(&mut self, key: ConnectionKey, now: Now) {
        let rules = self.shared.rules.clone();
        let Some(connection) = self.connection(key) else {
            return;
        };
        let id = connection.session.id(&rules);
        let welcome = Reply::Welcome {
            connection: &id,
            node: &rules.node,
            ping_seconds: rules.ping_seconds,
        };
        if !self.shared.settings.echo {
            self.reply(key, native::encode_reply(&welcome, None), now);
            self.begin_named(key, now);
        }
        self.register(key, now);
        self.listen(key, now);
    }

    /// Enters the connection's next deadline into the wheel. An entry that comes up no later stays instead, so that
    /// a client that makes its deadlines move (by an `auth` in every message) does not fill the wheel.
    fn schedule(&mut self, key: ConnectionKey, now: Now) {
        let intervals = self.shared.settings.intervals();
        let rules = self.shared.rules.clone();
        let Some(connection) = self.connection(key) else {
            return;
        };
        let due = connection.due_ms(intervals, Context { rules: &rules, now });
        let entered = connection.timer;
        if self.wheel.is_pending(entered) && entered <= self.wheel.tick_of(due) {
            return;
        }
        let tick = self.wheel.insert(due, key);
        if let Some(connection) = self.connection(key) {
            connection.timer = tick;
        }
    }

    fn tick(&mut self, tick: u64, key: ConnectionKey, now: Now) {
        let intervals = self.shared.settings.intervals();
        let rules = self.shared.rules.clone();
        let Some(connection) = self.connection(key).filter(|c| c.timer == tick) else {
            return;
        };
        if let Some(closing) = connection.closing {
            if now.monotonic_ms >= closing.deadline_ms {
                return self.end(key, closing.code, now);
            }
            return self.schedule(key, now);
        }
        if let Some(code) = connection.session.tick(Context { rules: &rules, now }) {
            return self.begin_close(key, code, now);
        }
        let has_channels = connection.session.has_channels();
        match connection
            .heartbeat
            .tick(now.monotonic_ms, has_channels, intervals)
        {
            Verdict::Fine => {}
            Verdict::Ping => self.reply(key, Bytes::from_static(&[0x89, 0]), now),
            Verdict::Dead => return self.begin_close(key, CloseCode::PingTimeout, now),
            Verdict::Idle => return self.begin_close(key, CloseCode::Idle, now),
        }
        self.schedule(key, now);
    }

    /// The deadline has come: one try to say goodbye, and the sockets go with the thread.
    fn close_all(&mut self) {
        let now = self.now();
        while let Some(batch) = self.batches.take_any() {
            self.deliver_batch(&batch, now);
        }
        let keys: Vec<ConnectionKey> = self
            .connections
            .iter()
            .map(|(slot, c)| key_of(slot, c))
            .collect();
        for key in keys {
            self.begin_close(key, CloseCode::GoingAway, now);
            self.flush(now);
            self.end(key, CloseCode::GoingAway, now);
        }
    }
}

fn live(connections: &mut Slab<Connection>, key: ConnectionKey) -> Option<&mut Connection> {
    connections
        .get_mut(key.slot as usize)
        .filter(|connection| connection.generation == key.generation)
}

fn key_of(slot: usize, connection: &Connection) -> ConnectionKey {
    ConnectionKey {
        slot: u32::try_from(slot).expect("slots are u32"),
        generation: connection.generation,
    }
}
