//! Gateways that end while they may still have clients.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{Holds, Verdict, is_of};
use crate::push_cluster::observe::Observed;
use crate::reason::Reason;

/// A pod that ends moves its clients until it has none, at most until its own deletion timestamp, which is when it is
/// killed. That is a fact which stays, unlike the seconds that are left: those would be written again and again.
pub fn draining(observed: &Observed) -> Verdict {
    const KIND: &str = "Draining";
    let mut ending: Vec<String> = observed
        .pods
        .iter()
        .filter(|pod| is_of(pod, "gateway") && runs(pod))
        .filter_map(|pod| {
            let until = pod.metadata.deletion_timestamp.as_ref()?;
            Some(format!(
                "{} until {} at the latest",
                pod.name_any(),
                until.0
            ))
        })
        .collect();
    ending.sort();
    if ending.is_empty() {
        return Verdict::new(KIND, Holds::No, Reason::NoneEnding, "no gateway is ending");
    }
    let message = format!(
        "gateways that end move their clients: {}",
        ending.join(", ")
    );
    Verdict::new(KIND, Holds::Yes, Reason::GatewaysEnding, message)
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
