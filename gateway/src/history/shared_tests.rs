use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;
use crate::history::{Keep, Kept, page};
use crate::message::{Message, MessageKind, Position};

const KEEP: Keep = Keep {
    messages: 1_000,
    age_ms: 1_000,
};
/// What has this timestamp is just too old.
const OLD: u64 = 10;
const NOW: u64 = 1_010;

fn at(epoch: u64, offset: u64) -> Position {
    Position { epoch, offset }
}

fn range(since: Option<(u64, u64)>, limit: u32, bytes: usize) -> Range {
    Range {
        since: since.map(|(epoch, offset)| at(epoch, offset)),
        limit,
        bytes,
        keep: KEEP,
    }
}

/// All after an offset of epoch 3.
fn after(offset: u64) -> Range {
    range(Some((3, offset)), 100, 1_000)
}

fn kept(offset: u64, bytes: usize, old: bool) -> Kept {
    let data = RawValue::from_string("7".repeat(bytes)).unwrap();
    let message = Message {
        kind: MessageKind::Chat,
        data: data.into(),
        from: None,
        timestamp: if old { OLD } else { OLD + 1 },
        except: None,
        only: None,
    };
    Kept { offset, message }
}

/// All that a client can see of a page.
fn seen(page: &Page) -> (Position, Vec<u64>, Option<u64>, bool, bool) {
    let offsets = page.messages.iter().map(|kept| kept.offset).collect();
    (page.top, offsets, page.shared, page.whole, page.complete)
}

#[test]
fn one_question_answers_both() {
    let other = Keep {
        messages: 1,
        ..KEEP
    };
    let kept_otherwise = |range| Range {
        keep: other,
        ..range
    };
    for (one, another, expected) in [
        (
            range(Some((3, 4)), 5, 60),
            range(Some((3, 2)), 7, 50),
            Some(range(Some((3, 2)), 7, 60)),
        ),
        (
            range(None, 0, 60),
            range(None, 7, 50),
            Some(range(None, 7, 60)),
        ),
        (range(Some((3, 4)), 5, 60), range(Some((2, 4)), 5, 60), None),
        (range(Some((3, 4)), 5, 60), range(None, 5, 60), None),
        (range(None, 5, 60), kept_otherwise(range(None, 5, 60)), None),
    ] {
        assert_eq!(one.with(another), expected, "{one:?} {another:?}");
        assert_eq!(another.with(one), expected, "{another:?} {one:?}");
    }
}

/// The log has 6 to 20 of epoch 3, which follows epoch 2 that ended at 15.
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn a_part_of_a_page_is_what_another_read_would_have_found() {
    let (all, some) = (after(7), range(Some((3, 7)), 4, 1_000));
    let before = range(Some((2, 9)), 100, 1_000);
    let newest = range(None, 9, 1_000);
    for (what, read, wanted, expected) in [
        ("the same", all, all, Some((8..21, true, true))),
        ("later", all, after(18), Some((19..21, true, true))),
        ("at the top", all, after(20), Some((21..21, true, true))),
        (
            "from the future",
            all,
            after(30),
            Some((21..21, false, true)),
        ),
        (
            "by number",
            all,
            range(Some((3, 8)), 2, 1_000),
            Some((9..11, true, false)),
        ),
        (
            "by size",
            all,
            range(Some((3, 8)), 9, 35),
            Some((9..12, true, false)),
        ),
        (
            "a part of a part",
            some,
            range(Some((3, 8)), 2, 1_000),
            Some((9..11, true, false)),
        ),
        (
            "just so many",
            some,
            range(Some((3, 8)), 3, 1_000),
            Some((9..12, true, false)),
        ),
        (
            "one more than there is",
            some,
            range(Some((3, 8)), 4, 1_000),
            None,
        ),
        ("beyond the end", some, range(Some((3, 11)), 1, 1_000), None),
        (
            "nothing, beyond the end",
            some,
            range(Some((3, 11)), 0, 1_000),
            None,
        ),
        ("earlier", all, after(6), None),
        ("more", some, range(Some((3, 8)), 5, 1_000), None),
        ("larger", some, range(Some((3, 8)), 2, 1_001), None),
        ("another epoch", all, before, None),
        ("the newest", all, newest, None),
        (
            "before a failover",
            before,
            range(Some((2, 12)), 100, 1_000),
            Some((13..21, true, true)),
        ),
        (
            "lost in it",
            before,
            range(Some((2, 16)), 100, 1_000),
            Some((16..21, false, true)),
        ),
        (
            "few of the newest",
            newest,
            range(None, 2, 1_000),
            Some((19..21, true, true)),
        ),
        (
            "small ones",
            newest,
            range(None, 9, 35),
            Some((18..21, true, true)),
        ),
        (
            "where it stands",
            newest,
            range(None, 0, 1_000),
            Some((21..21, true, false)),
        ),
    ] {
        let log = || (6..=20).map(|offset| kept(offset, 10, false));
        let log_at = |range| page((at(3, 20), &[at(2, 15)]), log(), range, NOW);
        let found = log_at(read).for_another(read, wanted);
        let expected = expected.map(|(offsets, whole, complete)| {
            let own = seen(&log_at(wanted));
            let told = (offsets.collect(), whole, complete);
            assert_eq!(
                (own.1.clone(), own.3, own.4),
                told,
                "{what}: a read of its own"
            );
            own
        });
        assert_eq!(found.as_ref().map(seen), expected, "{what}");
    }
}

#[test]
fn parts_of_a_page_share_its_messages() {
    let read = after(0);
    let log = (1..=20).map(|offset| kept(offset, 10, false));
    let all = page((at(3, 20), &[]), log, read, NOW);
    let part = all.for_another(read, after(5));
    let part = part.expect("it is there");
    assert!(std::ptr::eq(
        &raw const all.messages[5],
        &raw const part.messages[0]
    ));
}

fn asked() -> impl Strategy<Value = (Option<(u64, u64)>, u32, usize)> {
    // Epochs: this one, one that is past, and one that nobody knows.
    let since =
        prop::option::weighted(0.9, (prop::sample::select(vec![3_u64, 3, 2, 9]), 0..25_u64));
    (
        since,
        0..25_u32,
        prop::sample::select(vec![0_usize, 10, 40, 1_000]),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Of any log, and of any two that ask at the same time.
    #[test]
    fn whoever_shares_a_page_gets_the_page_of_a_read_of_its_own(
        first in 1..20_u64,
        entries in vec((0..30_usize, prop::bool::weighted(0.2)), 0..20),
        above in prop::sample::select(vec![0_u64, 0, 1]),
        ended in 0..25_u64,
        asked in [asked(), asked()],
    ) {
        let log: Vec<Kept> = (first..)
            .zip(&entries)
            .map(|(offset, (bytes, old))| kept(offset, *bytes + 1, *old))
            .collect();
        // More than the last one, when the newest are gone from the log already.
        let top = log.last().map_or(first - 1, |kept| kept.offset) + above;
        let ended = [at(2, ended.min(top))];
        let log_at = |range| page((at(3, top), &ended), log.iter().cloned(), range, NOW);
        let asked = asked.map(|(since, limit, bytes)| range(since, limit, bytes));
        if let Some(both) = asked[0].with(asked[1]) {
            let read = log_at(both);
            let found = asked.map(|wanted| (wanted, read.for_another(both, wanted)));
            for (wanted, found) in &found {
                match found {
                    Some(found) => prop_assert_eq!(seen(found), seen(&log_at(*wanted)), "{:?}", wanted),
                    None => prop_assert!(read.more, "{wanted:?} {read:?}"),
                }
            }
            prop_assert!(found.iter().any(|(wanted, found)| wanted.since != both.since || found.is_some()));
        }
    }

    /// A broker that gives no more entries than were asked for: `page` does not see what else there is.
    #[test]
    fn nobody_takes_the_end_of_a_read_for_the_end_of_the_log(
        count in 0..20_u64,
        asked in [(0..25_u64, 1..25_u32), (0..25_u64, 1..25_u32)],
    ) {
        let log_at = |range: Range| {
            let after = range.since.map_or(0, |since| since.offset);
            let log = (after + 1..=count).take(range.room()).map(|offset| kept(offset, 10, false));
            page((at(3, count), &[]), log, range, NOW)
        };
        let asked = asked.map(|(offset, limit)| range(Some((3, offset)), limit, 1_000));
        let both = asked[0].with(asked[1]).expect("they are alike");
        let read = log_at(both);
        for wanted in asked {
            if let Some(found) = read.for_another(both, wanted) {
                prop_assert_eq!(seen(&found), seen(&log_at(wanted)), "{:?}", wanted);
            }
        }
    }
}
