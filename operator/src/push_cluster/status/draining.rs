//! Gateways that give their clients away, or end while they may still have some.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{Holds, Verdict, is_of};
use crate::push_cluster::observe::Observed;
use crate::reason::Reason;
use crate::scaling::{Cause, Moving, Plan, Waits};

/// A pod that ends moves its clients until it has none, at most until its own deletion timestamp, which is when it is
/// killed. That is a fact which stays, unlike the seconds that are left: those would be written again and again.
pub fn draining(observed: &Observed, moves: &Plan) -> Verdict {
    const KIND: &str = "Draining";
    let mut ending: Vec<String> = observed
        .pods
        .iter()
        .filter(|pod| is_of(pod, "gateway") && runs(pod))
        .filter_map(|pod| {
            let until = pod.metadata.deletion_timestamp.as_ref()?;
            let pod = pod.name_any();
            let mut moving = moves.moving.iter();
            let moved = moving.find(|moving| moving.pod == pod);
            let moved = moved.map_or(
                String::new(),
                |Moving {
                     percent, clients, ..
                 }| { format!(", {percent} % of {clients} clients moved") },
            );
            Some(format!("{pod} until {} at the latest{moved}", until.0))
        })
        .collect();
    ending.sort();
    let moving = moves.moving.iter();
    let moving = moving.filter(|moving| moving.cause != Cause::Ended);
    let moving: Vec<String> = moving.map(told).collect();
    let ends = format!(
        "gateways that end move their clients: {}",
        ending.join(", ")
    );
    let moves_some = format!("gateways give clients to others: {}", moving.join(", "));
    match (moving.is_empty(), ending.is_empty()) {
        (false, true) => Verdict::new(KIND, Holds::Yes, Reason::MovingClients, moves_some),
        (false, false) => {
            let both = format!("{moves_some}; {ends}");
            Verdict::new(KIND, Holds::Yes, Reason::MovingClients, both)
        }
        (true, false) => Verdict::new(KIND, Holds::Yes, Reason::GatewaysEnding, ends),
        (true, true) => nobody(KIND, observed, moves),
    }
}

fn nobody(kind: &'static str, observed: &Observed, moves: &Plan) -> Verdict {
    let wished = observed.cluster.spec.replicas;
    match moves.waits {
        Some(Waits::ForRoom) => {
            let message = format!(
                "{wished} gateways are wished, and those that would stay have no room for the clients of another one"
            );
            Verdict::new(kind, Holds::No, Reason::WaitsForRoom, message)
        }
        Some(Waits::ForRollout) => {
            let message = format!("{wished} gateways are wished: when all are replaced");
            Verdict::new(kind, Holds::No, Reason::WaitsForRollout, message)
        }
        None => Verdict::new(kind, Holds::No, Reason::NoneEnding, "no gateway is ending"),
    }
}

fn told(moving: &Moving) -> String {
    let Moving {
        pod,
        cause,
        clients,
        percent,
        due,
    } = moving;
    let cause = match cause {
        Cause::ScaleIn => "is to go",
        Cause::Rollout => "is replaced",
        Cause::Rebalance => "has more than the others",
        Cause::Ended => "ends",
    };
    format!("{pod} {cause}, {percent} % of {clients} clients moved, all by {due}")
}

/// One whose gateway has ended has no clients, and one that never ran had none.
fn runs(pod: &Pod) -> bool {
    let containers = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    containers.into_iter().flatten().any(|container| {
        let state = container.state.as_ref();
        state.is_some_and(|state| state.running.is_some())
    })
}
