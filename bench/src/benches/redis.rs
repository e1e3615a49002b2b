//! What goes through Redis: from one node to another, publishes a second, a node that subscribes again, and thousands
//! that recover at once. Each against Redis alone, or against a bar.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Rig, alternate, rows_of};
use crate::opening::{Opening, Words};
use crate::programs::{Peer, Program};
use crate::redis::Redis;
use crate::report::Row;
use crate::server::{Server, token};

mod crossing;
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

    /// `redis`: where it finds Redis.
    fn gateway_at(&self, redis: SocketAddr) -> anyhow::Result<Server> {
        let url = format!("broker.redis.url=redis://{redis}");
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

    fn gateway(&self) -> anyhow::Result<Server> {
        self.gateway_at(self.redis.address())
    }

    /// On the gateways' core.
    fn relay(&self) -> anyhow::Result<Server> {
        let to = self.redis.address().to_string();
        let program = Program {
            peer: Peer::RawEpoll,
            path: std::env::current_exe()?,
            args: vec!["relay".into(), "--to".into(), to.into()],
        };
        Ok(Server::start(&program, self.core, &[])?)
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
    let parts: [(&str, Part); 4] = [
        ("redis/crossing-p50", crossing::rows),
        ("redis/publish", publishing::rows),
        ("redis/resubscribed", resubscribing),
        ("redis/recovered", recovery::rows),
    ];
    let mut rows = Vec::new();
    for (_, part) in parts
        .iter()
        .filter(|(name, _)| name.contains(&rig.effort.row))
    {
        rows.extend(part(rig, &stage)?);
    }
    Ok(rows)
}

type Part = fn(&Rig, &Stage) -> anyhow::Result<Vec<Row>>;

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
