//! Subscribers of one channel, each once. Most channels are a user's own and have one, which takes no memory beyond
//! the channel's row.

use indexmap::IndexSet;

use super::command::ConnectionKey;
use crate::few::Few;

/// Longest list that is searched for one of its members.
const FEW: usize = 8;

pub enum Members {
    Few(Few<ConnectionKey>),
    /// They were more than a few once. Dense, so that a fan-out walks memory; removal does not search.
    Many(Box<IndexSet<ConnectionKey>>),
}

impl Default for Members {
    fn default() -> Self {
        Members::Few(Few::None)
    }
}

impl Members {
    pub fn insert(&mut self, key: ConnectionKey) {
        match self {
            Members::Many(many) => {
                many.insert(key);
            }
            Members::Few(few) if few.as_slice().contains(&key) => {}
            Members::Few(few) if few.as_slice().len() < FEW => few.push(key),
            Members::Few(few) => {
                let mut many: IndexSet<_> = few.as_slice().iter().copied().collect();
                many.insert(key);
                *self = Members::Many(Box::new(many));
            }
        }
    }

    /// Whether it was there. The last one takes its place.
    pub fn swap_remove(&mut self, key: &ConnectionKey) -> bool {
        match self {
            Members::Many(many) => many.swap_remove(key),
            Members::Few(few) => {
                let index = few.as_slice().iter().position(|member| member == key);
                index.map(|index| few.swap_remove(index)).is_some()
            }
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Members::Few(few) => few.as_slice().len(),
            Members::Many(many) => many.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = &ConnectionKey> + '_ {
        let (few, many) = match self {
            Members::Few(few) => (few.as_slice(), None),
            Members::Many(many) => (&[][..], Some(many)),
        };
        few.iter()
            .chain(many.into_iter().flat_map(|many| many.iter()))
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
    fn they_are_a_small_part_of_a_channel_s_row() {
        // Every user has a channel with one member.
        assert_eq!(size_of::<Members>(), 16);
    }
}
