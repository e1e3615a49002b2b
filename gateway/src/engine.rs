//! The engine: threads that own sockets, and the handle by which the rest of the gateway speaks to them.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use mio::{Poll, Waker};
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::limits::keyed::KeyedCap;
use crate::metrics::Metrics;
use crate::session::Rules;
use command::{Command, ShardId};
use heartbeat::Intervals;
use room::Bell;

pub use inbox::{Gate, Inbox};
pub use outbox::{Dropped, Tag};

mod batch;
pub mod census;
pub mod command;
mod connection;
mod heartbeat;
mod inbox;
mod members;
mod outbox;
pub mod pace;
pub(crate) mod recovering;
pub mod replies;
mod room;
mod shard;
pub(crate) mod subscriptions;
mod timers;
pub(crate) mod told;
pub mod weight;
mod wire;

/// Commands and events that may wait in each direction, for each shard.
const QUEUE_CAPACITY: usize = 4_096;

/// Messages of the largest size (that of the start) that a shard's clients may have published before the broker answers.
/// With so many bytes, in however many messages, none of its sockets is read.
const LARGEST_UNDER_WAY: usize = 16;

/// What every shard is told at the start, and again when it changes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// At least one, at most [`u16::MAX`].
    pub shards: u16,
    pub max_message_bytes: u32,
    /// Bytes that may wait for one client (close code 3008 beyond it).
    pub max_outbox_bytes: usize,
    pub ping_ms: u64,
    /// A connection without a channel that says nothing is closed after this long.
    pub idle_ms: u64,
    /// Shorter messages are sent as they are also where permessage-deflate was agreed on.
    pub min_deflate_bytes: usize,
    /// Every message comes back as it is, and nothing else happens: what conformance suites ask of a server.
    /// No setting of the product; `examples/echo.rs` has it.
    pub echo: bool,
    /// Connections of one user, for those who say who they are only after the handshake.
    pub users: Option<KeyedCap<Arc<str>>>,
}

impl Settings {
    fn intervals(&self) -> Intervals {
        Intervals {
            ping_ms: self.ping_ms,
            idle_ms: self.idle_ms,
        }
    }
}

/// All shards of this node. Dropping it ends them.
pub struct Engine {
    shards: Vec<Handle>,
}

/// The tokio side of one shard.
struct Handle {
    commands: mpsc::Sender<Command>,
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

/// A shard has ended, which happens only when the gateway ends.
#[derive(Debug, thiserror::Error)]
#[error("shard {} has ended", .0.0)]
pub struct ShardEnded(pub ShardId);

impl Engine {
    /// Starts the threads; the inboxes are one for each shard, in order.
    pub fn start(
        settings: &Settings,
        rules: &Arc<Rules>,
        metrics: &Arc<Metrics>,
    ) -> io::Result<(Engine, Vec<Inbox>)> {
        let mut shards = Vec::new();
        let mut inboxes = Vec::new();
        for number in 0..settings.shards {
            let (commands, command_receiver) = mpsc::channel(QUEUE_CAPACITY);
            let (event_sender, events) = mpsc::channel(QUEUE_CAPACITY);
            let gate = Gate::default();
            let poll = Poll::new()?;
            let bell = Arc::new(Bell::new(Waker::new(poll.registry(), shard::WAKE)?));
            let queues = shard::Queues {
                commands: command_receiver,
                events: event_sender,
                bell: bell.clone(),
                gate: gate.clone(),
            };
            let shared = shard::Shared {
                settings: settings.clone(),
                rules: rules.clone(),
                metrics: metrics.clone(),
            };
            let id = ShardId(number);
            let thread = thread::Builder::new()
                .name(format!("shard-{number}"))
                .spawn(move || shard::Shard::new(id, poll, queues, shared).run())?;
            shards.push(Handle {
                commands,
                bell,
                thread: Some(thread),
            });
            inboxes.push(Inbox::new(events, gate));
        }
        Ok((Engine { shards }, inboxes))
    }

    pub fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shards.len())
            .map(|index| ShardId(u16::try_from(index).expect("their number is a u16")))
    }

    /// The shard that a connection's number belongs to.
    pub fn shard_of(&self, number: u64) -> ShardId {
        let shard = number % self.shards.len() as u64;
        ShardId(u16::try_from(shard).expect("the number of shards is a u16"))
    }

    /// A shard whose thread has ended while the engine lives, if there is one.
    pub fn ended(&self) -> Option<ShardId> {
        self.shards()
            .zip(&self.shards)
            .find_map(|(id, handle)| handle.commands.is_closed().then_some(id))
    }

    /// Waits for room in the shard's queue.
    pub async fn send(&self, shard: ShardId, command: Command) -> Result<(), ShardEnded> {
        self.queue(shard, command).await?;
        self.wake(shard);
        Ok(())
    }

    /// The same, but a shard that sleeps sleeps on until [`Engine::wake`]. A shard that woke for the first of many
    /// commands could write that one alone, and would then ask the kernel twice for each of its sockets.
    pub async fn queue(&self, shard: ShardId, command: Command) -> Result<(), ShardEnded> {
        let handle = self.handle(shard);
        match handle.commands.try_send(command) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(_)) => Err(ShardEnded(shard)),
            Err(TrySendError::Full(command)) => {
                // Asleep it would never make room.
                handle.bell.ring();
                let sent = handle.commands.send(command).await;
                sent.map_err(|_| ShardEnded(shard))
            }
        }
    }

    /// The shard looks at its queue.
    pub fn wake(&self, shard: ShardId) {
        self.handle(shard).bell.ring();
    }

    fn handle(&self, shard: ShardId) -> &Handle {
        &self.shards[usize::from(shard.0)]
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for handle in &mut self.shards {
            // A closed queue is a `Stop`.
            handle.commands = mpsc::channel(1).0;
            handle.bell.ring();
        }
        for handle in &mut self.shards {
            if let Some(thread) = handle.thread.take()
                && thread.join().is_err()
            {
                tracing::error!("a shard panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests;
