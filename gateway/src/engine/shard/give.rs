//! Channels that connections get or lose because somebody else said so.

use super::*;
use crate::engine::command::Give;

impl Shard {
    pub(super) fn give(&mut self, order: &Give, now: Now) {
        let keys: Vec<_> = self.subscriptions.members(&order.to).collect();
        self.effects_for(keys, now, |session, rules, effects| {
            session.give(order.gift, &order.channels, rules, effects);
        });
    }

    /// The channels that its token names, which follow what tells a client who it is.
    pub(super) fn begin_named(&mut self, key: ConnectionKey, now: Now) {
        self.effects_of(key, now, Session::begin_named);
    }

    fn effects_for(
        &mut self,
        keys: impl IntoIterator<Item = ConnectionKey>,
        now: Now,
        decide: impl Fn(&mut Session, &Rules, &mut Vec<Effect>),
    ) {
        for key in keys {
            self.effects_of(key, now, &decide);
        }
    }

    /// Carries out what a connection's session decides. One that is closing decides nothing any more.
    pub(super) fn effects_of(
        &mut self,
        key: ConnectionKey,
        now: Now,
        decide: impl FnOnce(&mut Session, &Rules, &mut Vec<Effect>),
    ) {
        let rules = self.shared.rules.clone();
        let Some(connection) = self.connection(key).filter(|c| c.closing.is_none()) else {
            return;
        };
        let mut effects = Vec::new();
        decide(&mut connection.session, &rules, &mut effects);
        for effect in effects {
            self.effect(key, effect, now);
        }
    }
}
