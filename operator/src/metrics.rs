//! What the operator counts.

use std::time::Duration;

use crate::redis_metrics::RedisMetrics;
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};

pub struct Metrics {
    reconciles: IntCounterVec,
    duration: Histogram,
    leading: IntGauge,
    /// Of every Redis that the operator made.
    pub redis: RedisMetrics,
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
        })
    }

    pub fn reconciled(&self, success: bool, took: Duration) {
        self.reconciles
            .with_label_values(&[if success { "success" } else { "error" }])
            .inc();
        self.duration.observe(took.as_secs_f64());
    }

    pub fn leading(&self, leading: bool) {
        self.leading.set(i64::from(leading));
    }
}
