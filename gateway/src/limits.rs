//! Counts with a cap: who is let in, and how many are.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use gateway_config::Limits;

use crate::protocol::native::ErrorCode;
use address::AddressKey;
use bucket::{Bucket, Pace};
use keyed::{KeyedCap, KeyedPermit};

pub mod address;
pub mod bucket;
pub mod keyed;

/// What refused somebody: the label `limit` of `pushcluster_refusals_total`, named after its key in `limits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Limit {
    Connections,
    Handshakes,
    HandshakesPerSecond,
    ConnectionsPerUser,
    ConnectionsPerAddress,
    ChannelsPerConnection,
    MessageBytes,
    MessagesPerSecond,
    OutboxBytes,
    MemoryBytes,
}

impl Limit {
    /// In the order of the enum, so that a limit is its own index.
    pub const LABELS: [&str; 10] = [
        "connections",
        "handshakes",
        "handshakes_per_second",
        "connections_per_user",
        "connections_per_address",
        "channels_per_connection",
        "message_bytes",
        "messages_per_second",
        "outbox_bytes",
        "memory_bytes",
    ];

    /// The limit behind an error that a client is told, if it is one.
    #[must_use]
    pub fn of(code: ErrorCode) -> Option<Limit> {
        match code {
            ErrorCode::TooManyChannels => Some(Limit::ChannelsPerConnection),
            ErrorCode::TooManyConnections => Some(Limit::ConnectionsPerUser),
            ErrorCode::TooBig => Some(Limit::MessageBytes),
            ErrorCode::RateLimited => Some(Limit::MessagesPerSecond),
            _ => None,
        }
    }
}

/// One pace for the whole node, asked from any thread.
#[derive(Debug)]
pub struct Pacer {
    pace: Option<Pace>,
    bucket: Mutex<Bucket>,
    started: Instant,
}

impl Pacer {
    /// 0: no limit. As many at once as in one second.
    #[must_use]
    pub fn new(per_second: u32) -> Pacer {
        Pacer {
            pace: Pace::new(per_second, per_second),
            bucket: Mutex::default(),
            started: Instant::now(),
        }
    }

    /// Whether one more fits now.
    #[must_use]
    pub fn take(&self) -> bool {
        let Some(pace) = self.pace else {
            return true;
        };
        let now_ns = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.take(pace, now_ns)
    }
}

/// The caps that a connection counts in for as long as it lives. None: no limit.
#[derive(Debug, Clone, Default)]
pub struct Shares {
    pub users: Option<KeyedCap<Arc<str>>>,
    pub addresses: Option<KeyedCap<AddressKey>>,
}

impl Shares {
    #[must_use]
    pub fn new(limits: &Limits) -> Shares {
        Shares {
            users: KeyedCap::new(limits.max_connections_per_user),
            addresses: KeyedCap::new(limits.max_connections_per_address),
        }
    }
}

/// One connection's part of them.
#[derive(Debug, Default)]
pub struct Share {
    pub user: Option<KeyedPermit<Arc<str>>>,
    pub address: Option<KeyedPermit<AddressKey>>,
}

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
    fn every_limit_is_its_own_index() {
        assert_eq!(
            Limit::LABELS[Limit::MemoryBytes as usize],
            "memory_bytes",
            "the last one"
        );
        assert_eq!(
            Limit::LABELS[Limit::ConnectionsPerAddress as usize],
            "connections_per_address"
        );
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
