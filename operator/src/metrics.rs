//! What the operator counts.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::redis_metrics::RedisMetrics;
use crate::scaling::Act;

pub struct Metrics {
    reconciles: IntCounterVec,
    duration: Histogram,
    leading: IntGauge,
    /// Of every Redis that the operator made.
    pub redis: RedisMetrics,
    cut: IntCounter,
    missed: IntCounter,
}

impl Metrics {
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let reconciles = IntCounterVec::new(
            Opts::new(
                "pushcluster_operator_reconciles_total",
                "Reconciles that ended, by result.",
            ),
            &["result"],
        )?;
        let duration = Histogram::with_opts(HistogramOpts::new(
            "pushcluster_operator_reconcile_duration_seconds",
            "How long reconciles took.",
        ))?;
        let leading = IntGauge::new("pushcluster_operator_leading", "1 while this pod leads.")?;
        let cut = IntCounter::new(
            "pushcluster_operator_clients_cut_total",
            "Clients that a gateway still had at its deadline.",
        )?;
        let missed = IntCounter::new(
            "pushcluster_operator_other_gateway_ended_total",
            "Gateways that were deleted instead of the one that was chosen.",
        )?;
        registry.register(Box::new(cut.clone()))?;
        registry.register(Box::new(missed.clone()))?;
        registry.register(Box::new(reconciles.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(leading.clone()))?;
        let redis = RedisMetrics::default();
        registry.register(Box::new(redis.clone()))?;
        Ok(Metrics {
            reconciles,
            duration,
            leading,
            redis,
            cut,
            missed,
        })
    }

    pub fn reconciled(&self, success: bool, took: Duration) {
        self.reconciles
            .with_label_values(&[if success { "success" } else { "error" }])
            .inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// One step of moving clients was done.
    pub fn moved(&self, act: Act) {
        match act {
            Act::GiveUp { cut, .. } => self.cut.inc_by(cut),
            Act::Readmit { missed: true } => self.missed.inc(),
            _ => {}
        }
    }

    pub fn leading(&self, leading: bool) {
        self.leading.set(i64::from(leading));
    }
}
