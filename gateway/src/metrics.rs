//! What the gateway counts. Names and buckets are a contract with dashboards and the autoscaler; every label value
//! comes from a closed enum, so that no client can make a new series.
//!
//! A shard counts in [`ShardMetrics`], numbers of its own, and adds them to the shared ones once a round: an atomic
//! increment for each message would be a cache line that all cores fight for.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::local::{LocalHistogram, LocalIntCounter};
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::broker::PublishError;
use crate::engine::Dropped;
use crate::limits::Limit;
use crate::message::MessageKind;
use crate::protocol::close::{CloseCode, TABLE};
use crate::protocol::native::{ErrorCode, TYPES};

pub use gaps::{GapFill, Gaps};

mod gaps;

/// Seconds.
const DURATION_BUCKETS: [f64; 9] = [1., 5., 15., 30., 60., 300., 600., 1800., 3600.];
/// Seconds.
const LATENCY_BUCKETS: [f64; 7] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.];

/// The shared numbers.
pub struct Metrics {
    connected: IntGauge,
    received: Vec<IntCounter>,
    sent: Vec<IntCounter>,
    replied: IntCounter,
    closed: Vec<IntCounter>,
    evictions: IntCounter,
    overloaded: IntCounter,
    refused: Vec<IntCounter>,
    errors: Vec<IntCounter>,
    dropped: Vec<IntCounter>,
    duration: Histogram,
    latency: Histogram,
    publish_failures: Vec<IntCounter>,
    subscribe_failures: IntCounter,
    broker_deliveries: IntCounter,
    present: IntGauge,
    gaps: Gaps,
}

/// Why a publish failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishFailure {
    Unavailable,
    Unanswered,
}

impl PublishFailure {
    #[must_use]
    pub fn of(error: &PublishError) -> PublishFailure {
        match error {
            PublishError::Unavailable { .. } => PublishFailure::Unavailable,
            PublishError::Unanswered { .. } => PublishFailure::Unanswered,
        }
    }
}

impl Metrics {
    /// Registers all of it, every series at 0 from the start: `rate` does not see the event with which one appears.
    /// An error means that a name is taken, which is a mistake in the program.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| register(registry, IntCounter::new(name, help)?);
        let gauge = |name: &str, help: &str| register(registry, IntGauge::new(name, help)?);
        let (sent, replied) = sent(registry)?;
        Ok(Metrics {
            connected: gauge("websocket_connected_clients", "Clients on this node.")?,
            received: family(
                registry,
                "websocket_messages_received_total",
                "Messages from clients; `invalid` could not be understood.",
                ("type", &TYPES),
            )?,
            sent,
            replied,
            closed: closes(registry)?,
            evictions: counter(
                "pushcluster_outbox_evictions_total",
                "Clients closed because more waited for them than their outbox holds.",
            )?,
            overloaded: counter(
                "pushcluster_evictions_total",
                "Clients closed because memory was short.",
            )?,
            dropped: family(
                registry,
                "pushcluster_messages_dropped_total",
                "Messages that slow clients did not get, by the rule of their channel.",
                ("rule", &["drop_oldest", "latest"]),
            )?,
            refused: family(
                registry,
                "pushcluster_refusals_total",
                "What was refused at a limit.",
                ("limit", &Limit::LABELS),
            )?,
            errors: errors(registry)?,
            duration: histogram(
                registry,
                "websocket_connection_duration_seconds",
                "How long connections lasted.",
                &DURATION_BUCKETS,
            )?,
            latency: histogram(
                registry,
                "websocket_message_latency_seconds",
                "From a node's acceptance of a message to its write to sockets, once for each shard.",
                &LATENCY_BUCKETS,
            )?,
            publish_failures: family(
                registry,
                "pushcluster_publish_failures_total",
                "Messages of clients that the broker did not accept, or not in time.",
                ("cause", &["unavailable", "unanswered"]),
            )?,
            subscribe_failures: counter(
                "pushcluster_subscribe_failures_total",
                "Channels that the broker could not subscribe.",
            )?,
            broker_deliveries: counter(
                "pushcluster_broker_deliveries_total",
                "Messages that this node got from the broker.",
            )?,
            present: gauge(
                "pushcluster_presence_members",
                "Members of channels with presence, all together, where the node is alone.",
            )?,
            gaps: Gaps::register(registry)?,
        })
    }

    /// Sockets held, those on their way to a shard included. Closes appear at the end of their shard's round.
    pub fn connected(&self) -> u64 {
        u64::try_from(self.connected.get()).unwrap_or(0)
    }

    /// A socket was accepted; the shard that gets it counts its end.
    pub fn opened(&self) {
        self.connected.inc();
    }

    /// A socket that no shard took.
    pub fn closed(&self, code: CloseCode, lived: Duration) {
        self.connected.dec();
        self.closed[code as usize].inc();
        self.duration.observe(lived.as_secs_f64());
    }

    pub fn publish_failed(&self, cause: PublishFailure) {
        self.publish_failures[cause as usize].inc();
    }

    pub fn refused(&self, limit: Limit) {
        self.refused[limit as usize].inc();
    }

    /// A client is told this.
    pub fn error(&self, code: ErrorCode) {
        self.errors[code as usize].inc();
    }

    pub fn broker_delivered(&self) {
        self.broker_deliveries.inc();
    }

    pub fn subscribe_failed(&self) {
        self.subscribe_failures.inc();
    }

    /// Members of channels with presence, now.
    pub fn present(&self, members: u64) {
        self.present.set(i64::try_from(members).unwrap_or(i64::MAX));
    }

    pub fn gaps(&self) -> &Gaps {
        &self.gaps
    }

    /// A shard's own numbers.
    pub fn shard(&self) -> ShardMetrics {
        let locals = |counters: &[IntCounter]| counters.iter().map(IntCounter::local).collect();
        ShardMetrics {
            connected: self.connected.clone(),
            ended: 0,
            received: locals(&self.received),
            sent: locals(&self.sent),
            replied: self.replied.local(),
            closed: locals(&self.closed),
            evictions: self.evictions.local(),
            overloaded: self.overloaded.local(),
            refused: locals(&self.refused),
            errors: locals(&self.errors),
            dropped: locals(&self.dropped),
            duration: self.duration.local(),
            latency: self.latency.local(),
            accepted_ms: Vec::new(),
            touched: false,
        }
    }
}

/// One shard's numbers since its last [`ShardMetrics::flush`]. Belongs to the shard's thread.
pub struct ShardMetrics {
    connected: IntGauge,
    ended: i64,
    received: Vec<LocalIntCounter>,
    sent: Vec<LocalIntCounter>,
    replied: LocalIntCounter,
    closed: Vec<LocalIntCounter>,
    evictions: LocalIntCounter,
    overloaded: LocalIntCounter,
    refused: Vec<LocalIntCounter>,
    errors: Vec<LocalIntCounter>,
    dropped: Vec<LocalIntCounter>,
    duration: LocalHistogram,
    latency: LocalHistogram,
    /// When this round's deliveries were accepted; at most as many as a round takes commands.
    accepted_ms: Vec<u64>,
    /// An idle shard's flush is one comparison.
    touched: bool,
}

impl ShardMetrics {
    pub fn closed(&mut self, code: CloseCode, lived_ms: u64) {
        self.ended += 1;
        self.closed[code as usize].inc();
        self.duration
            .observe(Duration::from_millis(lived_ms).as_secs_f64());
        match code {
            CloseCode::Slow => {
                self.evictions.inc();
                self.refused(Limit::OutboxBytes);
            }
            CloseCode::Overloaded => self.overloaded.inc(),
            CloseCode::TooBig => self.refused(Limit::MessageBytes),
            _ => {}
        }
        self.touched = true;
    }

    pub fn refused(&mut self, limit: Limit) {
        self.refused[limit as usize].inc();
        self.touched = true;
    }

    /// A client is told this; if it met a limit, that is counted too.
    pub fn error(&mut self, code: ErrorCode) {
        self.errors[code as usize].inc();
        if let Some(limit) = Limit::of(code) {
            self.refused(limit);
        }
        self.touched = true;
    }

    pub fn dropped(&mut self, dropped: Dropped) {
        if dropped != Dropped::default() {
            self.dropped[0].inc_by(dropped.oldest);
            self.dropped[1].inc_by(dropped.latest);
            self.touched = true;
        }
    }

    /// `kind`: an index into [`TYPES`].
    pub fn received(&mut self, kind: usize) {
        self.received[kind].inc();
        self.touched = true;
    }

    pub fn replied(&mut self, count: usize) {
        self.replied.inc_by(count as u64);
        self.touched = true;
    }

    /// A delivery entered the outboxes of `clients`; `accepted_ms` since the Unix epoch.
    pub fn delivered(&mut self, kind: MessageKind, clients: u64, accepted_ms: u64) {
        if clients == 0 {
            return;
        }
        self.sent[kind as usize].inc_by(clients);
        self.accepted_ms.push(accepted_ms);
        self.touched = true;
    }

    /// Whether deliveries of this round have not been [`ShardMetrics::written`].
    pub fn has_deliveries(&self) -> bool {
        !self.accepted_ms.is_empty()
    }

    /// The round's deliveries were written at `now_ms` since the Unix epoch. The clock of the node that accepted a
    /// message may be ahead of ours: that counts as no time, not as a century.
    pub fn written(&mut self, now_ms: u64) {
        for accepted_ms in self.accepted_ms.drain(..) {
            let latency = Duration::from_millis(now_ms.saturating_sub(accepted_ms));
            self.latency.observe(latency.as_secs_f64());
        }
    }

    /// Adds everything to the shared numbers.
    pub fn flush(&mut self) {
        if !std::mem::take(&mut self.touched) {
            return;
        }
        self.connected.sub(std::mem::take(&mut self.ended));
        let counters = self.received.iter().chain(&self.sent);
        let counters = counters.chain(&self.closed).chain(&self.refused);
        for counter in counters.chain(&self.dropped).chain(&self.errors) {
            counter.flush();
        }
        self.replied.flush();
        self.evictions.flush();
        self.overloaded.flush();
        self.duration.flush();
        self.latency.flush();
    }
}

/// A shard that ends must not leave its connections counted for ever.
impl Drop for ShardMetrics {
    fn drop(&mut self) {
        self.flush();
    }
}

/// By [`MessageKind::ALL`], and answers.
fn sent(registry: &Registry) -> prometheus::Result<(Vec<IntCounter>, IntCounter)> {
    let kinds = MessageKind::ALL.map(MessageKind::label);
    let mut sent = family(
        registry,
        "websocket_messages_sent_total",
        "Messages to clients, once for each client; `reply` answers a request.",
        ("type", &[&kinds[..], &["reply"]].concat()),
    )?;
    let replied = sent.pop().expect("`reply` is the last label");
    Ok((sent, replied))
}

/// By [`CloseCode`].
fn closes(registry: &Registry) -> prometheus::Result<Vec<IntCounter>> {
    family(
        registry,
        "pushcluster_connections_closed_total",
        "Connections that ended, by cause.",
        ("code", &TABLE.map(|row| row.label)),
    )
}

/// By [`ErrorCode`].
fn errors(registry: &Registry) -> prometheus::Result<Vec<IntCounter>> {
    family(
        registry,
        "pushcluster_errors_total",
        "Errors that clients were told on their connections.",
        ("code", &ErrorCode::LABELS),
    )
}

/// A counter for each value of the one label, in their order.
fn family(
    registry: &Registry,
    name: &str,
    help: &str,
    (label, values): (&str, &[&str]),
) -> prometheus::Result<Vec<IntCounter>> {
    let vector = register(
        registry,
        IntCounterVec::new(Opts::new(name, help), &[label])?,
    )?;
    Ok(values
        .iter()
        .map(|value| vector.with_label_values(&[value]))
        .collect())
}

fn histogram(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
) -> prometheus::Result<Histogram> {
    let options = HistogramOpts::new(name, help).buckets(buckets.into());
    register(registry, Histogram::with_opts(options)?)
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    fn lines(registry: &Registry) -> Vec<String> {
        let text = TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_shard_s_numbers_appear_when_it_flushes() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let mut shard = metrics.shard();
        metrics.opened();
        metrics.opened();
        shard.closed(CloseCode::Slow, 4_999);
        shard.received(0);
        shard.error(ErrorCode::TooBig);
        shard.replied(1);
        shard.delivered(MessageKind::Room, 1000, 1_000);
        // By a clock that is ahead of ours.
        shard.delivered(MessageKind::Chat, 1, 5_000);
        shard.delivered(MessageKind::Chat, 0, 0);
        shard.written(1_007);
        assert_eq!(metrics.connected(), 2, "nothing before the flush");
        shard.flush();
        shard.flush();
        let lines = lines(&registry);
        for line in [
            "websocket_connected_clients 1",
            "websocket_messages_received_total{type=\"ping\"} 1",
            "websocket_messages_received_total{type=\"invalid\"} 0",
            "websocket_messages_sent_total{type=\"room\"} 1000",
            "websocket_messages_sent_total{type=\"chat\"} 1",
            "websocket_messages_sent_total{type=\"reply\"} 1",
            "pushcluster_connections_closed_total{code=\"slow\"} 1",
            "pushcluster_connections_closed_total{code=\"drain\"} 0",
            "pushcluster_outbox_evictions_total 1",
            "pushcluster_refusals_total{limit=\"outbox_bytes\"} 1",
            "pushcluster_refusals_total{limit=\"connections\"} 0",
            "pushcluster_refusals_total{limit=\"message_bytes\"} 1",
            "pushcluster_errors_total{code=\"too_big\"} 1",
            "pushcluster_errors_total{code=\"unanswered\"} 0",
            "pushcluster_publish_failures_total{cause=\"unavailable\"} 0",
            "websocket_connection_duration_seconds_bucket{le=\"1\"} 0",
            "websocket_connection_duration_seconds_bucket{le=\"5\"} 1",
            "websocket_connection_duration_seconds_bucket{le=\"3600\"} 1",
            "websocket_message_latency_seconds_bucket{le=\"0.001\"} 1",
            "websocket_message_latency_seconds_bucket{le=\"0.005\"} 1",
            "websocket_message_latency_seconds_bucket{le=\"0.01\"} 2",
            "websocket_message_latency_seconds_bucket{le=\"1\"} 2",
        ] {
            assert!(
                lines.iter().any(|l| l == line),
                "{line} is missing in\n{lines:#?}"
            );
        }
    }

    #[test]
    fn a_shard_that_ends_leaves_its_numbers() {
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let mut shard = metrics.shard();
        metrics.opened();
        shard.closed(CloseCode::Normal, 1);
        drop(shard);
        assert_eq!(metrics.connected(), 0);
    }
}
