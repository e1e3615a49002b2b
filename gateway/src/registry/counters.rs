//! What the registry counts.

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::Why;

#[derive(Clone)]
pub struct Counters {
    pub(super) pending: IntGauge,
    pub(super) lease: Gauge,
    pub(super) reaps: IntCounter,
    pub(super) reaped: IntCounter,
    pub(super) foreign: IntCounter,
    registrations: Vec<IntCounter>,
}

impl Counters {
    /// An error means that a name is taken, which is a mistake in the program.
    pub fn register(registry: &Registry) -> Result<Counters, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let pending = IntGauge::new(
            "pushcluster_registry_pending_facts",
            "Connections and subscriptions that have changed and are not yet in Redis.",
        )?;
        registry.register(Box::new(pending.clone()))?;
        let lease = Gauge::new(
            "pushcluster_registry_lease_remaining_seconds",
            "Until others reap this node's sessions, unless it renews its lease. 0: it has none.",
        )?;
        registry.register(Box::new(lease.clone()))?;
        let registrations = IntCounterVec::new(
            Opts::new(
                "pushcluster_registry_registrations_total",
                "Times that this node wrote down everything it holds, by why.",
            ),
            &["reason"],
        )?;
        registry.register(Box::new(registrations.clone()))?;
        Ok(Counters {
            pending,
            lease,
            reaps: counter(
                "pushcluster_registry_reaps_total",
                "Nodes whose lease ended and whose sessions this node removed.",
            )?,
            reaped: counter(
                "pushcluster_registry_reaped_facts_total",
                "Connections and subscriptions that were removed with them.",
            )?,
            foreign: counter(
                "pushcluster_registry_foreign_keys_total",
                "Writes that Redis refused because another program has a key of ours.",
            )?,
            registrations: Why::LABELS
                .iter()
                .map(|label| registrations.with_label_values(&[label]))
                .collect(),
        })
    }

    pub(super) fn registered(&self, why: Why) {
        self.registrations[why as usize].inc();
    }
}
