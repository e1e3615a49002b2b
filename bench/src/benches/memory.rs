//! User memory of connections that do nothing: 19,000 of them, each a user of its own with a subscription; then
//! after a message to all; then after all have gone. A server is started anew for each round, because what it keeps
//! of the round before would be counted as nothing.

use std::time::{Duration, Instant};

use super::{Rig, alternate, row_against, rows_of, say};
use crate::client::{Channels, Crowd, To};
use crate::programs::{Peer, Program};
use crate::report::Row;
use crate::server::Server;

const PEERS: &[Peer] = &[Peer::RawEpoll, Peer::UWebSockets, Peer::Ws, Peer::Go];

/// With the rest of what a process opens it stays below the usual hard limit of 20,000 files.
const CONNECTIONS: usize = 19_000;
/// They come first and go: what a server allocates once, for its first clients, is not theirs alone.
const FIRST: usize = 64;
/// The bytes that a connection may cost.
const BUDGET: f64 = 1_024.0;
/// Of the message to all.
const MESSAGE_BYTES: usize = 128;
/// Rounds differ by little: memory does not depend on who else uses the machine.
const ROUNDS: usize = 3;
/// Longest time that a server has to see that its clients are gone and to give memory back.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a server holds, in bytes.
struct Usage {
    connections: f64,
    start: u64,
    idle: u64,
    after_message: u64,
    after_all_left: u64,
}

impl Usage {
    fn each(&self, bytes: u64) -> f64 {
        f64_of(bytes.saturating_sub(self.start)) / self.connections
    }
}

pub fn run(rig: &Rig) -> anyhow::Result<Vec<Row>> {
    let (gateway, contestants) = rig.build(PEERS)?;
    let idle = format!("memory/idle-{}", rig.size(CONNECTIONS));
    let mut rows = ours_alone(rig, &gateway, &idle)?;
    for contestant in &contestants {
        rows.push(row_against(&idle, UNIT, contestant, |theirs| {
            let idle = |program| {
                let usage = usage(rig, program)?;
                Ok(usage.each(usage.idle))
            };
            alternate(rounds(rig), || idle(&gateway), || idle(theirs))
        })?);
    }
    Ok(rows)
}

const UNIT: &str = "bytes per connection";

fn rounds(rig: &Rig) -> usize {
    rig.effort.rounds.min(ROUNDS)
}

/// Against what was promised, and against itself.
fn ours_alone(rig: &Rig, gateway: &Program, idle: &str) -> anyhow::Result<Vec<Row>> {
    let mut usages = Vec::new();
    for _ in 0..rounds(rig) {
        usages.push(usage(rig, gateway)?);
    }
    let pairs = |pick: fn(&Usage) -> (f64, f64)| usages.iter().map(pick).collect::<Vec<_>>();
    rows_of(&[
        (idle, "budget", UNIT, pairs(|u| (u.each(u.idle), BUDGET))),
        (
            "memory/after-message",
            "idle",
            UNIT,
            pairs(|u| (u.each(u.after_message), u.each(u.idle))),
        ),
        (
            "memory/after-all-left",
            "start",
            "bytes",
            pairs(|u| (f64_of(u.after_all_left), f64_of(u.start))),
        ),
    ])
}

fn usage(rig: &Rig, program: &Program) -> anyhow::Result<Usage> {
    let server = rig.start(program)?;
    visit(&server, rig.size(FIRST))?;
    let count = rig.size(CONNECTIONS);
    let start = server.private_bytes()?;
    let (idle, after_message) = visit(&server, count)?;
    let patience = if rig.effort.tiny {
        rig.effort.slice
    } else {
        PATIENCE
    };
    let after_all_left = settled(&server, start, patience)?;
    say(&format!(
        "  {}: {start} bytes, {idle} with {count} idle, {after_message} after a message, {after_all_left} after all left",
        program.peer
    ))?;
    Ok(Usage {
        connections: f64_of(count as u64),
        start,
        idle,
        after_message,
        after_all_left,
    })
}

/// So many come, get a message and go. Bytes when all are there, and after the message.
fn visit(server: &Server, count: usize) -> anyhow::Result<(u64, u64)> {
    let mut crowd = Crowd::gather(server, count, Channels::Shared)?;
    let idle = server.private_bytes()?;
    let frames = crowd.prepare(MESSAGE_BYTES, &[To::Everyone])?;
    crowd.round(&frames, count as u64)?;
    Ok((idle, server.private_bytes()?))
}

/// The least that it holds from now on, or what it holds once that is near `hoped`.
fn settled(server: &Server, hoped: u64, patience: Duration) -> anyhow::Result<u64> {
    let began = Instant::now();
    let mut least = server.private_bytes()?;
    while began.elapsed() < patience {
        least = least.min(server.private_bytes()?);
        if least <= hoped + hoped / 10 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(least)
}

/// Bytes and counts are far below 2^52.
#[expect(
    clippy::cast_precision_loss,
    reason = "bytes and counts are far below 2^52"
)]
fn f64_of(value: u64) -> f64 {
    value as f64
}
