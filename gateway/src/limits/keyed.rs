//! Places for each key: connections of one user, of one address.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::slack;

/// At most `cap` places for each key. A key whose last place is free takes no memory. Cloning shares the counts and
/// the cap.
///
/// The lock is taken when a connection begins and ends, never for a message.
#[derive(Debug)]
pub struct KeyedCap<K> {
    taken: Arc<Mutex<HashMap<K, u32>>>,
    /// 0: no limit, and nobody is counted.
    cap: Arc<AtomicU32>,
}

/// The key has all its places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllTaken;

/// One place of one key, free again when this is dropped.
#[derive(Debug)]
pub struct KeyedPermit<K: Hash + Eq> {
    taken: Arc<Mutex<HashMap<K, u32>>>,
    key: K,
}

impl<K: Hash + Eq + Clone> KeyedCap<K> {
    /// 0: no limit.
    #[must_use]
    pub fn new(cap: u32) -> Self {
        KeyedCap {
            taken: Arc::default(),
            cap: Arc::new(cap.into()),
        }
    }

    /// From now on. Whoever has a place keeps it; who came while there was no limit has none and counts for nothing.
    pub fn set(&self, cap: u32) {
        self.cap.store(cap, Ordering::Relaxed);
    }

    /// 0: no limit.
    #[must_use]
    pub fn cap(&self) -> u32 {
        self.cap.load(Ordering::Relaxed)
    }

    /// None: there is no limit.
    pub fn take(&self, key: &K) -> Result<Option<KeyedPermit<K>>, AllTaken> {
        let cap = self.cap.load(Ordering::Relaxed);
        if cap == 0 {
            return Ok(None);
        }
        // A count is never half changed, so a panic elsewhere leaves nothing to distrust.
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.get(key).copied().unwrap_or(0);
        if count >= cap {
            return Err(AllTaken);
        }
        taken.insert(key.clone(), count + 1);
        Ok(Some(KeyedPermit {
            taken: self.taken.clone(),
            key: key.clone(),
        }))
    }
}

impl<K> Clone for KeyedCap<K> {
    fn clone(&self) -> Self {
        KeyedCap {
            taken: self.taken.clone(),
            cap: self.cap.clone(),
        }
    }
}

impl<K: Hash + Eq> Drop for KeyedPermit<K> {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.key);
                slack::release(&mut taken);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_places_and_an_empty_one_takes_none() {
        let cap = KeyedCap::new(2);
        let mut ann = vec![cap.take(&"ann").unwrap(), cap.take(&"ann").unwrap()];
        assert!(cap.take(&"ann").is_err());
        let bob = cap.take(&"bob").unwrap();
        ann.pop();
        ann.push(cap.take(&"ann").unwrap());
        assert!(cap.take(&"ann").is_err());
        drop((ann, bob));
        assert_eq!(cap.taken.lock().unwrap().len(), 0);
    }

    #[test]
    fn a_cap_that_changes_counts_for_those_who_come() {
        let cap = KeyedCap::new(0);
        let early = cap.take(&"ann").unwrap();
        assert!(early.is_none(), "nobody is counted");
        cap.clone().set(2);
        let counted = [cap.take(&"ann").unwrap(), cap.take(&"ann").unwrap()];
        assert!(cap.take(&"ann").is_err());
        cap.set(3);
        let third = cap.take(&"ann").unwrap();
        cap.set(1);
        drop(third);
        assert!(cap.take(&"ann").is_err(), "two stay");
        cap.set(0);
        assert!(cap.take(&"ann").unwrap().is_none());
        drop((early, counted));
        assert_eq!(cap.taken.lock().unwrap().len(), 0);
    }
}
