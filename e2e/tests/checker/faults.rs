//! What happens to gateways, Redis and the path between them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use e2e::checker::run::Fleet;
use rand::Rng;
use rand::rngs::StdRng;
use tokio::time::interval;

use crate::forms::{Form, Redis};
use crate::namespace;
use crate::path::{Loss, Path};
use crate::programs::{Gateway, until};
use crate::toxiproxy::Toxiproxy;

const API_KEY: &str = "a-key-for-the-checker";
const CONFIG: &str = "
channels:
  - {prefix: 'kept:', historyMessages: 10000, historySeconds: 3600}
";
pub const GATEWAYS: usize = 3;
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
    /// Every packet takes a tenth of a second longer.
    DelayPath,
    /// A gateway whose clock is a minute ahead or behind.
    WrongClock,
    /// The same, and the log that begins anew meanwhile.
    WrongClockEmptyRedis,
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
            Fault::WrongClock,
            Fault::WrongClockEmptyRedis,
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
                Fault::DelayPath,
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
            Fault::EmptyRedis | Fault::WrongClockEmptyRedis | Fault::KillMaster => false,
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
    toxiproxy: Option<Toxiproxy>,
    folder: tempfile::TempDir,
}

impl Stage {
    pub async fn new(form: Form) -> Result<Stage> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("gateway.yaml"), CONFIG)?;
        std::fs::write(folder.path().join("key"), API_KEY)?;
        let redis = Redis::start(form).await?;
        let path = namespace::is_inside().then(|| Path::new(redis.ports()));
        let toxiproxy = match namespace::toxiproxy() {
            Some(program) => Some(Toxiproxy::start(&program, &redis.ports()).await?),
            None => None,
        };
        let mut stage = Stage {
            toxiproxy,
            path: path.transpose()?,
            redis,
            gateways: Vec::new(),
            fleet: Fleet::new(API_KEY),
            folder,
        };
        for _ in 0..GATEWAYS {
            let gateway = stage.gateway(0).await?;
            stage.gateways.push(gateway);
        }
        stage.tell();
        Ok(stage)
    }

    async fn gateway(&self, ahead_seconds: i64) -> Result<Gateway> {
        let mut settings = self.redis.settings();
        let key = self.folder.path().join("key");
        settings.extend([
            "log.format=json".into(),
            format!("api.keyFile={}", key.display()),
        ]);
        let config = self.folder.path().join("gateway.yaml");
        Gateway::start(&config, settings, ahead_seconds).await
    }

    fn tell(&self) {
        let addresses = self.gateways.iter().map(|gateway| gateway.clients);
        self.fleet.set(addresses.collect());
    }

    /// Goes on a while, suffers, and goes on until every gateway delivers; how long that took since Redis answered.
    pub async fn suffer(
        &mut self,
        fault: Fault,
        channel: &str,
        random: &mut StdRng,
    ) -> Result<Duration> {
        pass(CALM).await;
        let healed = self.happen(fault, channel, random).await;
        let healed = healed.with_context(|| format!("{fault:?}"))?;
        let back = self.fleet.all_hear(GATEWAYS, healed).await?;
        pass(CALM).await;
        Ok(back)
    }

    async fn happen(
        &mut self,
        fault: Fault,
        channel: &str,
        random: &mut StdRng,
    ) -> Result<Instant> {
        match fault {
            Fault::KillGateway => self.replace_gateway(random, 0).await?,
            Fault::WrongClock | Fault::WrongClockEmptyRedis => {
                let ahead_seconds = if random.random() { 60 } else { -60 };
                self.replace_gateway(random, ahead_seconds).await?;
                self.clocks().await?;
                if fault == Fault::WrongClockEmptyRedis {
                    self.empty(channel).await?;
                }
            }
            Fault::KillPubSub => {
                for server in &self.redis.servers {
                    server.ask("CLIENT KILL TYPE pubsub").await?;
                }
            }
            Fault::Pause(seconds) => return self.pause(seconds, channel).await,
            Fault::EmptyRedis => self.empty(channel).await?,
            Fault::KillMaster => {
                let gone = self.redis.answers(channel).await?;
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
            Fault::DelayPath => self.delay().await?,
            Fault::ResetPath => self.path()?.forget()?,
            Fault::MoveSlot => self.redis.move_slot(channel).await?,
        }
        Ok(Instant::now())
    }

    async fn replace_gateway(&mut self, random: &mut StdRng, ahead_seconds: i64) -> Result<()> {
        let victim = random.random_range(0..self.gateways.len());
        drop(self.gateways.remove(victim));
        let successor = self.gateway(ahead_seconds).await?;
        self.gateways.insert(victim, successor);
        self.tell();
        Ok(())
    }

    /// Right clocks for all.
    pub async fn mend(&mut self) -> Result<()> {
        for place in 0..self.gateways.len() {
            if self.gateways[place].ahead_seconds != 0 {
                self.gateways[place] = self.gateway(0).await?;
            }
        }
        self.tell();
        self.redis.whole().await
    }

    /// Whether every gateway has the time that it should have: a wrong clock that is right is no fault.
    async fn clocks(&self) -> Result<()> {
        for gateway in &self.gateways {
            // One that has just begun may have no connection to Redis yet.
            let asked = until("a gateway's time", async || gateway.time_ms(API_KEY).await);
            let time_ms = asked.await?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
            let ahead_ms = time_ms - i64::try_from(now.as_millis())?;
            let wrong = ahead_ms - gateway.ahead_seconds * 1_000;
            ensure!(wrong.abs() < 20_000, "a clock is {ahead_ms} ms ahead");
        }
        Ok(())
    }

    async fn empty(&mut self, channel: &str) -> Result<()> {
        let master = self.redis.answers(channel).await?;
        self.redis.servers[master].kill();
        self.redis.run(master, master).await?;
        self.redis.answers(channel).await?;
        Ok(())
    }

    /// All connections of gateways begin anew on a slow path, and go on on a quick one.
    async fn delay(&self) -> Result<()> {
        let proxy = self.toxiproxy.as_ref().context("toxiproxy")?;
        let path = self.path()?;
        proxy.delay().await?;
        path.divert(&proxy.ways)?;
        path.forget()?;
        pass(BAD_PATH).await;
        path.straighten()?;
        proxy.heal().await
    }

    async fn pause(&self, seconds: u64, channel: &str) -> Result<Instant> {
        let master = self.redis.answers(channel).await?;
        let server = &self.redis.servers[master];
        server.signal("STOP")?;
        let frozen = async {
            pass(Duration::from_secs(seconds)).await;
            server.signal("CONT")?;
            anyhow::Ok(Instant::now())
        };
        if self.redis.form == Form::Standalone {
            return frozen.await;
        }
        let replaced = async {
            self.redis.other_than(master, channel).await?;
            anyhow::Ok(Instant::now())
        };
        tokio::pin!(frozen, replaced);
        let goes_on = tokio::select! {
            healed = &mut replaced => {
                frozen.await?;
                return healed;
            }
            goes_on = &mut frozen => goes_on?,
        };
        // Nobody has noticed, or on a busy machine nobody yet: then Redis answers when that failover is over.
        tokio::select! {
            healed = replaced => healed,
            whole = self.redis.whole() => whole.map(|()| goes_on),
        }
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
