//! When an object is looked at again although nothing has been heard of it. Pure.
//!
//! Each look asks the API server for the Secrets and pods, and every ten minutes for all sixteen objects (`kept`), so with
//! hundreds of PushClusters this decides what the operator costs at rest (`e2e/cluster/many.sh` counts it). Those that are wrong for long would cost most: at five seconds each, a
//! hundred external Redis that never answer keep all the others waiting for their turn.

use std::time::Duration;

use crds::PushCluster;
use k8s_openapi::jiff::Timestamp;

/// Something is wrong: often at first, since who mends it waits, …
const SOON: Duration = Duration::from_secs(5);
/// … and less often what has been wrong for long. A tenth of the time that it has been so is the wait.
const LATER: Duration = Duration::from_secs(60);
/// Nothing is wrong: what is not watched counts (Secrets, pods, how many clients there are, an external Redis).
const SELDOM: Duration = Duration::from_secs(120);

/// `random` (0 to 1) spreads those that were looked at together: the wait is up to a tenth longer.
pub fn again_in(cluster: &PushCluster, settled: bool, now: Timestamp, random: f64) -> Duration {
    let wait = if settled {
        SELDOM
    } else {
        (wrong_for(cluster, now) / 10).clamp(SOON, LATER)
    };
    wait.mul_f64(1.0 + random.clamp(0.0, 1.0) / 10.0)
}

/// As far as its status tells.
fn wrong_for(cluster: &PushCluster, now: Timestamp) -> Duration {
    let mut conditions = cluster.status.iter().flat_map(|status| &status.conditions);
    let wrong = conditions.find(|condition| {
        let current = condition.observed_generation == cluster.metadata.generation;
        condition.type_ == "Ready" && condition.status != "True" && current
    });
    let seconds = wrong.map_or(0, |condition| {
        now.as_second() - condition.last_transition_time.0.as_second()
    });
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster(ready: Option<(&str, i64)>) -> PushCluster {
        let conditions = ready.map(|(status, generation)| {
            json!([{
                "type": "Ready", "status": status, "reason": "x", "message": "",
                "observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z",
            }])
        });
        serde_json::from_value(json!({
            "apiVersion": "pushcluster.io/v1alpha1", "kind": "PushCluster",
            "metadata": {"name": "demo", "generation": 2}, "spec": {},
            "status": conditions.map(|conditions| json!({"conditions": conditions})),
        }))
        .unwrap()
    }

    #[test]
    fn what_is_wrong_is_looked_at_often_at_first() {
        for (ready, settled, minutes, expected) in [
            (Some(("True", 2)), true, 5, 120),
            (None, false, 0, 5),
            (Some(("True", 2)), false, 5, 5),
            (Some(("False", 2)), false, 0, 5),
            (Some(("False", 2)), false, 5, 30),
            (Some(("False", 2)), false, 60, 60),
            // The manifest was changed a moment ago.
            (Some(("False", 1)), false, 60, 5),
        ] {
            let begun: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
            let now = Timestamp::from_second(begun.as_second() + minutes * 60).unwrap();
            let cluster = cluster(ready);
            let wait = again_in(&cluster, settled, now, 0.0);
            assert_eq!(wait.as_secs(), expected, "{ready:?}, {minutes} min");
            let longest = again_in(&cluster, settled, now, 1.0);
            assert_eq!(longest, wait.mul_f64(1.1));
        }
    }
}
