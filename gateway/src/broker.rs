//! The broker: what carries a message from the node that accepted it to every node with a subscriber.
//!
//! Two implementations, [`memory`] and [`redis`], pass the contract suite in `tests/gateway/broker.rs`.
//! Deliveries and losses leave a broker through the bounded [`Events`] receiver that its constructor
//! returns: the only way in which a message reaches this node's subscribers, also for local publishers.

use std::future::Future;
use std::time::{SystemTime, UNIX_EPOCH};

use futures::future::Either;
use tokio::sync::mpsc;

use crate::history::{Keep, Page, Range};
use crate::message::{Delivery, Message, Position};
use crate::name::ChannelName;

mod answer;
pub mod memory;
pub mod redis;
pub use answer::{Answer, Number, Outcome, Unpublished};

/// What a broker promises:
///
/// * **Order.** Two messages that are posted to one channel one after the other are delivered in that order to every
///   subscribed node: `post` takes their place in the queue.
/// * **Subscribed means live.** When `subscribe` returned `Ok`, every message whose `post` begins
///   afterwards, on any node, is delivered here until `unsubscribe` or an [`Event::Lost`] that names the channel.
/// * **Accepted or refused.** Each `post` is answered once: with `Ok` when the broker has the message, or with why not; a
///   message that is [`Unpublished::Unavailable`] was never sent.
/// * **Kept.** What is posted with `keep` is appended to the channel's log and delivered with its position, in one step:
///   offsets go up by one in the order of deliveries. `history` called after the answer has it.
/// * **Once.** A delivery is not repeated, except after `Lost`, by recovery that the caller asks for.
/// * **Lost means these.** `Lost` names every subscribed channel of which messages may be missed, and no other. Each is
///   named by one `Restored` after that, unless it is unsubscribed before.
///
/// The caller promises not to overlap `subscribe` and `unsubscribe` of one channel (the hub serialises
/// them). After [`Event::Restored`] it need not subscribe, which the broker itself has done, but a channel's log may have
/// what was not delivered.
pub trait Broker: Send + Sync + 'static {
    /// Publishes, and returns at once. `keep`: how much of the channel is kept. None: it has no history, and the message
    /// no position.
    fn post(&self, channel: ChannelName, message: Message, keep: Option<Keep>, answer: Answer);

    /// A part of the channel's log, which begins now if there is none.
    fn history(
        &self,
        channel: ChannelName,
        range: Range,
    ) -> impl Future<Output = Result<Page, HistoryError>> + Send + 'static;

    fn subscribe(
        &self,
        channel: ChannelName,
    ) -> impl Future<Output = Result<(), SubscribeError>> + Send + 'static;

    fn unsubscribe(&self, channel: ChannelName) -> impl Future<Output = ()> + Send + 'static;

    /// Whether messages flow right now, as the last probe through the real data path saw it.
    fn health(&self) -> Health;
}

/// Publishing, for who waits for each answer.
pub trait Publish: Broker {
    /// The message takes its place when this is called, not when the future is first polled.
    fn publish(
        &self,
        channel: ChannelName,
        message: Message,
        keep: Option<Keep>,
    ) -> impl Future<Output = Result<Option<Position>, PublishError>> + Send + 'static {
        let (answer, answered) = Answer::one();
        self.post(channel.clone(), message, keep, answer);
        async move {
            let outcome = answered.await.unwrap_or(Err(Unpublished::Unanswered));
            outcome.map_err(|why| why.of(channel))
        }
    }
}

impl<B: Broker> Publish for B {}

/// Deliveries and changes of state, in the order in which they happened. Bounded: a broker waits for
/// room (back-pressure reaches the source) rather than drop.
pub type Events = mpsc::Receiver<Event>;

/// Room in [`Events`].
pub const EVENTS_CAPACITY: usize = 4_096;

#[derive(Debug, Clone)]
pub enum Event {
    Delivery(Delivery),
    /// Of these channels, at least one, messages published from now on may be missed, until `Restored`.
    Lost(Vec<ChannelName>),
    /// These are subscribed again. Those without history may have lost messages in between.
    Restored(Vec<ChannelName>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    Delivering,
    /// As that, but not all is well: what, for people.
    Impaired(String),
    /// Why not, for people.
    NotDelivering(String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Nothing was sent; trying again later is safe.
    #[error("publish to {channel} refused: the broker is not reachable")]
    Unavailable { channel: ChannelName },
    /// Sent, and no answer came: it may or may not have been delivered.
    #[error("publish to {channel} unanswered by the broker")]
    Unanswered { channel: ChannelName },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("history of {channel} not read: {cause}")]
pub struct HistoryError {
    pub channel: ChannelName,
    pub cause: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("subscribe to {channel} failed: {cause}")]
pub struct SubscribeError {
    pub channel: ChannelName,
    pub cause: String,
}

/// The broker that the configuration chose.
#[derive(Clone)]
pub enum Chosen {
    Memory(memory::Memory),
    Redis(redis::Redis),
}

impl Broker for Chosen {
    fn post(&self, channel: ChannelName, message: Message, keep: Option<Keep>, answer: Answer) {
        match self {
            Chosen::Memory(broker) => broker.post(channel, message, keep, answer),
            Chosen::Redis(broker) => broker.post(channel, message, keep, answer),
        }
    }

    fn history(
        &self,
        channel: ChannelName,
        range: Range,
    ) -> impl Future<Output = Result<Page, HistoryError>> + Send + 'static {
        match self {
            Chosen::Memory(broker) => Either::Left(broker.history(channel, range)),
            Chosen::Redis(broker) => Either::Right(broker.history(channel, range)),
        }
    }

    fn subscribe(
        &self,
        channel: ChannelName,
    ) -> impl Future<Output = Result<(), SubscribeError>> + Send + 'static {
        match self {
            Chosen::Memory(broker) => Either::Left(broker.subscribe(channel)),
            Chosen::Redis(broker) => Either::Right(broker.subscribe(channel)),
        }
    }

    fn unsubscribe(&self, channel: ChannelName) -> impl Future<Output = ()> + Send + 'static {
        match self {
            Chosen::Memory(broker) => Either::Left(broker.unsubscribe(channel)),
            Chosen::Redis(broker) => Either::Right(broker.unsubscribe(channel)),
        }
    }

    fn health(&self) -> Health {
        match self {
            Chosen::Memory(broker) => broker.health(),
            Chosen::Redis(broker) => broker.health(),
        }
    }
}

/// Milliseconds since the Unix epoch: the age of a log, and the epoch of a new one.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
