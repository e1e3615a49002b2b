//! What a channel's log holds and what of it somebody is owed. Pure: the time is an argument.
//!
//! Every message of a channel with history has a [`Position`]. Offsets go up by one; a log that was lost begins again
//! under a new epoch, so that nobody takes its first message for the one after theirs. A log that goes on at another
//! master, which may not have had all of it, does so under a new epoch as well, and knows where each epoch before ended:
//! who was there until then or earlier missed nothing but what follows; who was further has what is in no log any more
//! (as the leader epochs of Kafka, KIP-101).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops;
use std::sync::Arc;

use crate::message::{Message, Position};
use crate::name::ChannelName;

mod messages;
mod shared;
pub use messages::Messages;

/// How much of a channel is kept; both bounds hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Keep {
    /// The newest so many messages.
    pub messages: u32,
    /// In milliseconds, by the time at which a message was accepted.
    pub age_ms: u64,
}

/// What somebody asks of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Range {
    /// What came after this, oldest first. None: the newest, also oldest first.
    pub since: Option<Position>,
    /// At most so many messages …
    pub limit: u32,
    /// … and bytes of their data, together.
    pub bytes: usize,
    pub keep: Keep,
}

/// A message in a log.
#[derive(Debug, Clone)]
pub struct Kept {
    pub offset: u64,
    pub message: Message,
}

/// A part of a log.
#[derive(Debug, Clone)]
pub struct Page {
    /// Of the channel's newest message: the next one has the offset after it.
    pub top: Position,
    pub messages: Messages,
    /// The epochs that the log had before this one, oldest first. At most eight.
    pub past: Arc<[u64]>,
    /// Up to this offset the log is the one that was asked from: the top when the epoch is the same, the end of an epoch
    /// that it has left behind. None: it is another log, or nobody asked from anywhere.
    pub shared: Option<u64>,
    /// Nothing is missing between what was asked for and what is here or, with no messages, the top.
    pub whole: bool,
    /// The last of `messages` is the top: there is nothing more to ask for.
    pub complete: bool,
    /// There may be messages after the last of `messages`, which a bound has kept out. Without that, and not complete
    /// either: the newest are too old.
    pub more: bool,
}

impl Range {
    /// Of a log that is the one asked from up to `shared`, what comes after this offset.
    fn after(&self, shared: Option<u64>) -> u64 {
        match (self.since, shared) {
            (Some(since), Some(shared)) => since.offset.min(shared),
            _ => 0,
        }
    }

    /// In messages.
    fn room(&self) -> usize {
        usize::try_from(self.limit).unwrap_or(usize::MAX)
    }
}

/// Makes a page from what a log has: `kept` is in order, all of it or at least what comes after `range.since`, or after
/// the end of its epoch, if that is more than `range.limit` at least so many. `past`: where earlier epochs of the log
/// ended, oldest first.
#[must_use]
pub fn page(
    (top, past): (Position, &[Position]),
    kept: impl IntoIterator<Item = Kept>,
    range: Range,
    now: u64,
) -> Page {
    let shared = range.since.and_then(|since| shared(since.epoch, top, past));
    let after = range.after(shared);
    let fresh = |kept: &Kept| kept.message.timestamp.saturating_add(range.keep.age_ms) > now;
    let mut count = 0;
    let mut messages: Vec<Kept> = kept
        .into_iter()
        .filter(|kept| kept.offset > after)
        .inspect(|_| count += 1)
        .filter(fresh)
        .collect();
    let whole = is_whole(range.since, (top, shared), &messages);
    let fits = fitting(&messages, range);
    let more = fits.end < messages.len() || count >= range.room();
    messages.truncate(fits.end);
    messages.drain(..fits.start);
    let complete = is_complete(&messages, after, top);
    Page {
        top,
        past: past.iter().map(|ended| ended.epoch).collect(),
        messages: messages.into(),
        shared,
        whole,
        complete,
        more: more && !complete,
    }
}

/// Whether nothing is missing between the position and all that the log has after it.
fn is_whole(
    since: Option<Position>,
    (top, shared): (Position, Option<u64>),
    messages: &[Kept],
) -> bool {
    let follows = |since: Position| match messages.first() {
        Some(first) => first.offset == since.offset + 1,
        None => since.offset == top.offset,
    };
    since.is_none_or(|since| shared.is_some_and(|shared| since.offset <= shared) && follows(since))
}

/// Whether these, which come after that offset, end with the top.
fn is_complete(messages: &[Kept], after: u64, top: Position) -> bool {
    messages
        .last()
        .map_or(after == top.offset, |last| last.offset == top.offset)
}

/// Those of the messages that the bounds of a page let in: the first ones, or the newest when nobody asked from anywhere.
fn fitting(messages: &[Kept], range: Range) -> ops::Range<usize> {
    let mut bytes = 0;
    let fits = |kept: &&Kept| {
        bytes += kept.message.data.get().len();
        bytes <= range.bytes
    };
    let (room, len) = (range.room(), messages.len());
    if range.since.is_some() {
        0..messages.iter().take(room).take_while(fits).count()
    } else {
        let newest = messages.iter().rev().take(room);
        len - newest.take_while(fits).count()..len
    }
}

/// Up to which offset the log is the one of that epoch; None: of no epoch that it knows.
fn shared(epoch: u64, top: Position, past: &[Position]) -> Option<u64> {
    if epoch == top.epoch {
        return Some(top.offset);
    }
    let at = past.iter().position(|ended| ended.epoch == epoch)?;
    // What a later one has lost again, this one has no more, either.
    past[at..].iter().map(|ended| ended.offset).min()
}

/// The logs of a broker that keeps them itself. A log goes when all in it is too old. What they take is bounded by
/// `max_bytes`: beyond it, the log that was written to longest ago goes. One that comes back has another epoch.
#[derive(Debug)]
pub struct Logs {
    logs: HashMap<ChannelName, Log>,
    /// By `Log::written`: the one that was written to longest ago first.
    order: BTreeMap<u64, ChannelName>,
    /// Of all data in all logs, and [`ENTRY_BYTES`] for each message and each log.
    bytes: usize,
    max_bytes: usize,
    next_epoch: u64,
    /// Counts the appends.
    clock: u64,
}

/// What a message or a log costs beside its data, about.
const ENTRY_BYTES: usize = 200;

#[derive(Debug)]
struct Log {
    epoch: u64,
    top: u64,
    kept: VecDeque<Kept>,
    bytes: usize,
    /// The append that wrote to it last.
    written: u64,
    /// When its newest message is too old, in milliseconds since the Unix epoch.
    ends: u64,
}

impl Logs {
    /// `epoch`: of the first log, higher than any that was used before; the time of the start will do.
    #[must_use]
    pub fn new(epoch: u64, max_bytes: usize) -> Self {
        Logs {
            logs: HashMap::new(),
            order: BTreeMap::new(),
            bytes: 0,
            max_bytes,
            next_epoch: epoch,
            clock: 0,
        }
    }

    /// `now`: milliseconds since the Unix epoch.
    pub fn append(
        &mut self,
        channel: &ChannelName,
        message: Message,
        keep: Keep,
        now: u64,
    ) -> Position {
        let before = self.log(channel, now.saturating_add(keep.age_ms)).bytes;
        self.clock += 1;
        let clock = self.clock;
        let log = self.log(channel, 0);
        log.append(message, keep, now);
        let (after, position) = (log.bytes, log.position());
        let written = std::mem::replace(&mut log.written, clock);
        self.bytes = self.bytes + after - before;
        self.order.remove(&written);
        self.order.insert(clock, channel.clone());
        self.drop_oldest(now);
        position
    }

    /// From now on, in bytes; `now`: milliseconds since the Unix epoch.
    pub fn set_max_bytes(&mut self, max_bytes: usize, now: u64) {
        self.max_bytes = max_bytes;
        self.drop_oldest(now);
    }

    /// A log begins when it is first asked for: whoever subscribes to a channel without messages has a position, too,
    /// after which it misses none.
    #[must_use]
    pub fn page(&mut self, channel: &ChannelName, range: Range, now: u64) -> Page {
        let log = self.log(channel, now.saturating_add(range.keep.age_ms));
        let page = page((log.position(), &[]), log.kept.iter().cloned(), range, now);
        self.drop_oldest(now);
        page
    }

    /// The channel's log; a new one ends at that time.
    fn log(&mut self, channel: &ChannelName, ends: u64) -> &mut Log {
        let Logs {
            logs,
            order,
            bytes,
            next_epoch,
            clock,
            ..
        } = self;
        logs.entry(channel.clone()).or_insert_with(|| {
            *next_epoch += 1;
            *clock += 1;
            *bytes += ENTRY_BYTES;
            order.insert(*clock, channel.clone());
            Log {
                epoch: *next_epoch,
                top: 0,
                kept: VecDeque::new(),
                bytes: ENTRY_BYTES,
                written: *clock,
                ends,
            }
        })
    }

    /// All that must go, and what is too old as far as it is first in line. The log just written to stays.
    fn drop_oldest(&mut self, now: u64) {
        while self.logs.len() > 1
            && let Some(oldest) = self.order.first_entry()
            && let Some(log) = self.logs.get(oldest.get())
            && (self.bytes > self.max_bytes || log.ends <= now)
        {
            self.bytes -= log.bytes;
            self.logs.remove(&oldest.remove());
        }
    }
}

impl Log {
    fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            offset: self.top,
        }
    }

    fn append(&mut self, message: Message, keep: Keep, now: u64) {
        self.top += 1;
        self.ends = message.timestamp.saturating_add(keep.age_ms);
        self.bytes += cost(&message);
        self.kept.push_back(Kept {
            offset: self.top,
            message,
        });
        let most = usize::try_from(keep.messages).unwrap_or(usize::MAX);
        while self.kept.front().is_some_and(|oldest| {
            self.kept.len() > most || oldest.message.timestamp.saturating_add(keep.age_ms) <= now
        }) {
            if let Some(gone) = self.kept.pop_front() {
                self.bytes -= cost(&gone.message);
            }
        }
    }
}

fn cost(message: &Message) -> usize {
    ENTRY_BYTES + message.data.get().len()
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
