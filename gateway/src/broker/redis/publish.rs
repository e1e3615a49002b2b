//! Publishing: what a message is as a command, and what became of it.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use redis_protocol::resp2::types::BytesFrame;

use super::Counters;
use super::advice::{cannot_write, is_about_the_disk, is_foreign};
use super::calls::{Calls, Failure};
use super::discover::Map;
use super::log;
use super::names::{Names, Place};
use super::pulses::Pulses;
use super::wire;
use crate::broker::{Answer, Unpublished};
use crate::history::Keep;
use crate::message::Position;
use crate::name::ChannelName;

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
    outcomes: Arc<Outcomes>,
}

/// What answers mean.
struct Outcomes {
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
        let outcomes = Arc::new(Outcomes {
            names,
            counters,
            other_keys,
        });
        Publisher { calls, outcomes }
    }

    /// Takes the message's place in the queue; the answer comes within the timeout.
    pub(super) fn publish(
        &self,
        channel: ChannelName,
        payload: &[u8],
        keep: Option<Keep>,
        answer: Answer,
    ) {
        let names = &self.outcomes.names;
        let (slot, command) = match keep {
            None => {
                let channel = names.channel(&channel);
                let command = wire::command(names.publish(), &[&channel, payload]);
                (names.slot(&channel), command)
            }
            Some(keep) => {
                let place = names.place(&channel);
                (place.slot, log::append(names, &place, payload, keep))
            }
        };
        let outcomes = self.outcomes.clone();
        self.calls.call_then(slot, command, move |answered| {
            answer.send(match outcomes.of(answered) {
                Outcome::Accepted(position) => Ok(position),
                Outcome::Unavailable => Err(Unpublished::Unavailable),
                Outcome::Refused(reason) => {
                    let place = outcomes.names.place(&channel);
                    outcomes.other_keys.look_at(&place, &reason);
                    Err(Unpublished::Unavailable)
                }
                Outcome::Unanswered => Err(Unpublished::Unanswered),
            });
        });
    }

    /// A message to oneself. It is kept like any other, for a minute, so that a Redis that takes no writes is found. One that
    /// takes none because of its disk still passes messages on, and is sent one that is not kept: a node that gave up its
    /// clients for that would end what works.
    pub(super) fn probe(&self, place: &Place) -> impl Future<Output = Outcome> + Send + use<> {
        let (outcomes, calls, slot) = (self.outcomes.clone(), self.calls.clone(), place.slot);
        let names = &outcomes.names;
        let plain = wire::command(names.publish(), &[&place.channel, b"probe"]);
        let answer = calls.call(slot, log::append_probe(names, place));
        async move {
            match outcomes.of(answer.await) {
                Outcome::Refused(why) if is_about_the_disk(&why) => {
                    outcomes.of(calls.call(slot, plain).await)
                }
                outcome => outcome,
            }
        }
    }

    /// What the master of this place cannot write to its disk. None: it did not say.
    pub(super) fn unwritten(
        &self,
        place: &Place,
    ) -> impl Future<Output = Option<Option<&'static str>>> + Send + use<> {
        let command = wire::command("INFO", &[b"persistence"]);
        let answer = self.calls.call(place.slot, command);
        async move { Some(cannot_write(wire::text(&answer.await.ok()?)?)) }
    }
}

impl Outcomes {
    fn of(&self, answered: Result<BytesFrame, Failure>) -> Outcome {
        match answered {
            Ok(frame) => Outcome::Accepted(log::position(&frame)),
            Err(Failure::Unavailable(why)) => {
                self.counters.unavailable.inc();
                tracing::debug!("publish to Redis: {why}");
                Outcome::Unavailable
            }
            Err(Failure::Refused(why)) => {
                let why = log::refusal(&self.names, &why);
                self.counters.unavailable.inc();
                tracing::debug!("publish to Redis refused: {why}");
                Outcome::Refused(why)
            }
            Err(Failure::Unanswered) => {
                self.counters.unanswered.inc();
                Outcome::Unanswered
            }
        }
    }
}
