//! Sending every client away at a pace: at the end of the process, or when the admin port is asked, as before a
//! scale-in. What the admin port began can be paced anew and taken back; the end of the process cannot. Who ends waits to be
//! told how fast, where somebody looks after several gateways: another one may end as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use gateway_config::ENDING_WAITS_SECONDS;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::engine::pace::Pace;
use crate::router::Router;

/// Kept free at the end of a drain, for the last close handshakes.
const GOODBYE: Duration = Duration::from_secs(2);

/// Clients come back spread over at least this time. As long as what a busy thread makes up for at once, and no longer: an
/// even pace is the spread, and each wait that is by chance makes some seconds fuller than the pace.
pub(crate) const MIN_SPREAD: Duration = Duration::from_millis(50);

/// Nobody is told to stay away for longer, however late the drain began.
const MAX_SPREAD: Duration = Duration::from_secs(60);

/// Between two looks at how many are left, where so many may stay: in this time a drain sends away a few too many.
const BETWEEN_COUNTS: Duration = Duration::from_millis(20);

/// The longest wait to be told how fast clients may go, …
const WAITS: Duration = Duration::from_secs(ENDING_WAITS_SECONDS as u64);
/// … which is one of so many parts of the time until the deadline, …
const PARTS: u32 = 4;
/// … and without clients only for those who do not know yet that this gateway ends, and send somebody here.
const WAITS_WITHOUT_CLIENTS: Duration = Duration::from_secs(3);
/// Between two looks at whether it is over.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub connections_per_second: u32,
    /// Clients are closed faster than asked if that is needed to be done in this time. None: they never are.
    pub deadline: Option<Duration>,
    /// The drain takes itself back when so many clients are left. None: everybody goes.
    pub down_to: Option<u64>,
}

/// Where a drain stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    pub draining: bool,
    /// Those that are left.
    pub connections: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_per_second: Option<u32>,
    /// None: there is no deadline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
    /// Those that may stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down_to: Option<u64>,
}

/// The process is ending: its clients cannot stay.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("drain not taken back: this gateway is ending")]
pub struct Ending;

/// A node's one drain. Cloning shares it.
pub struct Drain<B> {
    shared: Arc<Shared<B>>,
}

struct Shared<B> {
    router: Router<B>,
    /// Nobody is let in while this is true.
    draining: Arc<AtomicBool>,
    /// Nobody is to come, though whoever comes is let in.
    ending: AtomicBool,
    /// Somebody looks after this gateway and others.
    attended: AtomicBool,
    /// Clients each second, for whoever looks on; 0: it does not drain.
    per_second: Arc<AtomicU32>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The drain under way.
    asked: Option<(Asked, Instant)>,
    /// Counts the drains, so that the end of one is not taken for the end of the next.
    round: u32,
    /// When the process ends, once that is certain.
    end: Option<Instant>,
}

impl<B> Clone for Drain<B> {
    fn clone(&self) -> Self {
        Drain {
            shared: self.shared.clone(),
        }
    }
}

impl<B: Broker> Drain<B> {
    pub fn new(router: Router<B>, draining: Arc<AtomicBool>) -> Self {
        let state = Mutex::default();
        Drain {
            shared: Arc::new(Shared {
                router,
                draining,
                ending: AtomicBool::default(),
                attended: AtomicBool::default(),
                per_second: Arc::default(),
                state,
            }),
        }
    }

    /// Begins a drain, or changes the pace of the one under way.
    pub async fn begin(&self, asked: Asked) -> Progress {
        let mut state = self.shared.state.lock().await;
        // Whoever ends the process has set a deadline that nobody may move.
        let deadline = match state.end {
            Some(end) => Some(end.saturating_duration_since(Instant::now())),
            None => asked.deadline,
        };
        let down_to = asked.down_to.filter(|_| state.end.is_none());
        let asked = Asked {
            deadline,
            down_to,
            ..asked
        };
        self.send_away(&mut state, asked).await;
        if let Some(down_to) = down_to {
            let (drain, round) = (self.clone(), state.round);
            tokio::spawn(async move { drain.end_at(round, down_to).await });
        }
        self.progress_of(&state)
    }

    /// Takes the drain back when only so many are left, unless it has become another one. Here, not by whoever asked: one
    /// who went away in the midst of it would leave a gateway that sends everybody away.
    async fn end_at(&self, round: u32, down_to: u64) {
        let mut looks = tokio::time::interval(BETWEEN_COUNTS);
        loop {
            looks.tick().await;
            let mut state = self.shared.state.lock().await;
            let asked = state.asked.and_then(|(asked, _)| asked.down_to);
            if state.round != round || asked != Some(down_to) {
                return;
            }
            if self.shared.router.connections() <= down_to {
                self.let_in(&mut state).await;
                return;
            }
        }
    }

    /// Lets clients in again. Those that were sent away are gone.
    pub async fn take_back(&self) -> Result<Progress, Ending> {
        let mut state = self.shared.state.lock().await;
        if state.end.is_some() {
            return Err(Ending);
        }
        self.let_in(&mut state).await;
        Ok(self.progress_of(&state))
    }

    async fn let_in(&self, state: &mut State) {
        if state.asked.take().is_some() {
            let left = self.shared.router.connections();
            tracing::info!(left, "drain taken back: clients are let in again");
            self.shared.router.readmit().await;
            self.shared.draining.store(false, Ordering::Relaxed);
            self.shared.per_second.store(0, Ordering::Relaxed);
        }
    }

    /// Somebody asked this gateway about others, and will say how fast its clients may go when it ends.
    pub fn attend(&self) {
        self.shared.attended.store(true, Ordering::Relaxed);
    }

    /// What says whether clients are wanted.
    pub fn gate(&self) -> impl Fn() -> Result<(), String> + Send + Sync + use<B> {
        let shared = self.shared.clone();
        move || {
            if shared.draining.load(Ordering::Relaxed) {
                return Err("clients are being sent away".to_owned());
            }
            if shared.ending.load(Ordering::Relaxed) {
                return Err("this gateway ends, and waits to be told how fast".to_owned());
            }
            Ok(())
        }
    }

    /// What tells how many clients it sends away each second; 0: it does not drain.
    pub fn pace(&self) -> impl Fn() -> u32 + Send + Sync + use<B> {
        let per_second = self.shared.per_second.clone();
        move || per_second.load(Ordering::Relaxed)
    }

    /// Of the node whose clients it sends away.
    pub fn broker(&self) -> &B {
        self.shared.router.broker()
    }

    pub async fn progress(&self) -> Progress {
        self.progress_of(&*self.shared.state.lock().await)
    }

    /// The process ends at that time, whatever comes. Returns when its clients are to be sent away: where nobody looks after
    /// this gateway, at once. Until then it is not ready, and serves.
    pub async fn announce(&self, end: Instant) {
        let begun = Instant::now();
        let time = end.saturating_duration_since(begun);
        self.shared.state.lock().await.end = Some(end);
        self.shared.ending.store(true, Ordering::Relaxed);
        let mut looks = tokio::time::interval(BETWEEN_LOOKS);
        while self.shared.attended.load(Ordering::Relaxed) {
            looks.tick().await;
            let is_told = self.shared.state.lock().await.asked.is_some();
            let clients = self.shared.router.connections();
            if is_told || begun.elapsed() >= longest_wait(time, clients) {
                return;
            }
        }
    }

    /// Sends everybody away and ends the shards: soon after that time at the latest. A pace that the admin port
    /// set before stays, since whoever set it knows how many clients the other nodes can take.
    pub async fn end(&self, connections_per_second: u32, end: Instant) {
        let router = &self.shared.router;
        let round = {
            let mut state = self.shared.state.lock().await;
            let before = state.asked.map(|(asked, _)| asked.connections_per_second);
            let asked = Asked {
                connections_per_second: before.unwrap_or(connections_per_second),
                deadline: Some(end.saturating_duration_since(Instant::now())),
                down_to: None,
            };
            state.end = Some(end);
            self.send_away(&mut state, asked).await;
            state.round
        };
        if tokio::time::timeout_at(end, router.drained(round))
            .await
            .is_err()
        {
            tracing::warn!(
                left = router.connections(),
                "drain: the deadline came first"
            );
        }
        router.stop().await;
    }

    async fn send_away(&self, state: &mut State, asked: Asked) {
        let Shared {
            router, draining, ..
        } = &*self.shared;
        if state.asked.is_none() {
            state.round = state.round.wrapping_add(1);
        }
        state.asked = Some((asked, Instant::now()));
        // First not ready, so that nobody new is sent here while the others leave.
        draining.store(true, Ordering::Relaxed);
        let per_second = asked.connections_per_second.max(1);
        self.shared.per_second.store(per_second, Ordering::Relaxed);
        let connections = router.connections();
        tracing::info!(
            connections,
            per_second = asked.connections_per_second,
            deadline = ?asked.deadline,
            "draining"
        );
        router
            .send_away(state.round, pace(asked, connections))
            .await;
    }

    fn progress_of(&self, state: &State) -> Progress {
        let deadline = |(asked, since): (Asked, Instant)| Some(since + asked.deadline?);
        let end = state.end.or_else(|| state.asked.and_then(deadline));
        Progress {
            draining: state.asked.is_some() || state.end.is_some(),
            connections: self.shared.router.connections(),
            connections_per_second: state.asked.map(|(asked, _)| asked.connections_per_second),
            seconds_left: end.map(|end| end.saturating_duration_since(Instant::now()).as_secs()),
            down_to: state.asked.and_then(|(asked, _)| asked.down_to),
        }
    }
}

/// How long one that has so much time and so many clients waits to be told their pace.
fn longest_wait(time: Duration, clients: u64) -> Duration {
    let most = WAITS.min(time / PARTS);
    match clients {
        0 => WAITS_WITHOUT_CLIENTS.min(most),
        _ => most,
    }
}

/// The pace of all shards together.
fn pace(asked: Asked, connections: u64) -> Pace {
    let per_second = asked.connections_per_second.max(1);
    let wanted = Duration::from_secs(1) / per_second;
    let connections = u32::try_from(connections.max(1)).unwrap_or(u32::MAX);
    let every = match asked.deadline {
        Some(deadline) => wanted.min(deadline.saturating_sub(GOODBYE) / connections),
        None => wanted,
    };
    // What a deadline makes too fast for the others, the clients' own waits make good.
    let hurried = wanted.saturating_sub(every).saturating_mul(connections);
    Pace {
        every,
        phase: Duration::ZERO,
        spread: hurried.clamp(MIN_SPREAD, MAX_SPREAD),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_ends_does_not_wait_for_long() {
        let seconds = Duration::from_secs;
        for (time, clients, expected) in [
            (130, 5, 10),
            (40, 5, 10),
            // What it waits is missing in the end.
            (20, 5, 5),
            (0, 5, 0),
            (130, 0, 3),
            (8, 0, 2),
        ] {
            let found = longest_wait(seconds(time), clients);
            assert_eq!(found, seconds(expected), "{time} s for {clients}");
        }
    }

    #[test]
    fn a_drain_is_as_slow_as_asked_or_as_fast_as_needed() {
        let ms = Duration::from_millis;
        for (rate, connections, deadline_s, every, spread_ms) in [
            (500, 1_000, Some(30), ms(2), 50),
            (500, 1_000_000, None, ms(2), 50),
            // 28 seconds for 28,000 connections, which come back within the 56 that were asked for.
            (500, 28_000, Some(30), ms(1), 28_000),
            (500, 0, Some(30), ms(2), 50),
            (0, 10, Some(30), ms(1_000), 50),
            // No time at all: at once, and back over twenty seconds.
            (500, 10_000, Some(1), ms(0), 20_000),
            (500, 1_000_000, Some(1), ms(0), 60_000),
        ] {
            let asked = Asked {
                connections_per_second: rate,
                deadline: deadline_s.map(Duration::from_secs),
                down_to: None,
            };
            let expected = Pace {
                every,
                phase: Duration::ZERO,
                spread: ms(spread_ms),
            };
            assert_eq!(
                pace(asked, connections),
                expected,
                "{asked:?}, {connections}"
            );
        }
    }
}
