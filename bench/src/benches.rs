//! The benches, a file each, and what they share: programs that are built once, alternating rounds, progress.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::client::Crowd;
use crate::cores::Cores;
use crate::programs::{BuildError, Peer, Places, Program};
use crate::report::{self, Row};
use crate::server::{Server, ServerError};
use crate::statistics::paired;

pub mod channels;
pub mod fanout;
pub mod handshakes;
pub mod latency;
pub mod memory;
mod paced;
pub mod redis;
pub mod shipped;
pub mod storm;

type Run = fn(&Rig) -> anyhow::Result<Vec<Row>>;

/// Name, what it measures, and how.
pub const BENCHES: &[(&str, &str, Run)] = &[
    (
        "fanout",
        "deliveries per CPU second, against a bare epoll loop and other servers",
        fanout::run,
    ),
    (
        "memory",
        "bytes of 19,000 idle connections, after a message to them, after they have gone",
        memory::run,
    ),
    (
        "handshakes",
        "connections per CPU second, each with a token that is checked",
        handshakes::run,
    ),
    (
        "latency",
        "from publish to receipt at half load, over WebSocket and over HTTP",
        latency::run,
    ),
    (
        "storm",
        "19,000 clients come back at once: who is lost, and what the others feel",
        storm::run,
    ),
    (
        "channels",
        "deliveries per CPU second: 10,000 channels of one against one of 10,000",
        channels::run,
    ),
    (
        "redis",
        "between nodes, publishes, a node that subscribes again and 5,000 that recover, against Redis alone",
        redis::run,
    ),
    (
        "shipped",
        "bytes of each image, and what an idle operator holds on a real API server",
        shipped::run,
    ),
];

/// How long and how big.
#[derive(Debug, Clone)]
pub struct Effort {
    /// Pairs of each row.
    pub rounds: usize,
    /// Of one half of a pair.
    pub slice: Duration,
    /// Everything small and against the floor alone: whether it works, not how fast.
    pub tiny: bool,
    /// Part of the names of rows that are wanted.
    pub row: String,
}

pub struct Rig {
    pub effort: Effort,
    pub places: Places,
    pub cores: Cores,
}

impl Rig {
    /// The number, or a small one where it only has to work.
    pub fn size(&self, full: usize) -> usize {
        if self.effort.tiny { full.min(20) } else { full }
    }

    /// Builds the gateway, without which there is nothing to measure, and those of the peers that can be built.
    pub fn build(&self, peers: &[Peer]) -> anyhow::Result<(Program, Vec<Contestant>)> {
        self.cores.use_all()?;
        say("building the gateway")?;
        let gateway = self.places.program(Peer::Gateway)?;
        let mut contestants = Vec::new();
        for &peer in peers {
            if self.effort.tiny && peer != Peer::RawEpoll {
                continue;
            }
            say(&format!("building {peer}"))?;
            let program = self.places.program(peer);
            if let Err(error) = &program {
                say(&format!("  {error}"))?;
            }
            contestants.push(Contestant { peer, program });
        }
        self.cores.use_one()?;
        Ok((gateway, contestants))
    }

    pub fn start(&self, program: &Program) -> Result<Server, ServerError> {
        Server::start(program, self.cores.server, &[])
    }
}

/// A peer that could be built, or why not.
pub struct Contestant {
    pub peer: Peer,
    pub program: Result<Program, BuildError>,
}

/// Ours and theirs in turn; who begins changes, so that neither always follows the other.
pub fn alternate<T>(
    rounds: usize,
    mut ours: impl FnMut() -> anyhow::Result<T>,
    mut theirs: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<Vec<(T, T)>> {
    let mut pairs = Vec::with_capacity(rounds);
    for round in 0..rounds {
        pairs.push(if round % 2 == 0 {
            let ours = ours()?;
            (ours, theirs()?)
        } else {
            let theirs = theirs()?;
            (ours()?, theirs)
        });
    }
    Ok(pairs)
}

/// A server with its load.
pub struct Stand {
    pub server: Server,
    pub crowd: Crowd,
}

/// The figure of a slice.
pub fn per_cpu_second(count: u64, cpu: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let count = count as f64;
    count / cpu.as_secs_f64()
}

impl Stand {
    /// Rounds of these frames until the slice is over: whole rounds, each published when the one before has come.
    /// Deliveries per CPU second.
    pub fn slice(&mut self, rig: &Rig, frames: &[u8], deliveries: u64) -> anyhow::Result<f64> {
        let cpu = self.server.cpu()?;
        let rounds = self.rounds(rig, frames, deliveries)?;
        Ok(per_cpu_second(
            u64::from(rounds.count) * deliveries,
            self.server.cpu()? - cpu,
        ))
    }

    pub fn rounds(&mut self, rig: &Rig, frames: &[u8], deliveries: u64) -> anyhow::Result<Rounds> {
        let began = Instant::now();
        let mut count = 0;
        while count == 0 || began.elapsed() < rig.effort.slice {
            self.crowd.round(frames, deliveries)?;
            count += 1;
        }
        Ok(Rounds {
            count,
            took: began.elapsed(),
        })
    }
}

/// One after the other, at least one.
pub struct Rounds {
    pub count: u32,
    pub took: Duration,
}

/// A row of what `measure` gives for ours and for a contestant, or the reason that there is none.
pub fn row_against(
    name: &str,
    unit: &str,
    contestant: &Contestant,
    measure: impl FnOnce(&Program) -> anyhow::Result<Vec<(f64, f64)>>,
) -> anyhow::Result<Row> {
    let mut rows = rows_against(&[name.to_owned()], unit, contestant, |program| {
        Ok(vec![measure(program)?])
    })?;
    Ok(rows.remove(0))
}

/// The same for what is measured together: pairs for each of the names.
pub fn rows_against(
    names: &[String],
    unit: &str,
    contestant: &Contestant,
    measure: impl FnOnce(&Program) -> anyhow::Result<Vec<Vec<(f64, f64)>>>,
) -> anyhow::Result<Vec<Row>> {
    let against = contestant.peer.name();
    let rows: Vec<Row> = match &contestant.program {
        Err(error) => {
            let why = error.to_string();
            let first = why.lines().next().unwrap_or_default();
            let row = |name: &String| Row::not_measured(name, against, unit, first);
            names.iter().map(row).collect()
        }
        Ok(program) => {
            let measured = measure(program)
                .with_context(|| format!("{} against {against}", names.join(", ")))?;
            let rows = names.iter().zip(&measured);
            rows.map(|(name, pairs)| Row::new(name, against, unit, paired(pairs)))
                .collect()
        }
    };
    rows.iter().try_for_each(say_row)?;
    Ok(rows)
}

/// A name, against what, the unit, and the pairs.
pub type Measured<'a> = (&'a str, &'a str, &'a str, Vec<(f64, f64)>);

/// Rows of what was measured of ours alone.
pub fn rows_of(measured: &[Measured<'_>]) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, against, unit, pairs) in measured {
        let row = Row::new(name, against, unit, paired(pairs));
        say_row(&row)?;
        rows.push(row);
    }
    Ok(rows)
}

fn say_row(row: &Row) -> io::Result<()> {
    let table = report::table(std::slice::from_ref(row));
    say(table.lines().last().unwrap_or_default())
}

/// Progress, on standard error: the table alone is on standard output.
pub fn say(line: &str) -> io::Result<()> {
    writeln!(io::stderr(), "{line}")
}

/// Where the figures go.
pub fn results(root: &std::path::Path) -> PathBuf {
    root.join("target/bench")
}
