use serde_json::value::RawValue;

use super::*;
use crate::history::{Kept, page};
use crate::message::{Message, MessageKind, Position};

type Offset = u64;
/// Who was answered, with which offsets; and what is read then, for how many.
type Seen = (
    Vec<(u32, Result<Vec<Offset>, ()>)>,
    Vec<(String, Range, usize)>,
);

fn name(channel: &str) -> ChannelName {
    ChannelName::parse(channel).unwrap()
}

/// After an offset of epoch 1, or the newest; so many.
fn range(since: Option<Offset>, limit: u32) -> Range {
    Range {
        since: since.map(|offset| Position { epoch: 1, offset }),
        limit,
        bytes: 1_000,
        keep: Keep {
            messages: 10,
            age_ms: 1_000,
        },
    }
}

fn after(offset: Offset) -> Range {
    range(Some(offset), 10)
}

/// Of a log with so many messages.
fn answer(range: Range, top: Offset) -> Page {
    let data = RawValue::from_string("1".into()).unwrap();
    let message = Message {
        kind: MessageKind::Chat,
        data: data.into(),
        from: None,
        timestamp: 1,
        except: None,
        only: None,
    };
    let kept = (1..=top).map(|offset| Kept {
        offset,
        message: message.clone(),
    });
    let top = Position {
        epoch: 1,
        offset: top,
    };
    page((top, &[]), kept, range, 2)
}

/// The read ends, with what a log of so many messages answers to it, or with an error.
fn end(reads: &mut Reads<u32>, read: Read<u32>, top: Option<Offset>) -> (Seen, Vec<Read<u32>>) {
    let found = top.map(|top| answer(read.range, top)).ok_or(());
    let (answers, next) = reads.ended(read, &found);
    let offsets = |page: Page| page.messages.iter().map(|kept| kept.offset).collect();
    let answered = answers
        .into_iter()
        .map(|(asker, page)| (asker, page.map(offsets)));
    let told = next.iter().map(|read| {
        (
            read.channel.as_str().to_owned(),
            read.range,
            read.askers.len(),
        )
    });
    let mut told: Vec<_> = told.collect();
    told.sort_by_key(|(_, range, _)| range.since.map(|since| since.offset));
    ((answered.collect(), told), next)
}

#[test]
fn who_asks_during_a_read_gets_its_part_of_the_next_one() {
    let mut reads = Reads::default();
    let first = reads.ask(name("a"), after(3), 0).expect("nothing is read");
    for (asker, offset) in [(1, 4), (2, 2), (3, 5), (4, 2)] {
        assert!(reads.ask(name("a"), after(offset), asker).is_none());
    }
    let (seen, mut next) = end(&mut reads, first, Some(5));
    let second = next.pop().expect("the next one");
    assert_eq!(
        seen,
        (vec![(0, Ok(vec![4, 5]))], vec![("a".into(), after(2), 4)]),
        "from where the one begins that has missed most"
    );
    assert_eq!(reads.askers(), 4);
    assert!(
        reads.ask(name("a"), after(6), 5).is_none(),
        "it may be too late for this one"
    );
    let (seen, mut next) = end(&mut reads, second, Some(6));
    let answered = vec![
        (1, Ok(vec![5, 6])),
        (2, Ok(vec![3, 4, 5, 6])),
        (3, Ok(vec![6])),
        (4, Ok(vec![3, 4, 5, 6])),
    ];
    assert_eq!(seen, (answered, vec![("a".into(), after(6), 1)]));
    let third = next.pop().expect("the next one");
    let (seen, next) = end(&mut reads, third, Some(6));
    assert_eq!((seen.0, next.len()), (vec![(5, Ok(vec![]))], 0));
    assert_eq!((reads.askers(), reads.under_way.len()), (0, 0));
    assert!(reads.ask(name("a"), after(6), 6).is_some());
}

#[test]
fn whom_a_read_does_not_cover_reads_for_itself_and_holds_up_nobody() {
    let mut reads = Reads::default();
    let first = reads.ask(name("a"), after(0), 0).expect("nothing is read");
    let short = |offset| range(Some(offset), 3);
    for (asker, offset) in [(1, 2), (2, 1), (3, 7), (4, 7), (5, 8)] {
        assert!(reads.ask(name("a"), short(offset), asker).is_none());
    }
    let (_, mut next) = end(&mut reads, first, Some(9));
    let second = next.pop().expect("the next one");
    assert!(reads.ask(name("a"), after(9), 6).is_none());
    // It has 2, 3 and 4.
    let (seen, next) = end(&mut reads, second, Some(9));
    let expected = vec![
        ("a".into(), short(2), 1),
        ("a".into(), short(7), 2),
        ("a".into(), short(8), 1),
        ("a".into(), after(9), 1),
    ];
    assert_eq!(seen, (vec![(2, Ok(vec![2, 3, 4]))], expected));
    assert!(
        reads.ask(name("a"), after(4), 7).is_none(),
        "one is under way"
    );
    let mut answered = Vec::new();
    let mut last = None;
    for read in next {
        let (seen, next) = end(&mut reads, read, Some(9));
        answered.extend(seen.0);
        last = last.or(next.into_iter().next());
    }
    answered.sort();
    let expected = [
        (1, Ok(vec![3, 4, 5])),
        (3, Ok(vec![8, 9])),
        (4, Ok(vec![8, 9])),
        (5, Ok(vec![9])),
        (6, Ok(vec![])),
    ];
    assert_eq!(answered, expected);
    let (seen, _) = end(&mut reads, last.expect("the next one"), Some(9));
    assert_eq!(seen.0, [(7, Ok(vec![5, 6, 7, 8, 9]))]);
    assert_eq!((reads.askers(), reads.under_way.len()), (0, 0));
}

#[test]
fn an_error_is_told_to_all_and_the_next_read_is_made() {
    let mut reads = Reads::default();
    let first = reads.ask(name("a"), after(3), 0).expect("nothing is read");
    assert!(reads.ask(name("a"), after(4), 1).is_none());
    let (seen, mut next) = end(&mut reads, first, None);
    assert_eq!(seen, (vec![(0, Err(()))], vec![("a".into(), after(4), 1)]));
    let second = next.pop().expect("the next one");
    let (seen, _) = end(&mut reads, second, None);
    assert_eq!(seen, (vec![(1, Err(()))], vec![]));
    assert_eq!((reads.askers(), reads.under_way.len()), (0, 0));
}

#[test]
fn what_no_page_answers_together_does_not_wait() {
    let other_epoch = Range {
        since: Some(Position {
            epoch: 2,
            offset: 1,
        }),
        ..after(1)
    };
    let mut other_keep = after(1);
    other_keep.keep.messages = 11;
    let mut reads = Reads::default();
    for (asker, (channel, range)) in [
        ("a", after(1)),
        ("b", after(1)),
        ("a", range(None, 10)),
        ("a", other_epoch),
        ("a", other_keep),
    ]
    .into_iter()
    .enumerate()
    {
        let read = reads.ask(name(channel), range, asker);
        assert!(read.is_some(), "{channel} {range:?}");
    }
    assert_eq!(reads.askers(), 5);
}
