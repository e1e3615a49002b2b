//! Channels that clients get or lose because somebody else said so. An `id` says nothing of them: a client that comes
//! back is subscribed to what it asks for and what its token names.

use super::*;
use crate::engine::command::Give;
use crate::presence::Change;

impl Task {
    pub(super) fn give(&mut self, order: &Give) {
        let keys: Vec<_> = self.subscriptions.members(&order.to).collect();
        let rules = self.rules.clone();
        for key in keys {
            let Some(client) = self.clients.get_mut(&key) else {
                continue;
            };
            let mut effects = Vec::new();
            let session = &mut client.session;
            session.give(order.gift, &order.channels, &rules, &mut effects);
            for effect in effects {
                self.effect(key, effect);
            }
        }
    }

    pub(super) fn leave(&mut self, key: ConnectionKey, channel: ChannelName) {
        if let Some(client) = self.clients.get(&key) {
            let number = client.session.number();
            self.changed(number, &channel, Change::Leave, self.now().unix_ms);
            self.deregistered(key, &channel);
        }
        if self.subscriptions.unsubscribe(&channel, key).last {
            self.backlog.push_back(Event::Disinterest {
                shard: self.id,
                channel,
            });
        }
    }

    /// One thing is refused; the stream goes on.
    pub(super) fn say_error(&mut self, key: ConnectionKey, refusal: &Refusal) {
        let error = format::reply(&Reply::Error {
            code: refusal.code,
            message: &refusal.message,
        });
        self.metrics.error(refusal.code);
        self.say(key, error);
    }
}
