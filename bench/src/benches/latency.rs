//! From publish to receipt, at half of the load that the gateway takes; the others get the same load. Then the same
//! with messages that are published over HTTP. Then from publish to the write to a socket, with one subscriber: over
//! loopback the server's write itself puts the bytes where the subscriber, who never sleeps, finds them.

use std::time::Duration;

use super::paced::{Paced, QUANTILES, Quantiles, UNIT};
use super::{Rig, Stand, alternate, rows_against, rows_of};
use crate::client::{Channels, Crowd, To};
use crate::poster::Poster;
use crate::programs::{Peer, Program};
use crate::report::Row;

const PEERS: &[Peer] = &[Peer::RawEpoll, Peer::UWebSockets, Peer::Ws, Peer::Go];
const SUBSCRIBERS: usize = 1_000;
/// Of the payload on the wire.
const BYTES: usize = 128;
/// A slice has to hold enough messages for a thousandth of them to mean something.
const SLICES: u32 = 5;
/// Between messages to the one subscriber: far below what the gateway takes, so that none waits for another.
const QUIET_PACE: Duration = Duration::from_millis(1);

pub fn run(rig: &Rig) -> anyhow::Result<Vec<Row>> {
    let (gateway, contestants) = rig.build(PEERS)?;
    let names = QUANTILES.map(|(name, _)| format!("latency/{name}"));
    let mut rows = Vec::new();
    for contestant in &contestants {
        rows.extend(rows_against(&names, UNIT, contestant, |theirs| {
            let mut ours = Side::prepare(rig, &gateway)?;
            let mut theirs = Side::prepare(rig, theirs)?;
            let pace = ours.half_load(rig)?;
            theirs.half_load(rig)?;
            Ok(split(&alternate(
                rig.effort.rounds,
                || ours.over_websocket(rig, pace),
                || theirs.over_websocket(rig, pace),
            )?))
        })?);
    }
    let mut all = Side::prepare(rig, &gateway)?;
    let pace = all.half_load(rig)?;
    rows.extend(over_http("http", rig, all, pace)?);
    let one = Side::of(rig, &gateway, 1)?;
    rows.extend(over_http("http-to-write", rig, one, QUIET_PACE)?);
    Ok(rows)
}

/// Ours over HTTP against ours over a WebSocket.
fn over_http(kind: &str, rig: &Rig, side: Side, pace: Duration) -> anyhow::Result<Vec<Row>> {
    let side = std::cell::RefCell::new(side);
    let pairs = alternate(
        rig.effort.rounds,
        || side.borrow_mut().over_http(rig, pace),
        || side.borrow_mut().over_websocket(rig, pace),
    )?;
    let names = QUANTILES.map(|(name, _)| format!("latency/{kind}-{name}"));
    let measured: Vec<_> = names
        .iter()
        .zip(split(&pairs))
        .map(|(name, pairs)| (name.as_str(), "over WebSocket", UNIT, pairs))
        .collect();
    rows_of(&measured)
}

/// Pairs of quantiles into pairs for each quantile.
fn split(pairs: &[(Quantiles, Quantiles)]) -> Vec<Vec<(f64, f64)>> {
    let of = |at: usize| {
        let pairs = pairs.iter();
        pairs.map(|(ours, theirs)| (ours[at], theirs[at])).collect()
    };
    (0..QUANTILES.len()).map(of).collect()
}

struct Side {
    stand: Stand,
    frames: Vec<u8>,
    subscribers: usize,
}

impl Side {
    fn prepare(rig: &Rig, program: &Program) -> anyhow::Result<Side> {
        Side::of(rig, program, rig.size(SUBSCRIBERS))
    }

    fn of(rig: &Rig, program: &Program, subscribers: usize) -> anyhow::Result<Side> {
        let server = rig.start(program)?;
        let mut crowd = Crowd::gather(&server, subscribers, Channels::Shared)?;
        let frames = crowd.prepare(BYTES, &[To::Everyone])?;
        Ok(Side {
            stand: Stand { server, crowd },
            frames,
            subscribers,
        })
    }

    /// Time between two messages that is half of what the server can do, at this hour, with who else is on the machine.
    fn half_load(&mut self, rig: &Rig) -> anyhow::Result<Duration> {
        let deliveries = self.subscribers as u64;
        self.stand.rounds(rig, &self.frames, deliveries)?;
        let rounds = self.stand.rounds(rig, &self.frames, deliveries)?;
        Ok(2 * rounds.took / rounds.count)
    }

    fn over_websocket(&mut self, rig: &Rig, pace: Duration) -> anyhow::Result<Quantiles> {
        let frames = &self.frames;
        let mut paced = Paced::new(self.subscribers, pace, rig.effort.slice * SLICES);
        paced.run(&mut self.stand.crowd, |crowd| Ok(crowd.publish(frames)?))
    }

    fn over_http(&mut self, rig: &Rig, pace: Duration) -> anyhow::Result<Quantiles> {
        let mut poster = Poster::connect(self.stand.server.address)?;
        let crowd = &mut self.stand.crowd;
        // Another sender, so another length.
        crowd.expect_any_length();
        let mut paced = Paced::new(self.subscribers, pace, rig.effort.slice * SLICES);
        paced.run(crowd, |_| Ok(poster.post()?))
    }
}
