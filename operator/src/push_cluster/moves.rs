//! Moving clients, at the edge: what `scaling` decides on is read from pods, and what it decides is done to them.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::apply::merging;
use super::build::Objects;
use super::gateways::Seen;
use super::gateways::ask::{AskError, Asker};
use super::gateways::pace::Wish;
use super::name;
use super::observe::Observed;
use super::observe::revision::{HASH_LABEL, is_rolling};
use super::rollback::fault::is_noted;
use super::status::is_of;
use crate::failure::line;
use crate::readiness::is_ready;
use crate::scaling::{
    Act, Cause, Fleet, Gateway, Mark, Order, Plan, Policy, SERVING, decide, rollout, serving,
};

/// The annotation of a pod that gives clients away: a [`Mark`] in JSON.
pub const MARK: &str = "pushcluster.io/moves-clients";
/// By which a ReplicaSet that becomes smaller chooses among its ready pods: the lowest goes first, and 0 is what none is.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const FIRST_TO_GO: &str = "-1000";
/// How long new gateways are not yet *available* to a Deployment that is to wait: a year. `paused` would not do: when all
/// new ones are there, a paused Deployment ends the last old one (decision 17).
const HELD_SECONDS: i32 = 365 * 24 * 3_600;

#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    #[error("patching pod {pod} failed")]
    Patch { pod: String, source: kube::Error },
    #[error("pod {pod} {source}")]
    Ask { pod: String, source: AskError },
}

/// Sets what depends on the pods that are there: the size, and what the Service of the clients selects.
pub fn settle(objects: &mut Objects, observed: &Observed) {
    let fleet = fleet(observed, None, &BTreeSet::new());
    let Some(deployment) = &mut objects.deployment.spec else {
        return;
    };
    deployment.replicas = i32::try_from(decide::size(&fleet)).ok();
    if rollout::holds(&fleet) {
        deployment.min_ready_seconds = Some(HELD_SECONDS);
        // Longer than the other, or the API server refuses both: none at all.
        deployment.progress_deadline_seconds = Some(i32::MAX);
    }
    let labels = deployment.template.metadata.as_ref();
    let has_it = labels.and_then(|metadata| metadata.labels.as_ref()?.get(SERVING));
    let live = observed.live.service.as_ref();
    let selects = live.and_then(|service| service.spec.as_ref()?.selector.as_ref()?.get(SERVING));
    let may = serving::may_select(&fleet, has_it.is_some(), selects.is_some());
    let service = objects.service.spec.as_mut();
    if let Some(selector) = service.and_then(|spec| spec.selector.as_mut())
        && !may
    {
        selector.remove(SERVING);
    }
}

/// What is to be done next. `cordoned`: nodes that take no new pods.
pub fn plan(observed: &Observed, seen: &Seen, cordoned: &BTreeSet<String>, now: Timestamp) -> Plan {
    decide::plan(&fleet(observed, Some(seen), cordoned), now)
}

/// Where the gateways are.
pub fn places(observed: &Observed) -> BTreeSet<String> {
    let gateways = observed.pods.iter().filter(|pod| is_gateway(pod));
    gateways.filter_map(node_of).map(str::to_owned).collect()
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// `seen`: what gateways said of themselves. `cordoned`: as in [`plan`]. Nothing, where it does not matter.
pub fn fleet(observed: &Observed, seen: Option<&Seen>, cordoned: &BTreeSet<String>) -> Fleet {
    let spec = &observed.cluster.spec;
    let positive = |number: i32| u32::try_from(number).unwrap_or(0);
    let deployment = observed.live.deployment.as_ref();
    let size = deployment.and_then(|deployment| deployment.spec.as_ref()?.replicas);
    let count = |replicas: i32| usize::try_from(replicas).unwrap_or(0);
    let rolling = deployment.is_some_and(is_rolling);
    let gateways = observed.pods.iter().filter(|pod| is_gateway(pod));
    let newest = observed.newest.as_ref().filter(|_| rolling);
    Fleet {
        wished: count(spec.replicas),
        size: size.map_or(count(spec.replicas), count),
        rolling,
        policy: Policy {
            reconnects_per_second: spec.drain.reconnects_per_second.map(positive),
            handshakes_per_second: positive(spec.gateway.limits.handshakes_per_second),
            deadline_seconds: positive(spec.drain.deadline_seconds),
        },
        gateways: gateways
            .map(|pod| Gateway {
                is_old: rolling && pod.labels().get(HASH_LABEL) != newest,
                listed: observed.listed.contains(&pod.name_any()),
                cordoned: node_of(pod).is_some_and(|node| cordoned.contains(node)),
                ..gateway(pod, seen)
            })
            .collect(),
    }
}

/// One that its controller counts: a pod that has failed or ended is replaced, whatever becomes of its object.
pub(super) fn is_gateway(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    is_of(pod, "gateway") && !matches!(phase, Some("Failed" | "Succeeded"))
}

fn gateway(pod: &Pod, seen: Option<&Seen>) -> Gateway {
    let name = pod.name_any();
    let mut nodes = seen.iter().flat_map(|seen| &seen.nodes);
    let node = nodes.find(|(pod, _)| *pod == name);
    Gateway {
        ready: is_ready(pod),
        ending: is_ending(pod),
        is_old: false,
        listed: false,
        cordoned: false,
        misbehaves: is_noted(pod),
        serving: pod.labels().get(SERVING).map(|value| value == "true"),
        node: node.and_then(|(_, node)| node.clone()),
        pace: seen.and_then(|seen| seen.paces.get(&name).copied()),
        mark: marked(pod),
        pod: name,
    }
}

fn marked(pod: &Pod) -> Option<Mark> {
    pod.annotations().get(MARK).and_then(|text| mark(text))
}

/// Whether this pod takes no clients because it has more than the others, and is not ready because of that.
pub fn shares(pod: &Pod) -> bool {
    let rebalances = marked(pod).is_some_and(|mark| mark.cause == Cause::Rebalance);
    is_gateway(pod) && rebalances && !is_ready(pod)
}

/// Whether somebody waits until no EndpointSlice lists the pods that are to take nobody. A Service that does not select on
/// the label lists a pod until it is not ready, which it is when it sends clients away: nothing is to be waited for. One that
/// ends is not ready, whatever is selected.
pub fn awaits_slices(service: Option<&Service>, pods: &[Pod]) -> bool {
    let selector = service.and_then(|service| service.spec.as_ref()?.selector.as_ref());
    let selects = selector.is_some_and(|selector| selector.contains_key(SERVING));
    let awaits = |pod: &Pod| match (marked(pod), is_ending(pod)) {
        (Some(mark), true) => mark.unlisted.is_none(),
        (Some(mark), false) => selects && mark.unlisted.is_none(),
        (None, ending) => ending,
    };
    pods.iter().filter(|pod| is_gateway(pod)).any(awaits)
}

fn is_ending(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// None: nobody wrote this who knows how; the pod is treated as one without a mark.
fn mark(text: &str) -> Option<Mark> {
    let value: Value = serde_json::from_str(text).ok()?;
    Some(Mark {
        cause: Cause::of(value["cause"].as_str()?)?,
        since: value["since"].as_str()?.parse().ok()?,
        clients: value["clients"].as_u64()?,
        down_to: value["downTo"].as_u64()?,
        unlisted: value["unlisted"].as_str().and_then(|at| at.parse().ok()),
        given_up: value["givenUp"]
            .as_u64()
            .and_then(|wished| usize::try_from(wished).ok()),
    })
}

fn text(mark: &Mark) -> String {
    let mut value = json!({
        "cause": mark.cause.as_str(),
        "since": mark.since.to_string(),
        "clients": mark.clients,
        "downTo": mark.down_to,
    });
    if let Some(at) = mark.unlisted {
        value["unlisted"] = json!(at.to_string());
    }
    if let Some(wished) = mark.given_up {
        value["givenUp"] = json!(wished);
    }
    value.to_string()
}

/// Those that were done. What fails is ordered again by the next look, which sees what has become of it.
pub async fn carry_out(client: &Client, observed: &Observed, orders: Vec<Order>) -> Vec<Order> {
    let carrier = Carrier {
        pods: Api::namespaced(
            client.clone(),
            &observed.cluster.namespace().unwrap_or_default(),
        ),
        key: observed.keys.api_key.as_deref().unwrap_or_default(),
        asker: Asker::default(),
    };
    let mut done = Vec::new();
    let mut is_paced = true;
    for order in orders {
        // One that was to be slower may not have heard it: until it has, nobody else is to be faster.
        if !is_paced && matches!(order.act, Act::Shed { .. }) {
            continue;
        }
        let mut pods = observed.pods.iter();
        let Some(pod) = pods.find(|pod| pod.name_any() == order.pod) else {
            continue;
        };
        match carrier.carry_out(pod, order.act).await {
            Ok(()) => done.push(order),
            Err(error) => {
                is_paced &= !matches!(order.act, Act::Shed { .. });
                tracing::warn!(object = name(&observed.cluster), "{}", line(&error));
            }
        }
    }
    done
}

struct Carrier<'a> {
    pods: Api<Pod>,
    key: &'a str,
    asker: Asker,
}

impl Carrier<'_> {
    async fn carry_out(&self, pod: &Pod, act: Act) -> Result<(), MoveError> {
        let asked = |source| MoveError::Ask {
            pod: pod.name_any(),
            source,
        };
        match act {
            Act::Shed {
                per_second,
                down_to,
            } => {
                let wish = Wish {
                    connections_per_second: per_second,
                    down_to: Some(down_to).filter(|down_to| *down_to > 0),
                };
                let shed = self.asker.shed(pod, self.key, wish).await;
                return shed.map_err(asked);
            }
            // First the drain: a pod that is in the Service and lets nobody in would refuse clients.
            Act::Readmit { .. } => {
                let back = self.asker.take_back(pod, self.key).await;
                back.map_err(asked)?;
            }
            Act::Serve | Act::Close | Act::Withdraw(_) | Act::Unlisted(_) | Act::GiveUp { .. } => {}
        }
        match change(pod, act) {
            Some(change) => self.patch(pod, change).await,
            None => Ok(()),
        }
    }

    async fn patch(&self, pod: &Pod, mut change: Value) -> Result<(), MoveError> {
        let name = pod.name_any();
        // Not another pod of that name, nor one that somebody changed since: the label and the mark belong together.
        change["metadata"]["resourceVersion"] = json!(pod.resource_version());
        let patched = self
            .pods
            .patch(&name, &merging(), &Patch::Merge(change))
            .await;
        let failed = |source| MoveError::Patch { pod: name, source };
        patched.map(drop).map_err(failed)
    }
}

/// What is written to the pod, in one request: nobody sees the one half without the other.
fn change(pod: &Pod, act: Act) -> Option<Value> {
    let change = |serving: &str, annotations: Value| {
        let labels = json!({SERVING: serving});
        json!({"metadata": {"labels": labels, "annotations": annotations}})
    };
    match act {
        Act::Serve => Some(change("true", json!({}))),
        Act::Close => Some(change("false", json!({}))),
        Act::Withdraw(mark) => Some(change("false", json!({MARK: text(&mark)}))),
        Act::Readmit { .. } => Some(change("true", json!({MARK: null, DELETION_COST: null}))),
        Act::Unlisted(at) => {
            let mark = Mark {
                unlisted: Some(at),
                ..marked(pod)?
            };
            Some(change("false", json!({MARK: text(&mark)})))
        }
        Act::GiveUp { wished, .. } => {
            let mark = Mark {
                given_up: Some(wished),
                ..marked(pod)?
            };
            let annotations = json!({MARK: text(&mark), DELETION_COST: FIRST_TO_GO});
            Some(change("false", annotations))
        }
        Act::Shed { .. } => None,
    }
}

#[cfg(test)]
mod tests;
