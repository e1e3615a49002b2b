use super::*;

/// What a subscriber hears.
#[derive(Debug, Clone, Copy)]
enum Heard {
    /// Epoch and offset of the log, and `recovered`.
    Subscribed(Option<(u64, u64)>, Option<bool>),
    Moved((u64, u64), bool),
    /// Offset, publisher, sequence.
    Message(Option<u64>, u64, u64),
    /// Of somebody else.
    Foreign(u64),
}
use Heard::{Foreign, Message, Moved, Subscribed};

fn position((epoch, offset): (u64, u64)) -> Position {
    Position { epoch, offset }
}

fn judged(heard: &[Heard]) -> Found {
    let mut judge = Judge::default();
    let mut found = Found::default();
    for heard in heard {
        found.add(match *heard {
            Subscribed(at, recovered) => judge.subscribed(at.map(position), recovered),
            Moved(at, recovered) => judge.moved(position(at), recovered),
            Message(offset, publisher, sequence) => judge.message(
                offset,
                Some(Stamp {
                    publisher,
                    sequence,
                }),
            ),
            Foreign(offset) => judge.message(Some(offset), None),
        });
    }
    found
}

const fn found(lost: u64, doubled: u64, reordered: u64, told: u64) -> Found {
    Found {
        lost,
        doubled,
        reordered,
        told,
    }
}

/// The first acknowledgement, at offset 10.
const FIRST: Heard = Subscribed(Some((1, 10)), None);

/// What is heard with history, and what is found in it.
const WITH_HISTORY: &[(&str, &[Heard], Found)] = &[
    (
        "in order, two publishers",
        &[
            FIRST,
            Message(Some(11), 1, 7),
            Message(Some(12), 2, 0),
            Message(Some(13), 1, 8),
            Foreign(14),
        ],
        found(0, 0, 0, 0),
    ),
    (
        "away, and all that was missed follows",
        &[
            FIRST,
            Message(Some(11), 1, 0),
            Subscribed(Some((1, 13)), Some(true)),
            Message(Some(12), 1, 1),
            Message(Some(13), 1, 2),
            Message(Some(14), 1, 3),
        ],
        found(0, 0, 0, 0),
    ),
    (
        "recovered, and yet one of what was missed is not there",
        &[
            FIRST,
            Message(Some(11), 1, 0),
            Subscribed(Some((1, 13)), Some(true)),
            Message(Some(13), 1, 2),
        ],
        found(1, 0, 0, 0),
    ),
    (
        "told of a loss, and then in order",
        &[
            FIRST,
            Message(Some(11), 1, 0),
            Subscribed(Some((1, 90)), Some(false)),
            Message(Some(91), 1, 80),
            Message(Some(92), 1, 81),
        ],
        found(0, 0, 0, 1),
    ),
    (
        "an excuse is for one gap only",
        &[
            FIRST,
            Message(Some(11), 1, 0),
            Subscribed(Some((1, 90)), Some(false)),
            Message(Some(91), 1, 80),
            Message(Some(92), 1, 82),
        ],
        found(1, 0, 0, 1),
    ),
    (
        "back, and not told whether something is missing",
        &[
            FIRST,
            Message(Some(11), 1, 0),
            Subscribed(Some((1, 15)), None),
            Message(Some(16), 1, 5),
        ],
        found(4, 0, 0, 0),
    ),
    (
        "a gap is counted once, of whichever publisher it is",
        &[
            FIRST,
            Message(Some(11), 1, 0),
            Message(Some(12), 2, 0),
            Message(Some(15), 1, 2),
            Message(Some(16), 2, 2),
        ],
        found(2, 0, 0, 0),
    ),
    (
        "the log has no gap, but the publisher's messages have",
        &[FIRST, Message(Some(11), 1, 0), Message(Some(12), 1, 3)],
        found(2, 0, 0, 0),
    ),
    (
        "a second time",
        &[
            FIRST,
            Message(Some(11), 1, 0),
            Message(Some(12), 1, 1),
            Message(Some(11), 1, 0),
            Foreign(12),
        ],
        found(0, 2, 0, 0),
    ),
    (
        "the same message at two offsets",
        &[FIRST, Message(Some(11), 1, 0), Message(Some(12), 1, 0)],
        found(0, 1, 0, 0),
    ),
    (
        "later than its place: missing until then",
        &[
            FIRST,
            Message(Some(11), 1, 0),
            Message(Some(13), 1, 2),
            Message(Some(12), 1, 1),
            Message(Some(14), 1, 3),
        ],
        found(1, 0, 1, 0),
    ),
    (
        "before the acknowledgement",
        &[Message(Some(11), 1, 0)],
        found(0, 0, 1, 0),
    ),
    (
        "recovered in a log that ends before what was heard",
        &[
            FIRST,
            Message(Some(11), 1, 0),
            Subscribed(Some((2, 10)), Some(true)),
        ],
        found(0, 0, 1, 0),
    ),
    (
        "another epoch of the same log",
        &[
            FIRST,
            Message(Some(11), 1, 0),
            Moved((2, 11), true),
            Message(Some(12), 1, 1),
        ],
        found(0, 0, 0, 0),
    ),
    (
        "moved with a loss, and without one where there is one",
        &[
            FIRST,
            Message(Some(11), 1, 0),
            Moved((2, 20), false),
            Message(Some(21), 1, 9),
            Moved((2, 24), true),
        ],
        found(3, 0, 0, 1),
    ),
];

#[test]
fn with_history_every_message_counts() {
    for (name, heard, expected) in WITH_HISTORY {
        assert_eq!(judged(heard), *expected, "{name}");
    }
}

#[test]
fn without_history_nothing_is_missing_from_the_time_away() {
    let heard = [
        Subscribed(None, None),
        Message(None, 1, 5),
        Message(None, 1, 6),
        Subscribed(None, None),
        Message(None, 1, 20),
    ];
    assert_eq!(judged(&heard), found(0, 0, 0, 0));
    let gap = [
        Message(None, 1, 22),
        Message(None, 1, 20),
        Message(None, 1, 21),
    ];
    assert_eq!(judged(&[&heard[..], &gap].concat()), found(1, 1, 1, 0));
}

#[test]
fn memory_has_an_end_and_what_is_older_counts_as_heard() {
    let mut judge = Judge::default();
    for publisher in 0..100 {
        for sequence in [0, 100] {
            let stamp = Stamp {
                publisher,
                sequence,
            };
            judge.message(None, Some(stamp));
        }
    }
    assert_eq!(judge.publishers.len(), PUBLISHERS);
    for (sequence, expected) in [(100, 1), (99, 0), (99, 1), (37, 0), (36, 1), (0, 1)] {
        let stamp = Stamp {
            publisher: 99,
            sequence,
        };
        assert_eq!(
            judge.message(None, Some(stamp)).doubled,
            expected,
            "{sequence}"
        );
    }
}

#[test]
fn who_is_behind_at_the_end_is_missing_the_rest() {
    let mut judge = Judge::default();
    assert_eq!(judge.behind(position((1, 9))), 0, "never acknowledged");
    judge.subscribed(Some(position((1, 5))), None);
    for (end, expected) in [((1, 5), 0), ((1, 9), 4), ((1, 3), 0), ((2, 9), 0)] {
        assert_eq!(judge.behind(position(end)), expected, "{end:?}");
    }
}
