//! Finds the masters and keeps the [`Topology`] current: asks the Sentinels or the nodes of the Cluster at the start, when
//! somebody here saw something that does not fit, when a Sentinel announces a switch, and now and then.
//!
//! No single answer is trusted: several are asked, and the highest epoch wins (`belief`). What was known stays while nobody
//! answers.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rand::seq::SliceRandom;
use redis_protocol::resp2::types::BytesFrame;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::belief::Belief;
use super::connect::{Connection, ConnectionError, Wanted};
use super::pulses::Pulses;
use super::topology::{self, Endpoint, Node, Topology};
use super::wire::text;
use super::{Mode, Settings};

/// Nodes of a Cluster that are asked at a time.
const ASKED: usize = 6;
/// After the first answer, how long the others are waited for.
const OTHERS: Duration = Duration::from_millis(250);
/// Between two looks: when all is well, when not, and never less than this.
const CALM: Duration = Duration::from_secs(10);
const WORRIED: Duration = Duration::from_millis(500);
const SHORTEST: Duration = Duration::from_millis(100);
/// Hints that wait. More add nothing: one look is for all of them.
const HINTS: usize = 16;
/// What connections that ask are called in `CLIENT LIST`.
const NAME: &str = "pushcluster-discovery";

/// The topology as it is known now. Cloning shares it.
#[derive(Clone)]
pub(super) struct Map {
    seen: watch::Receiver<Arc<Topology>>,
    hints: mpsc::Sender<Option<Endpoint>>,
}

impl Map {
    pub(super) fn now(&self) -> Arc<Topology> {
        self.seen.borrow().clone()
    }

    /// Returns when it is another than at the last return.
    pub(super) async fn changed(&mut self) {
        if self.seen.changed().await.is_err() {
            // It never changes: one Redis at a fixed address.
            std::future::pending::<()>().await;
        }
    }

    /// Something does not fit what is known; `at` may know more.
    pub(super) fn look_again(&self, at: Option<&Endpoint>) {
        // Full: a look is about to begin anyway.
        let _ = self.hints.try_send(at.cloned());
    }
}

/// Starts looking. Ends when every [`Map`] is gone.
pub(super) fn start(settings: &Arc<Settings>, pulses: &Arc<Pulses>) -> Map {
    let first = match settings.mode {
        Mode::Standalone => settings
            .seeds
            .first()
            .map_or(Topology::Unknown, |seed| Topology::One(seed.clone())),
        Mode::Sentinel | Mode::Cluster => Topology::Unknown,
    };
    let (publish, seen) = watch::channel(Arc::new(first));
    let (hints, looks) = mpsc::channel(HINTS);
    if settings.mode != Mode::Standalone {
        let scout = Scout {
            settings: settings.clone(),
            pulses: pulses.clone(),
            known: settings.seeds.iter().cloned().collect(),
            belief: Belief::default(),
        };
        tokio::spawn(scout.run(publish, looks, hints.downgrade()));
    }
    Map { seen, hints }
}

struct Scout {
    settings: Arc<Settings>,
    pulses: Arc<Pulses>,
    /// Whom to ask: those of the configuration, and in a Cluster every node that was heard of in the last look.
    known: BTreeSet<Endpoint>,
    belief: Belief,
}

impl Scout {
    async fn run(
        mut self,
        publish: watch::Sender<Arc<Topology>>,
        mut looks: mpsc::Receiver<Option<Endpoint>>,
        hints: mpsc::WeakSender<Option<Endpoint>>,
    ) {
        let watching = (self.settings.mode == Mode::Sentinel)
            .then(|| tokio::spawn(watch_switches(self.settings.clone(), hints)));
        let mut hint = None;
        loop {
            let began = Instant::now();
            let found = tokio::select! {
                found = self.look(hint.take()) => found,
                () = publish.closed() => break,
            };
            let pause = if self.take(found, &publish) {
                CALM
            } else {
                WORRIED
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                asked = looks.recv() => match asked {
                    Some(at) => hint = at,
                    None => break,
                },
                () = publish.closed() => break,
            }
            tokio::time::sleep_until(began + SHORTEST).await;
            while let Ok(at) = looks.try_recv() {
                hint = at.or(hint);
            }
        }
        if let Some(watching) = watching {
            watching.abort();
        }
    }

    /// Publishes what is new. Returns whether all is well.
    fn take(
        &self,
        found: Result<Topology, String>,
        publish: &watch::Sender<Arc<Topology>>,
    ) -> bool {
        let (trouble, well) = match found {
            Ok(topology) => {
                let unclaimed = topology.unclaimed();
                let changed = publish.send_if_modified(|known| {
                    let changed = **known != topology;
                    if changed {
                        *known = Arc::new(topology.clone());
                    }
                    changed
                });
                if changed {
                    let masters: Vec<_> =
                        topology.masters().iter().map(ToString::to_string).collect();
                    tracing::info!("Redis masters: {}", masters.join(", "));
                }
                let trouble = (unclaimed > 0)
                    .then(|| format!("Redis Cluster: {unclaimed} slots have no master"));
                (trouble, unclaimed == 0)
            }
            // What is known may still be right: its connections will tell.
            Err(cause) if publish.borrow().masters().is_empty() => (Some(cause), false),
            Err(cause) => {
                tracing::debug!("{cause}");
                (None, false)
            }
        };
        if let Some(trouble) = &trouble
            && self.pulses.is_news(trouble)
        {
            tracing::warn!("{trouble}; trying until it is there");
        }
        self.pulses.trouble(trouble);
        well
    }

    async fn look(&mut self, hint: Option<Endpoint>) -> Result<Topology, String> {
        match self.settings.mode {
            Mode::Standalone => Err("nothing to look for".to_owned()),
            Mode::Sentinel => self.ask_sentinels().await,
            Mode::Cluster => self.ask_nodes(hint).await,
        }
    }

    async fn ask_sentinels(&mut self) -> Result<Topology, String> {
        let settings = &self.settings;
        let asked = settings
            .seeds
            .iter()
            .map(|sentinel| async move { (sentinel, ask_sentinel(settings, sentinel).await) });
        let mut answers = Vec::new();
        let mut last = "only old masters are known to Sentinels".to_owned();
        for (sentinel, answer) in gather(asked).await {
            match answer {
                Ok(answer) => answers.push(answer),
                Err(cause) => last = format!("Sentinel at {sentinel} {cause}"),
            }
        }
        let now = Instant::now();
        let master = self.belief.weigh(answers, settings.seeds.len(), now);
        master.map(Topology::One).ok_or(last)
    }

    async fn ask_nodes(&mut self, hint: Option<Endpoint>) -> Result<Topology, String> {
        let mut candidates: Vec<Endpoint> = self.known.iter().cloned().collect();
        candidates.shuffle(&mut rand::rng());
        if let Some(hint) = hint {
            candidates.retain(|node| *node != hint);
            candidates.insert(0, hint);
        }
        candidates.truncate(ASKED);
        let settings = &self.settings;
        let asked = candidates
            .iter()
            .map(|node| async move { (node, ask_node(settings, node).await) });
        let mut answers = Vec::new();
        let mut last = "no node of the Redis Cluster answers".to_owned();
        for (node, answer) in gather(asked).await {
            match answer {
                Ok(nodes) => answers.push(nodes),
                Err(cause) => last = format!("Redis at {node} {cause}"),
            }
        }
        if answers.is_empty() {
            // Names may lead elsewhere by now.
            self.known.extend(self.settings.seeds.iter().cloned());
            return Err(last);
        }
        self.known = answers
            .iter()
            .flatten()
            .map(|node| node.endpoint.clone())
            .chain(self.settings.seeds.iter().cloned())
            .collect();
        Ok(topology::cluster(&answers))
    }
}

/// What comes until shortly after the first good answer: a node that hangs holds up nobody.
async fn gather<K, T, F>(asked: impl Iterator<Item = F>) -> Vec<(K, Result<T, ConnectionError>)>
where
    F: Future<Output = (K, Result<T, ConnectionError>)>,
{
    let mut under_way: FuturesUnordered<F> = asked.collect();
    let mut answers = Vec::new();
    let mut until = Instant::now() + Duration::from_secs(3_600);
    while let Ok(Some((who, answer))) = timeout_at(until, under_way.next()).await {
        if answer.is_ok() {
            until = until.min(Instant::now() + OTHERS);
        }
        answers.push((who, answer));
    }
    answers
}

async fn ask_node(settings: &Settings, node: &Endpoint) -> Result<Vec<Node>, ConnectionError> {
    let asking = async {
        let mut connection = Connection::open(settings, node, Wanted::Member, NAME).await?;
        let answer = connection.ask("CLUSTER", &["NODES"]).await?;
        let nodes = topology::nodes(text(&answer).unwrap_or_default(), node);
        // Taken for an answer, it would be one node to ask from then on, and one that knows no master: where the name of all
        // leads to it every time, nobody would hear of the others any more.
        if topology::are_strangers(&nodes) {
            return Err(ConnectionError::Refused {
                command: "CLUSTER NODES",
                reason: "it has just begun, and knows of no master".to_owned(),
            });
        }
        Ok(nodes)
    };
    in_time(settings, asking).await
}

async fn ask_sentinel(
    settings: &Settings,
    sentinel: &Endpoint,
) -> Result<(Endpoint, u64), ConnectionError> {
    let asking = async {
        let mut connection = Connection::open(settings, sentinel, Wanted::Sentinel, NAME).await?;
        let name = settings.master_name.as_str();
        let state = connection.ask("SENTINEL", &["MASTER", name]).await?;
        // While a failover goes on, only this command names the new one.
        let address = connection
            .ask("SENTINEL", &["GET-MASTER-ADDR-BY-NAME", name])
            .await?;
        topology::sentinel_master(&state, &address).ok_or(ConnectionError::Refused {
            command: "SENTINEL",
            reason: format!("it knows no master {name:?}"),
        })
    };
    in_time(settings, asking).await
}

async fn in_time<T>(
    settings: &Settings,
    asking: impl Future<Output = Result<T, ConnectionError>>,
) -> Result<T, ConnectionError> {
    let timeout = settings.timeout;
    match tokio::time::timeout(timeout, asking).await {
        Ok(answer) => answer,
        Err(_) => Err(ConnectionError::Timeout(timeout)),
    }
}

/// Listens at one Sentinel, at the next when that one is gone, and asks for a look whenever a master has changed.
async fn watch_switches(settings: Arc<Settings>, hints: mpsc::WeakSender<Option<Endpoint>>) {
    for sentinel in settings.seeds.iter().cycle() {
        let listening = async {
            let mut connection =
                Connection::open(&settings, sentinel, Wanted::Sentinel, NAME).await?;
            connection.ask("SUBSCRIBE", &["+switch-master"]).await?;
            loop {
                let frame = connection.frame().await?;
                if let (BytesFrame::Array(_), Some(hints)) = (frame, hints.upgrade()) {
                    let _ = hints.try_send(None);
                }
            }
        };
        let ended: Result<std::convert::Infallible, ConnectionError> = listening.await;
        let Err(cause) = ended;
        tracing::debug!("Sentinel at {sentinel} {cause}");
        tokio::time::sleep(WORRIED).await;
    }
}
