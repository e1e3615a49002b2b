//! Subscribers of one channel, each once. Most channels are a user's own and have one: a list of that length takes
//! a fifth of a table.

use indexmap::IndexSet;

use super::command::ConnectionKey;

/// Longest list that is searched for one of its members.
const FEW: usize = 8;

#[derive(Default)]
pub struct Members {
    few: Vec<ConnectionKey>,
    /// All of them, when they were more than a few once. Dense, so that a fan-out walks memory; removal does not
    /// search.
    many: Option<Box<IndexSet<ConnectionKey>>>,
}

impl Members {
    pub fn insert(&mut self, key: ConnectionKey) {
        if let Some(many) = &mut self.many {
            many.insert(key);
        } else if self.few.contains(&key) {
            // It is there once already.
        } else if self.few.len() < FEW {
            // One place and not four, as `push` would make them.
            self.few.reserve_exact(1);
            self.few.push(key);
        } else {
            let mut many: IndexSet<_> = std::mem::take(&mut self.few).into_iter().collect();
            many.insert(key);
            self.many = Some(Box::new(many));
        }
    }

    /// Whether it was there. The last one takes its place.
    pub fn swap_remove(&mut self, key: &ConnectionKey) -> bool {
        if let Some(many) = &mut self.many {
            return many.swap_remove(key);
        }
        let index = self.few.iter().position(|member| member == key);
        index.map(|index| self.few.swap_remove(index)).is_some()
    }

    pub fn len(&self) -> usize {
        self.many.as_ref().map_or(self.few.len(), |many| many.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = &ConnectionKey> + '_ {
        let many = self.many.iter().flat_map(|many| many.iter());
        self.few.iter().chain(many)
    }
}

impl Extend<ConnectionKey> for Members {
    fn extend<I: IntoIterator<Item = ConnectionKey>>(&mut self, keys: I) {
        keys.into_iter().for_each(|key| self.insert(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Few and many behave alike, and so does the way from one to the other.
    #[test]
    fn members_are_there_once_and_go() {
        let key = |slot| ConnectionKey {
            slot,
            generation: 0,
        };
        for count in [1, FEW, FEW + 1, 100] {
            let keys: Vec<_> = (0..u32::try_from(count).unwrap()).map(key).collect();
            let mut members = Members::default();
            members.extend(keys.iter().chain(&keys).copied());
            assert_eq!(members.iter().copied().collect::<Vec<_>>(), keys);
            assert_eq!(members.len(), count);
            assert!(members.swap_remove(&key(0)));
            assert!(!members.swap_remove(&key(0)));
            assert_eq!(members.len(), count - 1);
            assert!(!members.iter().any(|member| *member == key(0)));
            for key in &keys {
                members.swap_remove(key);
            }
            assert_eq!((members.is_empty(), members.iter().count()), (true, 0));
        }
    }

    #[test]
    fn one_member_takes_one_place() {
        let mut members = Members::default();
        members.insert(ConnectionKey {
            slot: 1,
            generation: 0,
        });
        assert_eq!(members.few.capacity(), 1);
        assert!(size_of::<Members>() <= 32);
    }
}
