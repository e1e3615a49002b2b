//! Places for each key: connections of one user, of one address.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use crate::slack;

/// At most `cap` places for each key. A key whose last place is free takes no memory. Cloning shares the counts.
///
/// The lock is taken when a connection begins and ends, never for a message.
#[derive(Debug)]
pub struct KeyedCap<K> {
    taken: Arc<Mutex<HashMap<K, u32>>>,
    cap: u32,
}

/// One place of one key, free again when this is dropped.
#[derive(Debug)]
pub struct KeyedPermit<K: Hash + Eq> {
    taken: Arc<Mutex<HashMap<K, u32>>>,
    key: K,
}

impl<K: Hash + Eq + Clone> KeyedCap<K> {
    /// None when `cap` is 0: no limit.
    #[must_use]
    pub fn new(cap: u32) -> Option<Self> {
        (cap > 0).then(|| KeyedCap {
            taken: Arc::default(),
            cap,
        })
    }

    /// None when the key has all its places.
    #[must_use]
    pub fn take(&self, key: &K) -> Option<KeyedPermit<K>> {
        // A count is never half changed, so a panic elsewhere leaves nothing to distrust.
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.get(key).copied().unwrap_or(0);
        if count >= self.cap {
            return None;
        }
        taken.insert(key.clone(), count + 1);
        Some(KeyedPermit {
            taken: self.taken.clone(),
            key: key.clone(),
        })
    }

    #[must_use]
    pub fn cap(&self) -> u32 {
        self.cap
    }
}

impl<K> Clone for KeyedCap<K> {
    fn clone(&self) -> Self {
        KeyedCap {
            taken: self.taken.clone(),
            cap: self.cap,
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
        let cap = KeyedCap::new(2).unwrap();
        let mut ann = vec![cap.take(&"ann").unwrap(), cap.take(&"ann").unwrap()];
        assert!(cap.take(&"ann").is_none());
        let bob = cap.take(&"bob").unwrap();
        ann.pop();
        ann.push(cap.take(&"ann").unwrap());
        assert!(cap.take(&"ann").is_none());
        drop((ann, bob));
        assert_eq!(cap.taken.lock().unwrap().len(), 0);
        assert!(KeyedCap::<&str>::new(0).is_none());
    }
}
