//! Judges what subscribers heard: every message exactly once and in order, or told that it was not recovered. Pure:
//! histories in, breaches out. [`run`] makes the histories.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

mod publisher;
pub mod run;
mod subscriber;

/// Where a message stands in its channel's log. A log that another master goes on with has another epoch from then on,
/// and goes on counting (decision 10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub epoch: u64,
    pub offset: u64,
}

/// Which message: each publisher counts its own, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number {
    /// Another one after each publish that was not answered, which may still take place behind the next one.
    pub publisher: usize,
    pub sequence: u64,
}

/// What the gateway said to a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Where, if that was said: over HTTP it is not.
    Accepted(Option<Position>),
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

impl Heard {
    /// Whether the subscriber was told that it may have missed something.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        matches!(
            self,
            Heard::Subscribed {
                recovered: Some(false),
                ..
            } | Heard::Moved {
                recovered: false,
                ..
            }
        )
    }
}

/// One subscriber's history.
#[derive(Debug)]
pub struct History {
    pub name: String,
    pub heard: Vec<Heard>,
}

/// The last message, and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    pub number: Number,
    pub position: Position,
}

impl End {
    /// Whether one who is there has come to it; also who was told that it has missed it.
    #[must_use]
    pub fn is_before(self, at: Position) -> bool {
        self.position.epoch == at.epoch && self.position.offset <= at.offset
    }
}

/// Messages that the log of a judged channel keeps, as its manifest or config file says (`historyMessages`); that its
/// seconds never run out is the run's affair.
pub const LOG_KEEPS: u64 = 10_000;

/// One channel: all that was sent and heard in it. Nothing was sent before all subscribers had been acknowledged once.
#[derive(Debug)]
pub struct Channel {
    pub name: String,
    pub published: Vec<Published>,
    pub histories: Vec<History>,
    /// The last message: every subscriber must have come there. What was not answered may come even later.
    pub end: End,
    /// Whether the log outlives all that happens: then nobody is told that it has not.
    pub log_survives: bool,
}

/// What must not be.
#[derive(Debug, PartialEq, Eq)]
pub struct Breach {
    /// Or `publishers`.
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
    let mut breaches = Vec::new();
    let mut log = accepted(&channel.published, &mut breaches);
    // Once for what the log had, of which a publisher may not have been told, and then against all of it.
    for history in &channel.histories {
        Reader::new(channel).read(history, &mut log);
    }
    let mut heard_by_any = BTreeSet::new();
    for history in &channel.histories {
        let mut reader = Reader::new(channel);
        breaches.extend(reader.read(history, &mut log));
        heard_by_any.extend(reader.heard);
    }
    let told = |history: &History| history.heard.iter().any(Heard::is_loss);
    let epochs: BTreeSet<u64> = log.keys().map(|position| position.epoch).collect();
    // What a failover loses, the epoch tells.
    if channel.log_survives || epochs.len() == 1 && !channel.histories.iter().any(told) {
        let lost = channel.published.iter().filter(|published| {
            matches!(published.outcome, Outcome::Accepted(_))
                && !heard_by_any.contains(&published.number)
        });
        breaches.extend(lost.map(|published| {
            let what = format!("{:?} was accepted, and nobody heard it", published.number);
            of_publishers(what)
        }));
    }
    breaches
}

fn of_publishers(what: String) -> Breach {
    Breach {
        subscriber: "publishers".into(),
        at: 0,
        what,
    }
}

/// The log as publishers know it.
fn accepted(published: &[Published], breaches: &mut Vec<Breach>) -> BTreeMap<Position, Number> {
    let mut log: BTreeMap<Position, Number> = BTreeMap::new();
    for Published { number, outcome } in published {
        let Outcome::Accepted(Some(position)) = outcome else {
            continue;
        };
        if let Some(other) = log.insert(*position, *number) {
            let what = format!("{number:?} was accepted at {position:?}, and so was {other:?}");
            breaches.push(of_publishers(what));
        }
    }
    log
}

/// Where a subscriber is, by what it was told.
struct Reader<'a> {
    channel: &'a Channel,
    at: Option<Position>,
    heard: BTreeSet<Number>,
    /// By offset, since it was last told of a loss.
    lineage: BTreeMap<u64, Number>,
    /// The last sequence of each publisher.
    latest: BTreeMap<usize, u64>,
    sent: BTreeMap<Number, Outcome>,
}

impl Reader<'_> {
    fn new(channel: &Channel) -> Reader<'_> {
        let sent = channel.published.iter().map(|p| (p.number, p.outcome));
        Reader {
            channel,
            at: None,
            heard: BTreeSet::new(),
            lineage: BTreeMap::new(),
            latest: BTreeMap::new(),
            sent: sent.collect(),
        }
    }

    /// Adds to the log what was heard and is not in it.
    fn read(&mut self, history: &History, log: &mut BTreeMap<Position, Number>) -> Vec<Breach> {
        let mut breaches = Vec::new();
        let breach = |at, what| Breach {
            subscriber: history.name.clone(),
            at,
            what,
        };
        for (index, heard) in history.heard.iter().enumerate() {
            let found = self.hears(*heard, log).or_else(|| self.was_sent(*heard));
            breaches.extend(found.map(|what| breach(index, what)));
        }
        let end = self.channel.end;
        let has_come = |at| end.is_before(at);
        if !self.heard.contains(&end.number) && !self.at.is_some_and(has_come) {
            let what = format!("ends at {:?}, not at {end:?}", self.at);
            breaches.push(breach(history.heard.len(), what));
        }
        breaches
    }

    fn was_sent(&self, heard: Heard) -> Option<String> {
        let Heard::Message { number, .. } = heard else {
            return None;
        };
        match self.sent.get(&number) {
            Some(Outcome::Refused) => Some(format!("{number:?} was refused, and yet delivered")),
            Some(_) => None,
            None => Some(format!("{number:?} was never sent")),
        }
    }

    fn hears(&mut self, heard: Heard, log: &mut BTreeMap<Position, Number>) -> Option<String> {
        match heard {
            Heard::Ended => None,
            Heard::Subscribed { at, recovered } => match (self.at, recovered) {
                (Some(was), Some(true)) if at.offset < was.offset => {
                    self.at = Some(at);
                    Some(format!("{was:?} was recovered in {at:?}"))
                }
                // The messages follow as heard ones.
                (Some(was), Some(true)) => {
                    let offset = was.offset;
                    self.at = Some(Position { offset, ..at });
                    self.without_loss(was, Position { offset, ..at }, log)
                }
                (None, None) => {
                    self.at = Some(at);
                    None
                }
                (Some(was), Some(false)) => self.loss(was, at),
                (None, Some(_)) => Some("told of a recovery that it did not ask for".into()),
                (Some(_), None) => Some("not told whether it has recovered".into()),
            },
            Heard::Moved { at, recovered } => match (self.at.replace(at), recovered) {
                (None, _) => Some("moved before the acknowledgement".into()),
                (Some(was), false) => self.loss(was, at),
                (Some(was), true) => self.without_loss(was, at, log),
            },
            Heard::Message { offset, number } => self.message(offset, number, log),
        }
    }

    /// Goes on there. Told of a loss without one?
    fn loss(&mut self, was: Position, at: Position) -> Option<String> {
        self.at = Some(at);
        self.lineage.clear();
        // Who was away for longer than the log reaches back has lost what is behind it, and must be told.
        let in_the_log = was.offset..=was.offset.saturating_add(LOG_KEEPS);
        if was.epoch == at.epoch && in_the_log.contains(&at.offset) {
            return Some(format!(
                "told of a loss between {was:?} and {at:?}, which the log has"
            ));
        }
        self.channel
            .log_survives
            .then(|| format!("told of a loss from {was:?} to {at:?}, and the log was there"))
    }

    /// Of a log that went on in another epoch, or a new one of which nothing is missing.
    fn without_loss(
        &mut self,
        was: Position,
        at: Position,
        log: &BTreeMap<Position, Number>,
    ) -> Option<String> {
        let breach = format!("from {was:?} to {at:?} with no loss");
        // Who is at 0 is there in every log.
        let is_new =
            at.epoch != was.epoch && at.offset == 0 && was.offset > 0 && !self.channel.log_survives;
        if is_new {
            self.lineage.clear();
            let rest = Position {
                offset: was.offset + 1,
                ..was
            }..=Position {
                offset: u64::MAX,
                ..was
            };
            let (position, number) = log.range(rest).next()?;
            return Some(format!("{breach}, but {number:?} was at {position:?}"));
        }
        if at.offset != was.offset {
            return Some(breach);
        }
        // What it has must be what the log has now.
        self.lineage.iter().find_map(|(offset, number)| {
            let offset = *offset;
            let now = log.get(&Position { offset, ..at })?;
            (now != number)
                .then(|| format!("{breach}, but at {offset} is {now:?} instead of {number:?}"))
        })
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
        self.lineage.insert(offset, number);
        if let Some(Outcome::Accepted(Some(accepted))) = self.sent.get(&number)
            && accepted.offset != offset
        {
            return Some(format!("{number:?} at {offset}, accepted at {accepted:?}"));
        }
        let other = *log.entry(position).or_insert(number);
        (other != number).then(|| format!("{number:?} at {position:?}, where {other:?} is"))
    }
}

#[cfg(test)]
mod tests;
