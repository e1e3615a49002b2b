//! Whether messages flow, seen by sending one round: publisher → Redis → subscription → here.
//!
//! A connection that is up but delivers nothing is the failure that push servers sleep through: the
//! TCP peer is gone without a word, Redis hangs, a proxy swallows one direction. Only a message that
//! came back proves the path.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::broker::Health;

/// Periods without a returned probe after which the path counts as dead.
const PATIENCE: u32 = 3;

const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// What the last probes said. Written by the subscriber task, read by `/ready` at any time.
pub(super) struct Pulse {
    period: Duration,
    /// Of Redis, for messages.
    address: String,
    state: Mutex<State>,
}

enum State {
    /// No subscription; why.
    Down(String),
    Up {
        /// When the last probe came back.
        returned: Option<Instant>,
        /// When the first probe was sent that Redis took and that has not come back since.
        missing: Option<Instant>,
        /// Why Redis took the last probe not.
        refused: Option<String>,
    },
}

impl Pulse {
    pub(super) fn new(period: Duration, address: String) -> Pulse {
        let state = Mutex::new(State::Down(format!("connecting to Redis at {address}")));
        Pulse {
            period,
            address,
            state,
        }
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
        let text = format!("Redis at {}: {cause}", self.address);
        let mut state = self.state();
        let news = !matches!(&*state, State::Down(before) if *before == text);
        *state = State::Down(text);
        news
    }

    pub(super) fn subscribed(&self) {
        *self.state() = State::Up {
            returned: None,
            missing: None,
            refused: None,
        };
    }

    /// Redis took the probe that was sent then.
    pub(super) fn accepted(&self, sent: Instant) {
        if let State::Up {
            returned, missing, ..
        } = &mut *self.state()
            && returned.is_none_or(|returned| returned < sent)
        {
            missing.get_or_insert(sent);
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
        match &mut *self.state() {
            State::Up { refused, .. } if refused.as_deref() != Some(cause) => {
                *refused = Some(cause.to_owned());
                true
            }
            State::Up { .. } | State::Down(_) => false,
        }
    }

    pub(super) fn returned(&self, now: Instant) {
        *self.state() = State::Up {
            returned: Some(now),
            missing: None,
            refused: None,
        };
    }

    /// Whether the subscription should be replaced: Redis takes probes and they do not come back. While
    /// Redis takes none, nothing is known against the subscription, and closing it would lose what
    /// Redis still holds for it.
    pub(super) fn is_dead(&self, now: Instant) -> bool {
        match *self.state() {
            State::Up {
                missing: Some(since),
                ..
            } => self.is_late(since, now),
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
            } if !self.is_late(*last, now) => {
                return Health::Delivering;
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

    fn is_late(&self, since: Instant, now: Instant) -> bool {
        now.saturating_duration_since(since) > self.period * PATIENCE
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // One assignment at a time: a panic elsewhere cannot have left it half written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All connections together: the node delivers when each of them does.
pub(super) struct Pulses {
    state: Mutex<Whole>,
}

#[derive(Default)]
struct Whole {
    /// Why nobody knows which Redis to go to.
    trouble: Option<String>,
    links: Vec<Arc<Pulse>>,
}

impl Pulses {
    pub(super) fn new(trouble: Option<String>) -> Pulses {
        let state = Mutex::new(Whole {
            trouble,
            links: Vec::new(),
        });
        Pulses { state }
    }

    pub(super) fn is_news(&self, trouble: &str) -> bool {
        self.state().trouble.as_deref() != Some(trouble)
    }

    pub(super) fn trouble(&self, trouble: Option<String>) {
        self.state().trouble = trouble;
    }

    pub(super) fn add(&self, link: Arc<Pulse>) {
        self.state().links.push(link);
    }

    pub(super) fn remove(&self, link: &Arc<Pulse>) {
        self.state().links.retain(|other| !Arc::ptr_eq(other, link));
    }

    pub(super) fn health(&self, now: Instant) -> Health {
        let state = self.state();
        if let Some(trouble) = &state.trouble {
            return Health::NotDelivering(trouble.clone());
        }
        if state.links.is_empty() {
            return Health::NotDelivering("connecting to Redis".to_owned());
        }
        let mut links = state.links.iter().map(|link| link.health(now));
        links
            .find(|health| *health != Health::Delivering)
            .unwrap_or(Health::Delivering)
    }

    fn state(&self) -> MutexGuard<'_, Whole> {
        // As above.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_delivers_when_each_of_its_connections_does() {
        let now = Instant::now();
        let link = |address: &str| Arc::new(Pulse::new(Duration::from_secs(1), address.into()));
        let (a, b) = (link("a"), link("b"));
        let pulses = Pulses::new(Some("looking".into()));
        let says = || match pulses.health(now) {
            Health::Delivering => "delivering".to_owned(),
            Health::NotDelivering(why) => why,
        };
        assert_eq!(says(), "looking");
        assert!(!pulses.is_news("looking"));
        pulses.trouble(None);
        assert_eq!(says(), "connecting to Redis");
        for pulse in [&a, &b] {
            pulses.add(pulse.clone());
            pulse.subscribed();
        }
        a.returned(now);
        assert_eq!(
            says(),
            "Redis at b: waiting for the first probe to come back"
        );
        b.returned(now);
        assert_eq!(says(), "delivering");
        a.down("closed");
        assert_eq!(says(), "Redis at a: closed");
        pulses.remove(&a);
        assert_eq!(says(), "delivering");
        pulses.trouble(Some("5 slots have no master".into()));
        assert_eq!(says(), "5 slots have no master");
    }

    #[test]
    fn the_life_of_a_connection() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let pulse = Pulse::new(Duration::from_secs(1), "redis:6379".into());
        let says = |ms| match pulse.health(at(ms)) {
            Health::Delivering => "delivering".to_owned(),
            Health::NotDelivering(why) => why,
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
        pulse.accepted(at(1_000));
        assert!(!pulse.is_dead(at(4_000)));
        assert!(pulse.is_dead(at(4_001)), "taken, and did not come back");

        pulse.returned(at(2_000));
        assert_eq!(pulse.pause(), Duration::from_secs(1));
        pulse.accepted(at(1_900));
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
        pulse.accepted(at(6_000));
        pulse.accepted(at(8_000));
        assert!(pulse.is_dead(at(9_001)), "the first that is missing counts");
        pulse.flows(at(9_001));
        assert!(!pulse.is_dead(at(12_001)), "what flows is not silent");
        assert!(pulse.is_dead(at(12_002)));
        assert!(pulse.down("closed"), "news after it worked");
    }
}
