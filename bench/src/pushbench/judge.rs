//! Judges one subscription while it goes on: every message once and in order, or told that something is missing. What
//! counts is what `e2e/src/checker.rs` says, but of a history without end: memory of one position, and of the last
//! sequences of a few publishers. Pure.

/// Where a message stands in its channel's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub epoch: u64,
    pub offset: u64,
}

/// What a publisher writes into each of its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Another one after each publish that may or may not have taken place.
    pub publisher: u64,
    /// From 0, without a gap.
    pub sequence: u64,
}

/// What one event showed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Messages that are missing, and of which nothing was said.
    pub lost: u64,
    pub doubled: u64,
    pub reordered: u64,
    /// Times that a loss was told.
    pub told: u64,
}

impl Found {
    pub fn is_breach(&self) -> bool {
        self.lost + self.doubled + self.reordered > 0
    }

    pub fn add(&mut self, other: Found) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
        self.told += other.told;
    }
}

/// Publishers of one channel that are remembered; a new one after each publish that failed, so old ones are gone.
const PUBLISHERS: usize = 4;
/// Sequences before the last one of which it is known whether they came.
const WINDOW: u64 = 64;

#[derive(Debug, Clone)]
struct Publisher {
    name: u64,
    last: u64,
    /// Bit n: `last - n` has come.
    came: u64,
    /// A gap before its next message has been counted already, or was told.
    is_excused: bool,
}

/// One subscriber's view of one channel.
#[derive(Debug, Default, Clone)]
pub struct Judge {
    /// Of the last message, or where it went on. None: not acknowledged yet, or a channel without history.
    at: Option<Position>,
    was_acknowledged: bool,
    publishers: Vec<Publisher>,
}

impl Judge {
    /// What to send as `recover`.
    pub fn position(&self) -> Option<Position> {
        self.at
    }

    /// The acknowledgement, with where the log stands and whether what was missed follows.
    pub fn subscribed(&mut self, at: Option<Position>, recovered: Option<bool>) -> Found {
        let was_there = std::mem::replace(&mut self.was_acknowledged, true);
        let (Some(was), Some(at)) = (self.at, at) else {
            self.at = at;
            if was_there {
                // Without history nothing is promised about the time in between.
                self.excuse();
            }
            return Found::default();
        };
        match recovered {
            Some(true) => {
                // The missed messages follow, and bring their offsets. A log that is shorter than what was heard is
                // another one.
                let offset = was.offset.min(at.offset);
                self.at = Some(Position { offset, ..at });
                Found {
                    reordered: u64::from(at.offset < was.offset),
                    ..Found::default()
                }
            }
            Some(false) => self.goes_on_at(at),
            None => {
                let lost = if was.epoch == at.epoch {
                    at.offset.saturating_sub(was.offset)
                } else {
                    1
                };
                self.goes_on_at(at);
                Found {
                    lost,
                    ..Found::default()
                }
            }
        }
    }

    /// `position`: where the subscriber goes on.
    pub fn moved(&mut self, at: Position, recovered: bool) -> Found {
        if !recovered {
            return self.goes_on_at(at);
        }
        let lost = self
            .at
            .map_or(0, |was| at.offset.saturating_sub(was.offset));
        self.at = Some(at);
        Found {
            lost,
            ..Found::default()
        }
    }

    /// A loss was told.
    fn goes_on_at(&mut self, at: Position) -> Found {
        self.at = Some(at);
        self.excuse();
        Found {
            told: 1,
            ..Found::default()
        }
    }

    /// A message, with an offset where the channel has history, and with the stamp that a publisher of ours gave it.
    pub fn message(&mut self, offset: Option<u64>, stamp: Option<Stamp>) -> Found {
        let mut found = Found::default();
        let mut is_late = false;
        match (offset, &mut self.at) {
            (Some(offset), Some(at)) if offset > at.offset => {
                found.lost = offset - at.offset - 1;
                at.offset = offset;
            }
            (Some(_), Some(_)) => is_late = true,
            // Before the acknowledgement, or of a log of which nobody spoke.
            (Some(_), None) => found.reordered = 1,
            (None, _) => {}
        }
        if found.lost > 0 {
            self.excuse();
        }
        match (stamp, is_late) {
            (Some(stamp), _) => {
                let of_publisher = self.of_publisher(stamp);
                found.add(of_publisher);
                // New to its publisher's count, but its place in the log was passed.
                if is_late && !of_publisher.is_breach() {
                    found.reordered += 1;
                }
            }
            (None, true) => found.doubled = 1,
            (None, false) => {}
        }
        found
    }

    fn of_publisher(&mut self, stamp: Stamp) -> Found {
        let mut found = Found::default();
        let known = self.publishers.iter_mut();
        let Some(publisher) = known.into_iter().find(|p| p.name == stamp.publisher) else {
            // The oldest goes.
            if self.publishers.len() == PUBLISHERS {
                self.publishers.remove(0);
            }
            self.publishers.push(Publisher {
                name: stamp.publisher,
                last: stamp.sequence,
                came: 1,
                is_excused: false,
            });
            return found;
        };
        if stamp.sequence > publisher.last {
            let step = stamp.sequence - publisher.last;
            if !std::mem::take(&mut publisher.is_excused) {
                found.lost = step - 1;
            }
            let shift = u32::try_from(step).unwrap_or(u32::MAX);
            publisher.came = publisher.came.checked_shl(shift).unwrap_or(0) | 1;
            publisher.last = stamp.sequence;
            return found;
        }
        let back = publisher.last - stamp.sequence;
        // Longer ago than is remembered: most likely it came.
        let bit = 1u64.checked_shl(u32::try_from(back).unwrap_or(u32::MAX));
        let has_come = back >= WINDOW || bit.is_some_and(|bit| publisher.came & bit != 0);
        publisher.came |= bit.unwrap_or(0);
        found.doubled = u64::from(has_come);
        found.reordered = u64::from(!has_come);
        found
    }

    fn excuse(&mut self) {
        for publisher in &mut self.publishers {
            publisher.is_excused = true;
        }
    }

    /// How many messages are missing up to there. In another epoch nobody can say.
    pub fn behind(&self, end: Position) -> u64 {
        match self.at {
            Some(at) if at.epoch == end.epoch => end.offset.saturating_sub(at.offset),
            _ => 0,
        }
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
