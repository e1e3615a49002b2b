//! What is wrong with gateways of a new template, and with those of the one before is not. Pure, but for writing it down.
//!
//! What must last before it counts is noted on the pod, with its beginning.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::failure::line;
use crate::push_cluster::apply::merging;
use crate::push_cluster::gateways::Seen;
use crate::push_cluster::gateways::delivery::{Deaf, Delivering};
use crate::push_cluster::moves::{fleet, is_gateway};
use crate::push_cluster::observe::Observed;
use crate::push_cluster::observe::revision::HASH_LABEL;
use crate::readiness::is_ready;
use crate::scaling::rollout::stay_away;

/// The annotation of a new gateway with which something is wrong: a [`Noted`] in JSON.
pub const NOTED: &str = "pushcluster.io/misbehaves";

/// A gateway whose process has ended so often does not serve; its kubelet waits 10, 20, 40 s between its tries.
const RESTARTS: i32 = 3;
/// Seconds until a new gateway has to be ready before anything is noted: most are in a few.
const STARTS_WITHIN: i64 = 60;
/// Longest text of the kubelet that is repeated.
const MAX_WORDS: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    NotReady,
    NotHeard,
    ClientsStayAway,
}

impl Fault {
    const ALL: [Fault; 3] = [Fault::NotReady, Fault::NotHeard, Fault::ClientsStayAway];

    fn as_str(self) -> &'static str {
        match self {
            Fault::NotReady => "not-ready",
            Fault::NotHeard => "not-heard",
            Fault::ClientsStayAway => "clients-stay-away",
        }
    }

    /// Seconds for which it is so before the template is blamed. A pod may wait for a node, or for its image: as long as a
    /// Deployment waits by default (`progressDeadlineSeconds`). Of one that is ready more is known.
    fn lasts(self) -> i64 {
        match self {
            Fault::NotReady => 600,
            Fault::NotHeard | Fault::ClientsStayAway => 60,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    pub fault: Fault,
    pub since: Timestamp,
    pub why: String,
}

/// Why the template that is being rolled out is refused: at least half of its gateways do not serve. One of many may be on
/// a bad node. None: nothing is rolled out, or nothing is wrong for long enough.
pub fn verdict(observed: &Observed, now: Timestamp) -> Option<String> {
    let new: Vec<&Pod> = new(observed).collect();
    let wrong: Vec<String> = new
        .iter()
        .filter_map(|pod| ends_again(pod).or_else(|| lasting(pod, now)))
        .collect();
    (!wrong.is_empty() && wrong.len() * 2 >= new.len()).then(|| wrong.join("; "))
}

/// Whether something is noted of this pod.
pub fn is_noted(pod: &Pod) -> bool {
    pod.annotations().contains_key(NOTED)
}

fn new(observed: &Observed) -> impl Iterator<Item = &Pod> {
    let pods = observed.pods.iter().filter(|pod| is_gateway(pod));
    let newest = observed.newest.as_ref();
    pods.filter(move |pod| {
        let is_new = newest.is_some() && pod.labels().get(HASH_LABEL) == newest;
        is_new && pod.metadata.deletion_timestamp.is_none()
    })
}

fn ends_again(pod: &Pod) -> Option<String> {
    let mut containers = pod
        .status
        .iter()
        .flat_map(|s| &s.container_statuses)
        .flatten();
    let bad =
        containers.find(|container| container.restart_count >= RESTARTS && !container.ready)?;
    let why = last_end(bad).unwrap_or_default();
    Some(format!(
        "pod {} ended {} times{why}",
        pod.name_any(),
        bad.restart_count
    ))
}

/// In the words of its kubelet.
fn last_end(container: &ContainerStatus) -> Option<String> {
    let states = [&container.state, &container.last_state];
    let mut states = states.into_iter().flatten();
    let end = states.find_map(|state| state.terminated.as_ref())?;
    let reason = end.reason.as_deref().unwrap_or("Error");
    let words: String = end
        .message
        .iter()
        .flat_map(|m| m.chars())
        .take(MAX_WORDS)
        .collect();
    Some(
        format!(", {reason}, exit code {} {words}", end.exit_code)
            .trim_end()
            .to_owned(),
    )
}

fn lasting(pod: &Pod, now: Timestamp) -> Option<String> {
    let Noted { fault, since, why } = noted(pod)?;
    let seconds = now.as_second() - since.as_second();
    (seconds >= fault.lasts()).then(|| format!("{why}, for {seconds} s"))
}

/// What is to be noted of which pod, and of which no more.
pub fn notes<'a>(
    observed: &'a Observed,
    seen: &Seen,
    now: Timestamp,
) -> Vec<(&'a Pod, Option<Noted>)> {
    let news: BTreeSet<String> = new(observed).map(ResourceExt::name_any).collect();
    let gateways = || observed.pods.iter().filter(|pod| is_gateway(pod));
    // What is wrong with all of them is not the template's fault.
    let compares = gateways().any(|pod| is_ready(pod) && !news.contains(&pod.name_any()));
    let clients_stay_away = stay_away(&fleet(observed, Some(seen), &BTreeSet::new()));
    let found = |pod: &Pod| {
        let name = pod.name_any();
        if !compares || !news.contains(&name) {
            return None;
        }
        late(pod, seen, now)
            .or_else(|| unheard(&name, &seen.delivery, &news))
            .or_else(|| {
                let why = || "of the clients that were sent to new gateways few came".to_owned();
                clients_stay_away.then(|| (Fault::ClientsStayAway, why()))
            })
    };
    let alive = gateways().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    alive
        .filter_map(|pod| match (noted(pod), found(pod)) {
            (Some(before), Some((fault, _))) if before.fault == fault => None,
            (_, Some((fault, why))) => {
                let since = now;
                Some((pod, Some(Noted { fault, since, why })))
            }
            (_, None) => is_noted(pod).then_some((pod, None)),
        })
        .collect()
}

/// One that has clients and is full is not ready either, nor is one that sends them away.
fn late(pod: &Pod, seen: &Seen, now: Timestamp) -> Option<(Fault, String)> {
    let name = pod.name_any();
    let created = pod.metadata.creation_timestamp.as_ref()?.0;
    let is_late = now.as_second() - created.as_second() >= STARTS_WITHIN;
    let mut nodes = seen.nodes.iter();
    let node = nodes
        .find(|(pod, _)| *pod == name)
        .and_then(|(_, node)| node.as_ref());
    let has_clients = node.is_some_and(|node| node.connections > 0 || node.draining);
    let why = || {
        let why = crate::push_cluster::status::pod_trouble(pod);
        why.unwrap_or_else(|| format!("pod {name} is not ready"))
    };
    (is_late && !is_ready(pod) && !has_clients).then(|| (Fault::NotReady, why()))
}

/// Whether messages are missed, and only between new gateways and others, or among new ones.
fn unheard(pod: &str, delivery: &Delivering, news: &BTreeSet<String>) -> Option<(Fault, String)> {
    let Delivering::No(wrong) = delivery else {
        return None;
    };
    let is_new = |pod: &String| news.contains(pod);
    let blames = |deaf: &Deaf| {
        is_new(&deaf.pod) || !deaf.missing.is_empty() && deaf.missing.iter().all(is_new)
    };
    if !wrong.iter().all(blames) {
        return None;
    }
    let mut wrong = wrong.iter();
    let own = wrong.find(|deaf| deaf.pod == pod || deaf.missing.iter().any(|one| one == pod))?;
    Some((Fault::NotHeard, own.to_string()))
}

fn noted(pod: &Pod) -> Option<Noted> {
    let value: Value = serde_json::from_str(pod.annotations().get(NOTED)?).ok()?;
    let fault = value["fault"].as_str()?;
    Some(Noted {
        fault: Fault::ALL.into_iter().find(|one| one.as_str() == fault)?,
        since: value["since"].as_str()?.parse().ok()?,
        why: value["why"].as_str()?.to_owned(),
    })
}

fn text(noted: &Noted) -> String {
    let Noted { fault, since, why } = noted;
    json!({"fault": fault.as_str(), "since": since.to_string(), "why": why}).to_string()
}

/// What fails is found again by the next look.
pub async fn write(client: &Client, observed: &Observed, notes: Vec<(&Pod, Option<Noted>)>) {
    let namespace = observed.cluster.namespace().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    for (pod, noted) in notes {
        let name = pod.name_any();
        let value = noted.as_ref().map(text);
        let patch = json!({"metadata": {"annotations": {NOTED: value}}});
        if let Err(error) = api.patch(&name, &merging(), &Patch::Merge(patch)).await {
            tracing::warn!(
                pod = name,
                "noting what is wrong with it failed: {}",
                line(&error)
            );
        }
    }
}
