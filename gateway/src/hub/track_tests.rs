use serde_json::value::to_raw_value;

use super::*;
use crate::history::Kept;
use crate::message::MessageKind;
use crate::name::ChannelName;

fn at(epoch: u64, offset: u64) -> Position {
    Position { epoch, offset }
}

fn message(offset: u64) -> Message {
    Message {
        kind: MessageKind::Chat,
        data: to_raw_value(&offset).unwrap().into(),
        from: None,
        timestamp: 1,
        except: None,
        only: None,
    }
}

/// What happens to a track, in the tables below.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A delivery with this epoch and offset.
    Comes(u64, u64),
    /// One that the log does not keep.
    Unkept,
    /// The log is asked, if that is wanted.
    Asked,
    /// It stands at this epoch and offset, and has all from the third number on, as far as it was asked for.
    Answers(u64, u64, u64),
    /// As before, but only so many of what was asked for.
    AnswersPart(u64, u64, u64, usize),
    /// It goes on under this epoch, stands at this offset, and has of epoch 1 what came up to the third number.
    GoesOn(u64, u64, u64),
    Fails,
    Away,
    Back,
}
use Step::{Answers, AnswersPart, Asked, Away, Back, Comes, Fails, GoesOn, Unkept};

/// A track that begins at 1:3, after these steps: what subscribers heard, a word each, and whether the log is wanted.
fn play(steps: &[Step]) -> (String, bool) {
    let mut track = Track::default();
    track.begin(at(1, 3));
    let (mut out, mut number, mut since) = (Vec::new(), 0, at(0, 0));
    for step in steps {
        match *step {
            Comes(epoch, offset) => {
                track.receive(delivery(Some(at(epoch, offset))), &mut out);
            }
            Unkept => {
                track.receive(delivery(None), &mut out);
            }
            Asked => {
                number += 1;
                since = track.ask(number).expect("the log is wanted");
            }
            Answers(epoch, top, first) => {
                track.answer(number, &page(at(epoch, top), first, since), &mut out);
            }
            AnswersPart(epoch, top, first, limit) => {
                let mut page = page(at(epoch, top), first, since);
                page.messages = page.messages.part(0..limit);
                (page.complete, page.more) = (false, true);
                track.answer(number, &page, &mut out);
            }
            GoesOn(epoch, top, shared) => {
                let after = at(epoch, since.offset.min(shared));
                let mut page = page(at(epoch, top), 1, after);
                page.shared = Some(shared);
                track.answer(number, &page, &mut out);
            }
            Fails => assert!(track.failed(number)),
            Away => track.away(),
            Back => track.back(),
        }
    }
    let heard: Vec<_> = out.iter().map(word).collect();
    (heard.join(" "), track.wants_log())
}

fn delivery(position: Option<Position>) -> Delivery {
    Delivery {
        channel: ChannelName::parse("news").unwrap(),
        message: message(position.map_or(0, |position| position.offset)),
        position,
    }
}

/// As a log answers to somebody who is at `since`.
fn page(top: Position, first: u64, since: Position) -> Page {
    let after = if since.epoch == top.epoch {
        since.offset
    } else {
        0
    };
    let offsets = first.max(after + 1)..=top.offset;
    let messages = offsets.map(|offset| Kept {
        offset,
        message: message(offset),
    });
    Page {
        top,
        messages: messages.collect(),
        past: [].into(),
        shared: (since.epoch == top.epoch).then_some(top.offset),
        whole: false,
        complete: true,
        more: false,
    }
}

fn word(out: &Out) -> String {
    match out {
        Out::Delivery(delivery) => delivery
            .position
            .map_or("unkept".into(), |p| p.offset.to_string()),
        Out::Filled(position, message) => {
            assert_eq!(message.data.get(), position.offset.to_string());
            format!("+{}", position.offset)
        }
        Out::Moved {
            position: Position { epoch, offset },
            recovered,
        } => {
            let sign = if *recovered { "" } else { "!" };
            format!("{sign}{epoch}:{offset}")
        }
    }
}

#[test]
fn each_message_once_and_in_order_or_told_that_it_is_gone() {
    for (name, steps, heard) in [
        (
            "all follows",
            &[Comes(1, 4), Unkept, Comes(1, 5)][..],
            "4 unkept 5",
        ),
        (
            "a gap is filled before what comes after it",
            &[Comes(1, 6), Comes(1, 7), Unkept, Asked, Answers(1, 7, 1)],
            "+4 +5 +6 +7 unkept",
        ),
        (
            "the log was read before the last came",
            &[Comes(1, 6), Asked, Comes(1, 7), Answers(1, 6, 1)],
            "+4 +5 +6 7",
        ),
        (
            "the log was faster than deliveries",
            &[
                Comes(1, 5),
                Asked,
                Answers(1, 7, 1),
                Comes(1, 6),
                Comes(1, 7),
                Comes(1, 8),
            ],
            "+4 +5 +6 +7 8",
        ),
        (
            "another gap after the log was read",
            &[
                Comes(1, 5),
                Asked,
                Comes(1, 8),
                Answers(1, 5, 1),
                Asked,
                Answers(1, 8, 1),
            ],
            "+4 +5 +6 +7 +8",
        ),
        (
            "the log comes in parts",
            &[
                Comes(1, 7),
                Asked,
                AnswersPart(1, 7, 1, 2),
                Asked,
                Answers(1, 7, 1),
            ],
            "+4 +5 +6 +7",
        ),
        (
            "the log was away, too",
            &[
                Comes(1, 5),
                Asked,
                Fails,
                Comes(1, 6),
                Asked,
                Answers(1, 6, 1),
            ],
            "+4 +5 +6",
        ),
        (
            "the log has no longer what is missing",
            &[Comes(1, 9), Asked, Answers(1, 9, 7)],
            "!1:6 +7 +8 +9",
        ),
        (
            "nothing of it is young enough",
            &[Comes(1, 9), Asked, Answers(1, 9, 10), Comes(1, 10)],
            "!1:9 10",
        ),
        (
            "a new log while the broker was there: nothing is missing",
            &[
                Comes(1, 4),
                Comes(2, 1),
                Asked,
                Comes(2, 2),
                Answers(2, 1, 1),
            ],
            "4 2:0 +1 2",
        ),
        (
            "a new log, of which the beginning is gone",
            &[
                Comes(2, 5),
                Asked,
                Answers(2, 6, 5),
                Comes(2, 6),
                Comes(2, 7),
            ],
            "!2:4 +5 +6 7",
        ),
        (
            "a new log after the broker was away",
            &[Away, Back, Asked, Answers(2, 0, 1), Comes(2, 1)],
            "!2:0 1",
        ),
        (
            "a new log after the broker was away and was seen to be whole",
            &[
                Away,
                Back,
                Asked,
                Answers(1, 3, 1),
                Comes(2, 1),
                Asked,
                Answers(2, 1, 1),
            ],
            "2:0 +1",
        ),
        (
            "the broker went away again while the log was read",
            &[
                Away,
                Back,
                Asked,
                Away,
                Back,
                Answers(1, 3, 1),
                Asked,
                Answers(2, 0, 1),
            ],
            "!2:0",
        ),
        (
            "the last message was missed, and no later one shows it",
            &[Comes(1, 4), Away, Back, Asked, Answers(1, 6, 1)],
            "4 +5 +6",
        ),
        (
            "deliveries go on while the log is read",
            &[
                Away,
                Back,
                Asked,
                Comes(1, 4),
                Answers(1, 3, 1),
                Comes(1, 5),
            ],
            "4 5",
        ),
        (
            "a straggler of a log that is gone",
            &[
                Comes(1, 5),
                Asked,
                Comes(1, 6),
                Answers(2, 2, 1),
                Asked,
                Answers(2, 2, 1),
                Comes(2, 3),
            ],
            "2:0 +1 +2 3",
        ),
        (
            "a log that went back, as after a failover",
            &[
                Comes(1, 4),
                Comes(1, 5),
                Comes(1, 4),
                Asked,
                Answers(1, 4, 1),
                Comes(1, 5),
            ],
            "4 5 !1:4 5",
        ),
        (
            "a log that lost what had been delivered ahead",
            &[Comes(1, 6), Asked, Answers(1, 4, 1), Comes(1, 5)],
            "+4 !1:4 5",
        ),
        (
            "a failover that lost nothing",
            &[Comes(1, 4), Away, Back, Asked, GoesOn(2, 4, 4), Comes(2, 5)],
            "4 2:4 5",
        ),
        (
            "one before which this node had missed a message",
            &[Away, Back, Asked, GoesOn(2, 5, 4), Comes(2, 6)],
            "+4 2:4 +5 6",
        ),
        (
            "one before which it had missed all that the log has",
            &[Away, Back, Asked, GoesOn(2, 5, 5), Comes(2, 6)],
            "+4 +5 2:5 6",
        ),
        (
            "one that is seen by what is delivered only",
            &[Comes(1, 4), Comes(2, 5), Asked, GoesOn(2, 5, 4)],
            "4 2:4 +5",
        ),
        (
            "a failover that lost a message, and as many were published again",
            &[
                Comes(1, 4),
                Comes(1, 5),
                Away,
                Back,
                Asked,
                GoesOn(2, 5, 4),
                Comes(2, 6),
            ],
            "4 5 !2:4 +5 6",
        ),
        (
            "one that lost what waited here for its turn",
            &[Comes(1, 5), Away, Back, Asked, GoesOn(2, 6, 3), Comes(2, 7)],
            "!2:3 +4 +5 +6 7",
        ),
        (
            "one that lost more than the log keeps",
            &[Comes(1, 4), Away, Back, Asked, GoesOn(2, 0, 0), Comes(2, 1)],
            "4 !2:0 1",
        ),
        (
            "two, one after the other",
            &[
                Away,
                Back,
                Asked,
                GoesOn(2, 3, 3),
                Comes(2, 4),
                Away,
                Back,
                Asked,
                GoesOn(3, 5, 4),
            ],
            "2:3 4 3:4 +5",
        ),
    ] {
        let (told, wanted) = play(steps);
        assert_eq!(told, heard, "{name}");
        assert!(!wanted, "{name}: nothing is wanted any more");
    }
}

#[test]
fn deliveries_that_were_faster_than_the_subscription_are_no_gap() {
    let mut track = Track::default();
    let mut out = Vec::new();
    for offset in [4, 5] {
        assert_eq!(
            track.receive(delivery(Some(at(1, offset))), &mut out),
            Received::Delivered
        );
    }
    track.begin(at(1, 4));
    assert_eq!(
        track.receive(delivery(Some(at(1, 6))), &mut out),
        Received::Delivered
    );
}

#[test]
fn what_is_lost_while_a_channel_is_subscribed_is_read_once_it_is_known_since_when() {
    for (name, before, after) in [
        ("before the log was asked", &[Away, Back][..], &[][..]),
        (
            "after a delivery that was faster",
            &[Comes(1, 3), Away, Back],
            &[],
        ),
        ("and is still lost then", &[Away], &[Back]),
    ] {
        let mut track = Track::default();
        let mut out = Vec::new();
        let take = |track: &mut Track, step: &Step, out: &mut Vec<Out>| match *step {
            Comes(epoch, offset) => {
                track.receive(delivery(Some(at(epoch, offset))), out);
            }
            Away => track.away(),
            Back => track.back(),
            _ => unreachable!("{step:?}"),
        };
        for step in before {
            take(&mut track, step, &mut out);
        }
        // The answer is of before the loss.
        track.begin(at(1, 3));
        for step in after {
            take(&mut track, step, &mut out);
        }
        out.clear();
        assert_eq!(track.ask(1), Some(at(1, 3)), "{name}");
        let read = page(at(1, 4), 1, at(1, 3));
        let checked = track.answer(1, &read, &mut out);
        assert_eq!(checked, Checked::Filled, "{name}");
        assert_eq!(out.iter().map(word).collect::<Vec<_>>(), ["+4"], "{name}");
        assert!(!track.wants_log(), "{name}");
    }
}

#[test]
fn an_answer_to_a_question_of_an_earlier_subscription_says_nothing() {
    let mut track = Track::default();
    track.begin(at(1, 3));
    let mut out = Vec::new();
    let page = || page(at(1, 9), 1, at(1, 3));
    assert_eq!(track.answer(7, &page(), &mut out), Checked::Stale);
    track.back();
    track.ask(8);
    assert_eq!(track.answer(7, &page(), &mut out), Checked::Stale);
    assert!(!track.failed(7) && out.is_empty());
}

#[test]
fn what_waits_is_bounded_and_nothing_of_it_is_missing() {
    let mut track = Track::default();
    track.begin(at(1, 3));
    let mut out = Vec::new();
    let most = u64::try_from(MOST_WAITING).unwrap();
    let last = 5 + most + 10;
    for offset in 5..=last {
        let became = track.receive(delivery(Some(at(1, offset))), &mut out);
        let expected = if offset < 5 + most {
            Received::Waits
        } else {
            Received::Overflowed
        };
        assert_eq!(became, expected, "{offset}");
    }
    assert_eq!(track.waiting.len(), MOST_WAITING);
    let mut reads = 0;
    while track.wants_log() {
        reads += 1;
        let since = track.ask(reads).unwrap();
        track.answer(reads, &page(at(1, last), 1, since), &mut out);
    }
    let heard: Vec<_> = out.iter().map(word).collect();
    let expected: Vec<_> = (4..=last).map(|offset| format!("+{offset}")).collect();
    assert_eq!(heard, expected);
}
