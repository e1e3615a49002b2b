//! Several who want different parts of one log at the same time have them from one page.

use super::{Page, Range, fitting, is_complete, is_whole};

impl Range {
    /// What answers both questions, as far as its bounds let it; None: no page does. Of two that come back to the same
    /// epoch it begins where the one begins that has missed more.
    #[must_use]
    pub fn with(self, other: Range) -> Option<Range> {
        let epoch = |range: Range| range.since.map(|since| since.epoch);
        let alike = self.keep == other.keep && epoch(self) == epoch(other);
        let both = self.since.into_iter().chain(other.since);
        alike.then(|| Range {
            since: both.min_by_key(|since| since.offset),
            limit: self.limit.max(other.limit),
            bytes: self.bytes.max(other.bytes),
            keep: self.keep,
        })
    }
}

impl Page {
    /// What the log would have answered to `wanted` when it answered this to `read`. None: this page does not tell, as it
    /// ends before, or is of something else.
    #[must_use]
    pub fn for_another(&self, read: Range, wanted: Range) -> Option<Page> {
        if read.with(wanted) != Some(read) {
            return None;
        }
        let same = wanted.since == read.since;
        let after = wanted.after(self.shared);
        let first = self.messages.partition_point(|kept| kept.offset <= after);
        let rest = &self.messages[first..];
        let fits = fitting(rest, wanted);
        let stops = fits.end < rest.len() || fits.len() == wanted.room();
        if self.more && !same && (rest.is_empty() || !stops) {
            return None;
        }
        let whole = if same {
            self.whole
        } else {
            is_whole(wanted.since, (self.top, self.shared), rest)
        };
        let messages = self.messages.part(first + fits.start..first + fits.end);
        let complete = is_complete(&messages, after, self.top);
        Some(Page {
            top: self.top,
            past: self.past.clone(),
            shared: self.shared,
            whole,
            complete,
            more: !complete && (self.more || fits.end < rest.len()),
            messages,
        })
    }
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
