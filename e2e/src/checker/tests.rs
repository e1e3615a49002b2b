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

/// Whose messages 1 to 4 were accepted, 5 was not answered and 6 was refused.
fn channel(heard: &[Heard], end: Position) -> Channel {
    let outcome = |sequence| match sequence {
        // Over HTTP.
        2 => Outcome::Accepted(None),
        1..=4 => Outcome::Accepted(Some(at(1, sequence))),
        5 => Outcome::Unknown,
        _ => Outcome::Refused,
    };
    let published = (1..=6).map(|sequence| Published {
        number: number(sequence),
        outcome: outcome(sequence),
    });
    Channel {
        name: "a".into(),
        published: published.collect(),
        histories: vec![History {
            name: "s".into(),
            heard: heard.to_vec(),
        }],
        end: End {
            number: number(end.offset),
            position: end,
        },
        log_survives: false,
    }
}

fn first(channel: &Channel) -> String {
    let breaches = judge(channel);
    breaches.first().map_or("none".into(), ToString::to_string)
}

fn first_breach(heard: &[Heard], end: Position) -> String {
    first(&channel(heard, end))
}

fn messages(offsets: std::ops::RangeInclusive<u64>) -> impl Iterator<Item = Heard> {
    offsets.map(message)
}

#[test]
fn what_is_as_promised() {
    let all = || messages(1..=4);
    let begin = || [subscribed(1, 0, None)].into_iter();
    let again = [Ended, subscribed(1, 4, Some(true))];
    for heard in [
        begin().chain(all()).collect::<Vec<_>>(),
        begin()
            .chain(messages(1..=2))
            .chain(again)
            .chain(messages(3..=4))
            .collect(),
        // Another master, from the first message on.
        [subscribed(9, 0, None), Ended, subscribed(1, 2, Some(true))]
            .into_iter()
            .chain(all())
            .collect(),
        begin()
            .chain(messages(1..=2))
            .chain([moved(2, 2, true), message(3), message(4)])
            .collect(),
        // Another log.
        vec![
            subscribed(2, 7, None),
            Ended,
            subscribed(1, 3, Some(false)),
            message(4),
        ],
        vec![subscribed(2, 7, None), moved(1, 3, false), message(4)],
        // The same one under another epoch.
        [subscribed(9, 0, None), Ended, subscribed(1, 4, Some(true))]
            .into_iter()
            .chain(all())
            .collect(),
        [subscribed(9, 0, None), moved(1, 0, true)]
            .into_iter()
            .chain(all())
            .collect(),
        [subscribed(9, 0, None)]
            .into_iter()
            .chain(messages(1..=3))
            .chain([moved(1, 3, true), message(4)])
            .collect(),
        [subscribed(9, 7, None), moved(1, 0, true)]
            .into_iter()
            .chain(all())
            .collect(),
    ] {
        assert_eq!(first_breach(&heard, at(1, 4)), "none", "{heard:?}");
    }
    let unanswered: Vec<_> = begin().chain(messages(1..=5)).collect();
    assert_eq!(first_breach(&unanswered, at(1, 5)), "none");
}

#[test]
fn who_publishes_is_not_lied_to() {
    let silent = [subscribed(1, 2, None), message(3), message(4)];
    let breach = first_breach(&silent, at(1, 4));
    assert!(breach.contains("sequence: 1 } was accepted, and nobody"));
    let mut twice = channel(&[subscribed(1, 3, None), message(4)], at(1, 4));
    twice.published[1].outcome = Outcome::Accepted(Some(at(1, 1)));
    assert!(first(&twice).contains("and so was"), "{}", first(&twice));
}

#[test]
fn a_log_that_survives_is_no_excuse() {
    for (heard, expected) in [
        (moved(1, 3, false), "s [1]: told of a loss"),
        (moved(1, 3, true), "s [1]: from Position"),
        (moved(1, 0, true), "s [1]: from Position"),
        (subscribed(1, 3, Some(false)), "s [1]: told of a loss"),
    ] {
        let heard = [subscribed(2, 7, None), heard, message(4)];
        let mut channel = channel(&heard, at(1, 4));
        channel.log_survives = true;
        assert!(first(&channel).starts_with(expected), "{}", first(&channel));
    }
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
            &[subscribed(2, 4, None), Ended, subscribed(1, 3, Some(true))],
            3,
            "s [2]: Position { epoch: 2, offset: 4 } was recovered",
        ),
        (
            &[subscribed(1, 1, None), Ended, subscribed(1, 3, None)],
            3,
            "s [2]: not told",
        ),
        (
            &[subscribed(1, 1, None), moved(1, 3, true)],
            3,
            "s [1]: from",
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

#[test]
fn a_loss_is_told_when_there_is_one_and_only_then() {
    for (first, second, expected) in [
        (
            subscribed(1, 1, None),
            moved(1, 3, false),
            "s [1]: told of a loss",
        ),
        (
            subscribed(1, 1, None),
            moved(1, 1 + LOG_KEEPS, false),
            "s [1]: told of a loss",
        ),
        // Away for longer than the log reaches back.
        (
            subscribed(1, 1, None),
            moved(1, 2 + LOG_KEEPS, false),
            "none",
        ),
        (
            subscribed(1, 3, None),
            moved(2, 0, true),
            "s [1]: from Position { epoch: 1, offset: 3 } to Position { epoch: 2, offset: 0 } with no loss, but",
        ),
    ] {
        let breach = first_breach(&[first, second], at(1, 3));
        assert!(breach.starts_with(expected), "{breach}");
    }
}

#[test]
fn what_a_failover_lost_is_not_passed_over() {
    let other = Published {
        number: Number {
            publisher: 1,
            sequence: 0,
        },
        outcome: Outcome::Accepted(Some(at(9, 2))),
    };
    let lost = Message {
        offset: 2,
        number: other.number,
    };
    let rest = [message(3), message(4)];
    let stayed = [subscribed(1, 0, None), message(1), lost];
    let again: Vec<_> = [subscribed(1, 0, None), message(1), moved(2, 1, true)].into();
    let again: Vec<_> = again.into_iter().chain(messages(2..=4)).collect();
    for (told, expected) in [
        (moved(2, 2, true), "s [3]: from Position"),
        (moved(2, 2, false), "none"),
    ] {
        let heard: Vec<_> = stayed.into_iter().chain([told]).chain(rest).collect();
        let mut channel = channel(&heard, at(1, 4));
        channel.published.push(other);
        channel.histories.push(History {
            name: "t".into(),
            heard: again.clone(),
        });
        assert!(first(&channel).starts_with(expected), "{}", first(&channel));
    }
}
