//! Closing connections because somebody said so.

use super::*;
use crate::engine::command::Disconnect;

impl Shard {
    pub(super) fn disconnect(&mut self, order: &Disconnect, now: Now) {
        let keys: Vec<_> = match &order.only {
            Some(id) => self.here(id).into_iter().collect(),
            None => self.subscriptions.members(&order.channel).collect(),
        };
        let except = order.except.as_ref().and_then(|id| self.here(id));
        for key in keys.into_iter().filter(|key| Some(*key) != except) {
            self.begin_close(key, CloseCode::Disconnected, now);
        }
    }
}
