//! The checker against real gateways on a real Redis, while both are killed, frozen and cut off.
//!
//! `make checker ROUNDS=20 SEED=7` runs it longer; without them, one round of each fault with a new seed. The seed that
//! is printed decides who does what, not when: a schedule of processes cannot be replayed.

#![expect(
    clippy::print_stderr,
    reason = "cargo shows what a test prints when it fails"
)]

mod programs;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::checker::run::{Cast, Fleet, run};
use e2e::checker::{Breach, Channel, judge};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::interval;

use programs::{Gateway, Redis};

const CONFIG: &str = "
channels:
  - {prefix: 'kept:', historyMessages: 10000, historySeconds: 600}
";
/// Between two faults, so that there is something to lose.
const CALM: Duration = Duration::from_millis(700);
/// How long Redis is frozen.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
enum Fault {
    KillPubSub,
    PauseRedis,
    KillGateway,
    EmptyRedis,
}

const FAULTS: [Fault; 4] = [
    Fault::KillPubSub,
    Fault::PauseRedis,
    Fault::KillGateway,
    Fault::EmptyRedis,
];

struct Stage {
    redis: Redis,
    gateways: Vec<Gateway>,
    fleet: Fleet,
    config: tempfile::NamedTempFile,
}

impl Stage {
    async fn new() -> Result<Stage> {
        let config = tempfile::NamedTempFile::new()?;
        std::fs::write(config.path(), CONFIG)?;
        let mut stage = Stage {
            redis: Redis::start().await?,
            gateways: Vec::new(),
            fleet: Fleet::default(),
            config,
        };
        for _ in 0..3 {
            stage.add_gateway()?;
        }
        Ok(stage)
    }

    fn add_gateway(&mut self) -> Result<()> {
        let config: &Path = self.config.path();
        self.gateways.push(Gateway::start(config, self.redis.port)?);
        self.tell();
        Ok(())
    }

    fn tell(&self) {
        let addresses = self.gateways.iter().map(|gateway| gateway.clients);
        self.fleet.set(addresses.collect());
    }

    async fn suffer(&mut self, fault: Fault, random: &mut StdRng) -> Result<()> {
        match fault {
            Fault::KillPubSub => {
                self.redis.ask("CLIENT KILL TYPE pubsub").await?;
            }
            Fault::PauseRedis => {
                self.redis.signal("STOP")?;
                pass(PAUSE).await;
                self.redis.signal("CONT")?;
            }
            Fault::KillGateway => {
                let victim = random.random_range(0..self.gateways.len());
                drop(self.gateways.swap_remove(victim));
                self.tell();
                self.add_gateway()?;
            }
            Fault::EmptyRedis => {
                self.redis.kill();
                self.redis.run().await?;
            }
        }
        Ok(())
    }
}

/// Lets the publishers and subscribers go on for a while.
async fn pass(time: Duration) {
    let mut ticks = interval(time);
    ticks.tick().await;
    ticks.tick().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_subscriber_hears_all_once_and_in_order_or_is_told() -> Result<()> {
    let rounds = number("CHECKER_ROUNDS")?.unwrap_or(1);
    let seed = number("CHECKER_SEED")?.unwrap_or_else(|| rand::rng().random());
    eprintln!("CHECKER_SEED={seed} CHECKER_ROUNDS={rounds}");
    for round in 0..rounds {
        let seed = seed.wrapping_add(round);
        let checked = one_round(seed).await?;
        let breaches = judge(&checked);
        eprintln!("round {round} (seed {seed}): {}", summary(&checked));
        ensure!(breaches.is_empty(), "{}", shown(&checked, &breaches));
    }
    Ok(())
}

async fn one_round(seed: u64) -> Result<Channel> {
    let mut stage = Stage::new().await?;
    let fleet = stage.fleet.clone();
    let cast = Cast {
        publishers: 3,
        subscribers: 6,
        seed,
    };
    let mut random = StdRng::seed_from_u64(seed);
    let mut faults = FAULTS.to_vec();
    let faults = async {
        pass(CALM).await;
        while !faults.is_empty() {
            let fault = faults.swap_remove(random.random_range(0..faults.len()));
            eprintln!("{fault:?}");
            stage
                .suffer(fault, &mut random)
                .await
                .with_context(|| format!("{fault:?}"))?;
            pass(CALM).await;
        }
        Ok(())
    };
    run("kept:checked", &fleet, cast, faults).await
}

/// How much was sent and heard: a round in which nothing happened proves nothing.
fn summary(channel: &Channel) -> String {
    use e2e::checker::{Heard, Outcome};
    let accepted =
        |published: &&e2e::checker::Published| matches!(published.outcome, Outcome::Accepted(_));
    let heard = || channel.histories.iter().flat_map(|history| &history.heard);
    let count = |wanted: fn(&&Heard) -> bool| heard().filter(wanted).count();
    format!(
        "{} sent, {} accepted; heard {}, recovered {}, not recovered {}, moved {}",
        channel.published.len(),
        channel.published.iter().filter(accepted).count(),
        count(|heard| matches!(heard, Heard::Message { .. })),
        count(|heard| matches!(
            heard,
            Heard::Subscribed {
                recovered: Some(true),
                ..
            }
        )),
        count(|heard| matches!(
            heard,
            Heard::Subscribed {
                recovered: Some(false),
                ..
            }
        )),
        count(|heard| matches!(heard, Heard::Moved { .. })),
    )
}

/// Each breach, with what was heard around it.
fn shown(channel: &Channel, breaches: &[Breach]) -> String {
    const AROUND: usize = 8;
    let mut text = String::new();
    for breach in breaches.iter().take(10) {
        text += &format!("\n{breach}");
        let history = channel
            .histories
            .iter()
            .find(|h| h.name == breach.subscriber);
        let heard = history.map_or(&[][..], |history| &history.heard);
        let first = breach.at.saturating_sub(AROUND);
        for (index, heard) in heard.iter().enumerate().skip(first).take(2 * AROUND) {
            text += &format!("\n    {index}: {heard:?}");
        }
    }
    format!("{} breaches{text}", breaches.len())
}

fn number(name: &str) -> Result<Option<u64>> {
    let Ok(text) = std::env::var(name) else {
        return Ok(None);
    };
    let number = text.parse().with_context(|| format!("{name}={text}"))?;
    Ok(Some(number))
}
