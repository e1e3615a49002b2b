//! Room is made when memory is short.

use super::*;

impl Shard {
    /// Closes the oldest `percent` of the connections, one at least. What waits for them is dropped at once: it is
    /// the memory that is wanted back, and a client that does not read would keep it until its close times out.
    pub(super) fn evict_oldest(&mut self, percent: usize, now: Now) {
        // Numbers go up: the lowest came first.
        let mut open: Vec<(u64, ConnectionKey)> = self
            .connections
            .iter()
            .filter(|(_, c)| c.closing.is_none() && !c.session.is_self_test())
            .map(|(slot, connection)| (connection.session.number(), key_of(slot, connection)))
            .collect();
        let count = (open.len() * percent).div_ceil(100);
        if count == 0 {
            return;
        }
        let (older, last, _) = open.select_nth_unstable_by_key(count - 1, |(number, _)| *number);
        for key in older.iter().chain([&*last]).map(|(_, key)| *key) {
            if let Some(connection) = self.connection(key) {
                connection.outbox.discard();
            }
            self.begin_close(key, CloseCode::Overloaded, now);
        }
    }
}
