//! What a dashboard holds the clients against: how many this gateway may have, and how fast it may send them away. Read when
//! somebody asks, so that no number is older than the answer.

use prometheus::{PullingGauge, Registry};

use crate::broker::Broker;
use crate::drain::Drain;
use crate::running;

pub fn register<B: Broker>(
    registry: &Registry,
    running: &running::Shared,
    drain: &Drain<B>,
) -> prometheus::Result<()> {
    let gauge = |name, help, read: Box<dyn Fn() -> f64 + Send + Sync>| {
        registry.register(Box::new(PullingGauge::new(name, help, read)?))
    };
    let running = running.clone();
    gauge(
        "pushcluster_connections_limit",
        "Connections that this gateway may have (limits.maxConnections).",
        Box::new(move || running.load().config.limits.max_connections.into()),
    )?;
    let pace = drain.pace();
    gauge(
        "pushcluster_drain_connections_per_second",
        "Clients that this gateway tells to reconnect each second. 0: it does not drain.",
        Box::new(move || pace().into()),
    )?;
    let pace = drain.pace();
    gauge(
        "pushcluster_draining",
        "1 while this gateway sends its clients away.",
        Box::new(move || if pace() > 0 { 1.0 } else { 0.0 }),
    )
}
