//! The broker over Redis Pub/Sub, shared by every node with the same Redis and key prefix. One Redis, the master that
//! Sentinels name, or a Cluster with sharded Pub/Sub: the only difference is the [`topology`].
//!
//! ```text
//! publish ─▶ calls: a lane for each master ─▶ Redis ─▶ a connection to each master ─▶ subscriber task ─▶ Events
//!               ▲            ▲ probe, each period                    ▲                        │
//!               └────────────┴──── discover: Sentinels, nodes ───────┘                        ▼
//!                                  of the Cluster → topology                           channels (pure)
//! ```
//!
//! Publishing and subscribing are on connections of our own ([`connect`]), since the promises of [`Broker`] need what
//! client libraries do not give (decisions 5 and 9). What needs no order, as reading logs, goes through fred
//! ([`clients`]), to the masters of the same topology.

mod advice;
mod belief;
mod calls;
mod channels;
mod clients;
mod connect;
mod discover;
mod foreign;
mod link;
mod listen;
mod log;
mod login;
mod masters;
mod names;
mod probe;
mod publish;
mod pulses;
mod store;
mod subscribe;
mod topology;
mod wire;

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use rustls::ClientConfig;
use tokio::sync::{mpsc, oneshot};

use self::calls::Calls;
use self::clients::Clients;
pub use self::foreign::Source;
pub use self::listen::Listen;
use self::listen::Listener;
pub use self::login::{Login, Password};
pub use self::names::Names;
use self::pulses::{Pulses, Watch, Watched};
pub use self::store::{Answer, Call, Store};
pub use self::topology::Endpoint;
use super::{Broker, Events, Health, HistoryError, SubscribeError};
use crate::history::{Keep, Page, Range};
use crate::message::Message;
use crate::name::ChannelName;

/// How Redis runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Standalone,
    Sentinel,
    Cluster,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Standalone => "standalone",
            Mode::Sentinel => "sentinel",
            Mode::Cluster => "cluster",
        })
    }
}

/// Where Redis is and how long to wait for it.
#[derive(Clone)]
pub struct Settings {
    pub mode: Mode,
    /// The Redis, the Sentinels, or some nodes of the Cluster. At least one.
    pub seeds: Vec<Endpoint>,
    /// What Sentinels call the master.
    pub master_name: String,
    /// Not in a Cluster, which has one.
    pub database: u8,
    pub login: Login,
    pub sentinel_login: Login,
    /// None: no TLS. For Sentinels too.
    pub tls: Option<Arc<ClientConfig>>,
    /// Begins every key and Pub/Sub channel.
    pub prefix: String,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// Between two probes. After three without one that returned, the connection is replaced.
    pub probe_period: Duration,
    /// What backends publish by themselves.
    pub listen: Listen,
}

/// What goes wrong between this node and Redis.
#[derive(Clone)]
pub struct Counters {
    bad_payloads: IntCounter,
    losses: IntCounter,
    missing: IntGauge,
    reconnects: IntCounter,
    watched: Watched,
    unavailable: IntCounter,
    unanswered: IntCounter,
    foreign: listen::Counters,
}

impl Counters {
    pub fn register(registry: &Registry) -> Result<Counters, prometheus::Error> {
        let failures = IntCounterVec::new(
            Opts::new(
                "pushcluster_broker_publish_failures_total",
                "Publishes that Redis did not take (unavailable) or did not answer (unanswered).",
            ),
            &["outcome"],
        )?;
        let counters = Counters {
            bad_payloads: IntCounter::new(
                "pushcluster_broker_bad_payloads_total",
                "Messages in our Redis channels that no gateway wrote; they are dropped.",
            )?,
            losses: IntCounter::new(
                "pushcluster_broker_losses_total",
                "Times at which subscriptions to Redis were lost, of some channels or of all, and messages with them.",
            )?,
            missing: IntGauge::new(
                "pushcluster_broker_missing_channels",
                "Channels of this node whose subscription at Redis was lost and is not there again: messages may be missed.",
            )?,
            reconnects: IntCounter::new(
                "pushcluster_broker_reconnects_total",
                "Subscription connections to Redis that took the place of one that was in use.",
            )?,
            watched: Watched::default(),
            unavailable: failures.with_label_values(&["unavailable"]),
            unanswered: failures.with_label_values(&["unanswered"]),
            foreign: listen::Counters::register(registry)?,
        };
        registry.register(Box::new(counters.bad_payloads.clone()))?;
        registry.register(Box::new(counters.losses.clone()))?;
        registry.register(Box::new(counters.missing.clone()))?;
        registry.register(Box::new(counters.reconnects.clone()))?;
        registry.register(Box::new(Watch::new(counters.watched.clone())?))?;
        registry.register(Box::new(failures))?;
        Ok(counters)
    }
}

/// See the module. Cloning shares the broker; when the last clone is dropped its tasks end.
#[derive(Clone)]
pub struct Redis {
    publisher: Arc<publish::Publisher>,
    /// For reading logs, on connections of their own: a long answer delays no publish.
    reader: Clients,
    subscriptions: mpsc::Sender<subscribe::Command>,
    listener: Option<Listener>,
    pulses: Arc<Pulses>,
    other_keys: Arc<publish::OtherKeys>,
    names: Names,
    timeout: Duration,
    /// At Redis and at the Sentinels.
    logins: [Login; 2],
}

/// What is mostly around a message's data, as JSON; more is made room for.
const ENVELOPE_BYTES: usize = 256;
/// Subscribes and unsubscribes on their way to the subscriber task.
const COMMANDS_CAPACITY: usize = 1_024;

impl Redis {
    /// Starts the tasks and returns at once: a Redis that is not there yet is tried until it is, so
    /// that the order in which pods start does not matter. Needs a tokio runtime.
    #[must_use]
    pub fn start(settings: Settings, counters: Counters) -> (Redis, Events) {
        let timeout = settings.timeout;
        let logins = [settings.login.clone(), settings.sentinel_login.clone()];
        let names = Names::new(&settings.prefix, settings.mode);
        let trouble = match settings.mode {
            Mode::Standalone => None,
            Mode::Sentinel => Some("asking the Sentinels for the Redis master".to_owned()),
            Mode::Cluster => Some("asking the Redis Cluster for its masters".to_owned()),
        };
        let (settings, pulses) = (Arc::new(settings), Arc::new(Pulses::new(trouble)));
        let map = discover::start(&settings, &pulses);
        let calls = Calls::start(settings.clone(), map.clone());
        let reader = Clients::start(settings.clone(), map.clone());
        let (events, receiver) = mpsc::channel(super::EVENTS_CAPACITY);
        let listener = Listener::start(listen::Shared {
            settings: settings.clone(),
            map: map.clone(),
            pulses: pulses.clone(),
            calls: calls.clone(),
            events: events.clone(),
            counters: counters.clone(),
        });
        let _ = counters.watched.set(pulses.clone());
        let other_keys = Arc::new(publish::OtherKeys {
            map: map.clone(),
            pulses: pulses.clone(),
        });
        let publisher =
            publish::Publisher::new(calls, names.clone(), counters.clone(), other_keys.clone());
        let publisher = Arc::new(publisher);
        let (subscriptions, commands) = mpsc::channel(COMMANDS_CAPACITY);
        let (masters, heard) = masters::Masters::new(
            settings,
            names.clone(),
            map.clone(),
            (pulses.clone(), counters.clone()),
        );
        let subscriber = subscribe::Subscriber {
            names: names.clone(),
            map,
            masters,
            channels: channels::Channels::new(names.clone()),
            publisher: publisher.clone(),
            events,
            counters,
            ready: VecDeque::new(),
            whole: false,
        };
        tokio::spawn(subscriber.run(commands, heard));
        (
            Redis {
                publisher,
                reader,
                subscriptions,
                listener,
                pulses,
                other_keys,
                names,
                timeout,
                logins,
            },
            receiver,
        )
    }
}

impl Redis {
    /// For what is written down beside messages, at the same masters.
    #[must_use]
    pub fn store(&self) -> Store {
        Store {
            clients: self.reader.clone(),
            names: self.names.clone(),
            timeout: self.timeout,
        }
    }

    /// Whether one of these, at Redis and at the Sentinels, has another password.
    #[must_use]
    pub fn has_other_passwords(&self, settings: &Settings) -> bool {
        let [redis, sentinels] = &self.logins;
        redis.differs(&settings.login) || sentinels.differs(&settings.sentinel_login)
    }

    /// Connections that are made from now on show the passwords of `settings`.
    pub fn take_passwords(&self, settings: &Settings) {
        let [redis, sentinels] = &self.logins;
        redis.take(&settings.login);
        sentinels.take(&settings.sentinel_login);
    }

    /// See [`Login::print`].
    #[must_use]
    pub fn password_print(&self) -> Option<String> {
        self.logins[0].print()
    }

    /// Of one record that a backend published, from now on.
    pub fn set_max_message_bytes(&self, max: usize) {
        if let Some(listener) = &self.listener {
            listener.set_max_message_bytes(max);
        }
    }
}

impl Broker for Redis {
    fn post(
        &self,
        channel: ChannelName,
        message: Message,
        keep: Option<Keep>,
        answer: super::Answer,
    ) {
        let mut payload = Vec::with_capacity(message.data.get().len() + ENVELOPE_BYTES);
        serde_json::to_writer(&mut payload, &message).expect("a message is plain JSON");
        self.publisher.publish(channel, &payload, keep, answer);
    }

    fn history(
        &self,
        channel: ChannelName,
        range: Range,
    ) -> impl Future<Output = Result<Page, HistoryError>> + Send + 'static {
        let (place, reader) = (self.names.place(&channel), self.reader.clone());
        let other_keys = self.other_keys.clone();
        async move {
            let found = log::read(&reader, &place, range).await;
            found.map_err(|cause| {
                other_keys.look_at(&place, &cause);
                HistoryError { channel, cause }
            })
        }
    }

    fn subscribe(
        &self,
        channel: ChannelName,
    ) -> impl Future<Output = Result<(), SubscribeError>> + Send + 'static {
        let (commands, timeout) = (self.subscriptions.clone(), self.timeout);
        let listener = self.listener.clone();
        async move {
            let (live, answer) = oneshot::channel();
            let deadline = Instant::now() + timeout;
            let command = subscribe::Command::Subscribe {
                channel: channel.clone(),
                live,
                deadline,
            };
            let answer = match commands.send(command).await {
                Ok(()) => answer
                    .await
                    .unwrap_or_else(|_| Err("the broker has ended".to_owned())),
                Err(_) => Err("the broker has ended".to_owned()),
            };
            if let (Ok(()), Some(listener)) = (&answer, listener) {
                listener.follow(&channel).await;
            }
            answer.map_err(|cause| SubscribeError { channel, cause })
        }
    }

    fn unsubscribe(&self, channel: ChannelName) -> impl Future<Output = ()> + Send + 'static {
        let (commands, listener) = (self.subscriptions.clone(), self.listener.clone());
        async move {
            if let Some(listener) = listener {
                listener.leave(&channel).await;
            }
            let (done, answer) = oneshot::channel();
            if commands
                .send(subscribe::Command::Unsubscribe { channel, done })
                .await
                .is_ok()
            {
                let _ = answer.await;
            }
        }
    }

    fn health(&self) -> Health {
        self.pulses.health(Instant::now())
    }
}

/// What `crate::fuzzing` needs of the rooms below.
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing {
    use bytes::BytesMut;

    use super::wire::{Push, next_frame, push};
    use crate::message::Position;

    /// See [`super::log::published`].
    pub(crate) fn published(payload: &[u8]) -> (Option<Position>, &[u8]) {
        super::log::published(payload)
    }

    /// What a backend's record becomes, in any of its channels, with at most `max` bytes.
    pub(crate) fn foreign(payload: &[u8], max: usize) -> Vec<crate::message::Delivery> {
        let room = crate::name::ChannelName::room("lobby").expect("a name");
        let places = super::Source::ALL
            .into_iter()
            .map(|source| super::foreign::Place {
                source,
                room: (source == super::Source::Rooms).then_some(&room),
            });
        let read = places.filter_map(|place| super::foreign::read(place, payload, max, 7).ok());
        read.flatten().collect()
    }

    #[derive(Debug, PartialEq, Eq)]
    pub(crate) enum Heard {
        Message(bytes::Bytes),
        Subscribed(bytes::Bytes),
        Other,
        /// And nothing after it: the connection is replaced.
        Failed,
    }

    /// All that a subscriber's connection hears.
    pub(crate) fn hear<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Heard> {
        let (mut input, mut heard) = (BytesMut::new(), Vec::new());
        for piece in pieces {
            input.extend_from_slice(piece);
            loop {
                let frame = match next_frame(&mut input) {
                    Ok(Some(frame)) => frame,
                    Ok(None) => break,
                    Err(_) => {
                        heard.push(Heard::Failed);
                        return heard;
                    }
                };
                heard.push(match push(frame) {
                    Push::Message { payload, .. } => Heard::Message(payload),
                    Push::Subscribed { channel } => Heard::Subscribed(channel),
                    Push::Unsubscribed { .. } | Push::Other => Heard::Other,
                    Push::Refused(_) => {
                        heard.push(Heard::Failed);
                        return heard;
                    }
                });
            }
        }
        heard
    }
}
