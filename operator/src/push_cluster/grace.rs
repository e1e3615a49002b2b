//! How long a gateway has that somebody else ends, as by `kubectl drain` of its node: what all clients that it may have
//! need at the pace at which it sends them away, until it is told which, and `spec.drain.deadlineSeconds` more. Pure.

use crds::PushClusterSpec;
use gateway_config::ENDING_WAITS_SECONDS;
use k8s_openapi::api::core::v1::Pod;

use crate::scaling::budget::of_one;

/// After its deadline a gateway needs a moment to say goodbye to whoever is left.
const GOODBYE_SECONDS: i64 = 10;
/// What a pod is given, in a few steps: another number is another pod, so what clients need is not taken to the second. A
/// gateway ends when it is empty, however much longer it could stay. Nobody waits for more than an hour.
const STEPS: [i64; 3] = [300, 900, 3_600];

/// `terminationGracePeriodSeconds`.
pub fn of_pod(spec: &PushClusterSpec) -> i64 {
    let needed = needed(spec) + GOODBYE_SECONDS;
    let mut steps = STEPS.into_iter();
    steps.find(|step| *step >= needed).unwrap_or(STEPS[2])
}

/// Whether it is more than the first step: what is asked for then makes other pods.
pub fn is_long(spec: &PushClusterSpec) -> bool {
    of_pod(spec) > STEPS[0]
}

/// `drain.deadlineSeconds` of the gateways, which go faster than asked rather than be killed: no longer than any of the
/// pods that are there was given.
pub fn of_gateways<'a>(spec: &PushClusterSpec, gateways: impl Iterator<Item = &'a Pod>) -> u32 {
    let given = gateways.filter_map(|pod| pod.spec.as_ref()?.termination_grace_period_seconds);
    let given = given.min().unwrap_or(i64::MAX).min(of_pod(spec));
    let deadline = needed(spec).min(given - GOODBYE_SECONDS).max(1);
    u32::try_from(deadline).unwrap_or(u32::MAX)
}

/// Clients that one gateway tells to reconnect each second until somebody gives it another pace.
pub fn per_second(spec: &PushClusterSpec) -> u32 {
    let positive = |number: i32| u32::try_from(number).unwrap_or(0);
    let of_one = of_one(positive(spec.gateway.limits.handshakes_per_second));
    spec.drain
        .reconnects_per_second
        .map_or(of_one, positive)
        .max(1)
}

fn needed(spec: &PushClusterSpec) -> i64 {
    let clients = u32::try_from(spec.gateway.limits.max_connections).unwrap_or(0);
    let seconds = clients.div_ceil(per_second(spec));
    let waits = i64::from(ENDING_WAITS_SECONDS);
    waits + i64::from(seconds) + i64::from(spec.drain.deadline_seconds)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(max: i32, per_second: Option<i32>, handshakes: i32, deadline: i32) -> PushClusterSpec {
        serde_json::from_value(json!({
            "gateway": {"limits": {"maxConnections": max, "handshakesPerSecond": handshakes}},
            "drain": {"reconnectsPerSecond": per_second, "deadlineSeconds": deadline},
        }))
        .unwrap()
    }

    fn pod(grace: Option<i64>) -> Pod {
        let spec = json!({"containers": [], "terminationGracePeriodSeconds": grace});
        serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap()
    }

    #[test]
    fn a_pod_has_as_long_as_its_clients_need() {
        for (max, per_second, handshakes, deadline, gateway, pod) in [
            (10_000, None, 0, 30, 140, 300),
            (10_000, None, 50, 30, 440, 900),
            (10_000, Some(5), 0, 30, 2_040, 3_600),
            (25_000, Some(100), 0, 30, 290, 300),
            (25_001, Some(100), 0, 30, 291, 900),
            (10, Some(100_000), 0, 1, 12, 300),
            // What does not fit in an hour goes faster.
            (1_000_000, Some(1), 0, 30, 3_590, 3_600),
            (1, Some(1), 0, 3_600, 3_590, 3_600),
        ] {
            let spec = spec(max, per_second, handshakes, deadline);
            let found = (of_gateways(&spec, [].iter()), of_pod(&spec));
            assert_eq!(found, (gateway, pod), "{spec:?}");
            assert_eq!(is_long(&spec), pod > 300);
        }
    }

    #[test]
    fn no_gateway_takes_longer_than_its_kubelet_waits() {
        let spec = spec(10_000, None, 0, 30);
        for (graces, expected) in [
            (vec![Some(300)], 140),
            // As an earlier version made them.
            (vec![Some(300), Some(40)], 30),
            (vec![Some(5)], 1),
            (vec![None], 140),
        ] {
            let pods: Vec<Pod> = graces.into_iter().map(pod).collect();
            assert_eq!(of_gateways(&spec, pods.iter()), expected, "{pods:?}");
        }
    }
}
