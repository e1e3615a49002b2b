//! Other settings while connections are open.

use super::*;
use crate::engine::command::Configured;
use crate::presence::Change;
use crate::session::Turned;

impl Shard {
    /// From now on. What the new rules no longer allow ends here, so that a right that was taken away is not used
    /// until somebody happens to ask again.
    pub(super) fn configure(&mut self, new: &Configured, now: Now) {
        let Configured { settings, rules } = new;
        self.deflater
            .set_min_message_bytes(settings.min_deflate_bytes);
        self.shared.settings = Settings::clone(settings);
        let before = std::mem::replace(&mut self.shared.rules, rules.clone());
        let keys: Vec<ConnectionKey> = self
            .connections
            .iter()
            .map(|(slot, c)| key_of(slot, c))
            .collect();
        for key in keys {
            self.hide(key, &before, now);
            self.hold_to_rules(key, now);
            self.show(key, &before, now);
        }
    }

    /// Where presence ends, nobody may stay in the table: nothing would tell of their leaving later.
    fn hide(&mut self, key: ConnectionKey, before: &Rules, now: Now) {
        let rules = self.shared.rules.clone();
        let Some(connection) = self.connection(key) else {
            return;
        };
        let number = connection.session.number();
        for channel in connection.session.turned(Turned::Off, before, &rules) {
            self.changed(number, &channel, Change::Leave, now);
        }
    }

    /// Where presence begins, those who are there have come.
    fn show(&mut self, key: ConnectionKey, before: &Rules, now: Now) {
        let rules = self.shared.rules.clone();
        let Some(connection) = self.connection(key) else {
            return;
        };
        for channel in connection.session.turned(Turned::On, before, &rules) {
            // The others come when they are acknowledged.
            if self.subscriptions.is_live(&channel) {
                self.came(key, &channel, now);
            }
        }
    }

    fn hold_to_rules(&mut self, key: ConnectionKey, now: Now) {
        let intervals = self.shared.settings.intervals();
        let rules = self.shared.rules.clone();
        let Some(connection) = self.connection(key).filter(|c| c.closing.is_none()) else {
            return;
        };
        let mut effects = Vec::new();
        connection.session.rules_changed(&rules, &mut effects);
        let number = connection.session.number();
        let cx = Context { rules: &rules, now };
        let over = connection.session.tick(cx);
        connection
            .heartbeat
            .hurry(now.monotonic_ms, number, intervals);
        for effect in effects {
            self.effect(key, effect, now);
        }
        match over {
            Some(code) => self.begin_close(key, code, now),
            // The new end may be earlier than the entry in the wheel.
            None => self.schedule(key, now),
        }
    }
}
