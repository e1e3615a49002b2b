//! Asks gateways how many clients they have, when somebody wants to know. What was heard stands for a second, so that many
//! asks are not many rounds; those who come while a round is under way wait for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crds::PushCluster;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use tokio::sync::Mutex as Turn;
use tokio::time::{Instant, sleep, timeout};

use super::answer::{Described, Kind, Reading, Refusal};
use super::counters::{Counted, counted, milli, rates};
use super::readings::{Gateway, Told, gateways, total};
use super::request::{Metric, Of, Question};
use crate::failure::line;
use crate::push_cluster::build::Names;
use crate::push_cluster::gateways::clients::Node;
use crate::push_cluster::gateways::{self as admin, Asker};

/// How long what was heard stands.
const FRESH: Duration = Duration::from_secs(1);
/// Rates are taken since the last round, if that is no longer ago.
const LOOK_BACK: Duration = Duration::from_secs(60);
/// Longest wait for the API server.
const API_SERVER: Duration = Duration::from_secs(5);
/// PushClusters, pods and selectors of which somebody wants to know in one second.
const MAX_ROUNDS: usize = 2_000;
const GATEWAYS: &str = "app.kubernetes.io/name=pushcluster,app.kubernetes.io/component=gateway";

/// Whom a round asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Whom {
    namespace: String,
    /// All gateways of this one, or …
    push_cluster: Option<String>,
    /// … those with these labels.
    selector: String,
    /// What they are asked for.
    metric: Metric,
}

struct Round {
    begun: Instant,
    at: Timestamp,
    gateways: Vec<Gateway>,
    /// For the next one's rates.
    counted: BTreeMap<String, Counted>,
    /// Over which these are rates.
    window: Option<Duration>,
}

type Slot = Arc<Turn<Option<Arc<Round>>>>;

pub struct Fleets {
    client: Client,
    asker: Asker,
    rounds: Mutex<HashMap<Whom, Slot>>,
}

impl Fleets {
    #[must_use]
    pub fn new(client: Client) -> Fleets {
        Fleets::with(client, admin::for_a_number())
    }

    pub(crate) fn with(client: Client, asker: Asker) -> Fleets {
        Fleets {
            client,
            asker,
            rounds: Mutex::default(),
        }
    }

    pub async fn readings(&self, question: &Question) -> Result<Vec<Reading>, Refusal> {
        let round = self.round(whom(question)).await?;
        let window = round.window.map(|window| window.as_secs().max(1));
        let reading = |kind, name: &str, milli: u64| Reading {
            object: Described {
                kind,
                namespace: question.namespace.clone(),
                name: name.to_owned(),
            },
            milli,
            at: round.at,
            window,
        };
        match &question.of {
            Of::PushCluster(name) => {
                let milli = total(&round.gateways)?;
                Ok(vec![reading(Kind::PushCluster, name, milli)])
            }
            Of::Pod(name) => {
                let mut found = round.gateways.iter().filter(|g| g.pod == *name);
                let gateway = found.next();
                let gateway = gateway.ok_or_else(|| Refusal::NoObject("gateway", name.clone()))?;
                let milli = total(std::slice::from_ref(gateway))?;
                Ok(vec![reading(Kind::Pod, name, milli)])
            }
            // An autoscaler knows what to make of a pod that is missing here: it takes the worse case of both directions.
            Of::Pods(_) => Ok(round
                .gateways
                .iter()
                .filter_map(|gateway| match &gateway.told {
                    Told::Milli(milli) => Some(reading(Kind::Pod, &gateway.pod, *milli)),
                    Told::Nobody | Told::Silent => None,
                })
                .collect()),
        }
    }

    /// One that is fresh, or a new one.
    async fn round(&self, whom: Whom) -> Result<Arc<Round>, Refusal> {
        let slot = self.slot(&whom)?;
        let mut turn = slot.lock().await;
        if let Some(round) = turn.as_ref().filter(|round| round.begun.elapsed() < FRESH) {
            return Ok(round.clone());
        }
        let before = turn
            .take()
            .filter(|round| round.begun.elapsed() < LOOK_BACK);
        let round = Arc::new(self.ask(&whom, before).await?);
        *turn = Some(round.clone());
        Ok(round)
    }

    fn slot(&self, whom: &Whom) -> Result<Slot, Refusal> {
        let mut rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = rounds.get(whom) {
            return Ok(slot.clone());
        }
        rounds.retain(|_, slot| is_wanted(slot));
        if rounds.len() >= MAX_ROUNDS {
            return Err(Refusal::TooMany);
        }
        Ok(rounds.entry(whom.clone()).or_default().clone())
    }

    async fn ask(&self, whom: &Whom, before: Option<Arc<Round>>) -> Result<Round, Refusal> {
        let begun = Instant::now();
        let pods = timeout(API_SERVER, self.pods(whom)).await.map_err(|_| {
            Refusal::Unknown(format!(
                "the API server did not answer within {API_SERVER:?}"
            ))
        })??;
        let mut round = Round {
            begun,
            at: Timestamp::now(),
            gateways: Vec::new(),
            counted: BTreeMap::new(),
            window: None,
        };
        let answers: Vec<(String, Option<u64>)> = match whom.metric {
            Metric::ConnectedClients => {
                let nodes = self.asker.nodes(&pods).await;
                let clients = |node: Node| node.connections.saturating_mul(1_000);
                nodes
                    .into_iter()
                    .map(|(pod, node)| (pod, node.map(clients)))
                    .collect()
            }
            Metric::MemoryBytes => {
                let counted = self.counted(&pods).await;
                counted
                    .into_iter()
                    .map(|(pod, counted)| (pod, Some(milli(counted.memory))))
                    .collect()
            }
            Metric::MessagesSentPerSecond => {
                let (earlier, since) = match before {
                    Some(before) => (before.counted.clone(), before.begun),
                    None => {
                        let earlier = (self.counted(&pods).await, begun);
                        sleep(FRESH).await;
                        earlier
                    }
                };
                round.begun = Instant::now();
                round.counted = self.counted(&pods).await;
                let window = round.begun - since;
                round.window = Some(window);
                let rates = rates(&earlier, &round.counted, window);
                rates
                    .into_iter()
                    .map(|(pod, rate)| (pod, Some(rate)))
                    .collect()
            }
        };
        round.at = Timestamp::now();
        round.gateways = gateways(&pods, &answers, round.at);
        Ok(round)
    }

    async fn counted(&self, pods: &[Pod]) -> BTreeMap<String, Counted> {
        let answers = self.asker.counters(pods).await;
        let counts = answers
            .into_iter()
            .filter_map(|(pod, text)| Some((pod, counted(&text?)?)));
        counts.collect()
    }

    async fn pods(&self, whom: &Whom) -> Result<Vec<Pod>, Refusal> {
        let mut labels = format!("{GATEWAYS}{}", whom.selector);
        if let Some(name) = &whom.push_cluster {
            let objects: Api<PushCluster> = Api::namespaced(self.client.clone(), &whom.namespace);
            let named = ListParams::default().fields(&format!("metadata.name={name}"));
            let found = objects.list_metadata(&named).await.map_err(failed)?;
            if !found.iter().any(|object| object.name_any() == *name) {
                return Err(Refusal::NoObject("PushCluster", name.clone()));
            }
            let instance = Names::of(name).instance;
            labels = format!("{labels},app.kubernetes.io/instance={instance}");
        }
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &whom.namespace);
        let listed = pods.list(&ListParams::default().labels(&labels)).await;
        Ok(listed.map_err(failed)?.items)
    }
}

fn whom(question: &Question) -> Whom {
    let (push_cluster, selector) = match &question.of {
        Of::PushCluster(name) => (Some(name.clone()), String::new()),
        Of::Pod(_) => (None, String::new()),
        Of::Pods(selector) if selector.is_empty() => (None, String::new()),
        Of::Pods(selector) => (None, format!(",{selector}")),
    };
    Whom {
        namespace: question.namespace.clone(),
        push_cluster,
        selector,
        metric: question.metric,
    }
}

/// Somebody waits for it, or it is of use for the next.
fn is_wanted(slot: &Slot) -> bool {
    let round = slot.try_lock();
    round.map_or(true, |round| {
        let is_of_use = |round: &Arc<Round>| match round.window {
            Some(_) => round.begun.elapsed() < LOOK_BACK,
            None => round.begun.elapsed() < FRESH,
        };
        Arc::strong_count(slot) > 1 || round.as_ref().is_some_and(is_of_use)
    })
}

fn failed(error: kube::Error) -> Refusal {
    match error {
        kube::Error::Api(status) if status.code == 400 => {
            Refusal::BadRequest(status.message.clone())
        }
        error => Refusal::Unknown(format!("reading what there is failed: {}", line(&error))),
    }
}

#[cfg(test)]
pub(crate) mod tests;
