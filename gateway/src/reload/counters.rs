//! What is counted of reloads.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// The shared numbers.
pub struct Counters {
    successful: IntGauge,
    succeeded_at: IntGauge,
    generation: IntGauge,
    hash: IntGauge,
    needs_restart: IntGauge,
    good: IntCounter,
    failed: IntCounter,
}

impl Counters {
    /// Every series from the start. An error means that a name is taken, which is a mistake in the program.
    pub fn register(registry: &Registry) -> prometheus::Result<Counters> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            prometheus::Result::Ok(gauge)
        };
        let reloads = IntCounterVec::new(
            Opts::new(
                "pushcluster_config_reloads_total",
                "Times that the configuration was read again. After `failed` the one from before stays.",
            ),
            &["result"],
        )?;
        registry.register(Box::new(reloads.clone()))?;
        Ok(Counters {
            successful: gauge(
                "pushcluster_config_last_reload_successful",
                "Whether the configuration could be used when it was last read.",
            )?,
            succeeded_at: gauge(
                "pushcluster_config_last_reload_success_timestamp_seconds",
                "When the configuration was last read and could be used, since 1970.",
            )?,
            generation: gauge(
                "pushcluster_config_generation",
                "1 at the start; one more with every reload that changed something.",
            )?,
            hash: gauge(
                "pushcluster_config_hash",
                "48 bits of a hash of all values that count now, but the node's name.",
            )?,
            needs_restart: gauge(
                "pushcluster_config_keys_waiting_for_restart",
                "Keys of which the configuration wants other values than this process has.",
            )?,
            good: reloads.with_label_values(&["good"]),
            failed: reloads.with_label_values(&["failed"]),
        })
    }

    /// At the start.
    pub fn began(&self, hash: &str) {
        self.holds(1, 0, hash);
    }

    /// A reload has come to this.
    pub fn taken(&self, generation: u64, needs_restart: usize, hash: &str) {
        self.good.inc();
        self.holds(generation, needs_restart, hash);
    }

    pub fn failed(&self) {
        self.failed.inc();
        self.successful.set(0);
    }

    fn holds(&self, generation: u64, needs_restart: usize, hash: &str) {
        let now = std::time::UNIX_EPOCH
            .elapsed()
            .unwrap_or_default()
            .as_secs();
        self.successful.set(1);
        self.succeeded_at.set(whole(now));
        self.generation.set(whole(generation));
        self.needs_restart.set(whole(needs_restart as u64));
        self.hash
            .set(i64::from_str_radix(hash, 16).unwrap_or_default());
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
