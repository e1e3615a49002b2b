//! Facts that are still to be written. Pure.

use indexmap::IndexMap;

use super::fact::{Fact, State};

/// What is true of a fact is kept, not what became of it in between: a Redis that is away costs no more memory than the
/// facts that changed meanwhile, and those are capped.
#[derive(Debug)]
pub struct Pending {
    /// In the order in which they were first told.
    facts: IndexMap<Fact, State>,
    cap: usize,
    /// There was no room for one: all are forgotten, and so is what comes. Only asking everybody helps.
    overflowed: bool,
}

impl Pending {
    #[must_use]
    pub fn new(cap: usize) -> Pending {
        Pending {
            facts: IndexMap::new(),
            cap,
            overflowed: false,
        }
    }

    pub fn put(&mut self, fact: Fact, state: State) {
        if self.overflowed {
            return;
        }
        if let Some(before) = self.facts.get_mut(&fact) {
            let earlier = std::mem::replace(before, State::Gone);
            *before = earlier.then(state);
        } else if self.facts.len() < self.cap {
            self.facts.insert(fact, state);
        } else {
            self.facts = IndexMap::new();
            self.overflowed = true;
        }
    }

    /// All of it.
    pub fn take(&mut self) -> Vec<(Fact, State)> {
        std::mem::take(&mut self.facts).into_iter().collect()
    }

    /// What was taken and could not be written; later than that is what was put meanwhile.
    pub fn give_back(&mut self, facts: impl IntoIterator<Item = (Fact, State)>) {
        let later = std::mem::take(&mut self.facts);
        for (fact, state) in facts.into_iter().chain(later) {
            self.put(fact, state);
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Whether there is room for more facts of shards that are asked for all they hold: half is kept for news.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.facts.len() < self.cap / 2
    }

    #[must_use]
    pub fn has_overflowed(&self) -> bool {
        self.overflowed
    }

    /// Everybody is about to be asked.
    pub fn begin_anew(&mut self) {
        self.overflowed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::ConnectionId;

    fn fact(number: u64) -> Fact {
        Fact::Connection {
            user: "ann".into(),
            connection: ConnectionId::new("gw", number),
        }
    }

    fn came(connected_ms: u64) -> State {
        State::Connected {
            ip: None,
            connected_ms,
            place: None,
        }
    }

    #[test]
    fn the_latest_counts_and_the_first_keeps_its_place() {
        let mut pending = Pending::new(10);
        for (number, state) in [(1, came(1)), (2, came(2)), (1, State::Gone), (3, came(3))] {
            pending.put(fact(number), state);
        }
        let taken = pending.take();
        let expected = vec![
            (fact(1), State::Gone),
            (fact(2), came(2)),
            (fact(3), came(3)),
        ];
        assert_eq!(taken, expected);
        assert_eq!(pending.len(), 0);

        pending.put(fact(4), came(4));
        pending.put(fact(2), State::Gone);
        pending.give_back(taken);
        let expected = vec![
            (fact(1), State::Gone),
            (fact(2), State::Gone),
            (fact(3), came(3)),
            (fact(4), came(4)),
        ];
        assert_eq!(pending.take(), expected);
    }

    #[test]
    fn beyond_the_cap_all_is_forgotten_until_everybody_is_asked() {
        let mut pending = Pending::new(4);
        for number in 0..4 {
            assert_eq!(pending.has_room(), number < 2, "{number}");
            pending.put(fact(number), came(number));
        }
        pending.put(fact(3), State::Gone);
        assert!(!pending.has_overflowed(), "it is known already");
        pending.put(fact(4), came(4));
        assert!(pending.has_overflowed() && pending.len() == 0);
        pending.put(fact(1), came(1));
        assert_eq!(pending.len(), 0);
        pending.begin_anew();
        pending.put(fact(1), came(1));
        assert_eq!((pending.len(), pending.has_overflowed()), (1, false));
    }
}
