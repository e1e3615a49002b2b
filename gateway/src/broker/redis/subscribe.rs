//! The subscriber task: owns the list of channels and the connection that reads them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use super::connect::{Connection, ConnectionError, Push, next_frame, push, write_command};
use super::log;
use super::probe::Pulse;
use super::publish::{Outcome, Outgoing, WeakPublisher};
use super::{Counters, Settings};
use crate::broker::Event;
use crate::message::{Delivery, Message};
use crate::name::ChannelName;

/// What [`super::Redis`] asks of the task.
pub(super) enum Command {
    Subscribe {
        channel: ChannelName,
        /// Answered when Redis has confirmed, or with the cause when it has not by the deadline.
        live: oneshot::Sender<Result<(), String>>,
        deadline: Instant,
    },
    Unsubscribe {
        channel: ChannelName,
        done: oneshot::Sender<()>,
    },
}

/// The Redis channel that carries a channel. The probe's begin differently, so no name reaches them.
pub(super) fn redis_channel(prefix: &str, channel: &str) -> String {
    format!("{prefix}channel:{channel}")
}

/// Channels named in one `SUBSCRIBE` after a reconnect: keeps one command well under Redis's limits.
const CHANNELS_PER_COMMAND: usize = 500;
/// Wait before the second attempt to connect; doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How often waiting subscribes are looked through for those that waited too long.
const SWEEP: Duration = Duration::from_millis(250);

type Live = (oneshot::Sender<Result<(), String>>, Instant);

/// A channel as this connection sees it.
#[derive(Default)]
struct Subscription {
    /// False once it was unsubscribed, while a confirmation for it is still on its way.
    wanted: bool,
    /// Confirmations that Redis still owes. A channel is live when it is wanted and this is 0: after
    /// subscribe, unsubscribe, subscribe the first confirmation belongs to a subscription that is gone.
    owed: u32,
    waiting: Vec<Live>,
}

pub(super) struct Subscriber {
    settings: Arc<Settings>,
    /// Weak, so that this task does not keep the broker alive.
    publisher: WeakPublisher,
    events: mpsc::Sender<Event>,
    pulse: Arc<Pulse>,
    counters: Counters,
    channels: HashMap<Bytes, (ChannelName, Subscription)>,
    /// This process's own channel for probes.
    probe_channel: Bytes,
    /// Decoded and not yet taken by the node. Nothing is read from Redis while something is here.
    ready: VecDeque<Event>,
    output: BytesMut,
    /// Whether `Lost` was said and `Restored` not yet.
    lost: bool,
    /// Channels whose confirmation is owed since the connection was opened.
    unconfirmed: usize,
}

/// Why a connection was left.
enum End {
    /// Nobody holds the broker any more, or nobody takes its events.
    Stopped,
    Failed(ConnectionError),
}

impl Subscriber {
    pub(super) fn new(
        settings: Arc<Settings>,
        publisher: WeakPublisher,
        events: mpsc::Sender<Event>,
        pulse: Arc<Pulse>,
        counters: Counters,
    ) -> Subscriber {
        let probe_channel = format!(
            "{}probe:{:016x}",
            settings.prefix,
            rand::rng().random::<u64>()
        );
        Subscriber {
            settings,
            publisher,
            events,
            pulse,
            counters,
            channels: HashMap::new(),
            probe_channel: probe_channel.into(),
            ready: VecDeque::new(),
            output: BytesMut::new(),
            lost: false,
            unconfirmed: 0,
        }
    }

    /// Connects, serves, and connects again, until nobody holds the broker.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut wait = FIRST_WAIT;
        loop {
            let settings = self.settings.clone();
            let connection = tokio::select! {
                opened = Connection::open(&settings) => opened,
                () = self.stand_by(&mut commands) => return,
            };
            let cause = match connection {
                Ok(connection) => match self.serve(connection, &mut commands).await {
                    End::Stopped => return,
                    End::Failed(cause) => {
                        wait = if self.unconfirmed == 0 {
                            FIRST_WAIT
                        } else {
                            wait
                        };
                        cause
                    }
                },
                Err(cause) => cause,
            };
            if self.pulse.down(&cause.to_string()) {
                let address = settings.address();
                tracing::warn!(
                    "Redis at {address} (broker.redis.url): {cause}; trying until it is there"
                );
            }
            // Spread, so that the nodes of a cluster do not all come back in the same moment.
            let spread = wait.mul_f64(rand::rng().random_range(0.5..1.0));
            tokio::select! {
                () = tokio::time::sleep(spread) => {}
                () = self.stand_by(&mut commands) => return,
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// What goes on while there is no connection. Ends only when the broker has ended.
    async fn stand_by(&mut self, commands: &mut mpsc::Receiver<Command>) {
        let mut sweep = tokio::time::interval(SWEEP);
        let events = self.events.clone();
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.take(command),
                    None => return,
                },
                room = events.reserve(), if !self.ready.is_empty() => match room {
                    Ok(room) => self.hand_over(room),
                    Err(_) => return,
                },
                _ = sweep.tick() => self.sweep(Instant::now()),
            }
            // The next connection subscribes to everything anew.
            self.output.clear();
        }
    }

    /// One connection, from the first `SUBSCRIBE` to its end.
    async fn serve(
        &mut self,
        mut connection: Connection,
        commands: &mut mpsc::Receiver<Command>,
    ) -> End {
        self.resubscribe();
        self.pulse.subscribed();
        let end = self.pump(&mut connection, commands).await;
        if matches!(end, End::Failed(_)) && !self.lost && self.unconfirmed == 0 {
            self.lost = true;
            self.counters.losses.inc();
            // After what was already read: those messages did arrive.
            self.ready.push_back(Event::Lost);
        }
        end
    }

    async fn pump(
        &mut self,
        connection: &mut Connection,
        commands: &mut mpsc::Receiver<Command>,
    ) -> End {
        let probe = tokio::time::sleep(self.pulse.pause());
        tokio::pin!(probe);
        let mut sweep = tokio::time::interval(SWEEP);
        let Connection { socket, input } = connection;
        let (mut reader, mut writer) = socket.split();
        let events = self.events.clone();
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.take(command),
                    None => return End::Stopped,
                },
                room = events.reserve(), if !self.ready.is_empty() => match room {
                    Ok(room) => self.hand_over(room),
                    Err(_) => return End::Stopped,
                },
                // While the node does not take what was read, nothing more is read: Redis holds it
                // (`client-output-buffer-limit pubsub`), and in the end says so by closing.
                read = reader.read_buf(input), if self.ready.is_empty() => {
                    if let Err(e) = read.map_err(ConnectionError::Io).and_then(closed_if_zero) {
                        return End::Failed(e);
                    }
                    if let Err(e) = self.decode(input) {
                        return End::Failed(e);
                    }
                }
                written = writer.write_buf(&mut self.output), if !self.output.is_empty() => {
                    if let Err(e) = written {
                        return End::Failed(e.into());
                    }
                }
                () = &mut probe => {
                    let waits_for_redis = self.ready.is_empty();
                    if waits_for_redis && self.pulse.is_dead(Instant::now()) {
                        return End::Failed(ConnectionError::Silent);
                    }
                    self.send_probe();
                    probe.as_mut().reset(tokio::time::Instant::now() + self.pulse.pause());
                }
                _ = sweep.tick() => self.sweep(Instant::now()),
            }
        }
    }

    fn hand_over(&mut self, room: mpsc::Permit<'_, Event>) {
        if let Some(event) = self.ready.pop_front() {
            room.send(event);
        }
        while let Some(event) = self.ready.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
                self.ready.push_front(event);
                return;
            }
        }
    }

    fn decode(&mut self, input: &mut BytesMut) -> Result<(), ConnectionError> {
        while let Some(frame) = next_frame(input)? {
            match push(frame)? {
                Push::Message { channel, .. } if channel == self.probe_channel => {
                    self.pulse.returned(Instant::now());
                }
                Push::Message { channel, payload } => self.deliver(&channel, &payload),
                Push::Subscribed { channel } => self.confirmed(&channel),
                Push::Other => {}
            }
        }
        Ok(())
    }

    fn deliver(&mut self, channel: &Bytes, payload: &[u8]) {
        let Some((name, subscription)) = self.channels.get(channel) else {
            return;
        };
        if !subscription.wanted {
            return;
        }
        let (position, json) = log::published(payload);
        match serde_json::from_slice::<Message>(json) {
            Ok(message) => self.ready.push_back(Event::Delivery(Delivery {
                channel: name.clone(),
                message,
                position,
            })),
            Err(e) => {
                self.counters.bad_payloads.inc();
                tracing::debug!(
                    channel = name.as_str(),
                    "dropped a message that no gateway wrote: {e}"
                );
            }
        }
    }

    fn confirmed(&mut self, channel: &Bytes) {
        if self.unconfirmed > 0 {
            self.unconfirmed -= 1;
            if self.unconfirmed == 0 {
                self.all_live();
            }
        }
        let Some((_, subscription)) = self.channels.get_mut(channel) else {
            return;
        };
        subscription.owed = subscription.owed.saturating_sub(1);
        if subscription.owed > 0 {
            return;
        }
        if !subscription.wanted {
            self.channels.remove(channel);
            return;
        }
        for (live, _) in subscription.waiting.drain(..) {
            let _ = live.send(Ok(()));
        }
    }

    /// Every channel of a new connection is confirmed.
    fn all_live(&mut self) {
        tracing::info!(
            channels = self.channels.len(),
            "subscribed at Redis {}",
            self.settings.address()
        );
        if self.lost {
            self.lost = false;
            self.ready.push_back(Event::Restored);
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Subscribe {
                channel,
                live,
                deadline,
            } => {
                let key = Bytes::from(redis_channel(&self.settings.prefix, channel.as_str()));
                write_command(&mut self.output, "SUBSCRIBE", [&key[..]].into_iter());
                let entry = self.channels.entry(key);
                let (_, subscription) = entry.or_insert_with(|| (channel, Subscription::default()));
                subscription.wanted = true;
                subscription.owed += 1;
                subscription.waiting.push((live, deadline));
            }
            Command::Unsubscribe { channel, done } => {
                let key = Bytes::from(redis_channel(&self.settings.prefix, channel.as_str()));
                self.forget(&key);
                let _ = done.send(());
            }
        }
    }

    fn forget(&mut self, key: &Bytes) {
        let Some((_, subscription)) = self.channels.get_mut(key) else {
            return;
        };
        write_command(&mut self.output, "UNSUBSCRIBE", [&key[..]].into_iter());
        subscription.wanted = false;
        subscription.waiting.clear();
        if subscription.owed == 0 {
            self.channels.remove(key);
        }
    }

    /// Refuses what has waited too long for its confirmation.
    fn sweep(&mut self, now: Instant) {
        let overdue: Vec<Bytes> = self
            .channels
            .iter()
            .filter(|(_, (_, s))| s.waiting.iter().any(|(_, deadline)| *deadline <= now))
            .map(|(key, _)| key.clone())
            .collect();
        for key in overdue {
            let Some((_, subscription)) = self.channels.get_mut(&key) else {
                continue;
            };
            for (live, _) in subscription.waiting.drain(..) {
                let cause = format!("Redis at {} did not confirm it", self.settings.address());
                let _ = live.send(Err(cause));
            }
            self.forget(&key);
        }
    }

    /// Begins a connection: the probe's channel and every wanted one, in few commands.
    fn resubscribe(&mut self) {
        self.output.clear();
        self.channels
            .retain(|_, (_, subscription)| subscription.wanted);
        for (_, subscription) in self.channels.values_mut() {
            subscription.owed = 1;
        }
        let keys: Vec<&[u8]> = std::iter::once(&self.probe_channel)
            .chain(self.channels.keys())
            .map(|key| &key[..])
            .collect();
        self.unconfirmed = keys.len();
        for chunk in keys.chunks(CHANNELS_PER_COMMAND) {
            write_command(&mut self.output, "SUBSCRIBE", chunk.iter().copied());
        }
    }

    fn send_probe(&mut self) {
        let Some(publisher) = self.publisher.upgrade() else {
            return;
        };
        let channel = String::from_utf8_lossy(&self.probe_channel).into_owned();
        let (pulse, sent) = (self.pulse.clone(), Instant::now());
        let answer = publisher.publish(Outgoing {
            channel,
            payload: Bytes::from_static(b"probe"),
            log: None,
        });
        tokio::spawn(async move {
            if matches!(answer.await, Outcome::Accepted(_)) {
                pulse.accepted(sent);
            }
        });
    }
}

fn closed_if_zero(read: usize) -> Result<(), ConnectionError> {
    if read == 0 {
        Err(ConnectionError::Closed)
    } else {
        Ok(())
    }
}
