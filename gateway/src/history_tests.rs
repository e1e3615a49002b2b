use serde_json::value::to_raw_value;

use super::*;
use crate::message::MessageKind;

const KEEP: Keep = Keep {
    messages: 3,
    age_ms: 1_000,
};

fn name(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

fn message(data: &str, timestamp: u64) -> Message {
    Message {
        kind: MessageKind::Chat,
        data: to_raw_value(data).unwrap().into(),
        from: None,
        timestamp,
        except: None,
        only: None,
    }
}

fn since(epoch: u64, offset: u64) -> Option<Position> {
    Some(Position { epoch, offset })
}

fn range(since: Option<Position>, limit: u32) -> Range {
    Range {
        since,
        limit,
        bytes: 1_000,
        keep: KEEP,
    }
}

fn offsets(page: &Page) -> Vec<u64> {
    page.messages.iter().map(|kept| kept.offset).collect()
}

#[test]
fn what_somebody_is_owed_and_whether_all_of_it_is_here() {
    let mut logs = Logs::new(40, 1 << 20);
    for at in 1..=5 {
        let position = logs.append(&name("news"), message("x", at), KEEP, at);
        assert_eq!(
            position,
            Position {
                epoch: 41,
                offset: at
            }
        );
    }
    for (what, since, limit, expected, whole, complete) in [
        ("the newest", None, 10, vec![3, 4, 5], true, true),
        ("the newest two", None, 2, vec![4, 5], true, true),
        ("none at all", None, 0, vec![], true, false),
        (
            "all that was missed",
            since(41, 3),
            10,
            vec![4, 5],
            true,
            true,
        ),
        ("the first of them", since(41, 3), 1, vec![4], true, false),
        ("just kept", since(41, 2), 10, vec![3, 4, 5], true, true),
        ("one too old", since(41, 1), 10, vec![3, 4, 5], false, true),
        ("nothing missed", since(41, 5), 10, vec![], true, true),
        ("from the future", since(41, 6), 10, vec![], false, true),
        (
            "another epoch",
            since(40, 4),
            10,
            vec![3, 4, 5],
            false,
            true,
        ),
    ] {
        let page = logs.page(&name("news"), range(since, limit), 10);
        assert_eq!(page.top.offset, 5, "{what}");
        assert_eq!(offsets(&page), expected, "{what}");
        assert_eq!((page.whole, page.complete), (whole, complete), "{what}");
    }
    let fresh = logs.page(&name("other"), range(since(41, 5), 1), 10);
    assert_eq!((fresh.top.offset, fresh.whole), (0, false));
    assert_eq!(
        logs.append(&name("other"), message("x", 11), KEEP, 11),
        Position {
            epoch: fresh.top.epoch,
            offset: 1
        },
        "a log begins when it is first asked for"
    );
}

#[test]
fn what_is_too_old_is_not_shown_and_goes_with_the_next_message() {
    let mut logs = Logs::new(0, 1 << 20);
    logs.append(&name("news"), message("1", 100), KEEP, 100);
    logs.append(&name("news"), message("2", 600), KEEP, 600);
    let mut page = |since, now| logs.page(&name("news"), range(since, 9), now);
    assert_eq!(offsets(&page(None, 1_099)), [1, 2]);
    assert_eq!(offsets(&page(None, 1_100)), [2]);
    let missed = page(since(1, 0), 1_100);
    assert!(!missed.whole, "the first one is gone");
    let gone = page(since(1, 1), 9_000);
    assert_eq!((offsets(&gone), gone.whole), (vec![], false));
    logs.append(&name("news"), message("3", 9_000), KEEP, 9_000);
    assert_eq!(logs.logs[&name("news")].kept.len(), 1);
}

#[test]
fn bytes_bound_a_page_at_the_right_end() {
    let mut logs = Logs::new(0, 1 << 20);
    for at in 1..=3 {
        // Seven bytes with its quotes.
        logs.append(&name("news"), message("abcde", at), KEEP, at);
    }
    let mut page = |since| {
        let range = Range {
            bytes: 15,
            ..range(since, 9)
        };
        logs.page(&name("news"), range, 5)
    };
    let newest = page(None);
    assert_eq!((offsets(&newest), newest.complete), (vec![2, 3], true));
    let missed = page(since(1, 0));
    assert_eq!((offsets(&missed), missed.complete), (vec![1, 2], false));
}

#[test]
fn the_log_that_was_written_longest_ago_makes_room_and_begins_anew() {
    let mut logs = Logs::new(0, 3 * ENTRY_BYTES + 1_000);
    let big = "x".repeat(600);
    let first = logs.append(&name("a"), message(&big, 1), KEEP, 1);
    let second = logs.append(&name("b"), message(&big, 2), KEEP, 2);
    assert!(!logs.logs.contains_key(&name("a")));
    assert!(logs.logs.contains_key(&name("b")));
    let again = logs.append(&name("a"), message("x", 3), KEEP, 3);
    assert!(first.epoch < second.epoch && second.epoch < again.epoch);
    assert_eq!(again.offset, 1);
    let counted: usize = logs.logs.values().map(|log| log.bytes).sum();
    assert_eq!(logs.bytes, counted);
    assert!(logs.bytes <= logs.max_bytes);
}

#[test]
fn a_log_goes_when_all_in_it_is_too_old() {
    let mut logs = Logs::new(0, 1 << 20);
    logs.append(&name("a"), message("x", 100), KEEP, 100);
    logs.append(&name("b"), message("x", 900), KEEP, 900);
    logs.append(&name("c"), message("x", 1_100), KEEP, 1_100);
    assert_eq!((logs.logs.len(), logs.order.len()), (2, 2), "a is gone");
    logs.append(&name("c"), message("x", 5_000), KEEP, 5_000);
    assert_eq!((logs.logs.len(), logs.order.len()), (1, 1));
}

/// What is after its own failover (epoch 3, at 20) of what was kept before two others (1 ended at 10, 2 at 15).
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn who_was_there_until_an_epoch_ended_missed_nothing_else() {
    let past = [(1, 10), (2, 15)];
    let lost_again = [(1, 10), (2, 7)];
    let dropped = [(2, 15)];
    let none: [(u64, u64); 0] = [];
    for (what, past, asked, first, shared, whole) in [
        (
            "as far as the epoch went",
            &past[..],
            (2, 15),
            16,
            Some(15),
            true,
        ),
        ("not so far", &past, (2, 12), 13, Some(15), true),
        (
            "further: it has what is lost",
            &past,
            (2, 16),
            16,
            Some(15),
            false,
        ),
        ("two epochs ago", &past, (1, 10), 11, Some(10), true),
        (
            "further, two epochs ago",
            &past,
            (1, 11),
            11,
            Some(10),
            false,
        ),
        ("the same epoch", &past, (3, 18), 19, Some(20), true),
        ("from the future", &past, (3, 21), 21, Some(20), false),
        ("an epoch nobody knows", &past, (4, 12), 6, None, false),
        (
            "one that is too long ago",
            &dropped,
            (1, 10),
            6,
            None,
            false,
        ),
        ("a log without failovers", &none, (2, 15), 6, None, false),
        (
            "as far as the later one kept",
            &lost_again,
            (1, 7),
            8,
            Some(7),
            true,
        ),
        (
            "lost by the later one",
            &lost_again,
            (1, 9),
            8,
            Some(7),
            false,
        ),
        (
            "too old, whatever the epoch",
            &past,
            (1, 4),
            6,
            Some(10),
            false,
        ),
    ] {
        let position = |&(epoch, offset): &(u64, u64)| Position { epoch, offset };
        let past: Vec<_> = past.iter().map(position).collect();
        let top = Position {
            epoch: 3,
            offset: 20,
        };
        let kept = (6..=20).map(|offset| Kept {
            offset,
            message: message("x", 1),
        });
        let range = range(since(asked.0, asked.1), 100);
        let page = page((top, &past), kept, range, 10);
        let expected: Vec<u64> = (first..=20).collect();
        assert_eq!(offsets(&page), expected, "{what}");
        assert_eq!((page.shared, page.whole), (shared, whole), "{what}");
        assert!(page.complete, "{what}");
    }
}
