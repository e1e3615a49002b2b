//! Publishing: what a message is as a command, and what became of it.

use std::future::Future;

use bytes::Bytes;

use super::Counters;
use super::calls::{Calls, Failure};
use super::log;
use super::names::{Names, Place};
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

#[derive(Clone)]
pub(super) struct Publisher {
    calls: Calls,
    names: Names,
    counters: Counters,
}

impl Publisher {
    pub(super) fn new(calls: Calls, names: Names, counters: Counters) -> Publisher {
        Publisher {
            calls,
            names,
            counters,
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
        self.send(place.slot, command)
    }

    /// A message to oneself. It is kept like any other, for a minute, so that a Redis that takes no writes is found.
    pub(super) fn probe(&self, place: &Place) -> impl Future<Output = Outcome> + Send + use<> {
        self.send(place.slot, log::append_probe(&self.names, place))
    }

    fn send(&self, slot: u16, command: Bytes) -> impl Future<Output = Outcome> + Send + use<> {
        let answer = self.calls.call(slot, command);
        let counters = self.counters.clone();
        async move {
            match answer.await {
                Ok(frame) => Outcome::Accepted(log::position(&frame)),
                Err(Failure::Unavailable(why)) => {
                    counters.unavailable.inc();
                    tracing::debug!("publish to Redis: {why}");
                    Outcome::Unavailable
                }
                Err(Failure::Refused(why)) => {
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
