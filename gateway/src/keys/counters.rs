//! What is counted of keys and tokens.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::auth::TokenError;

/// The shared numbers.
pub struct Counters {
    keys: IntGauge,
    refused: Vec<IntCounter>,
    /// By [`Source`], then by [`Outcome`].
    reads: Vec<[IntCounter; 2]>,
    fetched_at: IntGauge,
}

#[derive(Debug, Clone, Copy)]
pub enum Source {
    File,
    Server,
}

#[derive(Debug, Clone, Copy)]
pub enum Outcome {
    Good,
    Failed,
}

impl Counters {
    /// Every series at 0 from the start. An error means that a name is taken, which is a mistake in the program.
    pub fn register(registry: &Registry) -> prometheus::Result<Counters> {
        let keys = IntGauge::new("pushcluster_keys", "Keys that tokens are verified with.")?;
        let refused = IntCounterVec::new(
            Opts::new(
                "pushcluster_tokens_refused_total",
                "Tokens that were refused, by cause.",
            ),
            &["cause"],
        )?;
        let reads = IntCounterVec::new(
            Opts::new(
                "pushcluster_key_reads_total",
                "Times that keys were read: from files when they changed, from the key server when it was asked. \
                 After `failed` the last good keys stay.",
            ),
            &["source", "result"],
        )?;
        let fetched_at = IntGauge::new(
            "pushcluster_key_server_success_timestamp_seconds",
            "When the key server last gave good keys, since 1970. 0: never.",
        )?;
        registry.register(Box::new(keys.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        registry.register(Box::new(reads.clone()))?;
        registry.register(Box::new(fetched_at.clone()))?;
        let reads = ["file", "server"].map(|source| {
            ["good", "failed"].map(|result| reads.with_label_values(&[source, result]))
        });
        Ok(Counters {
            keys,
            refused: TokenError::CAUSES
                .iter()
                .map(|cause| refused.with_label_values(&[cause]))
                .collect(),
            reads: reads.into(),
            fetched_at,
        })
    }

    pub fn holds(&self, keys: usize) {
        self.keys.set(i64::try_from(keys).unwrap_or(i64::MAX));
    }

    pub fn refused(&self, error: &TokenError) {
        self.refused[error.index()].inc();
    }

    pub fn read(&self, source: Source, outcome: Outcome) {
        self.reads[source as usize][outcome as usize].inc();
        if let (Source::Server, Outcome::Good) = (source, outcome) {
            let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
            self.fetched_at
                .set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        }
    }
}
