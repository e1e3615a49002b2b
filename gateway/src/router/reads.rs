//! Which parts of logs are being read, and for whom. Pure. Thousands that come back after a gateway was lost stand at
//! different places of one channel; they get their parts from a few reads instead of one each.
//!
//! Whoever asks while a read is under way waits for the next one: the answer may be of before the question, and then a
//! message that came between the two would be in neither it nor what is delivered live.

use std::collections::HashMap;

use crate::history::{Keep, Page, Range};
use crate::name::ChannelName;

/// See the module. `A` is who wants the answer.
pub(super) struct Reads<A> {
    /// Of each read that is under way and that others may follow, who waits for the next one.
    under_way: HashMap<Alike, Vec<(Range, A)>>,
    askers: usize,
}

/// Questions that one page may answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Alike {
    channel: ChannelName,
    keep: Keep,
    /// Of those who come back; None: of those who want the newest.
    epoch: Option<u64>,
}

/// To be made now.
#[derive(Debug)]
pub(super) struct Read<A> {
    pub channel: ChannelName,
    pub range: Range,
    askers: Vec<(Range, A)>,
    /// Of those that another read did not cover; nobody waits for its end.
    aside: bool,
}

/// What is to be done when a read has ended: who gets what, and what is to be read then.
pub(super) type Ended<A, E> = (Vec<(A, Result<Page, E>)>, Vec<Read<A>>);

impl<A> Default for Reads<A> {
    fn default() -> Self {
        Reads {
            under_way: HashMap::new(),
            askers: 0,
        }
    }
}

impl<A> Reads<A> {
    /// What is to be read, unless the asker waits.
    pub(super) fn ask(&mut self, channel: ChannelName, range: Range, asker: A) -> Option<Read<A>> {
        self.askers += 1;
        let alike = Alike::of(&channel, range);
        if let Some(waiting) = self.under_way.get_mut(&alike) {
            waiting.push((range, asker));
            return None;
        }
        self.under_way.insert(alike, Vec::new());
        Some(Read {
            channel,
            range,
            askers: vec![(range, asker)],
            aside: false,
        })
    }

    /// What was found answers everybody it covers. The others read for themselves, those with the same question together.
    pub(super) fn ended<E: Clone>(
        &mut self,
        read: Read<A>,
        found: &Result<Page, E>,
    ) -> Ended<A, E> {
        let (mut answers, mut left) = (Vec::new(), HashMap::<Range, Vec<(Range, A)>>::new());
        for (range, asker) in read.askers {
            let answer = match found {
                Ok(page) if range == read.range => Some(Ok(page.clone())),
                Ok(page) => page.for_another(read.range, range).map(Ok),
                Err(error) => Some(Err(error.clone())),
            };
            match answer {
                Some(answer) => answers.push((asker, answer)),
                None => left.entry(range).or_default().push((range, asker)),
            }
        }
        self.askers -= answers.len();
        let channel = read.channel;
        let aside = |(range, askers)| Read {
            channel: channel.clone(),
            range,
            askers,
            aside: true,
        };
        let mut reads: Vec<_> = left.into_iter().map(aside).collect();
        if !read.aside {
            reads.extend(self.next(channel, read.range));
        }
        (answers, reads)
    }

    /// For those who have asked meanwhile.
    fn next(&mut self, channel: ChannelName, last: Range) -> Option<Read<A>> {
        let alike = Alike::of(&channel, last);
        let askers = self.under_way.remove(&alike)?;
        let ranges = askers.iter().map(|(range, _)| *range);
        // All of them are alike.
        let range = ranges.reduce(|all, one| all.with(one).unwrap_or(all))?;
        self.under_way.insert(alike, Vec::new());
        Some(Read {
            channel,
            range,
            askers,
            aside: false,
        })
    }

    /// Who waits for an answer.
    pub(super) fn askers(&self) -> usize {
        self.askers
    }
}

impl Alike {
    fn of(channel: &ChannelName, range: Range) -> Alike {
        Alike {
            channel: channel.clone(),
            keep: range.keep,
            epoch: range.since.map(|since| since.epoch),
        }
    }
}

#[cfg(test)]
#[path = "reads_tests.rs"]
mod tests;
