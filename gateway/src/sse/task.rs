//! The loop: a command, an opening, a client that went, or a moment that has come; never a wait for any of them alone.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::format::{self, Cursor};
use super::outbox::{Full, Outbox, Stream};
use super::{Asked, Line, Opening};
use crate::engine::Tag;
use crate::engine::command::{Command, ConnectionKey, Disconnect, EncodedDelivery, Event, ShardId};
use crate::engine::pace::Pace;
use crate::engine::subscriptions::{Asked as Interest, Subscriptions};
use crate::limits::{Limit, Share};
use crate::message::{ConnectionId, Delivery, Position};
use crate::metrics::{Metrics, ShardMetrics};
use crate::name::{ChannelKind, ChannelName};
use crate::protocol::close::CloseCode;
use crate::protocol::native::{Refusal, Reply, Request};
use crate::session::{Ack, Context, Effect, Now, Rules, Session};

mod configure;
mod give;
mod leave;
mod presence;
mod recover;
mod registry;

/// How often it is looked for tokens that have ended and for clients that did not read their last events.
const LOOK: Duration = Duration::from_secs(1);
/// How long the end waits for room for the next of its last events.
const LAST_EVENTS: Duration = Duration::from_secs(1);

pub(super) struct Queues {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) openings: mpsc::Receiver<Asked>,
    pub(super) events: mpsc::Sender<Event>,
}

struct Client {
    session: Session,
    outbox: Outbox,
    cursor: Cursor,
    returns: bool,
    /// What it asks for beside its own channel, until it is welcome: nothing is said or heard before. None: it is.
    wishes: Option<Vec<Effect>>,
    line: Arc<Line>,
    /// Counts it for as long as it lives.
    share: Share,
}

struct Draining {
    round: u32,
    pace: Pace,
    next_at: Instant,
    left: Vec<ConnectionKey>,
}

pub(super) struct Task {
    id: ShardId,
    /// Bytes that may wait for one client.
    max_outbox: usize,
    rules: Arc<Rules>,
    shared: Arc<Metrics>,
    metrics: ShardMetrics,
    open: Arc<AtomicU64>,
    started: Instant,
    clients: HashMap<ConnectionKey, Client>,
    subscriptions: Subscriptions,
    /// What found the queue full. While there is something, no client is let in, which bounds it.
    backlog: VecDeque<Event>,
    gone: mpsc::UnboundedSender<ConnectionKey>,
    /// At most one entry a client.
    left: mpsc::UnboundedReceiver<ConnectionKey>,
    draining: Option<Draining>,
    /// Lines of clients that were sent away, and when they are cut.
    closing: VecDeque<(Instant, Arc<Line>)>,
}

impl Task {
    pub(super) fn new(
        id: ShardId,
        max_outbox: usize,
        rules: &Arc<Rules>,
        metrics: &Arc<Metrics>,
        open: Arc<AtomicU64>,
    ) -> Task {
        let (gone, left) = mpsc::unbounded_channel();
        Task {
            id,
            max_outbox,
            rules: rules.clone(),
            shared: metrics.clone(),
            metrics: metrics.shard(),
            open,
            started: Instant::now(),
            clients: HashMap::new(),
            subscriptions: Subscriptions::default(),
            backlog: VecDeque::new(),
            gone,
            left,
            draining: None,
            closing: VecDeque::new(),
        }
    }

    pub(super) async fn run(mut self, queues: Queues) {
        let Queues {
            mut commands,
            mut openings,
            events,
        } = queues;
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next_close = self.draining.as_ref().filter(|d| !d.left.is_empty());
            let next_close = next_close.map(|d| d.next_at);
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Stop) | None => break,
                    Some(command) => self.carry_out(command),
                },
                Some(asked) = openings.recv(), if self.backlog.is_empty() => self.open(asked),
                Some(key) = self.left.recv() => self.end(key, CloseCode::Abnormal),
                Ok(room) = events.reserve(), if !self.backlog.is_empty() => {
                    if let Some(event) = self.backlog.pop_front() {
                        room.send(event);
                    }
                }
                () = at(next_close) => self.drain(),
                _ = look.tick() => self.look(),
            }
            while let Some(event) = self.backlog.pop_front() {
                if let Err(mpsc::error::TrySendError::Full(event)) = events.try_send(event) {
                    self.backlog.push_front(event);
                    break;
                }
            }
            self.metrics.flush();
        }
        // Who waits for room among the commands would keep the other side from taking events.
        drop(commands);
        for event in self.stop() {
            let sent = timeout(LAST_EVENTS, events.send(event)).await;
            if !matches!(sent, Ok(Ok(()))) {
                break;
            }
        }
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

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Live { channel, round } => {
                for (key, ack) in self.subscriptions.live(&channel, round) {
                    self.acknowledge(key, &channel, &ack);
                }
            }
            Command::Refused {
                channel,
                round,
                refusal,
            } => {
                for (key, _) in self.subscriptions.refused(&channel, round) {
                    self.say_refused(key, &refusal);
                }
            }
            Command::History {
                key,
                channel,
                purpose: _,
                found,
            } => match found {
                Ok(page) => self.recovered(key, &channel, &page),
                Err(refusal) => self.say_refused(key, &refusal),
            },
            Command::Deliver(delivery) => self.deliver(&delivery),
            Command::Disconnect(order) => self.disconnect(&order),
            Command::Give(order) => self.give(&order),
            // One that no longer waits for the answer needs none.
            Command::Count { query, answer } => drop(answer.send(self.subscriptions.page(&query))),
            Command::Hold { round, from } => self.tell_page(round, from),
            Command::Who { channel, answer } => drop(answer.send(self.who(&channel))),
            Command::Drain { round, pace } => self.begin_drain(round, pace),
            Command::Readmit => self.draining = None,
            Command::Configure(new) => self.configure(&new),
            Command::EvictOldest { percent } => self.evict_oldest(percent),
            // The router gives sockets to threads, and answers what threads have asked.
            Command::Adopt(_)
            | Command::Reply { .. }
            | Command::Replies(_)
            | Command::KeysCame { .. }
            | Command::PlaceCame { .. }
            | Command::Stop => {
                tracing::error!("a command that is not for event streams was dropped");
            }
        }
    }

    fn open(&mut self, asked: Asked) {
        let Asked {
            number,
            opening,
            answer,
        } = asked;
        let Opening {
            identity,
            channels,
            last_id,
            place,
            share,
            line,
        } = opening;
        let now = self.now();
        let mut session = Session::new(number, identity, now);
        let cursor = Cursor::new(&channels, last_id.as_deref().unwrap_or_default());
        let effects = match wishes(&mut session, &cursor, &self.rules, now) {
            Ok(effects) => effects,
            Err(refusal) => {
                if let Some(limit) = Limit::of(refusal.code) {
                    self.metrics.refused(limit);
                }
                let _ = answer.send(Err(refusal));
                return;
            }
        };
        let key = key_of(number);
        let quiet = Duration::from_secs(self.rules.ping_seconds.into());
        let (outbox, stream) = Outbox::new(self.max_outbox, quiet, key, self.gone.clone());
        // Counted before the place is free: the cap is never exceeded.
        self.shared.opened();
        drop(place);
        self.open.fetch_add(1, Ordering::Relaxed);
        line.leave_place();
        let mut effects = effects.into_iter();
        let own = effects.next();
        let client = Client {
            session,
            outbox,
            cursor,
            returns: last_id.is_some(),
            wishes: Some(effects.collect()),
            line,
            share,
        };
        self.clients.insert(key, client);
        if let Some(draining) = &mut self.draining {
            draining.left.push(key);
        }
        if let Some(own) = own {
            self.effect(key, own);
        }
        self.hand_over(key, stream, answer);
    }

    fn hand_over(
        &mut self,
        key: ConnectionKey,
        stream: Stream,
        answer: tokio::sync::oneshot::Sender<Result<Stream, Refusal>>,
    ) {
        if answer.send(Ok(stream)).is_err() {
            // The request was given up. The stream was dropped with it, and has said so.
            tracing::debug!(?key, "an event stream that nobody waited for");
        }
    }

    fn effect(&mut self, key: ConnectionKey, effect: Effect) {
        match effect {
            Effect::Welcome => self.welcome(key),
            Effect::Subscribe { channel, ack } => {
                match self.subscriptions.subscribe(&channel, key, ack) {
                    Interest::Live(ack) => self.acknowledge(key, &channel, &ack),
                    Interest::Waits => {}
                    Interest::First(round) => self.backlog.push_back(Event::Interest {
                        shard: self.id,
                        channel,
                        round,
                    }),
                }
            }
            Effect::Unsubscribe { channel } => self.leave(key, channel),
            Effect::Unsubscribed { channel, .. } => {
                let channel = channel.as_str();
                self.say(key, format::reply(&Reply::Unsubscribed { channel }));
            }
            Effect::Refuse { refusal, .. } => self.say_error(key, &refusal),
            // A user asked for its own channel, which it has.
            _ => {}
        }
    }

    fn acknowledge(&mut self, key: ConnectionKey, channel: &ChannelName, ack: &Ack) {
        if ack.is_own() {
            return self.welcome(key);
        }
        if self.asks_history(key, channel, ack) {
            return;
        }
        let timestamp = self.now().unix_ms;
        let Some(client) = self.clients.get(&key) else {
            return;
        };
        let recovered = client.returns.then_some(false);
        self.say(key, format::subscribed(channel, timestamp, None, recovered));
        self.came(key, channel, timestamp);
    }

    fn welcome(&mut self, key: ConnectionKey) {
        let Some(client) = self.clients.get(&key) else {
            return;
        };
        let welcome = format::reply(&Reply::Welcome {
            connection: &client.session.id(&self.rules),
            node: &self.rules.node,
            ping_seconds: self.rules.ping_seconds,
        });
        self.say(key, welcome);
        self.register(key);
        let wishes = self.clients.get_mut(&key).and_then(|c| c.wishes.take());
        for wish in wishes.into_iter().flatten() {
            self.effect(key, wish);
        }
    }

    /// The broker could not subscribe: the client is told, and comes back.
    fn say_refused(&mut self, key: ConnectionKey, refusal: &Refusal) {
        self.say_error(key, refusal);
        self.end(key, CloseCode::TryAgainLater);
    }

    fn say(&mut self, key: ConnectionKey, event: Vec<u8>) {
        let Some(client) = self.clients.get(&key) else {
            return;
        };
        let pushed = client.outbox.push(event.into(), Tag::KEPT);
        self.metrics.replied(1);
        match pushed {
            Ok(dropped) => self.metrics.dropped(dropped),
            Err(Full) => self.end(key, CloseCode::Slow),
        }
    }

    fn deliver(&mut self, encoded: &Arc<EncodedDelivery>) {
        let Delivery {
            channel, message, ..
        } = &encoded.delivery;
        let have = self.hold(encoded);
        let keys: Vec<_> = match channel.kind() {
            ChannelKind::Broadcast | ChannelKind::Notifications => {
                let welcome = self.clients.iter().filter(|(_, c)| c.wishes.is_none());
                welcome.map(|(key, _)| *key).collect()
            }
            _ if message.only.is_some() => self.here(message.only.as_ref()).into_iter().collect(),
            _ => self.subscriptions.members(channel).collect(),
        };
        let tag = Tag {
            slow: self.rules.policies.of(channel.as_str()).slow,
            messages: 1,
            channel: self.subscriptions.number(channel),
        };
        let event = Bytes::from(format::delivery(&encoded.delivery));
        let mut sent = 0;
        for key in keys.into_iter().filter(|key| !have.contains(key)) {
            sent += u64::from(self.deliver_to(key, &encoded.delivery, &event, tag));
        }
        self.metrics
            .delivered(message.kind, sent, message.timestamp);
        self.metrics.written(self.now().unix_ms);
    }

    /// Whether it is for this client, and has entered its outbox.
    fn deliver_to(
        &mut self,
        key: ConnectionKey,
        delivery: &Delivery,
        event: &Bytes,
        tag: Tag,
    ) -> bool {
        if self.here(delivery.message.except.as_ref()) == Some(key) {
            return false;
        }
        let Some(client) = self.clients.get_mut(&key) else {
            return false;
        };
        let id = delivery
            .position
            .and_then(|position| client.cursor.moved(&delivery.channel, position));
        let event = match id {
            Some(id) => [id.as_bytes(), event].concat().into(),
            None => event.clone(),
        };
        match client.outbox.push(event, tag) {
            Ok(dropped) => self.metrics.dropped(dropped),
            Err(Full) => {
                self.end(key, CloseCode::Slow);
                return false;
            }
        }
        true
    }

    /// The client, if it is one of these.
    fn here(&self, id: Option<&ConnectionId>) -> Option<ConnectionKey> {
        let id = id?;
        let key = key_of(id.number()?);
        (id.node() == &*self.rules.node && self.clients.contains_key(&key)).then_some(key)
    }
}

/// What a session with these channels begins with, or the first thing that it may not have.
fn wishes(
    session: &mut Session,
    cursor: &Cursor,
    rules: &Rules,
    now: Now,
) -> Result<Vec<Effect>, Refusal> {
    let mut effects = vec![session.open()];
    for (channel, recover) in cursor.places() {
        let request = Request::Subscribe {
            channel: channel.clone(),
            recover,
        };
        session.handle(request, None, Context { rules, now }, &mut effects);
        if let Some(Effect::Refuse { .. }) = effects.last()
            && let Some(Effect::Refuse { refusal, .. }) = effects.pop()
        {
            return Err(refusal);
        }
    }
    Ok(effects)
}

/// The number in two halves, so that what belongs to a connection that has ended matches nothing.
fn key_of(number: u64) -> ConnectionKey {
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default();
    ConnectionKey {
        slot: half(number),
        generation: half(number >> 32),
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}
