//! Sending every client away at a pace: at the end of the process, or when the admin port is asked, as before a
//! scale-in. What the admin port began can be paced anew and taken back; the end of the process cannot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

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
    ending: bool,
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
                per_second: Arc::default(),
                state,
            }),
        }
    }

    /// Begins a drain, or changes the pace of the one under way.
    pub async fn begin(&self, asked: Asked) -> Progress {
        let mut state = self.shared.state.lock().await;
        // Whoever ends the process has set a deadline that nobody may move.
        let deadline = match state.asked {
            Some((ending, since)) if state.ending => {
                ending.deadline.map(|d| d.saturating_sub(since.elapsed()))
            }
            _ => asked.deadline,
        };
        let down_to = asked.down_to.filter(|_| !state.ending);
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
        if state.ending {
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

    /// Sends everybody away and ends the shards: soon after the deadline at the latest. A pace that the admin port
    /// set before stays, since whoever set it knows how many clients the other nodes can take.
    pub async fn end(&self, connections_per_second: u32, deadline: Duration) {
        let end = Instant::now() + deadline;
        let router = &self.shared.router;
        let round = {
            let mut state = self.shared.state.lock().await;
            let before = state.asked.map(|(asked, _)| asked.connections_per_second);
            let asked = Asked {
                connections_per_second: before.unwrap_or(connections_per_second),
                deadline: Some(deadline),
                down_to: None,
            };
            state.ending = true;
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
        Progress {
            draining: state.asked.is_some(),
            connections: self.shared.router.connections(),
            connections_per_second: state.asked.map(|(asked, _)| asked.connections_per_second),
            seconds_left: state.asked.and_then(|(asked, since)| {
                Some(asked.deadline?.saturating_sub(since.elapsed()).as_secs())
            }),
            down_to: state.asked.and_then(|(asked, _)| asked.down_to),
        }
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
