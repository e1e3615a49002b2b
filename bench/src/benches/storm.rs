//! 19,000 clients come back at once, as after the death of a node, and the gateway lets so many in each second.
//! Nobody may be lost, and those that never left should hardly notice.

use std::time::Duration;

use super::paced::{Paced, UNIT};
use super::{Rig, rows_of, say};
use crate::client::{Channels, Crowd, To};
use crate::programs::Program;
use crate::report::Row;
use crate::returning::Returning;
use crate::server::Server;

/// With the others they stay below the usual hard limit of 20,000 files.
const CLIENTS: usize = 19_000;
/// Those that never left, and the pace of what they get.
const OTHERS: usize = 200;
const PACE: Duration = Duration::from_millis(20);
const BYTES: usize = 128;
/// The cap, per second.
const HANDSHAKES: &str = "limits.handshakesPerSecond=2000";
/// A storm lasts for many slices, and a quiet time has to hold as many messages.
const QUIET: Duration = Duration::from_secs(8);

pub fn run(rig: &Rig) -> anyhow::Result<Vec<Row>> {
    let (gateway, _) = rig.build(&[])?;
    let (mut others, mut there) = (Vec::new(), Vec::new());
    for _ in 0..rig.effort.rounds {
        let round = round(rig, &gateway)?;
        others.push(round.others_p99);
        there.push(round.there);
    }
    rows_of(&[
        ("storm/others-p99", "quiet", UNIT, others),
        ("storm/there", "all", "clients", there),
    ])
}

struct Round {
    /// During the storm, and before it.
    others_p99: (f64, f64),
    /// Those that are connected in the end, and those that wanted to be.
    there: (f64, f64),
}

fn round(rig: &Rig, gateway: &Program) -> anyhow::Result<Round> {
    let server = Server::start(gateway, rig.cores.server, &[HANDSHAKES])?;
    let (others, clients) = (rig.size(OTHERS), rig.size(CLIENTS));
    let mut crowd = Crowd::gather(&server, others, Channels::Shared)?;
    let frames = crowd.prepare(BYTES, &[To::Everyone])?;
    let mut publish = |crowd: &mut Crowd| Ok(crowd.publish(&frames)?);
    let quiet = if rig.effort.tiny {
        rig.effort.slice
    } else {
        QUIET
    };
    let mut before = Paced::new(others, PACE, quiet);
    let [_, p99_before, _] = before.run(&mut crowd, &mut publish)?;

    // Messages for as long as the storm may last; it is cut short when everybody is there.
    let mut during = Paced::new(others, PACE, Returning::PATIENCE);
    let mut returning = Returning::begin(&server, clients)?;
    while !returning.is_over() {
        during.step(&mut crowd, &mut publish)?;
        returning.step()?;
    }
    let [_, p99_during, _] = during.quantiles();
    say(&format!(
        "  {returning}; others' p99 {p99_before:.0} us before, {p99_during:.0} us during"
    ))?;
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let there = (returning.still_there()? as f64, clients as f64);
    Ok(Round {
        others_p99: (p99_during, p99_before),
        there,
    })
}
