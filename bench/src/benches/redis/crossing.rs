//! From a publisher on one node to subscribers on the other, one message at a time, against Redis's own Pub/Sub. In
//! three places: everything on loopback, where only wake-ups cost; with Redis on another machine; with subscribers enough
//! that handing a message out is what takes the time. What anything in the place of the two nodes pays is a floor of its
//! own: two relays that only hand bytes on.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::super::{Rig, alternate, rows_of};
use super::{BYTES, SLICES, Stage, connect};
use crate::opening::{Opening, Words};
use crate::path;
use crate::redis::Connection;
use crate::report::Row;
use crate::server::Server;
use crate::statistics::quantile;

/// Of the row in which a message goes to many.
const SUBSCRIBERS: usize = 100;
/// One way between a node and Redis, as between two machines of one place.
const DELAY: Duration = Duration::from_micros(250);
const UNIT: &str = "microseconds";

pub fn rows(rig: &Rig, stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let mut rows = on_loopback(rig, stage)?;
    rows.extend(elsewhere(rig, stage)?);
    rows.extend(to_many(rig, stage)?);
    Ok(rows)
}

fn on_loopback(rig: &Rig, stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let slice = rig.effort.slice * SLICES;
    let (here, there) = (stage.gateway()?, stage.gateway()?);
    let mut nodes = Nodes::new(&here, &there, 1)?;
    let mut ours = || nodes.median_us(slice);
    let redis = stage.redis.address();
    let mut bare = Bare::new([redis, redis], "bare", 1)?;
    let relays = [stage.relay()?, stage.relay()?];
    let mut relayed = Bare::new([relays[0].address, relays[1].address], "relayed", 1)?;
    let rounds = rig.effort.rounds;
    let against_bare = alternate(rounds, &mut ours, || bare.median_us(slice))?;
    let against_relays = alternate(rounds, &mut ours, || relayed.median_us(slice))?;
    let floor = alternate(
        rounds,
        || relayed.median_us(slice),
        || bare.median_us(slice),
    )?;
    rows_of(&[
        ("redis/crossing-p50", "PUBLISH", UNIT, against_bare),
        ("redis/crossing-p50", "two relays", UNIT, against_relays),
        ("redis/two-relays-p50", "PUBLISH", UNIT, floor),
    ])
}

/// Clients are beside their nodes, Redis is not.
fn elsewhere(rig: &Rig, stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let slice = rig.effort.slice * SLICES;
    let redis = path::open(stage.redis.address(), DELAY)?;
    let (here, there) = (stage.gateway_at(redis)?, stage.gateway_at(redis)?);
    let mut nodes = Nodes::new(&here, &there, 1)?;
    let mut bare = Bare::new([redis, redis], "elsewhere", 1)?;
    let pairs = alternate(
        rig.effort.rounds,
        || nodes.median_us(slice),
        || bare.median_us(slice),
    )?;
    rows_of(&[("redis/crossing-p50-elsewhere", "PUBLISH", UNIT, pairs)])
}

fn to_many(rig: &Rig, stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let slice = rig.effort.slice * SLICES;
    let (here, there) = (stage.gateway()?, stage.gateway()?);
    let mut nodes = Nodes::new(&here, &there, SUBSCRIBERS)?;
    let redis = stage.redis.address();
    let mut bare = Bare::new([redis, redis], "many", SUBSCRIBERS)?;
    let pairs = alternate(
        rig.effort.rounds,
        || nodes.median_us(slice),
        || bare.median_us(slice),
    )?;
    rows_of(&[("redis/crossing-p50-100", "PUBLISH", UNIT, pairs)])
}

/// A publisher on one node, subscribers on the other.
struct Nodes {
    publisher: Opening,
    subscribers: Vec<Opening>,
    message: String,
}

impl Nodes {
    fn new(here: &Server, there: &Server, subscribers: usize) -> anyhow::Result<Nodes> {
        let subscriber = |number| {
            let mut client = connect(there, &format!("s{number}"))?;
            client.send(&Words::subscribe("c"))?;
            client.text()?;
            Ok(client)
        };
        Ok(Nodes {
            publisher: connect(here, "p")?,
            subscribers: (0..subscribers)
                .map(subscriber)
                .collect::<anyhow::Result<_>>()?,
            message: Words::of(here.peer).message("c", BYTES / 2),
        })
    }

    fn median_us(&mut self, slice: Duration) -> anyhow::Result<f64> {
        median_us(slice, |heard| {
            self.publisher.send(&self.message)?;
            for subscriber in &mut self.subscribers {
                subscriber.text()?;
                heard();
            }
            Ok(())
        })
    }
}

/// A publisher and subscribers who speak to Redis themselves.
struct Bare {
    publisher: Connection,
    subscribers: Vec<Connection>,
    channel: &'static str,
}

impl Bare {
    /// Where its publisher and its subscribers find Redis.
    fn new(
        [here, there]: [SocketAddr; 2],
        channel: &'static str,
        subscribers: usize,
    ) -> io::Result<Bare> {
        let subscriber = |_| {
            let mut subscriber = Connection::open(there)?;
            subscriber.ask(&["SUBSCRIBE", channel])?;
            Ok(subscriber)
        };
        Ok(Bare {
            publisher: Connection::open(here)?,
            subscribers: (0..subscribers)
                .map(subscriber)
                .collect::<io::Result<_>>()?,
            channel,
        })
    }

    fn median_us(&mut self, slice: Duration) -> anyhow::Result<f64> {
        let payload = "x".repeat(BYTES);
        let publish = ["PUBLISH", self.channel, &payload];
        median_us(slice, |heard| {
            self.publisher.send(&publish)?;
            for subscriber in &mut self.subscribers {
                subscriber.answer()?;
                heard();
            }
            self.publisher.answer()?;
            Ok(())
        })
    }
}

/// The median time from the beginning of a turn until somebody has heard, for as many turns as a slice holds.
fn median_us(
    slice: Duration,
    mut turn: impl FnMut(&mut dyn FnMut()) -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let (began, mut took) = (Instant::now(), Vec::new());
    while took.is_empty() || began.elapsed() < slice {
        let begin = Instant::now();
        turn(&mut || took.push(begin.elapsed().as_nanos()))?;
    }
    let mut took = took
        .into_iter()
        .map(u64::try_from)
        .collect::<Result<Vec<_>, _>>()?;
    took.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of one message")]
    let nanoseconds = quantile(&took, 500) as f64;
    Ok(nanoseconds / 1_000.0)
}
