//! What goes through Redis: from one node to another, publishes a second, a node that subscribes again, and thousands
//! that recover at once. Each against Redis alone, or against a bar.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Rig, alternate, rows_of};
use crate::opening::{Opening, Words};
use crate::programs::Program;
use crate::redis::Redis;
use crate::report::Row;
use crate::server::{Server, token};
use crate::statistics::quantile;

mod publishing;
mod recovery;

/// Whose log keeps what is published.
const CONFIG: &str =
    "channels:\n  - {prefix: 'kept:', historyMessages: 1000, historySeconds: 600}\n";
/// Of what a subscriber gets.
const BYTES: usize = 128;
/// A slice has to hold enough messages.
const SLICES: u32 = 5;
/// Of the node that subscribes again.
const CHANNELS: usize = 10_000;
const CHANNELS_EACH: usize = 100;
/// Within which its channels are to be live again.
const BAR_SECONDS: f64 = 2.0;
const ROUNDS: usize = 3;

/// A Redis, and gateways on it.
struct Stage {
    redis: Redis,
    gateway: Program,
    core: usize,
    _config: tempfile::NamedTempFile,
}

impl Stage {
    fn new(rig: &Rig, gateway: &Program) -> anyhow::Result<Stage> {
        let config = tempfile::NamedTempFile::new()?;
        config.as_file().write_all(CONFIG.as_bytes())?;
        let mut gateway = gateway.clone();
        gateway.args = vec![PathBuf::from("--config"), config.path().to_owned()];
        Ok(Stage {
            redis: Redis::start()?,
            gateway,
            core: rig.cores.server,
            _config: config,
        })
    }

    fn gateway(&self) -> anyhow::Result<Server> {
        let url = format!("broker.redis.url=redis://127.0.0.1:{}", self.redis.port);
        let settings = ["broker.kind=redis", &url];
        let server = Server::start(&self.gateway, self.core, &settings)?;
        // It serves before it has found Redis.
        let began = Instant::now();
        let mut client = connect(&server, "first")?;
        loop {
            client.send(r#"{"type":"subscribe","channel":"kept:first"}"#)?;
            let answer = client.text()?;
            if answer.contains(r#""subscribed""#) {
                return Ok(server);
            }
            anyhow::ensure!(began.elapsed() < Duration::from_secs(30), "{answer}");
        }
    }
}

/// A client that has been welcomed.
fn connect(server: &Server, user: &str) -> anyhow::Result<Opening> {
    let path = format!("/ws?token={}", token(user));
    let mut opening = Opening::begin(server.address, &path)?;
    opening.switched()?;
    Words::of(server.peer).greeted(&mut opening)?;
    Ok(opening)
}

pub fn run(rig: &Rig) -> anyhow::Result<Vec<Row>> {
    let (gateway, _) = rig.build(&[])?;
    // Redis and whoever loads it need both cores.
    rig.cores.use_all()?;
    let stage = Stage::new(rig, &gateway)?;
    let mut rows = crossing(rig, &stage)?;
    rows.extend(publishing::rows(rig, &stage)?);
    rows.extend(resubscribing(rig, &stage)?);
    rows.extend(recovery::rows(rig, &stage)?);
    Ok(rows)
}

/// From a publisher on one node to a subscriber on the other, against Redis's own Pub/Sub; one message at a time.
fn crossing(rig: &Rig, stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let (here, there) = (stage.gateway()?, stage.gateway()?);
    let (mut publisher, mut subscriber) = (connect(&here, "p")?, connect(&there, "s")?);
    subscriber.send(&Words::subscribe("c"))?;
    subscriber.text()?;
    let text = Words::of(here.peer).message("c", BYTES / 2);
    let (mut bare, mut heard) = (stage.redis.connect()?, stage.redis.connect()?);
    heard.ask(&["SUBSCRIBE", "bare"])?;
    let payload = "x".repeat(BYTES);
    let slice = rig.effort.slice * SLICES;
    let pairs = alternate(
        rig.effort.rounds,
        || {
            median_us(slice, || {
                publisher.send(&text)?;
                subscriber.text()?;
                Ok(())
            })
        },
        || {
            let publish = ["PUBLISH", "bare", &payload];
            median_us(slice, || {
                bare.send(&publish)?;
                heard.answer()?;
                bare.answer()?;
                Ok(())
            })
        },
    )?;
    rows_of(&[("redis/crossing-p50", "PUBLISH", "microseconds", pairs)])
}

/// The median time of a turn, for as long as a slice.
fn median_us(slice: Duration, mut turn: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let (began, mut took) = (Instant::now(), Vec::new());
    while took.is_empty() || began.elapsed() < slice {
        let begin = Instant::now();
        turn()?;
        took.push(u64::try_from(begin.elapsed().as_nanos())?);
    }
    took.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of one message")]
    let nanoseconds = quantile(&took, 500) as f64;
    Ok(nanoseconds / 1_000.0)
}

/// From the death of its Pub/Sub connections until Redis has all channels of a node again.
fn resubscribing(rig: &Rig, stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let server = stage.gateway()?;
    let count = rig.size(CHANNELS);
    let mut clients = Vec::new();
    for first in (0..count).step_by(CHANNELS_EACH) {
        let mut client = connect(&server, &format!("s{first}"))?;
        for number in first..count.min(first + CHANNELS_EACH) {
            client.send(&Words::subscribe(&format!("many-{number}")))?;
            client.text()?;
        }
        clients.push(client);
    }
    let mut redis = stage.redis.connect()?;
    let mut live = || -> anyhow::Result<usize> {
        let channels = redis.ask(&["PUBSUB", "CHANNELS", "*many-*"])?;
        Ok(channels.lines().count())
    };
    let mut pairs = Vec::new();
    for _ in 0..rig.effort.rounds.min(ROUNDS) {
        anyhow::ensure!(live()? == count, "not all are subscribed at first");
        let began = Instant::now();
        stage
            .redis
            .connect()?
            .ask(&["CLIENT", "KILL", "TYPE", "pubsub"])?;
        // Redis forgets the channels while it answers.
        while live()? < count {
            anyhow::ensure!(
                began.elapsed() < Duration::from_secs(60),
                "not all are back"
            );
        }
        pairs.push((began.elapsed().as_secs_f64(), BAR_SECONDS));
    }
    rows_of(&[("redis/resubscribed", "bar", "seconds", pairs)])
}
