//! How far this node's subscribers of one channel with history have got, and what to do with what comes. Pure: a
//! delivery or a part of the log in; what goes to subscribers, in order, and whether the log must be read, out.
//!
//! Offsets go up by one, so a message that did not arrive shows as a gap before the next one. What comes after a gap
//! waits until the log has been read, which has the last word: what it has is delivered in its place, and of what it
//! no longer has the subscribers are told. A log that goes on under a new epoch, as after a failover, says how much of
//! the last one it has: who had no more of it learns the new epoch, and is told of no loss. After the broker lost the
//! channel the log is read without a gap, too, for the message that was missed may have been the last one.

use std::collections::VecDeque;

use crate::history::Page;
use crate::message::{Delivery, Message, Position};

/// Deliveries that wait for the log. What comes beyond them is read from the log as well.
const MOST_WAITING: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub struct Track {
    /// What subscribers have been given. None: nothing yet, and whatever comes first is the beginning.
    at: Option<Position>,
    /// Of what the broker delivered last, in the epoch of `at`. Behind `at` after the log was faster.
    heard: u64,
    /// What came after a gap, in order; at most [`MOST_WAITING`].
    waiting: VecDeque<Delivery>,
    /// Something is missing: all that comes waits.
    gap: bool,
    /// More came than may wait, and only the log has it.
    overflowed: bool,
    reading: Reading,
    doubt: Doubt,
}

/// Whether the log is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Reading {
    #[default]
    No,
    Wanted,
    UnderWay {
        number: u64,
        since: Position,
        /// So many of `waiting` came before the log was asked: it has them, or has lost them.
        before: usize,
        /// Ask again after this answer, which may be of before the channel was subscribed again.
        again: bool,
    },
}

/// Whether the channel was lost since the log was read: then a new log may have begun before all of the last one came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Doubt {
    #[default]
    None,
    Away,
    Back,
}

/// What goes to the subscribers.
#[derive(Debug, Clone)]
pub enum Out {
    Delivery(Delivery),
    /// From the log.
    Filled(Position, Message),
    /// What follows comes after this position. `recovered`: all that came before it was delivered.
    Moved {
        position: Position,
        recovered: bool,
    },
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    Delivered,
    /// The subscribers have had it from the log.
    Duplicate,
    /// Something is missing before it.
    Waits,
    /// It waits in the log only; without a position, it is lost.
    Overflowed,
}

/// What an answer of the log came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// Nothing was missing.
    Whole,
    Filled,
    /// The log no longer has all of it.
    Lost,
    /// Another log has begun. One that goes on under a new epoch is none.
    NewEpoch,
    /// The answer to a question that was given up.
    Stale,
}

impl Track {
    /// The log stood here when the channel was subscribed: what comes follows, unless that was lost meanwhile.
    pub fn begin(&mut self, top: Position) {
        if self.gap {
            // The log is asked, and knows better.
            return;
        }
        // Deliveries may have been faster than the answer.
        let seen = self.at.filter(|at| at.epoch == top.epoch);
        let offset = seen.map_or(top.offset, |at| at.offset.max(top.offset));
        *self = Track {
            at: Some(Position { offset, ..top }),
            heard: seen.map_or(0, |at| at.offset),
            doubt: self.doubt,
            ..Track::default()
        };
        if self.doubt == Doubt::Back {
            self.back();
        }
    }

    /// A delivery has come. Pushes it to `out` if it is its turn.
    pub fn receive(&mut self, delivery: Delivery, out: &mut Vec<Out>) -> Received {
        if self.gap {
            return self.wait(delivery);
        }
        match self.turn(&delivery) {
            Turn::Next => {
                out.push(Out::Delivery(delivery));
                Received::Delivered
            }
            Turn::Duplicate => Received::Duplicate,
            Turn::Gap | Turn::OtherLog => {
                self.gap = true;
                if self.reading == Reading::No {
                    self.reading = Reading::Wanted;
                }
                self.wait(delivery)
            }
        }
    }

    /// Whether [`Track::ask`] should be called.
    #[must_use]
    pub fn wants_log(&self) -> bool {
        self.reading == Reading::Wanted
    }

    /// What is wanted of the log: all after this. The answer carries the number, which was never used before.
    pub fn ask(&mut self, number: u64) -> Option<Position> {
        let since = self.at.filter(|_| self.wants_log())?;
        self.overflowed = false;
        self.reading = Reading::UnderWay {
            number,
            since,
            before: self.waiting.len(),
            again: false,
        };
        Some(since)
    }

    /// The log could not be read: it is still wanted. False: nobody waits for this answer.
    pub fn failed(&mut self, number: u64) -> bool {
        let mine = matches!(self.reading, Reading::UnderWay { number: n, .. } if n == number);
        if mine {
            self.reading = Reading::Wanted;
        }
        mine
    }

    /// The subscription is lost: messages may be missed until it is back.
    pub fn away(&mut self) {
        self.doubt = Doubt::Away;
    }

    /// The subscription is back: what the log has decides.
    pub fn back(&mut self) {
        self.doubt = Doubt::Back;
        if self.at.is_none() {
            // Since when something is missed is known with [`Track::begin`].
            return;
        }
        match &mut self.reading {
            Reading::UnderWay { again, .. } => *again = true,
            reading => *reading = Reading::Wanted,
        }
    }

    /// The log's answer. Pushes to `out` what was missed, and what waited for it.
    pub fn answer(&mut self, number: u64, page: &Page, out: &mut Vec<Out>) -> Checked {
        let Reading::UnderWay {
            number: asked,
            since,
            before,
            again,
        } = self.reading
        else {
            return Checked::Stale;
        };
        if asked != number {
            return Checked::Stale;
        }
        self.reading = Reading::No;
        let in_parts = !page.complete && !page.messages.is_empty();
        let checked = self.apply(page, (since, before), in_parts, out);
        if in_parts {
            self.gap = true;
            self.reading = Reading::Wanted;
            // Still of before the channel was subscribed again, if this was.
            return checked;
        }
        let rolled_back = self.release(before, out);
        if again {
            self.reading = Reading::Wanted;
        } else if self.doubt == Doubt::Back {
            self.doubt = Doubt::None;
        }
        if rolled_back { Checked::Lost } else { checked }
    }

    /// The log is not kept any more: everything goes as it comes.
    pub fn give_up(&mut self) -> impl Iterator<Item = Delivery> {
        std::mem::take(self).waiting.into_iter()
    }

    fn turn(&mut self, delivery: &Delivery) -> Turn {
        // What the log does not keep has no place in it.
        let Some(position) = delivery.position else {
            return Turn::Next;
        };
        let turn = match self.at {
            None => Turn::Next,
            Some(at) if at.epoch != position.epoch => Turn::OtherLog,
            Some(at) if position.offset == at.offset + 1 => Turn::Next,
            // The broker repeats nothing: who is at or before what was heard is of a log that went back.
            Some(at) if position.offset <= at.offset && position.offset > self.heard => {
                Turn::Duplicate
            }
            Some(_) => Turn::Gap,
        };
        match turn {
            Turn::Next => (self.at, self.heard) = (Some(position), position.offset),
            Turn::Duplicate => self.heard = position.offset,
            Turn::Gap | Turn::OtherLog => {}
        }
        turn
    }

    fn wait(&mut self, delivery: Delivery) -> Received {
        if self.overflowed || self.waiting.len() >= MOST_WAITING {
            self.overflowed = true;
            return Received::Overflowed;
        }
        self.waiting.push_back(delivery);
        Received::Waits
    }

    fn apply(
        &mut self,
        page: &Page,
        (since, before): (Position, usize),
        in_parts: bool,
        out: &mut Vec<Out>,
    ) -> Checked {
        let top = page.top;
        let Some(at) = self.at else {
            return Checked::Stale;
        };
        let mut checked = Checked::Whole;
        // The same log, which goes on under a new epoch after this offset. Up to there its messages are told as those of the
        // last one: who has read them there already must know them again.
        let mut ends = page.shared.filter(|_| at.epoch != top.epoch);
        if at.epoch != top.epoch && ends.is_none() {
            let first = page.messages.first().map(|first| first.offset);
            let offset = first.map_or(top.offset, |first| first.saturating_sub(1));
            let recovered = offset == 0 && self.doubt == Doubt::None;
            self.moved(Position { offset, ..top }, recovered, out);
            checked = Checked::NewEpoch;
        } else if at.epoch == top.epoch && top.offset < since.offset {
            self.moved(top, false, out);
            checked = Checked::Lost;
        }
        for kept in page.messages.iter() {
            if let Some(shared) = ends.take_if(|shared| kept.offset > *shared)
                && !self.goes_on(shared, top, before, out)
            {
                checked = Checked::Lost;
            }
            let position = Position {
                offset: kept.offset,
                epoch: if ends.is_some() { at.epoch } else { top.epoch },
            };
            let at = self.at.map_or(0, |at| at.offset);
            if position.offset <= at {
                continue;
            }
            if position.offset > at + 1 {
                let offset = position.offset - 1;
                self.moved(Position { offset, ..position }, false, out);
                checked = Checked::Lost;
            } else if checked == Checked::Whole {
                checked = Checked::Filled;
            }
            self.at = Some(position);
            out.push(Out::Filled(position, kept.message.clone()));
        }
        let reaches =
            |shared: &mut u64| !in_parts || self.at.is_some_and(|at| at.offset >= *shared);
        if let Some(shared) = ends.take_if(reaches)
            && !self.goes_on(shared, top, before, out)
        {
            checked = Checked::Lost;
        }
        if !in_parts && self.at.is_some_and(|at| at.offset < top.offset) {
            // Too old to be in the answer, or too large.
            self.moved(top, false, out);
            checked = Checked::Lost;
        }
        checked
    }

    /// Subscribers go on in the log's next epoch, as the one they are in ended at this offset. False: what came here beyond
    /// that is lost.
    fn goes_on(&mut self, shared: u64, top: Position, before: usize, out: &mut Vec<Out>) -> bool {
        let offset = self.at.map_or(shared, |at| at.offset.min(shared));
        let recovered = self.came(before) <= shared;
        self.moved(Position { offset, ..top }, recovered, out);
        recovered
    }

    /// The highest offset of the epoch of `at` that came here, delivered or among the first so many of those that wait.
    fn came(&self, before: usize) -> u64 {
        let at = self.at.unwrap_or(Position {
            epoch: 0,
            offset: 0,
        });
        let waiting = self.waiting.iter().take(before);
        let positions = waiting.filter_map(|delivery| delivery.position);
        let same = positions.filter(|position| position.epoch == at.epoch);
        same.map(|position| position.offset)
            .fold(at.offset, u64::max)
    }

    /// Subscribers go on from there.
    fn moved(&mut self, position: Position, recovered: bool, out: &mut Vec<Out>) {
        let same = self.at.is_some_and(|at| at.epoch == position.epoch);
        // Of a log that went back, what is delivered next counts from where it stands now.
        self.heard = if same {
            self.heard.min(position.offset)
        } else {
            0
        };
        self.at = Some(position);
        out.push(Out::Moved {
            position,
            recovered,
        });
    }

    /// What waited follows, as far as nothing is missing before it. `before`: so many came before the log was read;
    /// what it does not have of these, it has lost. Whether that was so.
    fn release(&mut self, before: usize, out: &mut Vec<Out>) -> bool {
        let mut rolled_back = false;
        let mut index = 0;
        while let Some(delivery) = self.waiting.pop_front() {
            let known = index < before;
            index += 1;
            match self.turn(&delivery) {
                Turn::Next => out.push(Out::Delivery(delivery)),
                Turn::Duplicate => {}
                // Repeated, or of a log that has been replaced: subscribers were told when that was seen.
                Turn::OtherLog if known => {}
                Turn::Gap if known => {
                    let at = self.at.filter(|at| {
                        let offset = delivery.position.map_or(0, |position| position.offset);
                        offset > at.offset && !rolled_back
                    });
                    if let Some(at) = at {
                        rolled_back = true;
                        self.moved(at, false, out);
                    }
                }
                Turn::Gap | Turn::OtherLog => {
                    self.waiting.push_front(delivery);
                    self.reading = Reading::Wanted;
                    return rolled_back;
                }
            }
        }
        self.gap = self.overflowed;
        if self.gap {
            self.reading = Reading::Wanted;
        }
        rolled_back
    }
}

/// What a delivery is to those who are `at`.
enum Turn {
    Next,
    Duplicate,
    Gap,
    OtherLog,
}

#[cfg(test)]
#[path = "track_tests.rs"]
#[expect(clippy::too_many_lines, reason = "tables")]
mod tests;
