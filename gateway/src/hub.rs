//! One task that knows which shards want which channel, asks the broker for what somebody wants, and hands
//! every delivery to the shards that want it, in the order in which the broker gave it. On a channel with history it
//! sees what is missing ([`track`]), once for all of the node's subscribers, and gets it from the log ([`logs`]). A shard
//! is woken when it has all that was there for it, so that what came together leaves together.
//!
//! It never waits for the broker: calls run beside it and report back, so that one slow subscribe delays no
//! delivery. It does wait for room in a shard's queue; a shard always makes room, whatever its sockets do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;

use crate::broker::{Broker, Event, Events, HistoryError};
use crate::engine::ShardEnded;
use crate::engine::command::{Command, Disconnect, EncodedDelivery, Give, Round, ShardId};
use crate::history::{Page, Range};
use crate::message::{Delivery, MessageKind, Position};
use crate::metrics::Metrics;
use crate::name::{ChannelKind, ChannelName};
use crate::protocol::native::{ErrorCode, Refusal};
use crate::session::{Gift, Rules};
use channels::{Action, Channels};
use logs::Logs;
use track::Out;

mod channels;
mod logs;
mod track;

/// Wishes of shards that may wait for the hub.
pub const WISHES_CAPACITY: usize = 4_096;
/// Deliveries taken from the broker at once.
const DELIVERIES_A_TURN: usize = 256;
/// Until a channel that the node itself needs is asked for again.
const PIN_RETRY: Duration = Duration::from_secs(1);

/// What a shard wants.
#[derive(Debug)]
pub enum Wish {
    Interest {
        shard: ShardId,
        channel: ChannelName,
        round: Round,
    },
    Disinterest {
        shard: ShardId,
        channel: ChannelName,
    },
}

/// Where the hub's commands go: the node's shards, or a test's list.
pub trait Shards: Send + Sync + 'static {
    fn ids(&self) -> Vec<ShardId>;

    /// The shard that a connection's number belongs to.
    fn of(&self, number: u64) -> ShardId;

    /// Waits for room. The shard may sleep on until [`Shards::wake`].
    fn queue(
        &self,
        shard: ShardId,
        command: Command,
    ) -> impl Future<Output = Result<(), ShardEnded>> + Send;

    fn wake(&self, shard: ShardId);
}

/// What a call at the broker came to.
enum Done {
    /// With where the log stood after that, on a channel with history.
    Subscribed(ChannelName, Option<Position>),
    /// With the cause, for the log.
    Failed(ChannelName, String),
    Unsubscribed(ChannelName),
    PinNow(ChannelName),
    /// The log of a channel, which was asked for with this number.
    Read(ChannelName, u64, Result<Page, HistoryError>),
    /// Logs may be read again.
    ReadOn,
}

pub struct Hub<B, S> {
    broker: Arc<B>,
    shards: Arc<S>,
    metrics: Arc<Metrics>,
    all: Vec<ShardId>,
    channels: Channels,
    calls: FuturesUnordered<BoxFuture<'static, Done>>,
    actions: Vec<Action>,
    /// Have something in their queues since they were last woken.
    asleep: BTreeSet<ShardId>,
    /// Looked at when a channel is subscribed, and when a log is read.
    rules: Arc<ArcSwap<Rules>>,
    logs: Logs,
    /// Why the last subscribe that failed did; None since one did not while the broker delivered. A broker that is away
    /// is the same news for each channel and each attempt.
    told: Option<String>,
    /// Empty between two deliveries.
    out: Vec<Out>,
}

impl<B: Broker, S: Shards> Hub<B, S> {
    /// `node` is this node's inbox: it, and what goes to everyone, is subscribed for as long as the node runs.
    pub fn new(
        broker: Arc<B>,
        shards: Arc<S>,
        metrics: Arc<Metrics>,
        node: &ChannelName,
        rules: Arc<ArcSwap<Rules>>,
    ) -> Self {
        let mut hub = Hub {
            all: shards.ids(),
            broker,
            shards,
            metrics,
            channels: Channels::default(),
            calls: FuturesUnordered::new(),
            actions: Vec::new(),
            asleep: BTreeSet::new(),
            rules,
            logs: Logs::default(),
            told: None,
            out: Vec::new(),
        };
        for channel in [
            &ChannelName::broadcast(),
            &ChannelName::notifications(),
            node,
        ] {
            hub.channels.pin(channel, &mut hub.actions);
        }
        hub
    }

    /// Ends when every sender of wishes is gone, which is when every shard has ended.
    pub async fn run(mut self, mut wishes: mpsc::Receiver<Wish>, mut events: Events) {
        let mut deliveries = Vec::with_capacity(DELIVERIES_A_TURN);
        let mut broker_lives = true;
        loop {
            self.act().await;
            self.read_logs().await;
            while let Some(shard) = self.asleep.pop_first() {
                self.shards.wake(shard);
            }
            tokio::select! {
                wish = wishes.recv() => match wish {
                    Some(wish) => self.wish(wish),
                    None => return,
                },
                Some(done) = self.calls.next() => self.done(done).await,
                count = events.recv_many(&mut deliveries, DELIVERIES_A_TURN), if broker_lives => {
                    broker_lives = count > 0;
                    for event in deliveries.drain(..) {
                        self.event(event).await;
                    }
                }
            }
        }
    }

    fn wish(&mut self, wish: Wish) {
        match wish {
            Wish::Interest {
                shard,
                channel,
                round,
            } => {
                self.channels
                    .interest(&channel, shard, round, &mut self.actions);
            }
            Wish::Disinterest { shard, channel } => {
                self.channels
                    .disinterest(&channel, shard, &mut self.actions);
            }
        }
    }

    async fn done(&mut self, done: Done) {
        match done {
            Done::Subscribed(channel, stands) => {
                self.told_no_more();
                if let Some(top) = stands {
                    self.stands(&channel, top);
                }
                self.channels.subscribed(&channel, &mut self.actions);
            }
            Done::Failed(channel, cause) => {
                self.tell_once(&channel, cause);
                self.metrics.subscribe_failed();
                self.channels.failed(&channel, &mut self.actions);
            }
            Done::Unsubscribed(channel) => self.channels.unsubscribed(&channel, &mut self.actions),
            Done::PinNow(channel) => self.channels.pin(&channel, &mut self.actions),
            Done::Read(channel, number, found) => self.log_read(channel, number, found).await,
            Done::ReadOn => self.read_on(),
        }
    }

    /// Carries out what the channels decided, in order.
    async fn act(&mut self) {
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Subscribe(channel) => self.subscribe(channel),
                Action::Unsubscribe(channel) => {
                    let call = self.broker.unsubscribe(channel.clone());
                    self.calls.push(Box::pin(async move {
                        call.await;
                        Done::Unsubscribed(channel)
                    }));
                }
                Action::Live(shard, channel, round) => {
                    self.send(shard, Command::Live { channel, round }).await;
                }
                Action::Refused(shard, channel, round) => {
                    let refusal = Refusal {
                        code: ErrorCode::Unavailable,
                        message: format!(
                            "subscribe to {channel} failed: the broker is not reachable; try again later"
                        ),
                    };
                    self.send(
                        shard,
                        Command::Refused {
                            channel,
                            round,
                            refusal,
                        },
                    )
                    .await;
                }
                Action::PinLater(channel) => self.calls.push(Box::pin(async move {
                    tokio::time::sleep(PIN_RETRY).await;
                    Done::PinNow(channel)
                })),
            }
        }
    }

    async fn event(&mut self, event: Event) {
        match event {
            Event::Delivery(delivery) => {
                // The self-test is counted nowhere.
                if delivery.channel.kind() != ChannelKind::SelfTest {
                    self.metrics.broker_delivered();
                }
                self.receive(delivery).await;
            }
            Event::Lost(channels) => self.lost(&channels),
            Event::Restored(channels) => self.restored(&channels),
        }
    }

    async fn deliver(&mut self, delivery: Delivery) {
        let owner = delivery.message.only.as_ref().and_then(|id| id.number());
        let shards = match (delivery.channel.kind(), owner) {
            (ChannelKind::Node(_), Some(number)) => vec![self.shards.of(number)],
            // An inbox message that is for nobody.
            (ChannelKind::Node(_), None) => return,
            (ChannelKind::Broadcast | ChannelKind::Notifications, _) => self.all.clone(),
            _ => self.channels.live(&delivery.channel).collect(),
        };
        match delivery.message.kind {
            MessageKind::Disconnect => return self.disconnect(&shards, delivery).await,
            MessageKind::Subscribe => return self.give(Gift::Subscribe, &shards, delivery).await,
            MessageKind::Unsubscribe => {
                return self.give(Gift::Unsubscribe, &shards, delivery).await;
            }
            _ => {}
        }
        let delivery = Arc::new(EncodedDelivery::new(delivery));
        for shard in shards {
            self.send(shard, Command::Deliver(delivery.clone())).await;
        }
    }

    async fn disconnect(&mut self, shards: &[ShardId], delivery: Delivery) {
        let Delivery {
            channel, message, ..
        } = delivery;
        let order = Arc::new(Disconnect {
            channel,
            only: message.only,
            except: message.except,
        });
        for shard in shards {
            self.send(*shard, Command::Disconnect(order.clone())).await;
        }
    }

    async fn give(&mut self, gift: Gift, shards: &[ShardId], delivery: Delivery) {
        let Delivery {
            channel: to,
            message,
            ..
        } = delivery;
        let Ok(channels) = serde_json::from_str(message.data.get()) else {
            tracing::warn!(
                channel = to.as_str(),
                "channels to give are no list of names"
            );
            return;
        };
        let order = Arc::new(Give { to, gift, channels });
        for shard in shards {
            self.send(*shard, Command::Give(order.clone())).await;
        }
    }

    async fn send(&mut self, shard: ShardId, command: Command) {
        match self.shards.queue(shard, command).await {
            Ok(()) => {
                self.asleep.insert(shard);
            }
            // It ends before its events do, so a few commands find nobody during every shutdown.
            Err(error) => tracing::debug!(%error, "command dropped"),
        }
    }
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
