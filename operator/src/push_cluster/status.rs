//! What the operator says: conditions computed from what was observed, never from what was hoped.

use crds::{PushCluster, PushClusterStatus};
use k8s_openapi::api::apps::v1::DeploymentStatus;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch};
use kube::{Client, ResourceExt};
use serde_json::json;

use super::apply::{ApplyError, applying};
use super::autoscaling::Autoscaling;
use super::build::Names;
use super::consent::Pending;
use super::gateways::Seen;
use super::moves;
use super::observe::{Observed, Wrong};
use super::rollback::Refused;
use super::validate::{Problem, ValidatedCluster};
use crate::metrics_api::registration::Registration;
use crate::readiness;
use crate::reason::Reason;
use crate::scaling::Plan;

mod autoscaler;
mod clients;
mod config;
mod delivering;
mod draining;
mod impaired;
mod metrics_api;
mod passwords;
mod upgrade;

mod cluster;

/// Longest message of a condition that is ours to choose; the API server's limit is 32 KiB.
const MAX_MESSAGE: usize = 1_000;

/// A condition without what is the same for all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Verdict {
    kind: &'static str,
    holds: Holds,
    /// Stable, for programs.
    reason: Reason,
    /// For people; names the field or the object.
    message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Yes,
    No,
    Unknown,
}

impl Verdict {
    fn new(kind: &'static str, holds: Holds, reason: Reason, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if let Some((cut, _)) = message.char_indices().nth(MAX_MESSAGE) {
            message.truncate(cut);
        }
        Verdict {
            kind,
            holds,
            reason,
            message,
        }
    }
}

/// What was done before the status was made.
#[derive(Debug, Default)]
pub struct Acted {
    /// What could not be written.
    pub failure: Option<ApplyError>,
    /// What waits for somebody to agree.
    pub pending: Option<Pending>,
    /// A template of the gateways that was taken back.
    pub refused: Option<Refused>,
    /// Of the metrics API, which is not this PushCluster's alone.
    pub registration: Registration,
    /// Which gateways give clients away.
    pub moves: Plan,
    /// Who decides the size.
    pub autoscaling: Autoscaling,
}

/// `now`: to the second, see [`to_the_second`].
pub fn status(
    observed: &Observed,
    validated: &Result<ValidatedCluster, Vec<Problem>>,
    acted: &Acted,
    seen: &Seen,
    now: Timestamp,
) -> PushClusterStatus {
    let deployment = observed.live.deployment.as_ref();
    let found = deployment
        .and_then(|deployment| deployment.status.clone())
        .unwrap_or_default();
    let applied = config::valid(validated, acted.failure.as_ref(), seen.config.as_ref());
    let available = gateway_available(observed);
    let impaired = impaired::first(&seen.nodes);
    let redis = impaired::impaired(redis_available(observed), impaired);
    let delivering = delivering::delivering(&seen.delivery);
    let mut parts = vec![&applied, &redis, &available];
    // What is not known is no reason: gateways of another version cannot tell.
    parts.extend((delivering.holds == Holds::No).then_some(&delivering));
    let ready = ready(&observed.cluster, &parts);
    let verdicts = [
        ready,
        available,
        redis,
        delivering,
        applied,
        autoscaler::active(observed, &acted.autoscaling),
        metrics_api::registered(&acted.registration),
        draining::draining(observed, &acted.moves),
        upgrade::pending(&observed.cluster, validated.is_ok(), acted),
        passwords::rotating(observed, seen.config.as_ref()),
        paused(&observed.cluster),
    ];
    let before = observed.cluster.status.clone().unwrap_or_default();
    let generation = observed.cluster.metadata.generation;
    let names = Names::of(&observed.cluster.name_any());
    PushClusterStatus {
        observed_generation: generation,
        replicas: found.replicas.unwrap_or(0),
        ready_replicas: found.ready_replicas.unwrap_or(0),
        desired_replicas: observed.cluster.spec.replicas,
        selector: format!(
            "app.kubernetes.io/name=pushcluster,app.kubernetes.io/instance={},app.kubernetes.io/component=gateway",
            names.instance
        ),
        clients: seen.clients.as_ref().map(clients::status),
        gateway_versions: seen
            .clients
            .as_ref()
            .map_or_else(Vec::new, clients::versions),
        config: seen.config.as_ref().map(config::status),
        conditions: verdicts
            .into_iter()
            .map(|verdict| condition(verdict, &before.conditions, generation, now))
            .collect(),
    }
}

/// Whether nothing is left to wait for.
pub fn is_settled(status: &PushClusterStatus) -> bool {
    let is = |kind: &str, expected: &str| {
        let mut conditions = status.conditions.iter();
        conditions.any(|condition| condition.type_ == kind && condition.status == expected)
    };
    // Pods that end are not watched.
    is("Ready", "True")
        && is("Draining", "False")
        && !config::is_under_way(status)
        && !impaired::is_seen(status)
}

/// Whether messages went through every gateway when the status was written.
pub fn delivered(cluster: &PushCluster) -> bool {
    let mut conditions = cluster.status.iter().flat_map(|status| &status.conditions);
    conditions.any(|condition| condition.type_ == delivering::KIND && condition.status == "True")
}

/// The first thing that is wrong is what a person should read.
fn ready(cluster: &PushCluster, parts: &[&Verdict]) -> Verdict {
    match parts.iter().find(|part| part.holds != Holds::Yes) {
        Some(part) => Verdict::new("Ready", part.holds, part.reason, part.message.clone()),
        None if cluster.spec.replicas == 0 => Verdict::new(
            "Ready",
            Holds::No,
            Reason::ScaledToZero,
            "spec.replicas is 0",
        ),
        None => Verdict::new(
            "Ready",
            Holds::Yes,
            Reason::Delivering,
            "every gateway is connected to Redis and delivers",
        ),
    }
}

fn gateway_available(observed: &Observed) -> Verdict {
    const KIND: &str = "GatewayAvailable";
    let wanted = observed.cluster.spec.replicas;
    let Some(deployment) = &observed.live.deployment else {
        return Verdict::new(
            KIND,
            Holds::No,
            Reason::Creating,
            "the gateways are being created",
        );
    };
    let name = deployment.name_any();
    let found = deployment.status.clone().unwrap_or_default();
    let size = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    let observed_now = found.observed_generation == deployment.metadata.generation;
    let current = observed_now && size == Some(wanted);
    let (updated, ready) = (
        found.updated_replicas.unwrap_or(0),
        found.ready_replicas.unwrap_or(0),
    );
    let total = found.replicas.unwrap_or(0);
    let is_whole = current && updated == wanted && total == wanted;
    if is_whole && ready == wanted {
        return Verdict::new(
            KIND,
            Holds::Yes,
            Reason::AllReady,
            format!("{ready} of {wanted} gateways take clients"),
        );
    }
    // Not ready, for a while and for the others' good: nothing is missing.
    let sharing = observed.pods.iter().filter(|pod| moves::shares(pod));
    let sharing = i32::try_from(sharing.count()).unwrap_or(0);
    if is_whole && ready > 0 && ready + sharing == wanted {
        let message = format!(
            "{ready} of {wanted} gateways take clients, and the others have too many and give them some"
        );
        return Verdict::new(KIND, Holds::Yes, Reason::AllReady, message);
    }
    let one_goes = observed_now && wanted > 0 && size > Some(wanted) && updated == total;
    if one_goes && ready >= wanted {
        let message = format!(
            "{wanted} gateways take clients, and {total} are there until the others are empty"
        );
        return Verdict::new(KIND, Holds::Yes, Reason::AllReady, message);
    }
    let why = observed
        .pods
        .iter()
        .filter(|pod| is_of(pod, "gateway"))
        .find_map(pod_trouble)
        .or_else(|| no_pod(&found))
        .map_or_else(String::new, |why| format!(": {why}"));
    let reason = if why.is_empty() && ready >= wanted.min(1) {
        Reason::RollingOut
    } else {
        Reason::NotReady
    };
    let message = format!(
        "Deployment {name}: {ready} of {wanted} gateways are ready, {updated} are up to date{why}"
    );
    Verdict::new(KIND, Holds::No, reason, message)
}

/// A kubelet says why a pod is not ready. Where nobody does, the cluster has given up waiting for the kubelet.
fn lost(pod: &Pod) -> Option<String> {
    let condition = readiness::of(pod)?;
    let explained = condition.reason.as_deref().unwrap_or_default() != "";
    let unexplained = condition.status == "False" && !explained;
    let node = pod.spec.as_ref()?.node_name.as_deref()?;
    unexplained.then(|| format!("NodeLost node {node} does not answer"))
}

/// Why there is no pod to be in trouble, in the words of the API server: a quota, a policy, a PriorityClass.
fn no_pod(deployment: &DeploymentStatus) -> Option<String> {
    let conditions = deployment.conditions.iter().flatten();
    let failure = conditions
        .into_iter()
        .find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")?;
    failure.message.clone()
}

/// Why a pod does not start, in the words of its kubelet or scheduler.
pub fn pod_trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let waiting = status
        .container_statuses
        .iter()
        .flatten()
        .find_map(|container| {
            let waiting = container.state.as_ref()?.waiting.as_ref()?;
            let reason = waiting
                .reason
                .as_deref()
                .filter(|reason| *reason != "ContainerCreating")?;
            let last = container
                .last_state
                .as_ref()
                .and_then(|state| state.terminated.as_ref());
            let exit = last.map_or_else(String::new, |last| {
                format!(", exit code {}", last.exit_code)
            });
            Some(format!(
                "{reason}{exit} {}",
                waiting.message.as_deref().unwrap_or_default()
            ))
        });
    let unscheduled = || {
        let conditions = status.conditions.iter().flatten();
        let scheduled = conditions
            .into_iter()
            .find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
        Some(format!(
            "Unschedulable {}",
            scheduled.message.as_deref().unwrap_or_default()
        ))
    };
    let trouble = waiting.or_else(unscheduled).or_else(|| lost(pod))?;
    Some(format!("pod {}: {}", pod.name_any(), trouble.trim()))
}

pub fn is_of(pod: &Pod, component: &str) -> bool {
    pod.labels()
        .get("app.kubernetes.io/component")
        .is_some_and(|label| label == component)
}

fn redis_available(observed: &Observed) -> Verdict {
    const KIND: &str = "RedisAvailable";
    if let Some(external) = &observed.external_redis {
        return external_redis_available(observed, external);
    }
    if let Some(pods) = &observed.redis_pods {
        return cluster::available(observed, pods);
    }
    let Some(redis) = &observed.live.redis else {
        return Verdict::new(KIND, Holds::No, Reason::Creating, "Redis is being created");
    };
    let name = redis.name_any();
    let found = redis.status.clone().unwrap_or_default();
    let ready = found.ready_replicas.unwrap_or(0);
    let wanted = redis.spec.as_ref().and_then(|spec| spec.replicas);
    let wanted = wanted.unwrap_or(1);
    // Who replaces pods by itself leaves the current revision what it was.
    let all_new = found.updated_replicas.unwrap_or(0) >= wanted;
    let current = found.observed_generation == redis.metadata.generation
        && (found.current_revision == found.update_revision || all_new);
    // A pod is ready when it is the master, or a replica that follows one.
    let needed = wanted / 2 + 1;
    if ready == wanted && current {
        let message = match wanted {
            1 => "Redis answers".to_owned(),
            _ => format!("a master and {} replicas answer", wanted - 1),
        };
        return Verdict::new(KIND, Holds::Yes, Reason::Ready, message);
    }
    if ready >= needed && wanted == 1 {
        let message = format!("Redis StatefulSet {name}: its pod is about to be replaced");
        return Verdict::new(KIND, Holds::No, Reason::RollingOut, message);
    }
    let why = observed
        .pods
        .iter()
        .filter(|pod| is_of(pod, "redis"))
        .find_map(pod_trouble)
        .or_else(|| observed.refused.clone())
        .map_or_else(String::new, |why| format!(": {why}"));
    let message = format!("Redis StatefulSet {name}: {ready} of {wanted} pods are ready{why}");
    let (holds, reason) = match (ready >= needed, current) {
        (true, false) => (Holds::Yes, Reason::RollingOut),
        (true, true) => (Holds::Yes, Reason::Degraded),
        (false, _) => (Holds::No, Reason::NotReady),
    };
    Verdict::new(KIND, holds, reason, message)
}

/// A gateway is ready only while messages come back to it through Redis, so a ready one knows best. The operator may
/// stand where Redis cannot be reached from; its own try only explains why no gateway is ready.
fn external_redis_available(observed: &Observed, tried: &Result<(), Wrong>) -> Verdict {
    const KIND: &str = "RedisAvailable";
    let deployment = observed.live.deployment.as_ref();
    let ready = deployment
        .and_then(|deployment| deployment.status.as_ref()?.ready_replicas)
        .unwrap_or(0);
    match tried {
        _ if ready > 0 => Verdict::new(
            KIND,
            Holds::Yes,
            Reason::Delivers,
            "gateways deliver through it",
        ),
        Ok(()) => Verdict::new(
            KIND,
            Holds::Yes,
            Reason::Answers,
            "the external Redis answers",
        ),
        Err(wrong) => Verdict::new(KIND, Holds::No, wrong.reason, wrong.message.clone()),
    }
}

fn paused(cluster: &PushCluster) -> Verdict {
    const KIND: &str = "ReconciliationPaused";
    if cluster.spec.paused {
        Verdict::new(
            KIND,
            Holds::Yes,
            Reason::Paused,
            "spec.paused is true: nothing is changed",
        )
    } else {
        Verdict::new(KIND, Holds::No, Reason::Running, "changes are applied")
    }
}

/// Keeps the time of the last transition while the condition stays what it was.
fn condition(
    verdict: Verdict,
    before: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let status = match verdict.holds {
        Holds::Yes => "True",
        Holds::No => "False",
        Holds::Unknown => "Unknown",
    };
    let same = before
        .iter()
        .find(|condition| condition.type_ == verdict.kind && condition.status == status);
    Condition {
        type_: verdict.kind.into(),
        status: status.into(),
        reason: verdict.reason.as_str().into(),
        message: verdict.message,
        observed_generation: generation,
        last_transition_time: same.map_or_else(
            || Time(now),
            |condition| condition.last_transition_time.clone(),
        ),
    }
}

/// As Kubernetes stores a time: a fraction would differ from what is read back, and be written again.
pub fn to_the_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Writes the status, unless it is that already.
pub async fn write(
    client: &Client,
    cluster: &PushCluster,
    status: PushClusterStatus,
) -> Result<(), kube::Error> {
    if cluster.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let api: Api<PushCluster> =
        Api::namespaced(client.clone(), &cluster.namespace().unwrap_or_default());
    let patch =
        json!({"apiVersion": "pushcluster.io/v1alpha1", "kind": "PushCluster", "status": status});
    match api
        .patch_status(&cluster.name_any(), &applying(), &Patch::Apply(patch))
        .await
    {
        Ok(_) => Ok(()),
        // Deleted meanwhile: nobody is left to tell.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
