//! When this node wants new clients, and when it is beyond help.

use daemon::admin::Gates;

use crate::broker::{Broker, Health};
use crate::drain::Drain;
use crate::memory::Pressure;
use crate::router::Router;
use crate::running;
use crate::self_test::SelfTest;

/// Percent of `limits.maxConnections` at which the node asks for no more clients: those that are on
/// their way, and those that a neighbour loses, still find room.
const FULL_PERCENT: u64 = 80;

/// `/ready`.
pub fn ready<B: Broker>(
    router: Router<B>,
    running: running::Shared,
    (pressure, drain, self_test): (Pressure, Drain<B>, Option<SelfTest>),
) -> Gates {
    let counted = router.clone();
    let gates = match self_test {
        Some(test) => Gates::default().with("self-test", move || test.gate()),
        None => Gates::default(),
    };
    gates
        .with_note("broker", move || match router.broker().health() {
            Health::Delivering => Ok(None),
            Health::Impaired(what) => Ok(Some(what)),
            Health::NotDelivering(why) => Err(why),
        })
        .with("connections", move || {
            let max = running.load().config.limits.max_connections;
            below_full(counted.connections(), max)
        })
        .with("memory", move || pressure.gate())
        .with("drain", drain.gate())
}

/// `/live`.
pub fn live<B: Broker>(router: Router<B>) -> Gates {
    Gates::default().with("shards", move || match router.ended_shard() {
        None => Ok(()),
        // Its connections hang for ever; only a restart gets them moved.
        Some(shard) => Err(format!("shard {} has ended", shard.0)),
    })
}

fn below_full(connections: u64, cap: u32) -> Result<(), String> {
    if connections * 100 < u64::from(cap) * FULL_PERCENT {
        return Ok(());
    }
    Err(format!(
        "{connections} of {cap} (limits.maxConnections): {FULL_PERCENT} % or more"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_begins_at_80_percent() {
        for (connections, cap, good) in [
            (0, 1, true),
            (0, 10, true),
            (7, 10, true),
            (8, 10, false),
            (10, 10, false),
            (1, 1, false),
        ] {
            assert_eq!(
                below_full(connections, cap).is_ok(),
                good,
                "{connections} of {cap}"
            );
        }
    }
}
