//! Counts with a cap: who is let in, and how many are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// At most `cap` places. Cloning shares the count.
#[derive(Debug, Clone)]
pub struct Cap {
    taken: Arc<AtomicU32>,
    cap: u32,
}

/// One place. It is free again when this is dropped, so it lives exactly as long as what it stands for.
#[derive(Debug)]
pub struct Permit(Arc<AtomicU32>);

impl Cap {
    #[must_use]
    pub fn new(cap: u32) -> Cap {
        Cap {
            taken: Arc::default(),
            cap,
        }
    }

    /// None when all places are taken.
    #[must_use]
    pub fn take(&self) -> Option<Permit> {
        self.take_beside(|| 0)
    }

    /// None when our permits and what `others` counts fill all places.
    ///
    /// For something that moves from here to there, counted there before its permit is dropped: it may
    /// be seen twice, never not at all, so the cap is never exceeded.
    #[must_use]
    pub fn take_beside(&self, others: impl Fn() -> u64) -> Option<Permit> {
        // Ours is read first, and has to be the same still when the place is taken.
        let mut taken = self.taken.load(Ordering::Acquire);
        loop {
            if u64::from(taken).saturating_add(others()) >= u64::from(self.cap) {
                return None;
            }
            let next = taken + 1;
            match self
                .taken
                .compare_exchange(taken, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Some(Permit(self.taken.clone())),
                Err(now) => taken = now,
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_taken_and_freed() {
        let cap = Cap::new(2);
        let first = cap.take().unwrap();
        let second = cap.take().unwrap();
        assert!(cap.take().is_none());
        drop(first);
        let third = cap.take().unwrap();
        drop((second, third));
        assert_eq!(cap.taken.load(Ordering::Acquire), 0);
    }

    #[test]
    fn what_others_count_takes_places_too() {
        let cap = Cap::new(3);
        assert!(cap.take_beside(|| 3).is_none());
        let first = cap.take_beside(|| 1).unwrap();
        let second = cap.take_beside(|| 1).unwrap();
        assert!(cap.take_beside(|| 1).is_none());
        drop(first);
        assert!(cap.take_beside(|| 2).is_none(), "it moved over there");
        drop(second);
        assert!(cap.take_beside(|| 2).is_some());
    }
}
