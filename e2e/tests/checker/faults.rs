//! What happens to gateways, Redis and the path between them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::checker::run::Fleet;
use rand::Rng;
use rand::rngs::StdRng;
use tokio::time::interval;

use crate::forms::{Form, Redis};
use crate::namespace;
use crate::path::{Loss, Path};
use crate::programs::Gateway;

const API_KEY: &str = "a-key-for-the-checker";
const CONFIG: &str = "
channels:
  - {prefix: 'kept:', historyMessages: 10000, historySeconds: 3600}
";
const GATEWAYS: usize = 3;
/// Before and after a fault, so that there is something to lose.
const CALM: Duration = Duration::from_millis(500);
/// How long the path is bad: a silent connection is replaced meanwhile.
const BAD_PATH: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    KillGateway,
    KillPubSub,
    /// Frozen for so many seconds.
    Pause(u64),
    /// Restarted with nothing in it.
    EmptyRedis,
    /// It comes back as a replica.
    KillMaster,
    CutPath,
    /// Redis hears, and is not heard; then it knows nothing of connections that gateways have.
    HalfOpenPath,
    LossyPath,
    ResetPath,
    MoveSlot,
}

impl Fault {
    /// All that can happen to this form of Redis. `long`: also what takes its time.
    pub fn all(form: Form, long: bool) -> Vec<Fault> {
        let mut all = vec![
            Fault::KillGateway,
            Fault::KillPubSub,
            Fault::Pause(1),
            Fault::EmptyRedis,
        ];
        if form != Form::Standalone {
            all.push(Fault::KillMaster);
        }
        if form == Form::Cluster {
            all.push(Fault::MoveSlot);
        }
        if namespace::is_inside() {
            all.extend([
                Fault::CutPath,
                Fault::HalfOpenPath,
                Fault::LossyPath,
                Fault::ResetPath,
            ]);
        }
        if long {
            all.extend([Fault::Pause(10), Fault::Pause(60)]);
        }
        all
    }

    /// Whether what Redis keeps is there afterwards.
    pub fn log_survives(self, form: Form) -> bool {
        match self {
            Fault::EmptyRedis | Fault::KillMaster => false,
            // Another becomes the master of what has been frozen for long.
            Fault::Pause(seconds) => form == Form::Standalone || seconds < 2,
            _ => true,
        }
    }
}

pub struct Stage {
    redis: Redis,
    gateways: Vec<Gateway>,
    pub fleet: Fleet,
    path: Option<Path>,
    folder: tempfile::TempDir,
}

impl Stage {
    pub async fn new(form: Form) -> Result<Stage> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("gateway.yaml"), CONFIG)?;
        std::fs::write(folder.path().join("key"), API_KEY)?;
        let redis = Redis::start(form).await?;
        let path = namespace::is_inside().then(|| Path::new(redis.ports()));
        let mut stage = Stage {
            path: path.transpose()?,
            redis,
            gateways: Vec::new(),
            fleet: Fleet::new(API_KEY),
            folder,
        };
        for _ in 0..GATEWAYS {
            let gateway = stage.gateway().await?;
            stage.gateways.push(gateway);
        }
        stage.tell();
        Ok(stage)
    }

    async fn gateway(&self) -> Result<Gateway> {
        let mut settings = self.redis.settings();
        let key = self.folder.path().join("key");
        settings.extend([
            "log.format=json".into(),
            format!("api.keyFile={}", key.display()),
        ]);
        Gateway::start(&self.folder.path().join("gateway.yaml"), settings).await
    }

    fn tell(&self) {
        let addresses = self.gateways.iter().map(|gateway| gateway.clients);
        self.fleet.set(addresses.collect());
    }

    /// Until Redis is as it was at the beginning.
    pub async fn whole(&self) -> Result<()> {
        self.redis.whole().await
    }

    /// Goes on a while, suffers, and goes on; the moment in which Redis answered again.
    pub async fn suffer(
        &mut self,
        fault: Fault,
        channel: &str,
        random: &mut StdRng,
    ) -> Result<Instant> {
        pass(CALM).await;
        let healed = self.happen(fault, channel, random).await;
        let healed = healed.with_context(|| format!("{fault:?}"))?;
        pass(CALM).await;
        Ok(healed)
    }

    async fn happen(
        &mut self,
        fault: Fault,
        channel: &str,
        random: &mut StdRng,
    ) -> Result<Instant> {
        match fault {
            Fault::KillGateway => self.kill_gateway(random).await?,
            Fault::KillPubSub => {
                for server in &self.redis.servers {
                    server.ask("CLIENT KILL TYPE pubsub").await?;
                }
            }
            Fault::Pause(seconds) => return self.pause(seconds, channel).await,
            Fault::EmptyRedis => {
                let master = self.redis.master(channel).await?;
                self.redis.servers[master].kill();
                self.redis.run(master, master).await?;
                self.redis.answers(channel).await?;
            }
            Fault::KillMaster => {
                let gone = self.redis.master(channel).await?;
                self.redis.servers[gone].kill();
                let now = self.redis.other_than(gone, channel).await?;
                let healed = Instant::now();
                pass(CALM).await;
                self.redis.run(gone, now).await?;
                return Ok(healed);
            }
            Fault::CutPath => self.lose(Loss::All).await?,
            Fault::LossyPath => self.lose(Loss::Some).await?,
            Fault::HalfOpenPath => self.lose(Loss::Answers).await?,
            Fault::ResetPath => self.path()?.forget()?,
            Fault::MoveSlot => self.redis.move_slot(channel).await?,
        }
        Ok(Instant::now())
    }

    async fn kill_gateway(&mut self, random: &mut StdRng) -> Result<()> {
        let victim = random.random_range(0..self.gateways.len());
        drop(self.gateways.remove(victim));
        let successor = self.gateway().await?;
        self.gateways.insert(victim, successor);
        self.tell();
        Ok(())
    }

    async fn pause(&self, seconds: u64, channel: &str) -> Result<Instant> {
        let master = self.redis.master(channel).await?;
        let server = &self.redis.servers[master];
        server.signal("STOP")?;
        let frozen = async {
            pass(Duration::from_secs(seconds)).await;
            server.signal("CONT")?;
            anyhow::Ok(Instant::now())
        };
        if self.redis.form == Form::Standalone || seconds < 2 {
            return frozen.await;
        }
        let replaced = async {
            self.redis.other_than(master, channel).await?;
            anyhow::Ok(Instant::now())
        };
        Ok(tokio::try_join!(frozen, replaced)?.1)
    }

    fn path(&self) -> Result<&Path> {
        self.path.as_ref().context("a path of our own")
    }

    async fn lose(&self, loss: Loss) -> Result<()> {
        let path = self.path()?;
        path.lose(loss)?;
        pass(BAD_PATH).await;
        if let Loss::Answers = loss {
            path.forget()?;
        }
        path.heal()
    }
}

/// Lets the publishers and subscribers go on for a while.
async fn pass(time: Duration) {
    let mut ticks = interval(time);
    ticks.tick().await;
    ticks.tick().await;
}
