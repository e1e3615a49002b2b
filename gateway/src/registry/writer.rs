//! The task that holds the node's lease and writes under it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::calls::{self, LeaseId};
use super::fact::{Fact, Round, State};
use super::{Batch, Shared, Why, scripts};
use crate::broker::redis::{Answer, Call};

/// Facts that are written before anything else is looked at.
const CHUNK: usize = 256;
/// After what Redis did not answer. Doubled each time, up to a third of the lease or the second.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often the lease's rest is told.
const LOOK: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    shared: Arc<Shared>,
    asks: mpsc::Sender<Round>,
    lease: Option<Lease>,
    /// What the next lease is for.
    why: Why,
    /// What was written under these is to be reaped when all is written again.
    before: Vec<LeaseId>,
}

struct Lease {
    id: LeaseId,
    renew_at: Instant,
    /// By our clock, from before it was asked for; others go by that of Redis.
    ends_at: Instant,
}

/// What became of a chunk.
enum Wrote {
    All,
    /// Nothing: the lease is not ours any more.
    Lost,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, asks: mpsc::Sender<Round>) -> Writer {
        Writer {
            shared,
            asks,
            lease: None,
            why: Why::Start,
            before: Vec::new(),
        }
    }

    pub(super) async fn run(mut self) {
        let mut pause = PAUSE;
        let longest = LONGEST_PAUSE.min(self.shared.settings.lease / 3);
        loop {
            let stepped = self.step().await;
            self.show();
            self.shared.inner().reachable = stepped.is_ok();
            match stepped {
                Ok(()) => pause = PAUSE,
                Err(cause) => {
                    if pause == PAUSE {
                        tracing::warn!("sessions are not written to Redis: {cause}");
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(longest);
                }
            }
        }
    }

    async fn step(&mut self) -> Result<(), String> {
        let Some(lease) = &self.lease else {
            return self.take().await;
        };
        if Instant::now() >= lease.renew_at {
            return self.renew().await;
        }
        tokio::select! {
            () = sleep_until(lease.renew_at) => self.renew().await,
            () = self.shared.changed.notified() => self.write().await,
            () = sleep(LOOK) => Ok(()),
        }
    }

    fn show(&self) {
        let rest = self.lease.as_ref().map_or(Duration::ZERO, |lease| {
            lease.ends_at.saturating_duration_since(Instant::now())
        });
        self.shared.counters.lease.set(rest.as_secs_f64());
    }

    /// A lease that nobody has had before; everything is written under it.
    async fn take(&mut self) -> Result<(), String> {
        let settings = &self.shared.settings;
        let id = LeaseId::new(&settings.node, rand::random());
        let asked_at = Instant::now();
        // It can be found before it is there.
        self.ask(&[self.hint(&id, self.lease_ms())]).await?;
        self.ask(&[self.on_lease(scripts::TAKE, &id)]).await?;
        let round = self.shared.begin(&id, self.why);
        self.shared.counters.registered(self.why);
        if self.why != Why::Start {
            let why = Why::LABELS[self.why as usize];
            tracing::warn!(why, "all sessions of this node are written to Redis again");
        }
        self.why = Why::Start;
        self.lease = Some(self.held(id, asked_at));
        // One that was not taken yet is for this round as well: whoever asks looks at the latest.
        let _ = self.asks.send(round).await;
        Ok(())
    }

    async fn renew(&mut self) -> Result<(), String> {
        let Some(lease) = &self.lease else {
            return Ok(());
        };
        let (id, asked_at) = (lease.id.clone(), Instant::now());
        let calls = [
            self.on_lease(scripts::RENEW, &id),
            self.hint(&id, self.lease_ms()),
        ];
        let answers = self.ask(&calls).await?;
        match answers[0].number() {
            Some(1) => self.lease = Some(self.held(id, asked_at)),
            Some(0) => self.lose(Why::Emptied),
            _ => self.lose(Why::Reaped),
        }
        Ok(())
    }

    fn held(&self, id: LeaseId, asked_at: Instant) -> Lease {
        let lease = self.shared.settings.lease;
        Lease {
            id,
            renew_at: asked_at + lease / 3,
            ends_at: asked_at + lease,
        }
    }

    fn lose(&mut self, why: Why) {
        self.why = why;
        self.before.extend(self.lease.take().map(|lease| lease.id));
    }

    /// All that waits.
    async fn write(&mut self) -> Result<(), String> {
        let Batch {
            facts,
            upto,
            overflowed,
            complete,
        } = self.shared.take();
        if overflowed {
            self.lose(Why::Overflow);
            return Ok(());
        }
        for (index, chunk) in facts.chunks(CHUNK).enumerate() {
            let rest = &facts[index * CHUNK..];
            if self.is_due()
                && let Err(cause) = self.renew().await
            {
                self.shared.give_back(rest);
                return Err(cause);
            }
            match self.write_chunk(chunk).await {
                Ok(Wrote::All) => {}
                Ok(Wrote::Lost) => {
                    self.shared.give_back(rest);
                    return self.renew().await;
                }
                Err(cause) => {
                    self.shared.give_back(rest);
                    return Err(cause);
                }
            }
        }
        self.shared.written.send_replace(upto);
        self.shared.count(&self.shared.inner());
        if complete && !self.before.is_empty() {
            self.abandon().await?;
        }
        Ok(())
    }

    fn is_due(&self) -> bool {
        let lease = self.lease.as_ref();
        lease.is_some_and(|lease| Instant::now() >= lease.renew_at)
    }

    async fn write_chunk(&self, facts: &[(Fact, State)]) -> Result<Wrote, String> {
        let Some(lease) = &self.lease else {
            return Ok(Wrote::Lost);
        };
        let calls::Steps {
            note,
            write,
            strike,
        } = calls::steps(self.shared.store.names(), &lease.id, facts);
        if let Some(note) = note
            && self.ask(&[note]).await?[0].number() != Some(1)
        {
            return Ok(Wrote::Lost);
        }
        for answer in self.ask(&write).await? {
            if let Answer::Foreign(what) = answer {
                self.shared.counters.foreign.inc();
                tracing::warn!("a session is not written: another program has the key: {what}");
            }
        }
        if let Some(strike) = strike {
            self.ask(&[strike]).await?;
        }
        Ok(Wrote::All)
    }

    /// What is still written under earlier leases is of sessions that have ended.
    async fn abandon(&mut self) -> Result<(), String> {
        for id in &self.before {
            let calls = [self.on_lease(scripts::ABANDON, id), self.hint(id, 0)];
            self.ask(&calls).await?;
        }
        self.before.clear();
        Ok(())
    }

    async fn ask(&self, calls: &[Call]) -> Result<Vec<Answer>, String> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        self.shared.store.run(calls).await
    }

    fn lease_ms(&self) -> u128 {
        self.shared.settings.lease.as_millis()
    }

    fn on_lease(&self, script: &'static str, id: &LeaseId) -> Call {
        let arguments = vec![self.lease_ms().to_string()];
        calls::on_lease(self.shared.store.names(), script, id, arguments)
    }

    fn hint(&self, id: &LeaseId, ms: u128) -> Call {
        let arguments = vec![id.as_str().to_owned(), ms.to_string()];
        calls::on_nodes(self.shared.store.names(), scripts::HINT, arguments)
    }
}
