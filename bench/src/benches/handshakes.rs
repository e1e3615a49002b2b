//! TCP connect, HTTP upgrade with a token that is checked, and the end of the connection: how many a CPU second gives.

use std::time::Instant;

use super::{Rig, alternate, per_cpu_second, row_against};
use crate::client::{BATCH, come_and_go};
use crate::programs::Peer;
use crate::report::Row;
use crate::server::Server;

const UNIT: &str = "handshakes per CPU second";

/// The floor checks no token: it says what sockets alone cost.
const PEERS: &[Peer] = &[Peer::RawEpoll, Peer::Ws, Peer::Go];

pub fn run(rig: &Rig) -> anyhow::Result<Vec<Row>> {
    let (gateway, contestants) = rig.build(PEERS)?;
    let mut rows = Vec::new();
    for contestant in &contestants {
        rows.push(row_against("handshakes/jwt", UNIT, contestant, |theirs| {
            let (ours, theirs) = (rig.start(&gateway)?, rig.start(theirs)?);
            // The first ones meet empty caches and code that is not compiled yet.
            slice(rig, &ours)?;
            slice(rig, &theirs)?;
            alternate(
                rig.effort.rounds,
                || slice(rig, &ours),
                || slice(rig, &theirs),
            )
        })?);
    }
    Ok(rows)
}

fn slice(rig: &Rig, server: &Server) -> anyhow::Result<f64> {
    let (began, cpu) = (Instant::now(), server.cpu()?);
    let mut total = 0;
    while total == 0 || began.elapsed() < rig.effort.slice {
        come_and_go(server, BATCH)?;
        total += BATCH as u64;
    }
    Ok(per_cpu_second(total, server.cpu()? - cpu))
}
