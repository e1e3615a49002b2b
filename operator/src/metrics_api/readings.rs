//! How many clients there are, from what pods are and what gateways say. Pure.
//!
//! A number that is too small would make an autoscaler end gateways that are needed. So a gateway that may have clients and
//! does not tell leaves the total unknown; one of which the cluster says that nobody can be connected to it counts nothing.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::answer::Refusal;
use crate::readiness;

/// Seconds after the time at which a pod must have ended; the kubelet takes it away a moment later.
const AFTER_THE_END: i64 = 5;
/// Pods that a message names.
const MAX_NAMED: usize = 5;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// In thousandths.
    Milli(u64),
    /// It did not tell, and has no clients.
    Nobody,
    /// It did not tell, and may have clients.
    Silent,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    pub pod: String,
    pub told: Told,
}

/// `answers`: what was said by those that were asked, by the pod's name, in thousandths.
#[must_use]
pub fn gateways<'a>(
    pods: impl IntoIterator<Item = &'a Pod>,
    answers: &[(String, Option<u64>)],
    now: Timestamp,
) -> Vec<Gateway> {
    let gateway = |pod: &Pod| {
        let name = pod.name_any();
        let mut said = answers.iter().filter(|(of, _)| *of == name);
        let told = match said.find_map(|(_, milli)| *milli) {
            Some(milli) => Told::Milli(milli),
            None if may_have_clients(pod, now) => Told::Silent,
            None => Told::Nobody,
        };
        Gateway { pod: name, told }
    };
    pods.into_iter().map(gateway).collect()
}

/// In thousandths.
pub fn total(gateways: &[Gateway]) -> Result<u64, Refusal> {
    let silent: Vec<&str> = gateways
        .iter()
        .filter(|gateway| gateway.told == Told::Silent)
        .map(|gateway| gateway.pod.as_str())
        .collect();
    if !silent.is_empty() {
        let named = &silent[..silent.len().min(MAX_NAMED)];
        return Err(Refusal::Unknown(format!(
            "{} of {} gateways did not tell: {}",
            silent.len(),
            gateways.len(),
            named.join(", ")
        )));
    }
    let told = gateways.iter().filter_map(|gateway| match &gateway.told {
        Told::Milli(milli) => Some(*milli),
        Told::Nobody | Told::Silent => None,
    });
    Ok(told.sum())
}

fn may_have_clients(pod: &Pod, now: Timestamp) -> bool {
    let Some(status) = &pod.status else {
        return false;
    };
    if status.phase.as_deref() != Some("Running") || is_over(pod, now) {
        return false;
    }
    let containers = status.container_statuses.iter().flatten();
    let mut begun = containers.filter_map(began);
    let Some(begun) = begun.next() else {
        // It crashed, and waits for its next start.
        return false;
    };
    match readiness::of(pod) {
        Some(ready) if ready.status == "True" => true,
        Some(ready) => !node_is_lost(ready) && was_ready(ready, begun),
        None => false,
    }
}

/// The time that it had to end is over. It is still there because its node does not answer.
fn is_over(pod: &Pod, now: Timestamp) -> bool {
    let end = pod.metadata.deletion_timestamp.as_ref();
    end.is_some_and(|end| now.as_second() > end.0.as_second() + AFTER_THE_END)
}

fn began(container: &ContainerStatus) -> Option<Timestamp> {
    let running = container.state.as_ref()?.running.as_ref()?;
    running.started_at.as_ref().map(|time| time.0)
}

/// A kubelet says why a pod is not ready. Where nobody does, the cluster gave up waiting for the kubelet: the pod's clients
/// are on their way to other gateways, which must not wait for it to be counted.
fn node_is_lost(ready: &PodCondition) -> bool {
    ready.status == "False" && ready.reason.as_deref().unwrap_or_default().is_empty()
}

/// Since this start of its process: before that, nobody was sent to it.
fn was_ready(ready: &PodCondition, begun: Timestamp) -> bool {
    let since = ready.last_transition_time.as_ref();
    since.is_none_or(|since| since.0 > begun)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-01-01T01:00:00Z";

    fn pod(name: &str, changes: &[(&str, Value)]) -> Pod {
        let mut pod = json!({
            "metadata": {"name": name},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:09Z"}],
                "containerStatuses": [{
                    "name": "gateway", "ready": true, "restartCount": 0, "image": "", "imageID": "",
                    "state": {"running": {"startedAt": "2026-01-01T00:00:05Z"}},
                }],
            },
        });
        for (pointer, value) in changes {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            pod.pointer_mut(parent).unwrap()[key] = value.clone();
        }
        serde_json::from_value(pod).unwrap()
    }

    fn ready(status: &str, reason: Option<&str>, since: &str) -> (&'static str, Value) {
        let since = format!("2026-01-01T{since}Z");
        let condition = json!([{"type": "Ready", "status": status, "reason": reason, "lastTransitionTime": since}]);
        ("/status/conditions", condition)
    }

    #[test]
    fn who_is_silent_and_may_have_clients_leaves_the_total_unknown() {
        let deleted = |time: &str| {
            (
                "/metadata/deletionTimestamp",
                json!(format!("2026-01-01T{time}Z")),
            )
        };
        let waiting = json!([{
            "name": "gateway", "ready": false, "restartCount": 3, "image": "", "imageID": "",
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        }]);
        for (what, changes, silent) in [
            ("ready", vec![], true),
            ("pending", vec![("/status/phase", json!("Pending"))], false),
            ("ended", vec![("/status/phase", json!("Failed"))], false),
            (
                "crashed",
                vec![("/status/containerStatuses", waiting)],
                false,
            ),
            (
                "ready before",
                vec![ready("False", Some("ContainersNotReady"), "00:50:00")],
                true,
            ),
            (
                "starts",
                vec![ready("False", Some("ContainersNotReady"), "00:00:05")],
                false,
            ),
            (
                "began anew",
                vec![ready("False", Some("ContainersNotReady"), "00:00:03")],
                false,
            ),
            (
                "on a lost node",
                vec![ready("False", None, "00:50:00")],
                false,
            ),
            ("ends", vec![deleted("01:00:30")], true),
            ("ended long ago", vec![deleted("00:59:00")], false),
        ] {
            let pods = [pod("a", &[]), pod("b", &changes)];
            let answers = [("a".to_owned(), Some(7)), ("b".to_owned(), None)];
            let gateways = gateways(&pods, &answers, NOW.parse().unwrap());
            let total = total(&gateways);
            let expected = match silent {
                true => Err(Refusal::Unknown("1 of 2 gateways did not tell: b".into())),
                false => Ok(7),
            };
            assert_eq!(total, expected, "{what}");
        }
    }

    #[test]
    fn who_tells_counts_whatever_the_cluster_says_of_it() {
        let pods = [
            pod("a", &[]),
            pod(
                "b",
                &[("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"))],
            ),
            pod(
                "c",
                &[ready("False", Some("ContainersNotReady"), "00:00:01")],
            ),
        ];
        let answers = ["a", "b", "c"].map(|name| (name.to_owned(), Some(5)));
        let gateways = gateways(&pods, &answers, NOW.parse().unwrap());
        assert_eq!(total(&gateways), Ok(15));
        assert_eq!(total(&[]), Ok(0));
    }
}
