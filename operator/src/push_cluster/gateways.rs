//! What gateways say about themselves, asked on their admin ports. What is made of it is pure: answers in, verdicts out.
//!
//! A pod that does not answer is unknown, and never a reason to stop: the objects are right without it.

use std::collections::BTreeMap;
use std::time::Duration;

use gateway_config::{Config, diff};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;

use super::build::CONFIG_FILE;
use super::observe::Observed;
pub(crate) use ask::Asker;
use clients::{Clients, Node};
use delivery::Delivering;

pub mod ask;
pub mod clients;
pub mod delivery;
pub mod nudge;
pub mod pace;

/// Longest wait for a number: an autoscaler asks every few seconds.
const NUMBER: Duration = Duration::from_secs(2);

/// All that gateways were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// None: there was nothing to compare with.
    pub config: Option<Compared>,
    pub delivery: Delivering,
    /// None: no gateway told.
    pub clients: Option<Clients>,
    /// What each gateway that may have clients says of itself; None where it does not.
    pub nodes: Vec<(String, Option<Node>)>,
    /// Of those that drain: clients each second.
    pub paces: BTreeMap<String, u32>,
}

/// Asks for a number that somebody waits for, who asks again in a moment.
pub(crate) fn for_a_number() -> Asker {
    Asker {
        deadline: NUMBER,
        ..Asker::default()
    }
}

/// Asks all gateways at once. `delivered`: whether messages went through when it was asked last. A round in which one was
/// missed is then tried once more: one pod that had something else to do for a moment is no outage.
pub async fn look(observed: &Observed, delivered: bool, turn: usize) -> Seen {
    let asker = Asker::default();
    let (answers, first, nodes) = tokio::join!(
        asker.configs(observed),
        asker.round(observed, turn),
        asker.nodes(&observed.pods)
    );
    let delivery = match first.verdict() {
        Delivering::No(_) if delivered => asker.round(observed, turn).await.verdict(),
        verdict => verdict,
    };
    Seen {
        config: compare(&answers),
        delivery,
        clients: clients::clients(&nodes),
        paces: asker.paces(&observed.pods, &nodes).await,
        nodes,
    }
}

/// What gateways answered, in the order of their names. None: nobody was asked, since there is nothing to compare with.
#[derive(Debug, Default)]
pub struct Answers {
    pub wanted: Option<Config>,
    /// Keys of the HTTP API that count.
    pub api_keys: usize,
    /// The password that gateways should have at Redis. None: it is not ours.
    pub redis_password: Option<Print>,
    pub pods: Vec<Answer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Print {
    /// [`gateway_config::password_print`].
    pub text: String,
    /// Whether one that does not tell which it has counts as one that has another: it is of a version that would never
    /// take the new one, and Redis is about to forget the old one.
    pub must_be_told: bool,
}

impl Print {
    fn fits(&self, shown: Option<&str>) -> bool {
        shown.map_or(!self.must_be_told, |shown| shown == self.text)
    }
}

#[derive(Debug)]
pub struct Answer {
    pub pod: String,
    pub runs: Runs,
}

/// What a gateway runs with.
#[derive(Debug)]
pub enum Runs {
    With {
        config: Box<Config>,
        /// Keys of the HTTP API that it takes. None: it does not tell.
        api_keys: Option<usize>,
        /// Of its password at Redis. None: it has none, or does not tell.
        redis_password: Option<String>,
        /// Why it does not take the configuration that it has read.
        refused: Option<String>,
    },
    /// It does not know the key of the HTTP API that is in the Secret now.
    WithAnOldKey,
    Unknown,
}

/// Who runs with what was written. Names of pods, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Compared {
    pub current: usize,
    pub outdated: Vec<String>,
    pub unknown: Vec<String>,
    /// Those of `outdated` that will stay so, and why.
    pub refused: Vec<(String, String)>,
}

/// None: nobody was asked.
pub fn compare(answers: &Answers) -> Option<Compared> {
    let wanted = answers.wanted.as_ref()?.shown();
    let mut compared = Compared::default();
    for Answer { pod, runs } in &answers.pods {
        match runs {
            Runs::With {
                config,
                api_keys,
                redis_password,
                refused,
            } => {
                // A key too many is one that counts no more, and still does there.
                let keys = api_keys.is_none_or(|keys| keys == answers.api_keys);
                let password = answers.redis_password.as_ref();
                let password = password.is_none_or(|print| print.fits(redis_password.as_deref()));
                if keys && password && is_same(config, &wanted) {
                    compared.current += 1;
                    continue;
                }
                compared.outdated.push(pod.clone());
                let why = refused.iter().map(|why| (pod.clone(), why.clone()));
                compared.refused.extend(why);
            }
            Runs::WithAnOldKey => compared.outdated.push(pod.clone()),
            Runs::Unknown => compared.unknown.push(pod.clone()),
        }
    }
    Some(compared)
}

/// A node has a name of its own, from its environment.
fn is_same(running: &Config, wanted: &Config) -> bool {
    let change = diff(running, wanted);
    let mut keys = change.taken.iter().chain(&change.needs_restart);
    keys.all(|key| key == "node.name")
}

/// What the operator wrote for gateways. None: there is nothing yet, or another version of the operator wrote it.
fn written(config: Option<&ConfigMap>) -> Option<Config> {
    let text = config?.data.as_ref()?.get(CONFIG_FILE)?;
    gateway_config::parse(text, &[]).ok()
}

/// Gateways that may have clients: those that have begun, also when they are about to end.
fn with_clients(pods: &[Pod]) -> impl Iterator<Item = &Pod> {
    pods.iter().filter(|pod| {
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        super::status::is_of(pod, "gateway") && phase == Some("Running")
    })
}

fn running(pods: &[Pod]) -> impl Iterator<Item = &Pod> {
    with_clients(pods).filter(|pod| pod.metadata.deletion_timestamp.is_none())
}

/// The pods that can be asked, by name.
fn in_order(pods: &[Pod]) -> Vec<&Pod> {
    let mut pods: Vec<&Pod> = running(pods).collect();
    pods.sort_by_key(|pod| pod.name_any());
    pods
}

#[cfg(test)]
mod tests;
