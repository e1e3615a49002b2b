//! The operator's own autoscaler, at the edge: what it decides on is read from what was seen, and the size that it decides is
//! written where every autoscaler writes it, to `/scale` of the PushCluster. The reconcile that follows makes the fleet so, drain
//! first.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch};
use kube::{Client, ResourceExt};
use serde_json::json;

use super::apply::{ApplyError, merging};
use super::build::{Objects, connections_per_pod};
use super::gateways::Seen;
use super::moves::is_gateway;
use super::observe::Observed;
use super::validate::ValidatedCluster;
use crate::autoscale::mode::{Scaler, scaler};
use crate::autoscale::schedule::Window;
use crate::autoscale::{Decision, History, Look, PERIOD_SECONDS, Rules, Why, decide};
use crate::metrics_api::readings::{gateways, total};
use crate::metrics_api::registration::Registration;
use crate::owner::belongs;

/// How long what is remembered of a PushCluster stays that nobody asks for: no window is longer.
const FORGOTTEN: Duration = Duration::from_secs(3_600);
/// Whether KEDA is there, and what it says of our ScaledObject.
const LOOK_AT_KEDA: Duration = Duration::from_secs(30);

/// Of every PushCluster whose size the operator decides, by its uid.
#[derive(Default)]
pub struct Histories(Mutex<HashMap<String, (Instant, History)>>);

/// What there is to say of the autoscaler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Autoscaling {
    pub scaler: Scaler,
    /// Somebody else's autoscalers of the same gateways; not empty: ours rests.
    pub foreign: Vec<String>,
    /// All clients of the fleet, for the operator's own, and none where another one decides; or who did not tell.
    pub clients: Result<u64, String>,
}

impl Default for Autoscaling {
    fn default() -> Self {
        Autoscaling {
            scaler: Scaler::HorizontalPodAutoscaler,
            foreign: Vec::new(),
            clients: Ok(0),
        }
    }
}

impl Autoscaling {
    pub fn of(
        observed: &Observed,
        seen: &Seen,
        registration: &Registration,
        now: Timestamp,
    ) -> Autoscaling {
        let scaler = of(observed, registration);
        Autoscaling {
            foreign: observed.foreign_autoscalers.clone(),
            clients: match scaler {
                Scaler::Builtin(_) => clients(observed, seen, now),
                _ => Ok(0),
            },
            scaler,
        }
    }

    /// Whether the operator is the one who decides.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(self.scaler, Scaler::Builtin(_)) && self.foreign.is_empty()
    }

    /// When to look again: the next decision is due, or somebody else's autoscaler may be gone; and what KEDA does is not
    /// watched.
    #[must_use]
    pub fn again(&self) -> Option<Duration> {
        let seconds = u64::try_from(PERIOD_SECONDS).unwrap_or(0);
        match self.scaler {
            Scaler::Builtin(_) => Some(Duration::from_secs(seconds)),
            Scaler::Keda => Some(LOOK_AT_KEDA),
            Scaler::Off | Scaler::Undecided | Scaler::HorizontalPodAutoscaler => None,
        }
    }
}

/// Who decides the size of this one.
pub fn of(observed: &Observed, registration: &Registration) -> Scaler {
    let (cluster, live) = (&observed.cluster, &observed.live);
    let owner = cluster.uid().unwrap_or_default();
    let found = live.autoscaler.as_ref();
    let ours = found.is_some_and(|found| belongs(found, &owner));
    let is_new = live.deployment.is_none();
    scaler(&cluster.spec.autoscaling, registration, ours, is_new)
}

/// Takes the HorizontalPodAutoscaler out of what is to be there, where somebody else decides; and the ScaledObject, where
/// nobody knows what that is.
pub fn settle(objects: &mut Objects, observed: &Observed, registration: &Registration) {
    if of(observed, registration) != Scaler::HorizontalPodAutoscaler {
        objects.autoscaler = None;
    }
    if observed.keda.is_missing {
        objects.scaled_object = None;
    }
}

/// Those of all gateways, also of those that give theirs away.
fn clients(observed: &Observed, seen: &Seen, now: Timestamp) -> Result<u64, String> {
    let pods = observed.pods.iter().filter(|pod| is_gateway(pod));
    let milli = |clients: u64| clients.saturating_mul(1_000);
    let answers: Vec<_> = seen
        .nodes
        .iter()
        .map(|(pod, node)| {
            (
                pod.clone(),
                node.as_ref().map(|node| milli(node.connections)),
            )
        })
        .collect();
    let told = total(&gateways(pods, &answers, now));
    told.map(|milli| milli / 1_000)
        .map_err(|refusal| refusal.message())
}

/// A size that was decided, and is not written yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    look: Look,
    pub size: u32,
    /// For the Event.
    pub note: String,
}

/// The size that the operator wants instead of the one there is; None: nothing is to be changed, or not now.
pub fn wish(
    observed: &Observed,
    validated: &ValidatedCluster,
    autoscaling: &Autoscaling,
    histories: &Histories,
    now: Timestamp,
) -> Option<Wish> {
    let uid = observed.cluster.uid().unwrap_or_default();
    let rules = rules(validated).filter(|_| autoscaling.is_ours());
    let Some(rules) = rules else {
        histories.forget(&uid);
        return None;
    };
    let deployment = observed.live.deployment.as_ref();
    let there = deployment.and_then(|deployment| deployment.status.as_ref()?.replicas);
    let count = |replicas: i32| u32::try_from(replicas).unwrap_or(0);
    let look = Look {
        now,
        wished: count(observed.cluster.spec.replicas),
        there: there.map_or(0, count),
        clients: autoscaling.clients.as_ref().ok().copied(),
    };
    let decision = histories.with(&uid, |history| {
        history.is_due(now).then(|| decide(&rules, history, &look))
    })?;
    (decision.size != look.wished).then(|| Wish {
        look,
        size: decision.size,
        note: note(&rules, &look, decision),
    })
}

/// What a size is set with.
pub struct Scaling<'a> {
    pub client: &'a Client,
    pub observed: &'a Observed,
    pub histories: &'a Histories,
}

impl Scaling<'_> {
    /// Sets another size, if there is to be one; what an Event tells of it then.
    pub async fn scale(
        &self,
        validated: &ValidatedCluster,
        autoscaling: &Autoscaling,
        now: Timestamp,
    ) -> Result<Option<String>, ApplyError> {
        let wish = wish(self.observed, validated, autoscaling, self.histories, now);
        let Some(wish) = wish else {
            return Ok(None);
        };
        let cluster = &self.observed.cluster;
        match self.write(&wish).await {
            Ok(()) => {
                let (look, uid) = (wish.look, cluster.uid().unwrap_or_default());
                self.histories.with(&uid, |history| {
                    history.changed(look.now, look.wished, wish.size);
                });
                Ok(Some(wish.note))
            }
            // Gone, or changed meanwhile: the next look decides on what it is then.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
            Err(source) => Err(ApplyError::Request {
                action: "scaling",
                object: format!("PushCluster {}", cluster.name_any()),
                source,
            }),
        }
    }

    async fn write(&self, wish: &Wish) -> Result<(), kube::Error> {
        let cluster = &self.observed.cluster;
        let namespace = cluster.namespace().unwrap_or_default();
        let api: Api<crds::PushCluster> = Api::namespaced(self.client.clone(), &namespace);
        let patch = json!({
            "metadata": {"resourceVersion": cluster.resource_version()},
            "spec": {"replicas": wish.size},
        });
        let (name, patch) = (cluster.name_any(), Patch::Merge(patch));
        let written = api.patch_scale(&name, &merging(), &patch).await;
        written.map(drop)
    }
}

fn rules(validated: &ValidatedCluster) -> Option<Rules> {
    let spec = validated.autoscaling.as_ref()?;
    let windows = spec.schedule.iter().flatten();
    // Validation has refused a manifest with one that cannot be read.
    let windows = windows.filter_map(|window| Window::new(window).ok());
    let target = connections_per_pod(validated, spec);
    Some(Rules::new(spec, target, windows.collect()))
}

fn note(rules: &Rules, look: &Look, decision: Decision) -> String {
    let (size, before) = (decision.size, look.wished);
    let change = format!("{size} gateways are wished instead of {before}");
    match (decision.why, look.clients) {
        (Why::OutOfBounds, _) | (_, None) => {
            let least = rules.least_at(look.now);
            let most = rules.most;
            format!("{change}: spec.autoscaling asks for {least} to {most} of them now")
        }
        (_, Some(clients)) => {
            let target = rules.target;
            format!("{change}: there are {clients} clients, and {target} for each are aimed at")
        }
    }
}

impl Histories {
    fn with<T>(&self, uid: &str, act: impl FnOnce(&mut History) -> T) -> T {
        let mut histories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        histories.retain(|_, (used, _)| now.duration_since(*used) < FORGOTTEN);
        let entry = histories.entry(uid.to_owned());
        let (used, history) = entry.or_insert_with(|| (now, History::default()));
        *used = now;
        act(history)
    }

    /// Somebody else decides: what follows begins with a full window.
    fn forget(&self, uid: &str) {
        let mut histories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        histories.remove(uid);
    }
}

#[cfg(test)]
mod tests;
