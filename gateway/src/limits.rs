//! Counts with a cap: who is let in, and how many are.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use gateway_config::Limits;

use crate::protocol::native::ErrorCode;
use crate::registry::fact::Place;
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
    state: Mutex<(Option<Pace>, Bucket)>,
    started: Instant,
}

impl Pacer {
    /// 0: no limit. As many at once as in one second.
    #[must_use]
    pub fn new(per_second: u32) -> Pacer {
        Pacer {
            state: Mutex::new((Pace::new(per_second, per_second), Bucket::default())),
            started: Instant::now(),
        }
    }

    /// From now on; what has been taken stays taken.
    pub fn set(&self, per_second: u32) {
        self.state().0 = Pace::new(per_second, per_second);
    }

    /// Whether one more fits now.
    #[must_use]
    pub fn take(&self) -> bool {
        let now_ns = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let (pace, bucket) = &mut *self.state();
        pace.is_none_or(|pace| bucket.take(pace, now_ns))
    }

    fn state(&self) -> MutexGuard<'_, (Option<Pace>, Bucket)> {
        // Two numbers that are never half written, so a panic elsewhere leaves nothing to distrust.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All caps of a node on those who come. Cloning shares the counts and the caps.
#[derive(Debug, Clone)]
pub struct Places {
    /// `limits.maxConnections`; a permit is a handshake under way.
    pub connections: Cap,
    /// `limits.maxHandshakes`.
    pub handshakes: Cap,
    /// `limits.handshakesPerSecond`.
    pub pacer: Arc<Pacer>,
    /// `limits.maxConnectionsPerUser`. A connection counts for as long as it lives.
    pub users: KeyedCap<Arc<str>>,
    /// `limits.maxConnectionsPerAddress`; the same.
    pub addresses: KeyedCap<AddressKey>,
}

impl Places {
    #[must_use]
    pub fn new(limits: &Limits) -> Places {
        Places {
            connections: Cap::new(limits.max_connections),
            handshakes: Cap::new(limits.max_handshakes),
            pacer: Arc::new(Pacer::new(limits.handshakes_per_second)),
            users: KeyedCap::new(limits.max_connections_per_user),
            addresses: KeyedCap::new(limits.max_connections_per_address),
        }
    }

    /// The caps from now on. Nobody who is in has to go.
    pub fn set(&self, limits: &Limits) {
        self.connections.set(limits.max_connections);
        self.handshakes.set(limits.max_handshakes);
        self.pacer.set(limits.handshakes_per_second);
        self.users.set(limits.max_connections_per_user);
        self.addresses.set(limits.max_connections_per_address);
    }
}

/// One connection's part of them.
#[derive(Debug, Default)]
pub struct Share {
    /// The client's address, where its socket has another one. None: its socket has it, or nobody wants to know.
    pub client: Option<IpAddr>,
    /// Counts it among its user's on all nodes until it is written down there.
    pub place: Option<Place>,
    pub user: Option<KeyedPermit<Arc<str>>>,
    pub address: Option<KeyedPermit<AddressKey>>,
}

impl Share {
    /// None: there is nothing to keep.
    #[must_use]
    pub fn boxed(self) -> Option<Box<Share>> {
        let kept = self.user.is_some() || self.address.is_some() || self.client.is_some();
        kept.then(|| Box::new(self))
    }
}

/// At most `cap` places. Cloning shares the count and the cap.
#[derive(Debug, Clone)]
pub struct Cap {
    taken: Arc<AtomicU32>,
    cap: Arc<AtomicU32>,
}

/// One place. It is free again when this is dropped, so it lives exactly as long as what it stands for.
#[derive(Debug)]
pub struct Permit(Arc<AtomicU32>);

impl Cap {
    #[must_use]
    pub fn new(cap: u32) -> Cap {
        Cap {
            taken: Arc::default(),
            cap: Arc::new(cap.into()),
        }
    }

    /// From now on. Whoever has a place keeps it.
    pub fn set(&self, cap: u32) {
        self.cap.store(cap, Ordering::Relaxed);
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
        let cap = self.cap.load(Ordering::Relaxed);
        // Ours is read first, and has to be the same still when the place is taken.
        let mut taken = self.taken.load(Ordering::Acquire);
        loop {
            if u64::from(taken).saturating_add(others()) >= u64::from(cap) {
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
    fn a_cap_and_a_pace_that_change_count_for_those_who_come() {
        let cap = Cap::new(1);
        let first = cap.take().unwrap();
        let same = cap.clone();
        same.set(2);
        let second = cap.take().unwrap();
        assert!(same.take().is_none());
        cap.set(1);
        drop(first);
        assert!(cap.take().is_none(), "one stays");
        drop(second);
        assert!(cap.take().is_some());

        let pacer = Pacer::new(0);
        assert!(pacer.take());
        pacer.set(1);
        assert!(pacer.take());
        assert!(!pacer.take(), "one in this second");
        pacer.set(0);
        assert!(pacer.take());
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
