//! Which connections and subscriptions there are on all nodes, in Redis: each node writes down its own, under a lease. When
//! a lease ends, because its node was killed or cut off, one of the others removes what was written under it.
//!
//! ```text
//! shards ──Told──▶ pending ──batches──▶ writer ──▶ Redis ◀── reaper: leases that have ended
//!    ▲                                     │
//!    └──── "tell me all you hold" ◀────────┘ a lease was lost, Redis was emptied, there was too much to keep
//! ```
//! There is no second copy of what shards hold: what was lost is asked for, page by page, and comes in the order of the
//! events of its shard, so that no page undoes what was told after it. Nobody waits for Redis here: what cannot be
//! written is kept as facts, up to a cap, and beyond it everybody is asked once Redis is back.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;

use crate::broker::redis::{Answer, Call, Names, Store};
use crate::engine::command::ShardId;
use crate::message::ConnectionId;
use crate::name::ChannelName;
use crate::presence::{List, Scope};
use calls::LeaseId;
pub use counters::Counters;
use fact::{Fact, Page, Round, State, Told};
use pending::Pending;

mod calls;
mod counters;
pub mod fact;
mod pending;
mod places;
mod reaper;
mod scripts;
mod writer;

/// Connections of a user that one answer names.
const LISTED: usize = 1_000;

/// How a node takes part.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This node's name.
    pub node: Arc<str>,
    /// So long after a node was last heard of its sessions are removed.
    pub lease: Duration,
    /// Facts that may wait for Redis.
    pub max_pending: usize,
    /// Of this node, the one of event streams included.
    pub shards: usize,
}

/// Why everything is written down again: the label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Why {
    /// The node begins.
    Start,
    /// Others took the node for dead.
    Reaped,
    /// Redis knows nothing of the lease any more, or may have forgotten some of it.
    Emptied,
    /// More changed than was kept while Redis was away.
    Overflow,
}

impl Why {
    /// In the order of the enum.
    pub const LABELS: [&str; 4] = ["start", "reaped", "emptied", "overflow"];
}

/// One node's part of it. Cloning shares it; when the last clone is dropped nothing more is written, and the lease ends by
/// itself.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
    tasks: Arc<Tasks>,
}

struct Tasks([AbortHandle; 2]);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// The node's part of Redis is not known now. The cause is for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read of {what} failed: {cause}")]
pub struct ReadError {
    pub what: String,
    pub cause: String,
}

/// A connection of a user, as every node sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    pub connection: ConnectionId,
    pub node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// Milliseconds since the Unix epoch, by its node's clock.
    pub connected_at: u64,
}

/// The connections of one user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Connections {
    /// By connection; not all of a user who has very many.
    pub named: Vec<Listed>,
    pub total: u64,
}

impl Connections {
    fn of(mut named: Vec<Listed>, total: Option<u64>) -> Connections {
        let total = total.unwrap_or(named.len() as u64);
        named.sort_unstable();
        named.truncate(LISTED);
        Connections { named, total }
    }

    /// All there are.
    #[must_use]
    pub fn new(named: Vec<Listed>) -> Connections {
        Connections::of(named, None)
    }
}

struct Shared {
    store: Store,
    settings: Settings,
    counters: Counters,
    inner: Mutex<Inner>,
    /// Something is to be written.
    changed: Notify,
    /// There is room for more of a page.
    room: Notify,
    /// Facts that were put and have been written, in the order in which they were put.
    written: watch::Sender<u64>,
}

struct Inner {
    pending: Pending,
    /// Facts that were ever put.
    put: u64,
    round: Round,
    /// Shards that have told all they hold in this round.
    complete: HashSet<ShardId>,
    /// In this round nobody is told of those who are in channels: they have heard it before.
    quiet: bool,
    /// What was last asked of Redis was answered.
    reachable: bool,
    /// The lease under which is written now.
    lease: Option<LeaseId>,
}

impl Registry {
    /// Starts its tasks. Whoever is behind the receiver has every shard tell all it holds, in the round that it says.
    #[must_use]
    pub fn start(
        store: Store,
        settings: Settings,
        counters: Counters,
    ) -> (Registry, mpsc::Receiver<Round>) {
        let (asks, asked) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            store,
            counters,
            inner: Mutex::new(Inner {
                pending: Pending::new(settings.max_pending),
                put: 0,
                round: 0,
                complete: HashSet::new(),
                quiet: false,
                reachable: true,
                lease: None,
            }),
            settings,
            changed: Notify::new(),
            room: Notify::new(),
            written: watch::Sender::new(0),
        });
        let writing = tokio::spawn(writer::Writer::new(shared.clone(), asks).run());
        let reaping = tokio::spawn(reaper::run(shared.clone()));
        let tasks = Tasks([writing.abort_handle(), reaping.abort_handle()]);
        let registry = Registry {
            shared,
            tasks: Arc::new(tasks),
        };
        (registry, asked)
    }

    /// What became of a connection. Nobody waits.
    pub fn tell(&self, told: Told) {
        self.shared.put([told]);
    }

    /// A part of what a shard holds. True: the next part is wanted, as soon as there is [`Registry::room`].
    #[must_use]
    pub fn page(&self, shard: ShardId, page: Page) -> bool {
        let Page {
            round,
            mut told,
            next,
        } = page;
        if self.shared.inner().quiet {
            hush(&mut told);
        }
        self.shared.put(told);
        let mut inner = self.shared.inner();
        let wanted = round == inner.round && !inner.pending.has_overflowed();
        if wanted && next.is_none() {
            inner.complete.insert(shard);
            drop(inner);
            self.shared.changed.notify_one();
        }
        wanted
    }

    /// Waits until another page can be taken.
    pub async fn room(&self) {
        loop {
            let room = self.shared.room.notified();
            if self.shared.inner().pending.has_room() {
                return;
            }
            room.await;
        }
    }

    /// The user's connections on all nodes, with what this node was told until now.
    pub async fn connections(&self, user: &str) -> Result<Connections, ReadError> {
        let failed = |cause| ReadError {
            what: format!("connections of {user}"),
            cause,
        };
        let Shared { store, .. } = &*self.shared;
        self.settle().await.map_err(failed)?;
        let call = calls::connections(store.names(), user, LISTED);
        let answers = store.run(&[call]).await.map_err(failed)?;
        match answers.into_iter().next() {
            Some(Answer::Texts(texts)) => Ok(read_connections(&texts)),
            other => Err(failed(format!("Redis answered {other:?}"))),
        }
    }

    /// Who is in a channel on all nodes, with what this node was told until now.
    pub async fn members(&self, channel: &ChannelName, scope: Scope) -> Result<List, ReadError> {
        let failed = |cause| ReadError {
            what: format!("presence of {channel}"),
            cause,
        };
        let Shared { store, .. } = &*self.shared;
        self.settle().await.map_err(failed)?;
        let call = calls::members(store.names(), channel, scope.members);
        let answers = store.run(&[call]).await.map_err(failed)?;
        let Some(Answer::Texts(texts)) = answers.into_iter().next() else {
            return Err(failed("Redis has something else in its place".to_owned()));
        };
        let total = texts.first().and_then(|count| count.parse().ok());
        let named = texts.get(1..).unwrap_or_default();
        let named = named.iter().filter_map(|text| calls::read_member(text));
        Ok(List::of(named, total.unwrap_or(0), scope))
    }

    /// Waits until all that was told is written.
    pub async fn settle(&self) -> Result<(), String> {
        let put = self.shared.inner().put;
        let mut written = self.shared.written.subscribe();
        let all = written.wait_for(|written| *written >= put);
        match tokio::time::timeout(self.shared.store.patience(), all).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err("what this node holds could not be written in time".to_owned()),
        }
    }

    /// The end of the node: what is told is written, and the lease given back, so that others need not wait for its end.
    pub async fn end(&self) {
        if let Err(cause) = self.settle().await {
            tracing::warn!("others find out later that this node has ended: {cause}");
        }
        let Shared { store, .. } = &*self.shared;
        let Some(lease) = self.shared.inner().lease.take() else {
            return;
        };
        self.tasks.0.iter().for_each(AbortHandle::abort);
        let name = vec![lease.as_str().to_owned()];
        let release = calls::on_lease(store.names(), scripts::RELEASE, &lease, Vec::new());
        let released = store.run(&[release]).await;
        let last = match released.as_deref() {
            Ok([Answer::Number(1)]) => calls::on_nodes(store.names(), scripts::FORGET_NODE, name),
            Ok(_) => {
                let now = [name, vec!["0".to_owned()]].concat();
                calls::on_nodes(store.names(), scripts::HINT, now)
            }
            Err(_) => return,
        };
        // Without it the lease ends by itself.
        let _ = store.run(&[last]).await;
    }
}

/// What was heard before is not said again.
fn hush(told: &mut [Told]) {
    for told in told {
        if let Told::Presence { aloud, .. } = told {
            *aloud = false;
        }
    }
}

/// Names, and the count before them.
fn read_connections(texts: &[String]) -> Connections {
    let total = texts.first().and_then(|count| count.parse().ok());
    let pairs = texts.get(1..).unwrap_or_default().chunks_exact(2);
    let named = pairs.filter_map(|pair| {
        let value: calls::Connection = serde_json::from_str(&pair[1]).ok()?;
        Some(Listed {
            connection: ConnectionId::parse(&pair[0])?,
            node: value.node,
            ip: value.ip,
            connected_at: value.connected_at,
        })
    });
    Connections::of(named.collect(), total)
}

/// What is taken from pending at once.
struct Batch {
    facts: Vec<(Fact, State)>,
    /// Written when this is.
    upto: u64,
    overflowed: bool,
    /// All shards have told what they hold, and it is written or in here.
    complete: bool,
}

impl Shared {
    /// Never held over an await.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Whole after every statement, so a panic elsewhere cannot have broken it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, told: impl IntoIterator<Item = Told>) {
        let mut inner = self.inner();
        for told in told {
            for (fact, state) in told.facts(&self.settings.node) {
                inner.pending.put(fact, state);
                inner.put += 1;
            }
        }
        self.count(&inner);
        drop(inner);
        self.changed.notify_one();
    }

    fn take(&self) -> Batch {
        let mut inner = self.inner();
        let batch = Batch {
            facts: inner.pending.take(),
            upto: inner.put,
            overflowed: inner.pending.has_overflowed(),
            complete: inner.complete.len() >= self.settings.shards,
        };
        drop(inner);
        self.room.notify_waiters();
        batch
    }

    fn give_back(&self, facts: &[(Fact, State)]) {
        let mut inner = self.inner();
        inner.pending.give_back(facts.iter().cloned());
        self.count(&inner);
        drop(inner);
        self.changed.notify_one();
    }

    /// Under a new lease: what is told from now on counts.
    fn begin(&self, lease: &LeaseId, why: Why) -> Round {
        let mut inner = self.inner();
        // Nobody has said that they left: the table was lost, not they.
        inner.quiet = why == Why::Emptied;
        inner.pending.begin_anew();
        inner.round = inner.round.wrapping_add(1);
        inner.complete.clear();
        inner.lease = Some(lease.clone());
        let round = inner.round;
        drop(inner);
        self.changed.notify_one();
        round
    }

    fn count(&self, inner: &Inner) {
        let pending = i64::try_from(inner.pending.len()).unwrap_or(i64::MAX);
        self.counters.pending.set(pending);
    }
}
