//! Publishing: what a message is as a command, and what became of it.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::Counters;
use super::advice::is_foreign;
use super::calls::{Calls, Failure};
use super::discover::Map;
use super::log;
use super::names::{Names, Place};
use super::pulses::Pulses;
use super::wire;
use crate::history::Keep;
use crate::message::Position;

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With its place in the log, if there is one.
    Accepted(Option<Position>),
    /// Never left this process.
    Unavailable,
    /// Redis said no, and passed nothing on; its own words.
    Refused(String),
    /// Left, and nobody knows.
    Unanswered,
}

pub(super) struct Publisher {
    calls: Calls,
    names: Names,
    counters: Counters,
    other_keys: Arc<OtherKeys>,
}

/// Tells of keys of other programs in the place of logs.
pub(super) struct OtherKeys {
    pub(super) map: Map,
    pub(super) pulses: Arc<Pulses>,
}

impl OtherKeys {
    /// Redis refused to carry out a script on this place, or to read it.
    pub(super) fn look_at(&self, place: &Place, reason: &str) {
        if !is_foreign(reason) {
            return;
        }
        let topology = self.map.now();
        let at = topology.owner(place.slot);
        let at = at.map_or("a master".to_owned(), ToString::to_string);
        let why = format!(
            "Redis at {at}: {} or {} is of another program, so its channel has no history and takes no messages; delete it, \
             or give one of the two a prefix of its own (broker.redis.keyPrefix)",
            place.meta, place.stream
        );
        if self.pulses.foreign(&why, Instant::now()) {
            tracing::warn!("{why}");
        }
    }
}

impl Publisher {
    pub(super) fn new(
        calls: Calls,
        names: Names,
        counters: Counters,
        other_keys: Arc<OtherKeys>,
    ) -> Publisher {
        Publisher {
            calls,
            names,
            counters,
            other_keys,
        }
    }

    /// Takes the message's place in the queue now; the future only waits for the answer, which comes within the timeout.
    pub(super) fn publish(
        &self,
        place: &Place,
        payload: &[u8],
        keep: Option<Keep>,
    ) -> impl Future<Output = Outcome> + Send + use<> {
        let command = match keep {
            None => wire::command(self.names.publish(), &[&place.channel, payload]),
            Some(keep) => log::append(&self.names, place, payload, keep),
        };
        let (answer, other_keys) = (self.send(place.slot, command), self.other_keys.clone());
        let place = place.clone();
        async move {
            let outcome = answer.await;
            if let Outcome::Refused(reason) = &outcome {
                other_keys.look_at(&place, reason);
            }
            outcome
        }
    }

    /// A message to oneself. It is kept like any other, for a minute, so that a Redis that takes no writes is found.
    pub(super) fn probe(&self, place: &Place) -> impl Future<Output = Outcome> + Send + use<> {
        self.send(place.slot, log::append_probe(&self.names, place))
    }

    fn send(&self, slot: u16, command: Bytes) -> impl Future<Output = Outcome> + Send + use<> {
        let answer = self.calls.call(slot, command);
        let (counters, names) = (self.counters.clone(), self.names.clone());
        async move {
            match answer.await {
                Ok(frame) => Outcome::Accepted(log::position(&frame)),
                Err(Failure::Unavailable(why)) => {
                    counters.unavailable.inc();
                    tracing::debug!("publish to Redis: {why}");
                    Outcome::Unavailable
                }
                Err(Failure::Refused(why)) => {
                    let why = log::refusal(&names, &why);
                    counters.unavailable.inc();
                    tracing::debug!("publish to Redis refused: {why}");
                    Outcome::Refused(why)
                }
                Err(Failure::Unanswered) => {
                    counters.unanswered.inc();
                    Outcome::Unanswered
                }
            }
        }
    }
}
