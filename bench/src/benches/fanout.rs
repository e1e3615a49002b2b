//! One publisher, many subscribers of one channel: how many deliveries a CPU second of the server gives.
//!
//! CPU time and not deliveries a second: on a shared machine others take a core away at any moment, which changes
//! the clock's figure threefold and the CPU's little.

use super::{Rig, Stand, alternate, row_against};
use crate::client::{Channels, Crowd, To};
use crate::programs::{Peer, Program};
use crate::report::Row;

const UNIT: &str = "deliveries per CPU second";

const PEERS: &[Peer] = &[Peer::RawEpoll, Peer::UWebSockets, Peer::Ws, Peer::Go];

struct Shape {
    subscribers: usize,
    /// Of the payload on the wire, whatever the server writes around the message.
    bytes: usize,
    messages_a_round: usize,
}

/// Their rounds are short, so that what neighbours do to the caches shows in single pairs: more of them, and the median
/// is the same in two runs.
const FEW_SUBSCRIBERS: usize = 1_000;
const MORE_PAIRS: usize = 3;

const SHAPES: &[Shape] = &[
    shape(1_000, 128, 1),
    shape(5_000, 128, 1),
    shape(1_000, 1_024, 1),
    shape(5_000, 1_024, 1),
    shape(1_000, 128, 20),
    shape(5_000, 128, 20),
    shape(1_000, 1_024, 20),
    shape(5_000, 1_024, 20),
];

const fn shape(subscribers: usize, bytes: usize, messages_a_round: usize) -> Shape {
    Shape {
        subscribers,
        bytes,
        messages_a_round,
    }
}

impl Shape {
    fn name(&self) -> String {
        let Shape {
            subscribers,
            bytes,
            messages_a_round,
        } = self;
        match messages_a_round {
            1 => format!("fanout/{subscribers}x{bytes}"),
            many => format!("fanout/{subscribers}x{bytes}x{many}"),
        }
    }

    fn pairs(&self, rounds: usize) -> usize {
        if self.subscribers <= FEW_SUBSCRIBERS {
            rounds * MORE_PAIRS
        } else {
            rounds
        }
    }
}

pub fn run(rig: &Rig) -> anyhow::Result<Vec<Row>> {
    let (gateway, contestants) = rig.build(PEERS)?;
    let mut rows = Vec::new();
    let wanted = |shape: &&Shape| shape.name().contains(&rig.effort.row);
    for shape in SHAPES.iter().filter(wanted) {
        for contestant in &contestants {
            rows.push(row_against(&shape.name(), UNIT, contestant, |theirs| {
                measure(rig, shape, &gateway, theirs)
            })?);
        }
    }
    Ok(rows)
}

/// Both serve their crowds all the while; one of them has work at a time.
fn measure(
    rig: &Rig,
    shape: &Shape,
    ours: &Program,
    theirs: &Program,
) -> anyhow::Result<Vec<(f64, f64)>> {
    let mut ours = Side::prepare(rig, shape, ours)?;
    let mut theirs = Side::prepare(rig, shape, theirs)?;
    // The first slice meets cold caches and growing buffers.
    ours.slice(rig)?;
    theirs.slice(rig)?;
    let pairs = shape.pairs(rig.effort.rounds);
    alternate(pairs, || ours.slice(rig), || theirs.slice(rig))
}

struct Side {
    stand: Stand,
    frames: Vec<u8>,
    deliveries: u64,
}

impl Side {
    fn prepare(rig: &Rig, shape: &Shape, program: &Program) -> anyhow::Result<Side> {
        let server = rig.start(program)?;
        let subscribers = rig.size(shape.subscribers);
        let mut crowd = Crowd::gather(&server, subscribers, Channels::Shared)?;
        let messages = vec![To::Everyone; shape.messages_a_round];
        let frames = crowd.prepare(shape.bytes, &messages)?;
        Ok(Side {
            deliveries: (subscribers * shape.messages_a_round) as u64,
            frames,
            stand: Stand { server, crowd },
        })
    }

    fn slice(&mut self, rig: &Rig) -> anyhow::Result<f64> {
        self.stand.slice(rig, &self.frames, self.deliveries)
    }
}
