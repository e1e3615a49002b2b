//! Clients that read a stream of server-sent events (WHATWG HTML section 9.2): for the hub one more shard, which is a
//! tokio task and no thread. Few clients are of this kind, and hyper keeps their sockets, so this path is plain and the
//! threads' is fast. Sessions, subscriptions, caps and counts are those of a WebSocket.
//!
//! ```text
//!  http/sse ──Opening──▶ task ◀── the commands of a shard ── hub
//!      │                  │  └── the events of a shard ───▶ router
//!      ◀──── Stream ── outbox, one for each client, bounded in bytes
//! ```
//! The task waits for nobody: not for a client (an outbox that is full closes it), not for the router (what it cannot
//! say now it keeps, and takes no new client until it is said). So a hub that waits for room here always gets it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc, oneshot};

use crate::auth::Identity;
use crate::engine::ShardEnded;
use crate::engine::command::{Command, Event, ShardId};
use crate::limits::{Permit, Share};
use crate::metrics::Metrics;
use crate::name::ChannelName;
use crate::protocol::native::Refusal;
use crate::session::Rules;
use outbox::Stream;
use task::{Queues, Task};

pub(crate) mod format;
pub mod outbox;
mod task;

/// Commands and events that may wait, and clients that may wait to be let in.
const QUEUE_CAPACITY: usize = 4_096;

/// Set in the numbers of connections that are event streams, so that a number says where its connection is.
const STREAM_BIT: u64 = 1 << 63;

/// Whether the connection of this number is an event stream.
pub fn is_stream(number: u64) -> bool {
    number & STREAM_BIT != 0
}

/// A client that wants a stream.
#[derive(Debug)]
pub struct Opening {
    pub identity: Option<Identity>,
    /// In the order of the request, each once.
    pub channels: Vec<ChannelName>,
    /// `Last-Event-ID`: it has had a stream before, and says where that ended.
    pub last_id: Option<String>,
    /// Its place among the handshakes, given back when it is counted as a connection.
    pub place: Permit,
    pub share: Share,
    pub line: Arc<Line>,
}

/// A TCP connection, as one who answers on it for long sees it.
#[derive(Debug)]
pub struct Line {
    /// Among those that speak HTTP.
    place: Mutex<Option<Permit>>,
    cut: Notify,
}

impl Line {
    #[must_use]
    pub fn new(place: Permit) -> Line {
        Line {
            place: Mutex::new(Some(place)),
            cut: Notify::new(),
        }
    }

    /// It is counted as a connection from now on, no longer as a caller.
    pub fn leave_place(&self) {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        *place = None;
    }

    /// Closes it, whatever the client does. A client that does not read is not polled, so an end of the body alone
    /// would not be seen.
    pub fn cut(&self) {
        self.cut.notify_one();
    }

    pub async fn is_cut(&self) {
        self.cut.notified().await;
    }
}

/// An opening on its way to the task.
struct Asked {
    number: u64,
    opening: Opening,
    answer: oneshot::Sender<Result<Stream, Refusal>>,
}

/// The tokio side of the shard. The task ends when this is dropped.
pub struct Streams {
    id: ShardId,
    commands: mpsc::Sender<Command>,
    openings: mpsc::Sender<Asked>,
    open: Arc<AtomicU64>,
}

/// The task, which is the shard `id`, is the caller's to spawn. `max_outbox`: bytes that may wait for one client.
pub fn start(
    id: ShardId,
    max_outbox: usize,
    rules: &Arc<Rules>,
    metrics: &Arc<Metrics>,
) -> (
    Streams,
    mpsc::Receiver<Event>,
    impl Future<Output = ()> + Send + use<>,
) {
    let (commands, command_receiver) = mpsc::channel(QUEUE_CAPACITY);
    let (openings, opening_receiver) = mpsc::channel(QUEUE_CAPACITY);
    let (events, event_receiver) = mpsc::channel(QUEUE_CAPACITY);
    let open = Arc::new(AtomicU64::new(0));
    let task = Task::new(id, max_outbox, rules, metrics, open.clone());
    let task = task.run(Queues {
        commands: command_receiver,
        openings: opening_receiver,
        events,
    });
    let streams = Streams {
        id,
        commands,
        openings,
        open,
    };
    (streams, event_receiver, task)
}

impl Streams {
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Streams that are open.
    pub fn count(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    pub fn has_ended(&self) -> bool {
        self.commands.is_closed()
    }

    /// Waits for room in the queue.
    pub async fn send(&self, command: Command) -> Result<(), ShardEnded> {
        let sent = self.commands.send(command).await;
        sent.map_err(|_| ShardEnded(self.id))
    }

    /// The stream, or what of it is refused.
    pub async fn open(
        &self,
        number: u64,
        opening: Opening,
    ) -> Result<Result<Stream, Refusal>, ShardEnded> {
        let (answer, answered) = oneshot::channel();
        let asked = Asked {
            number: number | STREAM_BIT,
            opening,
            answer,
        };
        let sent = self.openings.send(asked).await;
        sent.map_err(|_| ShardEnded(self.id))?;
        answered.await.map_err(|_| ShardEnded(self.id))
    }
}

#[cfg(test)]
#[path = "sse_tests.rs"]
mod tests;
