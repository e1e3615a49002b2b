//! The group `custom.metrics.k8s.io`, served by the operator itself: what a HorizontalPodAutoscaler scales by, with nothing
//! else installed.
//!
//! Every replica serves. Only the leader issues the certificate and registers the group, and only where the group is free.
//! `request`, `answer`, `counters`, `discovery`, `readings` and `registration` are pure; `fleets`, `serve`, `trust` and
//! `register` are the edge.

pub mod answer;
pub mod counters;
pub mod discovery;
pub mod fleets;
pub mod front_proxy;
pub mod kept;
pub mod readings;
pub mod register;
pub mod registration;
pub mod request;
pub mod serve;
pub mod served;

/// Where it is served and by whom, as the chart says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Address and port to listen on.
    pub listen: String,
    /// The Service in front of all replicas, and its namespace, which is the operator's.
    pub service: String,
    pub namespace: String,
    /// A ClusterRole that comes and goes with the release: what owns the registration, so that it goes with it.
    pub owner: String,
    /// Selects the operator's pods.
    pub selector: String,
    /// This pod.
    pub pod: String,
}

impl Place {
    /// The name that the API server expects in the certificate (kube-aggregator dials `<service>.<namespace>.svc`).
    #[must_use]
    pub fn host(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }
}
