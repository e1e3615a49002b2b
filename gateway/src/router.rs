//! What sessions and the HTTP API want, to the hub and the broker: the only room that calls a broker.
//!
//! For each shard one task takes its events in order, so that what one client publishes keeps its order: the broker
//! gives a message its place when `publish` is called, and the calls are made one after the other.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use crate::auth::keys::KeySource;
use crate::broker::{Answer, Broker, EVENTS_CAPACITY, Events, Publish, PublishError};
use crate::engine::census::{self, Page, Query};
use crate::engine::command::{
    Arrival, Command, Configured, ConnectionKey, Event, NewConnection, ShardId,
};
use crate::engine::pace::Pace;
use crate::engine::{Engine, Gate, Inbox, Settings, ShardEnded};
use crate::history::Keep;
use crate::hub::{Hub, WISHES_CAPACITY, Wish};
use crate::limits::Permit;
use crate::message::{Message, Position};
use crate::metrics::{Metrics, PublishFailure};
use crate::name::ChannelName;
use crate::presence::Present;
use crate::protocol::close::CloseCode;
use crate::protocol::native::{Refusal, Reply, RequestId, encode_reply};
use crate::registry::Registry;
use crate::session::Rules;
use crate::shards::Shards;
use crate::sse::outbox::Stream;
use crate::sse::{self, Opening};

mod answers;
mod presence;
mod publishing;
mod reads;
mod registry;
mod task;
use answers::{not_listed, published, unread};
pub use registry::Cluster;
use task::ShardTask;

/// Publishes and reads of one shard's clients that the broker has not answered. At the cap the shard's events wait, and then
/// its sockets: clients feel a slow broker as a slow gateway, and nothing grows.
///
/// All shards together leave half of what a broker queues to others: a queue that they could fill would refuse them, and
/// with them joins and leaves, which nobody sends again.
fn calls_under_way(shards: usize) -> usize {
    (EVENTS_CAPACITY / 2 / shards.max(1)).clamp(1, 1_024)
}

/// The node's way in. Cloning shares it.
pub struct Router<B> {
    node: Arc<Node<B>>,
}

struct Node<B> {
    broker: Arc<B>,
    registry: Option<Registry>,
    shards: Arc<Shards>,
    keys: Arc<dyn KeySource>,
    metrics: Arc<Metrics>,
    /// Of the moment.
    rules: Arc<ArcSwap<Rules>>,
    present: Arc<Present>,
    next_number: AtomicU64,
    /// The latest drain, and the shards that have closed their last connection in it.
    drained: watch::Sender<(u32, BTreeSet<ShardId>)>,
    counting: Mutex<()>,
    /// Closed when the last task has ended.
    running: watch::Sender<()>,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("start of the shard threads failed")]
    Engine(#[source] io::Error),
    #[error("start refused: the node name {0:?} {1}")]
    NodeName(String, #[source] crate::name::NameError),
}

/// Why a socket was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    #[error("adoption of a socket failed: {0}")]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Ended(#[from] ShardEnded),
}

impl<B: Broker> Router<B> {
    /// Starts the shards' threads, the tasks beside them on the runtime that has been entered, and event streams on theirs.
    pub fn start(
        cluster: Cluster<B>,
        settings: &Settings,
        rules: &Arc<Rules>,
        metrics: Arc<Metrics>,
        runtime_of_streams: &Handle,
    ) -> Result<Self, StartError> {
        let Cluster {
            broker,
            events,
            registry,
        } = cluster;
        let inbox = ChannelName::node(&rules.node)
            .map_err(|error| StartError::NodeName(rules.node.to_string(), error))?;
        let (engine, mut inboxes) =
            Engine::start(settings, rules, &metrics).map_err(StartError::Engine)?;
        // Numbered after the threads.
        let streams = ShardId(settings.shards);
        let (streams, events_of_streams, task) =
            sse::start(streams, settings.max_outbox_bytes, rules, &metrics);
        runtime_of_streams.spawn(task);
        inboxes.push(Inbox::new(events_of_streams, Gate::default()));
        let shards = Arc::new(Shards::new(engine, streams));
        let (wishes, wish_receiver) = mpsc::channel(WISHES_CAPACITY);
        let current = Arc::new(ArcSwap::new(rules.clone()));
        let registry = registry.map(|(registry, asked)| {
            tokio::spawn(registry::ask(asked, Arc::downgrade(&shards)));
            registry
        });
        let node = Arc::new(Node {
            registry,
            broker: broker.clone(),
            shards: shards.clone(),
            keys: rules.keys.clone(),
            metrics: metrics.clone(),
            rules: current.clone(),
            present: Arc::new(Present::new(&rules.node, &metrics)),
            next_number: AtomicU64::new(first_number(unix_time())),
            drained: watch::Sender::default(),
            counting: Mutex::new(()),
            running: watch::Sender::new(()),
        });
        let running = node.running.subscribe();
        let hub = Hub::new(broker, shards, metrics, &inbox, current);
        tokio::spawn(async move {
            hub.run(wish_receiver, events).await;
            drop(running);
        });
        let calls = calls_under_way(inboxes.len());
        for (shard, events) in node.shards.all().zip(inboxes) {
            let task = ShardTask {
                shard,
                calls,
                node: node.clone(),
                wishes: wishes.clone(),
            };
            let running = node.running.subscribe();
            tokio::spawn(async move {
                task.run(events).await;
                drop(running);
            });
        }
        Ok(Router { node })
    }

    /// Publishes for somebody who is not a client of this node. The message takes its place in the channel's order
    /// when this is called, not when the future is first polled.
    pub fn publish(
        &self,
        channel: ChannelName,
        message: Message,
    ) -> impl Future<Output = Result<Option<Position>, PublishError>> + Send + 'static {
        self.node.publish(channel, message)
    }

    /// Takes a socket whose handshake is done. `place` is given back as soon as the connection is counted here; the
    /// self-test has none and is not counted.
    pub async fn adopt(&self, arrival: Arrival, place: Option<Permit>) -> Result<(), AdoptError> {
        let socket = &arrival.socket;
        socket.set_nonblocking(true)?;
        // A delivery is one write; waiting for more to send with it would only delay it.
        socket.set_nodelay(true)?;
        let node = &self.node;
        let number = node.next_number.fetch_add(1, Ordering::Relaxed);
        let shard = node.shards.of(number);
        let connection = NewConnection { number, arrival };
        // Counted before it waits in the queue: a cap that is compared with `connections` sees it at once.
        let counts = !connection.arrival.self_test;
        if counts {
            node.metrics.opened();
        }
        drop(place);
        if let Err(error) = node.shards.send(shard, Command::Adopt(connection)).await {
            if counts {
                node.metrics.closed(CloseCode::GoingAway, Duration::ZERO);
            }
            return Err(error.into());
        }
        Ok(())
    }

    /// Opens an event stream, or says what of it is refused.
    pub async fn open_stream(
        &self,
        opening: Opening,
    ) -> Result<Result<Stream, Refusal>, ShardEnded> {
        let number = self.node.next_number.fetch_add(1, Ordering::Relaxed);
        self.node.shards.streams().open(number, opening).await
    }

    /// Sockets that this node holds, those on their way to a shard included.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.node.metrics.connected()
    }

    /// The channels that have subscribers on this node.
    pub async fn channels(&self, query: Query) -> Result<Page, ShardEnded> {
        let node = &self.node;
        // A shard looks at all its channels for this, and delivers nothing meanwhile: one at a time.
        let _one = node.counting.lock().await;
        let query = Arc::new(query);
        let mut pages = Vec::new();
        for shard in node.shards.all() {
            let (answer, answered) = oneshot::channel();
            let query = query.clone();
            let count = Command::Count { query, answer };
            node.shards.send(shard, count).await?;
            pages.push(answered.await.map_err(|_| ShardEnded(shard))?);
        }
        Ok(census::merge(pages, query.limit))
    }

    pub fn broker(&self) -> &B {
        &self.node.broker
    }

    /// A shard whose thread has ended before it was told to, if there is one.
    #[must_use]
    pub fn ended_shard(&self) -> Option<ShardId> {
        self.node.shards.ended()
    }

    /// Tells every client to come back and closes it, at this pace in all. The same round again: another pace.
    pub async fn send_away(&self, round: u32, pace: Pace) {
        self.node.drained.send_if_modified(|(latest, shards)| {
            let new = *latest != round;
            if new {
                (*latest, *shards) = (round, BTreeSet::new());
            }
            new
        });
        let shards = &self.node.shards;
        let all = self.connections();
        let streams = shards.streams().count().min(all);
        let (of_threads, of_streams) = pace.parts(shards.threads().count(), (all, streams));
        let parts = shards.threads().zip(of_threads);
        for (shard, pace) in parts.chain([(shards.streams().id(), of_streams)]) {
            self.tell(shard, Command::Drain { round, pace }).await;
        }
    }

    /// Whoever is left stays.
    pub async fn readmit(&self) {
        for shard in self.node.shards.all() {
            self.tell(shard, Command::Readmit).await;
        }
    }

    /// Waits until every shard has closed its last connection in this round.
    pub async fn drained(&self, round: u32) {
        let all = self.node.shards.all().count();
        let mut drained = self.node.drained.subscribe();
        // The sender lives in `self`: there is no error to wait for.
        let _ = drained
            .wait_for(|(latest, shards)| *latest == round && shards.len() >= all)
            .await;
    }

    /// Closes so many percent of the connections, the oldest ones: numbers go round the shards, so the oldest of each
    /// shard are about the oldest of all.
    pub async fn evict_oldest(&self, percent: usize) {
        for shard in self.node.shards.all() {
            self.tell(shard, Command::EvictOldest { percent }).await;
        }
    }

    /// Other settings from now on, also for who is connected.
    pub async fn configure(&self, settings: Settings, rules: Arc<Rules>) {
        self.node.rules.store(rules.clone());
        let settings = Arc::new(settings);
        let new = Configured { settings, rules };
        for shard in self.node.shards.all() {
            self.tell(shard, Command::Configure(new.clone())).await;
        }
    }

    /// Ends the shards now: what is still open is closed with 1001.
    pub async fn stop(&self) {
        for shard in self.node.shards.all() {
            self.tell(shard, Command::Stop).await;
        }
        self.stopped().await;
    }

    /// Waits until every shard and task has ended.
    pub async fn stopped(&self) {
        self.node.running.closed().await;
    }

    async fn tell(&self, shard: ShardId, command: Command) {
        if let Err(error) = self.node.shards.send(shard, command).await {
            // It has been stopped before: what was to be reached is reached.
            tracing::debug!(%error, "command dropped");
        }
    }
}

impl<B: Broker> Node<B> {
    /// With what the channel's policy keeps. The message takes its place when this is called.
    fn publish(
        &self,
        channel: ChannelName,
        message: Message,
    ) -> impl Future<Output = Result<Option<Position>, PublishError>> + Send + 'static {
        let keep = self.keep(&channel, &message);
        self.broker.publish(channel, message, keep)
    }

    /// The same for one of many.
    fn post(&self, channel: ChannelName, message: Message, answer: Answer) {
        let keep = self.keep(&channel, &message);
        self.broker.post(channel, message, keep, answer);
    }

    fn keep(&self, channel: &ChannelName, message: &Message) -> Option<Keep> {
        let rules = self.rules.load();
        let policy = rules.policies.of(channel.as_str());
        policy.history.filter(|_| message.kind.is_kept())
    }
}

impl<B> Clone for Router<B> {
    fn clone(&self) -> Self {
        Router {
            node: self.node.clone(),
        }
    }
}

/// Numbers go up from the time of the start, so that a node that comes back under its old name does not give an old
/// connection's id to somebody else, who would then get its private messages.
fn first_number(since: Duration) -> u64 {
    // Twenty bits: a million connections in the millisecond of a restart.
    u64::try_from(since.as_millis()).unwrap_or(0) << 20
}

fn unix_time() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
