//! What backends publish straight into Redis is heard on a connection of its own, to one master: plain Pub/Sub of a Cluster
//! reaches every node over its bus. What they send cannot hold up, or end, the connections on which our own messages come.
//!
//! A room's channel is subscribed while the room has a subscriber on this node; the other channels always. A probe of our
//! own goes through another master, where there are several, so that it sees the bus too. While the connection is away,
//! messages are lost: they have no log.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use tokio::sync::{mpsc, oneshot};

use super::Settings;
use super::calls::Calls;
use super::discover::Map;
use super::foreign::{self, Outcome, Source};
use super::pulses::Pulses;
use crate::broker::Event;
use crate::name::{ChannelKind, ChannelName};
use task::Task;

mod task;

/// Rooms on their way to the task.
const WISHES_CAPACITY: usize = 1_024;
/// Batches of pushes that wait for the task.
const SAID_CAPACITY: usize = 2;
/// What is listened to. Nothing by default.
#[derive(Debug, Clone, Default)]
pub struct Listen {
    /// Each once.
    pub sources: Vec<Source>,
    /// Begins each name in Redis.
    pub prefix: String,
    /// Of one record, in bytes; may change while the gateway runs.
    pub max_message_bytes: Arc<AtomicUsize>,
}

/// What became of what backends sent.
#[derive(Clone)]
pub(super) struct Counters(Vec<Vec<IntCounter>>);

impl Counters {
    pub(super) fn register(registry: &Registry) -> Result<Counters, prometheus::Error> {
        let all = IntCounterVec::new(
            Opts::new(
                "pushcluster_broker_foreign_messages_total",
                "Messages that backends published straight into Redis, by what became of them.",
            ),
            &["channel", "outcome"],
        )?;
        registry.register(Box::new(all.clone()))?;
        let of = |source: Source| {
            let label = |outcome: &&str| all.with_label_values(&[source.name(), *outcome]);
            Outcome::LABELS.iter().map(label).collect()
        };
        Ok(Counters(Source::ALL.into_iter().map(of).collect()))
    }

    fn count(&self, source: Source, outcome: Outcome) {
        self.0[source as usize][outcome as usize].inc();
    }
}

/// The way in. When the last clone is dropped the task ends.
#[derive(Clone)]
pub(super) struct Listener {
    wishes: mpsc::Sender<Wish>,
    settings: Arc<Settings>,
}

enum Wish {
    Room {
        key: Bytes,
        room: ChannelName,
        /// Dropped or answered when there is nothing to wait for any more.
        heard: oneshot::Sender<()>,
    },
    Leave(Bytes),
}

/// What the task shares with the rest of the broker.
pub(super) struct Shared {
    pub(super) settings: Arc<Settings>,
    pub(super) map: Map,
    pub(super) pulses: Arc<Pulses>,
    pub(super) calls: Calls,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) counters: super::Counters,
}

impl Listener {
    /// None: nothing is to be listened to.
    pub(super) fn start(shared: Shared) -> Option<Listener> {
        let settings = shared.settings.clone();
        if settings.listen.sources.is_empty() {
            return None;
        }
        let (wishes, wished) = mpsc::channel(WISHES_CAPACITY);
        let (said, heard) = mpsc::channel(SAID_CAPACITY);
        tokio::spawn(Task::new(shared, said).run(wished, heard));
        Some(Listener { wishes, settings })
    }

    pub(super) fn set_max_message_bytes(&self, max: usize) {
        self.settings
            .listen
            .max_message_bytes
            .store(max, Ordering::Relaxed);
    }

    /// Returns when what is published for this room from now on is heard, if it is one: or when that cannot be had now,
    /// which keeps nobody out of the room.
    pub(super) async fn follow(&self, channel: &ChannelName) {
        let Some(key) = self.room_key(channel) else {
            return;
        };
        let (heard, live) = oneshot::channel();
        let room = channel.clone();
        if self
            .wishes
            .send(Wish::Room { key, room, heard })
            .await
            .is_ok()
        {
            let _ = tokio::time::timeout(self.settings.timeout, live).await;
        }
    }

    pub(super) async fn leave(&self, channel: &ChannelName) {
        if let Some(key) = self.room_key(channel) {
            let _ = self.wishes.send(Wish::Leave(key)).await;
        }
    }

    fn room_key(&self, channel: &ChannelName) -> Option<Bytes> {
        match channel.kind() {
            ChannelKind::Room(room) if self.settings.listen.sources.contains(&Source::Rooms) => {
                Some(foreign::room_key(&self.settings.listen.prefix, room).into())
            }
            _ => None,
        }
    }
}
