//! The broker over Redis Pub/Sub, shared by every node with the same Redis and key prefix.
//!
//! ```text
//! publish ─▶ bounded queue ─▶ publisher task ─▶ fred, one pipeline at a time ─▶ Redis
//!                                   ▲ probe, each period                          │
//! Events ◀─ subscriber task ◀───────┴───────────── a connection of our own ◀──────┘
//! ```
//!
//! Publishing goes through fred. Subscriptions are read on a connection of our own ([`connect`],
//! [`subscribe`]), because the promises of [`Broker`] need three things that fred 10 does not give:
//! `SUBSCRIBE` that returns when Redis has confirmed it (fred drops the confirmation), back-pressure
//! from slow consumers to the socket (fred hands messages over in a broadcast channel that overwrites
//! the oldest), and to replace a connection that is open but silent.

mod connect;
mod log;
mod probe;
mod publish;
mod subscribe;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use tokio::sync::{mpsc, oneshot};

use self::probe::Pulse;
use super::{Broker, Events, Health, HistoryError, PublishError, SubscribeError};
use crate::history::{Keep, Page, Range};
use crate::message::{Message, Position};
use crate::name::ChannelName;

/// Where Redis is and how long to wait for it.
#[derive(Clone)]
pub struct Settings {
    pub host: String,
    pub port: u16,
    pub database: u8,
    pub username: Option<String>,
    pub password: Option<String>,
    /// Begins every Pub/Sub channel.
    pub prefix: String,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// Between two probes. After three without one that returned, the connection is replaced.
    pub probe_period: Duration,
}

impl Settings {
    /// `host:port`, for messages. The password is in no message.
    fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// What goes wrong between this node and Redis.
#[derive(Clone)]
pub struct Counters {
    bad_payloads: IntCounter,
    losses: IntCounter,
    unavailable: IntCounter,
    unanswered: IntCounter,
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
                "Times the subscription to Redis was lost, and messages with it.",
            )?,
            unavailable: failures.with_label_values(&["unavailable"]),
            unanswered: failures.with_label_values(&["unanswered"]),
        };
        registry.register(Box::new(counters.bad_payloads.clone()))?;
        registry.register(Box::new(counters.losses.clone()))?;
        registry.register(Box::new(failures))?;
        Ok(counters)
    }
}

/// See the module. Cloning shares the broker; when the last clone is dropped its tasks end.
#[derive(Clone)]
pub struct Redis {
    publisher: publish::Publisher,
    /// For reading logs; the publisher's connection, which it also keeps up.
    reader: fred::clients::Client,
    subscriptions: mpsc::Sender<subscribe::Command>,
    pulse: Arc<Pulse>,
    settings: Arc<Settings>,
}

/// Subscribes and unsubscribes on their way to the subscriber task.
const COMMANDS_CAPACITY: usize = 1_024;

impl Redis {
    /// Starts the tasks and returns at once: a Redis that is not there yet is tried until it is, so
    /// that the order in which pods start does not matter. Needs a tokio runtime.
    #[must_use]
    pub fn start(settings: Settings, counters: Counters) -> (Redis, Events) {
        let settings = Arc::new(settings);
        let pulse = Arc::new(Pulse::new(settings.probe_period, settings.address()));
        let (publisher, reader) = publish::start(&settings, pulse.clone(), counters.clone());
        let (subscriptions, commands) = mpsc::channel(COMMANDS_CAPACITY);
        let (events, receiver) = mpsc::channel(super::EVENTS_CAPACITY);
        let subscriber = subscribe::Subscriber::new(
            settings.clone(),
            publisher.downgrade(),
            events,
            pulse.clone(),
            counters,
        );
        tokio::spawn(subscriber.run(commands));
        (
            Redis {
                publisher,
                reader,
                subscriptions,
                pulse,
                settings,
            },
            receiver,
        )
    }
}

impl Broker for Redis {
    fn publish(
        &self,
        channel: ChannelName,
        message: Message,
        keep: Option<Keep>,
    ) -> impl Future<Output = Result<Option<Position>, PublishError>> + Send + 'static {
        let payload = serde_json::to_vec(&message).expect("a message is plain JSON");
        let prefix = &self.settings.prefix;
        let answer = self.publisher.publish(publish::Outgoing {
            channel: subscribe::redis_channel(prefix, channel.as_str()),
            payload: payload.into(),
            log: keep.map(|keep| (log::LogKeys::new(prefix, &channel), keep)),
        });
        async move {
            match answer.await {
                publish::Outcome::Accepted(position) => Ok(position),
                publish::Outcome::Unavailable => Err(PublishError::Unavailable { channel }),
                publish::Outcome::Unanswered => Err(PublishError::Unanswered { channel }),
            }
        }
    }

    fn history(
        &self,
        channel: ChannelName,
        range: Range,
    ) -> impl Future<Output = Result<Page, HistoryError>> + Send + 'static {
        let keys = log::LogKeys::new(&self.settings.prefix, &channel);
        let (reader, timeout) = (self.reader.clone(), self.settings.timeout);
        async move {
            let read = tokio::time::timeout(timeout, log::read(&reader, &keys, range)).await;
            read.unwrap_or_else(|_| Err("Redis did not answer".to_owned()))
                .map_err(|cause| HistoryError { channel, cause })
        }
    }

    fn subscribe(
        &self,
        channel: ChannelName,
    ) -> impl Future<Output = Result<(), SubscribeError>> + Send + 'static {
        let (commands, settings) = (self.subscriptions.clone(), self.settings.clone());
        async move {
            let (live, answer) = oneshot::channel();
            let deadline = Instant::now() + settings.timeout;
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
            answer.map_err(|cause| SubscribeError { channel, cause })
        }
    }

    fn unsubscribe(&self, channel: ChannelName) -> impl Future<Output = ()> + Send + 'static {
        let commands = self.subscriptions.clone();
        async move {
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
        self.pulse.health(Instant::now())
    }
}

/// What `crate::fuzzing` needs of the rooms below.
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing {
    use bytes::BytesMut;

    use super::connect::{Push, next_frame, push};
    use crate::message::Position;

    /// See [`super::log::published`].
    pub(crate) fn published(payload: &[u8]) -> (Option<Position>, &[u8]) {
        super::log::published(payload)
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
                heard.push(
                    match next_frame(&mut input).and_then(|frame| frame.map(push).transpose()) {
                        Ok(Some(Push::Message { payload, .. })) => Heard::Message(payload),
                        Ok(Some(Push::Subscribed { channel })) => Heard::Subscribed(channel),
                        Ok(Some(Push::Other)) => Heard::Other,
                        Ok(None) => break,
                        Err(_) => {
                            heard.push(Heard::Failed);
                            return heard;
                        }
                    },
                );
            }
        }
        heard
    }
}
