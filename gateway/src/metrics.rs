//! What the gateway counts. Names and buckets are a contract with dashboards and the autoscaler.
//!
//! Every label value comes from a closed enum, so that no client can make a new series.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::message::MessageKind;
use crate::protocol::close::{CloseCode, TABLE};
use crate::protocol::native::TYPES;

pub struct Metrics {
    connected: IntGauge,
    received: Vec<IntCounter>,
    sent: Vec<IntCounter>,
    closed: Vec<IntCounter>,
    duration: Histogram,
    latency: Histogram,
}

impl Metrics {
    /// Registers all of it; an error means that a name is taken, which is a mistake in the program.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let connected = IntGauge::new(
            "websocket_connected_clients",
            "Clients connected to this node.",
        )?;
        let received = counters(
            "websocket_messages_received_total",
            "Messages from clients, by type.",
            "type",
        )?;
        let sent = counters(
            "websocket_messages_sent_total",
            "Messages handed to clients' outboxes, by type.",
            "type",
        )?;
        let closed = counters(
            "pushcluster_connections_closed_total",
            "Connections that ended, by cause.",
            "code",
        )?;
        let duration = histogram(
            "websocket_connection_duration_seconds",
            "How long connections lasted.",
            &[1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0],
        )?;
        let latency = histogram(
            "websocket_message_latency_seconds",
            "From a node's acceptance of a message to its subscribers' outboxes, once for each shard.",
            &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0],
        )?;
        registry.register(Box::new(connected.clone()))?;
        for family in [&received, &sent, &closed] {
            registry.register(Box::new(family.clone()))?;
        }
        for family in [&duration, &latency] {
            registry.register(Box::new(family.clone()))?;
        }
        Ok(Metrics {
            connected,
            received: TYPES
                .iter()
                .map(|kind| received.with_label_values(&[kind]))
                .collect(),
            sent: MessageKind::ALL
                .iter()
                .map(|kind| sent.with_label_values(&[kind.label()]))
                .collect(),
            closed: TABLE
                .iter()
                .map(|row| closed.with_label_values(&[row.label]))
                .collect(),
            duration,
            latency,
        })
    }

    pub fn connected(&self) -> u64 {
        u64::try_from(self.connected.get()).unwrap_or(0)
    }

    pub fn opened(&self) {
        self.connected.inc();
    }

    pub fn closed(&self, code: CloseCode, lived: Duration) {
        self.connected.dec();
        self.closed[code as usize].inc();
        self.duration.observe(lived.as_secs_f64());
    }

    /// `kind`: an index into [`TYPES`].
    pub fn received(&self, kind: usize) {
        self.received[kind].inc();
    }

    /// One message to `count` clients.
    pub fn sent(&self, kind: MessageKind, count: u64, latency_ms: u64) {
        self.sent[kind as usize].inc_by(count);
        if count > 0 {
            self.latency
                .observe(Duration::from_millis(latency_ms).as_secs_f64());
        }
    }
}

fn counters(name: &str, help: &str, label: &str) -> prometheus::Result<IntCounterVec> {
    IntCounterVec::new(Opts::new(name, help), &[label])
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
    Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))
}
