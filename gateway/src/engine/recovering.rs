//! Connections of one channel between the question what they missed and the answer, and shortly after it.
//!
//! While the log is read, what is delivered is held for those who wait. The page that comes back says up to where it
//! goes; what was held beyond that follows it, and what is delivered later but stands on the page is left out. So a
//! client sees each message once and in order, whichever of the two ways was faster.

use std::sync::Arc;

use indexmap::IndexMap;

use super::command::{ConnectionKey, EncodedDelivery};
use crate::history::Page;
use crate::message::{MessageKind, Position};
use crate::name::ChannelName;
use crate::protocol::native::{ErrorCode, Refusal};
use crate::session::Ack;

/// What a delivery takes beside its data, about: many that are small must not become a memory, either.
const ENTRY_BYTES: usize = 256;

#[derive(Default)]
pub struct Recovering {
    /// Who waits for a page.
    waiting: IndexMap<ConnectionKey, Wait>,
    /// Members whose page went further than what has been delivered here.
    ahead: IndexMap<ConnectionKey, Reach>,
}

/// How far a page goes.
#[derive(Debug, Clone)]
pub struct Reach {
    top: Position,
    /// Epochs of the log before this one.
    past: Arc<[u64]>,
}

impl Reach {
    pub fn of(page: &Page) -> Reach {
        Reach {
            top: page.top,
            past: page.past.clone(),
        }
    }

    /// The node says that it goes on in another log than the page's, or in a later epoch of it. That it goes on in an
    /// earlier one is of before the page: it has yet to hear of the one after.
    fn is_left_by(&self, delivery: &EncodedDelivery) -> bool {
        delivery.delivery.message.kind == MessageKind::Position
            && position(delivery)
                .is_some_and(|at| at.epoch != self.top.epoch && !self.past.contains(&at.epoch))
    }

    /// The client has it, or knows that it is gone. A delivery of another epoch is of a log that the page's has
    /// replaced: were it newer than the page, the node would have said before where it goes on.
    fn has(&self, delivery: &EncodedDelivery) -> bool {
        position(delivery).is_some_and(|at| {
            if at.epoch == self.top.epoch {
                at.offset <= self.top.offset
            } else {
                !self.is_left_by(delivery)
            }
        })
    }

    fn ends_with(&self, delivery: &EncodedDelivery) -> bool {
        position(delivery) == Some(self.top)
    }
}

struct Wait {
    ack: Ack,
    held: Vec<Arc<EncodedDelivery>>,
    /// Of all data that is held, and [`ENTRY_BYTES`] for each.
    bytes: usize,
}

impl Recovering {
    pub fn begin(&mut self, key: ConnectionKey, ack: Ack) {
        self.ahead.swap_remove(&key);
        let wait = Wait {
            ack,
            held: Vec::new(),
            bytes: 0,
        };
        self.waiting.insert(key, wait);
    }

    /// Holds a delivery for all who wait, and returns those for whom more than `max_bytes` would be held; they wait no
    /// longer, and can ask again.
    pub fn hold(
        &mut self,
        delivery: &Arc<EncodedDelivery>,
        max_bytes: usize,
    ) -> Vec<(ConnectionKey, Ack)> {
        let mut over = Vec::new();
        let cost = ENTRY_BYTES + delivery.delivery.message.data.get().len();
        self.waiting.retain(|key, wait| {
            if wait.bytes + cost <= max_bytes {
                wait.bytes += cost;
                wait.held.push(delivery.clone());
                return true;
            }
            over.push((*key, wait.ack.clone()));
            false
        });
        over
    }

    /// The page has come: what was held and is not on it.
    pub fn end(
        &mut self,
        key: ConnectionKey,
        page: Reach,
    ) -> Option<(Ack, Vec<Arc<EncodedDelivery>>)> {
        let Wait { ack, mut held, .. } = self.waiting.swap_remove(&key)?;
        // The node has gone on to a log that is newer than the page.
        if let Some(moved) = held.iter().position(|delivery| page.is_left_by(delivery)) {
            let after = held.split_off(moved);
            // What the last log still had and the page does not is the client's, too.
            held.retain(|delivery| !page.has(delivery));
            held.extend(after);
            return Some((ack, held));
        }
        // Without a position is what the log does not keep: it says nothing about how far this is.
        let reaches_top = held
            .iter()
            .rfind(|delivery| position(delivery).is_some())
            .is_some_and(|last| !page.has(last) || page.ends_with(last));
        held.retain(|delivery| !page.has(delivery));
        if !reaches_top {
            self.ahead.insert(key, page);
        }
        Some((ack, held))
    }

    /// The members that have this delivery already. Whoever was ahead of no more than this is so no longer.
    pub fn have(&mut self, delivery: &EncodedDelivery) -> Vec<ConnectionKey> {
        if position(delivery).is_none() {
            return Vec::new();
        }
        let has = |(key, page): (&ConnectionKey, &Reach)| page.has(delivery).then_some(*key);
        let have = self.ahead.iter().filter_map(has).collect();
        self.ahead
            .retain(|_, page| page.has(delivery) && !page.ends_with(delivery));
        have
    }

    /// Forgets a connection; the acknowledgement that it will not get.
    pub fn remove(&mut self, key: ConnectionKey) -> Option<Ack> {
        self.ahead.swap_remove(&key);
        Some(self.waiting.swap_remove(&key)?.ack)
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Nobody waits and nobody is ahead.
    pub fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.ahead.is_empty()
    }
}

/// Why somebody waits no longer.
pub fn too_much_held(channel: &ChannelName) -> Refusal {
    let message = format!(
        "subscribe to {channel} failed: more came than can be held while its log was read; try again"
    );
    let code = ErrorCode::Unavailable;
    Refusal { code, message }
}

fn position(delivery: &EncodedDelivery) -> Option<Position> {
    delivery.delivery.position
}

#[cfg(test)]
mod tests {
    use serde_json::value::to_raw_value;

    use super::*;
    use crate::message::{Delivery, Message};
    use crate::name::ChannelName;

    const KEY: ConnectionKey = ConnectionKey {
        slot: 1,
        generation: 1,
    };

    const AMPLE: usize = 1 << 20;

    fn at(epoch: u64, offset: u64) -> Arc<EncodedDelivery> {
        delivery(Some(Position { epoch, offset }))
    }

    fn moved(epoch: u64, offset: u64) -> Arc<EncodedDelivery> {
        said(MessageKind::Position, Some(Position { epoch, offset }))
    }

    /// Without a position: what the log does not keep.
    fn delivery(position: Option<Position>) -> Arc<EncodedDelivery> {
        said(MessageKind::Chat, position)
    }

    fn said(kind: MessageKind, position: Option<Position>) -> Arc<EncodedDelivery> {
        with(kind, position, &1)
    }

    fn with(
        kind: MessageKind,
        position: Option<Position>,
        content: &impl serde::Serialize,
    ) -> Arc<EncodedDelivery> {
        let message = Message {
            kind,
            data: to_raw_value(content).unwrap().into(),
            from: None,
            timestamp: 1,
            except: None,
            only: None,
        };
        Arc::new(EncodedDelivery::new(Delivery {
            channel: ChannelName::parse("news").unwrap(),
            message,
            position,
        }))
    }

    fn reach(top: Position, past: &[u64]) -> Reach {
        let past = past.into();
        Reach { top, past }
    }

    fn offsets(held: &[Arc<EncodedDelivery>]) -> Vec<u64> {
        held.iter()
            .filter_map(|delivery| position(delivery))
            .map(|at| at.offset)
            .collect()
    }

    #[test]
    fn each_message_once_whichever_way_was_faster() {
        // held while the log was read, the page's top, what follows the page, what of the later ones is left out
        for (held, top, follows, later, left_out) in [
            (vec![4, 5], 3, vec![4, 5], vec![6], vec![]),
            (vec![4, 5], 4, vec![5], vec![6], vec![]),
            (vec![4, 5], 5, vec![], vec![6, 7], vec![]),
            (vec![4], 6, vec![], vec![5, 6, 7], vec![5, 6]),
            (vec![], 6, vec![], vec![5, 6, 7], vec![5, 6]),
            (vec![], 6, vec![], vec![7, 8], vec![]),
        ] {
            let mut recovering = Recovering::default();
            recovering.begin(KEY, Ack::Welcome);
            for offset in &held {
                assert!(recovering.hold(&at(9, *offset), AMPLE).is_empty());
            }
            let top = Position {
                epoch: 9,
                offset: top,
            };
            let (_, owed) = recovering.end(KEY, reach(top, &[])).unwrap();
            assert_eq!(offsets(&owed), follows, "{held:?} {top:?}");
            let mut skipped = Vec::new();
            for offset in later {
                let delivery = at(9, offset);
                if recovering.have(&delivery) == [KEY] {
                    skipped.push(offset);
                }
            }
            assert_eq!(skipped, left_out, "{held:?} {top:?}");
            assert!(recovering.is_done(), "{held:?} {top:?}");
        }
    }

    #[test]
    fn what_is_not_kept_comes_in_between_and_does_not_disturb() {
        let mut recovering = Recovering::default();
        recovering.begin(KEY, Ack::Welcome);
        recovering.hold(&at(9, 3), AMPLE);
        recovering.hold(&delivery(None), AMPLE);
        let top = Position {
            epoch: 9,
            offset: 5,
        };
        let (_, owed) = recovering.end(KEY, reach(top, &[])).unwrap();
        assert_eq!(
            (owed.len(), offsets(&owed)),
            (1, vec![]),
            "only what is not kept"
        );
        assert_eq!(recovering.have(&at(9, 4)), [KEY]);
        assert_eq!(recovering.have(&delivery(None)), [], "it is told");
        assert_eq!(recovering.have(&at(9, 5)), [KEY]);
        assert!(recovering.is_done());
    }

    #[test]
    fn a_new_epoch_is_not_taken_for_the_old_one() {
        let mut recovering = Recovering::default();
        recovering.begin(KEY, Ack::Welcome);
        recovering.hold(&at(9, 6), AMPLE);
        recovering.hold(&moved(10, 0), AMPLE);
        recovering.hold(&at(10, 1), AMPLE);
        let top = Position {
            epoch: 9,
            offset: 6,
        };
        let (_, owed) = recovering.end(KEY, reach(top, &[])).unwrap();
        assert_eq!(offsets(&owed), [0, 1]);
        assert_eq!(recovering.have(&at(10, 2)), []);
        assert!(recovering.is_done());
    }

    #[test]
    fn what_came_between_the_page_and_the_new_epoch_is_not_left_out() {
        let mut recovering = Recovering::default();
        recovering.begin(KEY, Ack::Welcome);
        for held in [at(8, 4), at(9, 6), at(9, 7), moved(10, 7), at(10, 8)] {
            recovering.hold(&held, AMPLE);
        }
        let top = Position {
            epoch: 9,
            offset: 6,
        };
        let (_, owed) = recovering.end(KEY, reach(top, &[])).unwrap();
        assert_eq!(offsets(&owed), [7, 7, 8]);
        assert!(recovering.is_done());
    }

    #[test]
    fn who_has_the_new_log_is_told_nothing_of_the_old_one() {
        let mut recovering = Recovering::default();
        recovering.begin(KEY, Ack::Welcome);
        recovering.hold(&at(9, 6), AMPLE);
        let top = Position {
            epoch: 10,
            offset: 1,
        };
        let (_, owed) = recovering.end(KEY, reach(top, &[])).unwrap();
        assert!(owed.is_empty());
        for late in [at(9, 7), moved(10, 0), at(10, 1)] {
            assert_eq!(recovering.have(&late), [KEY], "{:?}", position(&late));
        }
        assert_eq!(recovering.have(&at(10, 2)), []);
        assert!(recovering.is_done());
    }

    /// The node reads what it missed of a log of which a client, which came meanwhile, has read all.
    #[test]
    fn who_has_the_new_epoch_is_not_led_through_the_one_before() {
        let all = [moved(9, 0), at(9, 1), moved(10, 1), at(10, 2), at(10, 3)];
        let top = Position {
            epoch: 10,
            offset: 2,
        };
        // how much of it comes while the client's page is read
        for count in 0..=all.len() {
            let mut recovering = Recovering::default();
            recovering.begin(KEY, Ack::Welcome);
            for held in &all[..count] {
                recovering.hold(held, AMPLE);
            }
            let (_, mut told) = recovering.end(KEY, reach(top, &[8, 9])).unwrap();
            let later = all[count..].iter();
            told.extend(
                later
                    .filter(|later| recovering.have(later) != [KEY])
                    .cloned(),
            );
            assert_eq!(offsets(&told), [3], "{count}");
            assert!(recovering.is_done(), "{count}");
        }
    }

    #[test]
    fn who_is_ahead_in_a_log_that_was_replaced_is_told_of_the_next() {
        let mut recovering = Recovering::default();
        recovering.begin(KEY, Ack::Welcome);
        let top = Position {
            epoch: 10,
            offset: 4,
        };
        recovering.end(KEY, reach(top, &[])).unwrap();
        assert_eq!(recovering.have(&moved(11, 0)), []);
        assert!(recovering.is_done());
    }

    #[test]
    fn what_is_held_is_bounded_in_bytes_and_given_back() {
        const CAP: usize = 64 << 10;
        // With quotes.
        let large = "x".repeat(10_000 - 2);
        let of = |size: usize| CAP / (ENTRY_BYTES + size);
        for (content, fit) in [("", of(2)), (&*large, of(10_000))] {
            let next = || with(MessageKind::Chat, None, &content);
            let mut recovering = Recovering::default();
            recovering.begin(KEY, Ack::Welcome);
            for _ in 0..fit {
                assert!(recovering.hold(&next(), CAP).is_empty(), "{fit}");
            }
            let over = recovering.hold(&next(), CAP);
            assert_eq!(over, [(KEY, Ack::Welcome)], "one more than {fit}");
            assert!(recovering.is_done());
        }
        let mut recovering = Recovering::default();
        recovering.begin(KEY, Ack::Welcome);
        assert_eq!(recovering.remove(KEY), Some(Ack::Welcome));
        assert!(recovering.is_done());
    }
}
