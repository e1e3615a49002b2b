//! Channels with their subscribers, a page at a time. Pure.

use std::collections::{BTreeMap, BinaryHeap};

use crate::name::{ChannelKind, ChannelName};

/// Which channels. In the order of their names' bytes.
#[derive(Debug, Clone)]
pub struct Query {
    /// Begins their names.
    pub prefix: String,
    /// They come after this name.
    pub after: Option<ChannelName>,
    /// At most so many.
    pub limit: usize,
}

/// Channels and how many subscribers each has, in order.
pub type Page = Vec<(ChannelName, u64)>;

/// The first of `channels` that match and have a subscriber. Holds no more than a page at any time.
pub fn page<'a>(channels: impl Iterator<Item = (&'a ChannelName, usize)>, query: &Query) -> Page {
    let mut first = BinaryHeap::new();
    for (channel, count) in channels {
        let name = channel.as_str();
        let comes = query.after.as_ref().is_none_or(|after| channel > after);
        let own = channel.kind() == ChannelKind::SelfTest;
        if count == 0 || own || !comes || !name.starts_with(&query.prefix) {
            continue;
        }
        let full = first.len() >= query.limit;
        if full && first.peek().is_none_or(|(last, _)| *last <= channel) {
            continue;
        }
        if full {
            first.pop();
        }
        first.push((channel, count as u64));
    }
    let page = first.into_sorted_vec().into_iter();
    page.map(|(channel, count)| (channel.clone(), count))
        .collect()
}

/// One page of several shards' pages for the same query: a name that is among the first of all is among the first
/// of every shard that has it, so no count is cut.
pub fn merge(pages: impl IntoIterator<Item = Page>, limit: usize) -> Page {
    let mut all = BTreeMap::new();
    for (channel, count) in pages.into_iter().flatten() {
        *all.entry(channel).or_insert(0) += count;
    }
    all.into_iter().take(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    fn written(page: &Page) -> String {
        let rows: Vec<_> = page
            .iter()
            .map(|(c, count)| format!("{c}={count}"))
            .collect();
        rows.join(" ")
    }

    #[test]
    fn pages() {
        let here = [
            "d",
            "room:b",
            "a",
            "room:a",
            "empty",
            "c",
            "b",
            "room:c",
            "node:x:self-test",
        ]
        .map(name);
        let counts = here.iter().zip([4, 9, 1, 8, 0, 3, 2, 7, 1]);
        for (prefix, after, limit, expected) in [
            ("", None, 3, "a=1 b=2 c=3"),
            ("", Some("c"), 3, "d=4 room:a=8 room:b=9"),
            ("", Some("room:b"), 3, "room:c=7"),
            ("", Some("room:c"), 3, ""),
            ("", None, 100, "a=1 b=2 c=3 d=4 room:a=8 room:b=9 room:c=7"),
            ("room:", None, 2, "room:a=8 room:b=9"),
            ("room:", Some("room:a"), 1, "room:b=9"),
            ("nothing", None, 3, ""),
            ("", None, 0, ""),
        ] {
            let query = Query {
                prefix: prefix.into(),
                after: after.map(name),
                limit,
            };
            let found = page(counts.clone(), &query);
            assert_eq!(written(&found), expected, "{query:?}");
        }
    }

    #[test]
    fn shards_together() {
        let one = vec![(name("a"), 1), (name("c"), 2)];
        let other = vec![(name("b"), 3), (name("c"), 4)];
        for (limit, expected) in [(2, "a=1 b=3"), (3, "a=1 b=3 c=6"), (9, "a=1 b=3 c=6")] {
            let found = merge([one.clone(), other.clone()], limit);
            assert_eq!(written(&found), expected);
        }
    }
}
