//! Whether messages flow, seen by sending one round: publisher → Redis → subscription → here.
//!
//! A connection that is up but delivers nothing is the failure that push servers sleep through: the
//! TCP peer is gone without a word, Redis hangs, a proxy swallows one direction. Only a message that
//! came back proves the path.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::broker::Health;

/// Periods without a returned probe after which the node does not deliver.
const PATIENCE: u32 = 3;
/// Periods from when Redis took a probe that does not come back until the connection is replaced. Up to one more has
/// passed before that probe was sent, so that a connection is silent for no more than [`PATIENCE`] periods.
const REPLACED_AFTER: u32 = 2;

const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// What the last probes said. Written by the subscriber task, read by `/ready` at any time.
pub(super) struct Pulse {
    period: Duration,
    /// Of Redis, for messages.
    address: String,
    state: Mutex<State>,
    seen: Mutex<Seen>,
    /// The policy by which it deletes keys when it is full, as it was when a connection opened last.
    evicts: Mutex<Option<String>>,
    /// What it cannot write to its disk, as it said last.
    unwritten: Mutex<Option<&'static str>>,
}

/// What outlives a connection.
struct Seen {
    /// When the last probe came back; before the first one, when this began.
    returned: Instant,
    /// What the log was told last, until a probe comes back.
    told: Option<String>,
}

/// What the probes of a master show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Showing {
    /// No connection is open.
    Connecting,
    /// No probe has come back on this connection yet.
    Starting,
    Delivering,
    /// None came back for three periods.
    Silent,
    /// Redis takes no messages.
    Refusing,
}

enum State {
    /// No subscription; why.
    Down(String),
    Up {
        /// When the last probe came back.
        returned: Option<Instant>,
        /// When Redis took the first probe that has not come back since.
        missing: Option<Instant>,
        /// Why Redis took the last probe not.
        refused: Option<String>,
    },
}

impl Pulse {
    pub(super) fn new(period: Duration, address: String) -> Pulse {
        let state = Mutex::new(State::Down(format!("connecting to Redis at {address}")));
        let seen = Mutex::new(Seen {
            returned: Instant::now(),
            told: None,
        });
        Pulse {
            period,
            address,
            state,
            seen,
            evicts: Mutex::default(),
            unwritten: Mutex::default(),
        }
    }

    /// What Redis cannot write to its disk. Returns whether that is news.
    pub(super) fn unwritten(&self, what: Option<&'static str>) -> bool {
        // As below.
        let mut last = self
            .unwritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *last, what) != what
    }

    /// How Redis makes room when it is full, if by deleting keys. Returns what is wrong with that if it is news.
    pub(super) fn evicts(&self, policy: Option<String>) -> Option<String> {
        let mut evicts = self.evicting();
        let news = policy.is_some() && *evicts != policy;
        *evicts = policy;
        evicts.as_deref().filter(|_| news).map(deletes)
    }

    /// How long to wait before the next probe: not long while none has come back yet, since the node
    /// is not ready until one does.
    pub(super) fn pause(&self) -> Duration {
        match *self.state() {
            State::Up {
                returned: Some(_), ..
            } => self.period,
            State::Up { .. } | State::Down(_) => self.period.min(FIRST_PAUSE),
        }
    }

    /// Returns whether this cause is news, and so worth a line in the log.
    pub(super) fn down(&self, cause: &str) -> bool {
        *self.state() = State::Down(format!("Redis at {}: {cause}", self.address));
        self.is_news(cause)
    }

    pub(super) fn subscribed(&self) {
        *self.state() = State::Up {
            returned: None,
            missing: None,
            refused: None,
        };
    }

    /// Redis took the probe that was sent then, and said so now.
    pub(super) fn accepted(&self, sent: Instant, now: Instant) {
        if let State::Up {
            returned, missing, ..
        } = &mut *self.state()
            && returned.is_none_or(|returned| returned < sent)
        {
            missing.get_or_insert(now);
        }
    }

    /// Something came, or waits here to be taken: what is missing may be behind it.
    pub(super) fn flows(&self, now: Instant) {
        if let State::Up {
            missing: Some(missing),
            ..
        } = &mut *self.state()
        {
            *missing = now;
        }
    }

    /// Redis took it not, and said why. Returns whether that is news.
    pub(super) fn refused(&self, cause: &str) -> bool {
        let State::Up { refused, .. } = &mut *self.state() else {
            return false;
        };
        *refused = Some(cause.to_owned());
        self.is_news(cause)
    }

    pub(super) fn returned(&self, now: Instant) {
        *self.state() = State::Up {
            returned: Some(now),
            missing: None,
            refused: None,
        };
        *self.seen() = Seen {
            returned: now,
            told: None,
        };
    }

    /// Since a probe came back the last time.
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.seen().returned)
    }

    pub(super) fn showing(&self, now: Instant) -> Showing {
        match &*self.state() {
            State::Down(_) => Showing::Connecting,
            State::Up {
                refused: Some(_), ..
            } => Showing::Refusing,
            State::Up { returned: None, .. } => Showing::Starting,
            State::Up {
                returned: Some(last),
                ..
            } if self.is_late(*last, now, PATIENCE) => Showing::Silent,
            State::Up { .. } => Showing::Delivering,
        }
    }

    /// Whether the subscription should be replaced: Redis takes probes and they do not come back. While
    /// Redis takes none, nothing is known against the subscription, and closing it would lose what
    /// Redis still holds for it.
    pub(super) fn is_dead(&self, now: Instant) -> bool {
        match *self.state() {
            State::Up {
                missing: Some(since),
                ..
            } => self.is_late(since, now, REPLACED_AFTER),
            State::Up { .. } | State::Down(_) => false,
        }
    }

    pub(super) fn health(&self, now: Instant) -> Health {
        let why = match &*self.state() {
            State::Up {
                refused: Some(cause),
                ..
            } => format!("Redis at {} takes no messages: {cause}", self.address),
            State::Up {
                returned: Some(last),
                ..
            } if !self.is_late(*last, now, PATIENCE) => {
                return self.worth_a_look();
            }
            State::Up {
                returned: Some(last),
                ..
            } => {
                let silent = now.saturating_duration_since(*last).as_secs_f32();
                format!(
                    "Redis at {}: no probe came back for {silent:.1} s",
                    self.address
                )
            }
            State::Up { returned: None, .. } => {
                format!(
                    "Redis at {}: waiting for the first probe to come back",
                    self.address
                )
            }
            State::Down(cause) => cause.clone(),
        };
        Health::NotDelivering(why)
    }

    /// Of one that delivers.
    fn worth_a_look(&self) -> Health {
        // As below.
        let unwritten = *self
            .unwritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let evicts = self.evicting();
        let what = unwritten.map_or_else(|| evicts.as_deref().map(deletes), |w| Some(w.to_owned()));
        what.map_or(Health::Delivering, |what| {
            Health::Impaired(format!("Redis at {} {what}", self.address))
        })
    }

    fn is_late(&self, since: Instant, now: Instant, periods: u32) -> bool {
        now.saturating_duration_since(since) > self.period * periods
    }

    /// Once for each change: a cause that comes again with every attempt would fill the log.
    fn is_news(&self, cause: &str) -> bool {
        let told = &mut self.seen().told;
        let news = told.as_deref() != Some(cause);
        if news {
            *told = Some(cause.to_owned());
        }
        news
    }

    fn evicting(&self) -> MutexGuard<'_, Option<String>> {
        // As below.
        self.evicts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // As below.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // One assignment at a time: a panic elsewhere cannot have left it half written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Completes "Redis at …".
fn deletes(policy: &str) -> String {
    format!(
        "deletes keys when it is full (maxmemory-policy {policy}): history, and who is connected, may be lost; \
         set it to noeviction"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_life_of_a_connection() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let pulse = Pulse::new(Duration::from_secs(1), "redis:6379".into());
        let says = |ms| match pulse.health(at(ms)) {
            Health::Delivering => "delivering".to_owned(),
            Health::Impaired(why) | Health::NotDelivering(why) => why,
        };
        assert_eq!(says(0), "connecting to Redis at redis:6379");
        assert!(pulse.down("Connection refused"));
        assert!(
            !pulse.down("Connection refused"),
            "the same cause again is no news"
        );
        assert_eq!(says(0), "Redis at redis:6379: Connection refused");

        pulse.subscribed();
        assert_eq!(
            says(1_000),
            "Redis at redis:6379: waiting for the first probe to come back"
        );
        assert_eq!(pulse.pause(), Duration::from_millis(100));
        assert!(
            !pulse.is_dead(at(60_000)),
            "no probe was taken, so none is missing"
        );
        assert_eq!(pulse.showing(at(1_000)), Showing::Starting);
        pulse.accepted(at(900), at(1_000));
        assert!(!pulse.is_dead(at(3_000)));
        assert!(pulse.is_dead(at(3_001)), "taken, and did not come back");
        assert!(
            !pulse.down("Connection refused"),
            "nor after a while in which it seemed to go"
        );
        pulse.subscribed();

        pulse.returned(at(2_000));
        assert_eq!(pulse.pause(), Duration::from_secs(1));
        pulse.accepted(at(1_900), at(2_100));
        assert_eq!(says(5_000), "delivering");
        assert_eq!(
            says(5_001),
            "Redis at redis:6379: no probe came back for 3.0 s"
        );
        assert!(
            !pulse.is_dead(at(60_000)),
            "that one had come back before its answer did"
        );
        assert!(pulse.refused("OOM"));
        assert!(!pulse.refused("OOM"), "the same cause again is no news");
        assert_eq!(says(2_000), "Redis at redis:6379 takes no messages: OOM");
        pulse.returned(at(5_500));
        assert_eq!(says(5_500), "delivering");
        pulse.accepted(at(6_000), at(6_000));
        pulse.accepted(at(8_000), at(8_000));
        assert!(pulse.is_dead(at(8_001)), "the first that is missing counts");
        pulse.flows(at(8_001));
        assert!(!pulse.is_dead(at(10_001)), "what flows is not silent");
        assert!(pulse.is_dead(at(10_002)));
        assert_eq!(pulse.age(at(10_002)), Duration::from_millis(4_502));
        assert_eq!(pulse.showing(at(8_500)), Showing::Delivering);
        assert_eq!(pulse.showing(at(8_501)), Showing::Silent);
        assert!(pulse.down("closed"), "news after it worked");
    }
}
