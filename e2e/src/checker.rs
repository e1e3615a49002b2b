//! Judges what subscribers heard: every message exactly once and in order, or told that it was not recovered. Pure:
//! histories in, breaches out. [`run`] makes the histories.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub mod run;

/// Where a message stands in its channel's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub epoch: u64,
    pub offset: u64,
}

/// Which message: each publisher counts its own, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number {
    pub publisher: usize,
    pub sequence: u64,
}

/// What the gateway said to a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Accepted(Position),
    /// Nothing was sent.
    Refused,
    /// No answer: it may have been published.
    Unknown,
}

/// A publish to one channel.
#[derive(Debug, Clone, Copy)]
pub struct Published {
    pub number: Number,
    pub outcome: Outcome,
}

/// What a subscriber of one channel heard, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The acknowledgement. `recovered`: what was missed follows, in whole; None on the first.
    Subscribed {
        at: Position,
        recovered: Option<bool>,
    },
    /// In an acknowledgement, or live.
    Message { offset: u64, number: Number },
    /// `position`.
    Moved { at: Position, recovered: bool },
    /// The connection ended.
    Ended,
}

/// One subscriber's history.
#[derive(Debug)]
pub struct History {
    pub name: String,
    pub heard: Vec<Heard>,
}

/// One channel: all that was sent and heard in it.
#[derive(Debug)]
pub struct Channel {
    pub name: String,
    pub published: Vec<Published>,
    pub histories: Vec<History>,
    /// Of the last message: every subscriber must have come there.
    pub end: Position,
}

/// What must not be.
#[derive(Debug, PartialEq, Eq)]
pub struct Breach {
    pub subscriber: String,
    /// Index into its history.
    pub at: usize,
    pub what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]: {}", self.subscriber, self.at, self.what)
    }
}

/// All breaches of a channel; none is what is wanted.
#[must_use]
pub fn judge(channel: &Channel) -> Vec<Breach> {
    let mut log: BTreeMap<Position, Number> = BTreeMap::new();
    let mut refused = BTreeSet::new();
    let mut sent = BTreeSet::new();
    for published in &channel.published {
        sent.insert(published.number);
        match published.outcome {
            Outcome::Accepted(position) => drop(log.insert(position, published.number)),
            Outcome::Refused => drop(refused.insert(published.number)),
            Outcome::Unknown => {}
        }
    }
    let mut breaches = Vec::new();
    for history in &channel.histories {
        let mut reader = Reader {
            at: None,
            heard: BTreeSet::new(),
            latest: BTreeMap::new(),
        };
        for (index, heard) in history.heard.iter().enumerate() {
            let found = reader.hears(*heard, &mut log).or_else(|| {
                let Heard::Message { number, .. } = heard else {
                    return None;
                };
                if refused.contains(number) {
                    return Some(format!("{number:?} was refused, and yet delivered"));
                }
                (!sent.contains(number)).then(|| format!("{number:?} was never sent"))
            });
            breaches.extend(found.map(|what| Breach {
                subscriber: history.name.clone(),
                at: index,
                what,
            }));
        }
        if reader.at != Some(channel.end) {
            breaches.push(Breach {
                subscriber: history.name.clone(),
                at: history.heard.len(),
                what: format!("ends at {:?}, not at {:?}", reader.at, channel.end),
            });
        }
    }
    breaches
}

/// Where a subscriber is, by what it was told.
struct Reader {
    at: Option<Position>,
    heard: BTreeSet<Number>,
    /// The last sequence of each publisher.
    latest: BTreeMap<usize, u64>,
}

impl Reader {
    fn hears(&mut self, heard: Heard, log: &mut BTreeMap<Position, Number>) -> Option<String> {
        match heard {
            Heard::Ended => None,
            Heard::Subscribed { at, recovered } => match (self.at, recovered) {
                // The messages follow as heard ones.
                (Some(was), Some(true)) if was.epoch == at.epoch => None,
                (Some(was), Some(true)) => Some(format!("{was:?} was recovered in {at:?}")),
                (None, None) | (Some(_), Some(false)) => {
                    self.at = Some(at);
                    None
                }
                (None, Some(_)) => Some("told of a recovery that it did not ask for".into()),
                (Some(_), None) => Some("not told whether it has recovered".into()),
            },
            Heard::Moved { at, recovered } => {
                let was = self.at.replace(at);
                let new_log = was.is_some_and(|was| was.epoch != at.epoch) && at.offset == 0;
                (recovered && !new_log)
                    .then(|| format!("moved from {was:?} to {at:?} with no loss"))
            }
            Heard::Message { offset, number } => self.message(offset, number, log),
        }
    }

    fn message(
        &mut self,
        offset: u64,
        number: Number,
        log: &mut BTreeMap<Position, Number>,
    ) -> Option<String> {
        let Some(at) = self.at else {
            return Some(format!("{number:?} before the acknowledgement"));
        };
        let position = Position { offset, ..at };
        self.at = Some(position);
        let later = self.latest.insert(number.publisher, number.sequence);
        if offset != at.offset + 1 {
            return Some(format!("{number:?} at {offset} after {at:?}"));
        }
        if !self.heard.insert(number) {
            return Some(format!("{number:?} a second time"));
        }
        if later.is_some_and(|later| later >= number.sequence) {
            return Some(format!("{number:?} after {later:?} of that publisher"));
        }
        let other = *log.entry(position).or_insert(number);
        (other != number).then(|| format!("{number:?} at {position:?}, where {other:?} is"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Heard::{Ended, Message, Moved, Subscribed};

    fn at(epoch: u64, offset: u64) -> Position {
        Position { epoch, offset }
    }

    fn subscribed(epoch: u64, offset: u64, recovered: Option<bool>) -> Heard {
        Subscribed {
            at: at(epoch, offset),
            recovered,
        }
    }

    /// The message that is accepted at 1:offset has that sequence.
    fn message(offset: u64) -> Heard {
        let number = number(offset);
        Message { offset, number }
    }

    fn number(sequence: u64) -> Number {
        Number {
            publisher: 0,
            sequence,
        }
    }

    fn moved(epoch: u64, offset: u64, recovered: bool) -> Heard {
        Moved {
            at: at(epoch, offset),
            recovered,
        }
    }

    /// Of a channel whose messages 1 to 4 were accepted, 5 was not answered and 6 was refused.
    fn first_breach(heard: &[Heard], end: Position) -> String {
        let outcome = |sequence| match sequence {
            1..=4 => Outcome::Accepted(at(1, sequence)),
            5 => Outcome::Unknown,
            _ => Outcome::Refused,
        };
        let published = (1..=6).map(|sequence| Published {
            number: number(sequence),
            outcome: outcome(sequence),
        });
        let channel = Channel {
            name: "a".into(),
            published: published.collect(),
            histories: vec![History {
                name: "s".into(),
                heard: heard.to_vec(),
            }],
            end,
        };
        let breaches = judge(&channel);
        breaches.first().map_or("none".into(), ToString::to_string)
    }

    #[test]
    fn what_is_as_promised() {
        for heard in [
            &[subscribed(1, 2, None), message(3), message(4)][..],
            &[
                subscribed(1, 1, None),
                message(2),
                Ended,
                subscribed(1, 4, Some(true)),
                message(3),
                message(4),
            ],
            &[
                subscribed(1, 0, None),
                Ended,
                subscribed(1, 3, Some(false)),
                message(4),
            ],
            &[
                subscribed(1, 0, None),
                message(1),
                moved(1, 3, false),
                message(4),
            ],
            &[
                subscribed(9, 7, None),
                moved(1, 0, true),
                message(1),
                message(2),
                message(3),
                message(4),
            ],
        ] {
            assert_eq!(first_breach(heard, at(1, 4)), "none", "{heard:?}");
        }
        let unanswered = [subscribed(1, 3, None), message(4), message(5)];
        assert_eq!(first_breach(&unanswered, at(1, 5)), "none");
    }

    #[test]
    fn what_is_not() {
        let numbered = |offset, sequence| Message {
            offset,
            number: number(sequence),
        };
        for (heard, end, expected) in [
            (
                &[subscribed(1, 2, None), message(4)][..],
                4,
                "s [1]: Number { publisher: 0, sequence: 4 } at 4 after",
            ),
            (
                &[subscribed(1, 2, None), message(3), message(3)],
                3,
                "s [2]: Number { publisher: 0, sequence: 3 } at 3 after",
            ),
            (&[subscribed(1, 2, None), message(3)], 4, "s [2]: ends at"),
            (
                &[subscribed(1, 3, None), numbered(4, 5)],
                4,
                "s [1]: Number { publisher: 0, sequence: 5 } at",
            ),
            (
                &[subscribed(1, 4, None), message(5), message(6)],
                6,
                "s [2]: Number { publisher: 0, sequence: 6 } was refused",
            ),
            (
                &[message(1)],
                1,
                "s [0]: Number { publisher: 0, sequence: 1 } before",
            ),
            (
                &[
                    subscribed(1, 1, None),
                    Ended,
                    subscribed(1, 3, Some(true)),
                    message(3),
                ],
                3,
                "s [3]: Number { publisher: 0, sequence: 3 } at 3 after",
            ),
            (
                &[subscribed(2, 1, None), Ended, subscribed(1, 3, Some(true))],
                3,
                "s [2]: Position { epoch: 2, offset: 1 } was recovered",
            ),
            (
                &[subscribed(1, 1, None), Ended, subscribed(1, 3, None)],
                3,
                "s [2]: not told",
            ),
            (
                &[subscribed(1, 1, None), moved(1, 3, true)],
                3,
                "s [1]: moved from",
            ),
            (
                &[subscribed(1, 6, None), numbered(7, 7)],
                7,
                "s [1]: Number { publisher: 0, sequence: 7 } was never",
            ),
        ] {
            let breach = first_breach(heard, at(1, end));
            assert!(breach.starts_with(expected), "{heard:?}: {breach}");
        }
    }
}
