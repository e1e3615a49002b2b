//! Other settings while streams are open.

use super::*;
use crate::engine::command::Configured;
use crate::presence::Change;
use crate::session::Turned;

impl Task {
    /// From now on. A stream cannot be told that it has lost a channel: it ends, and its client is told why when it
    /// comes back.
    pub(super) fn configure(&mut self, new: &Configured) {
        let Configured { settings, rules } = new;
        let (timestamp, before) = (self.now().unix_ms, self.rules.clone());
        // While the rules from before hold: where presence ends, nobody may stay in the table.
        for (key, channel) in self.turned(Turned::Off, &before, rules) {
            if let Some(client) = self.clients.get(&key) {
                let number = client.session.number();
                self.changed(number, &channel, Change::Leave, timestamp);
            }
        }
        self.max_outbox = settings.max_outbox_bytes;
        self.rules = rules.clone();
        let quiet = Duration::from_secs(rules.ping_seconds.into());
        let mut over = Vec::new();
        for (key, client) in &mut self.clients {
            client.outbox.set(self.max_outbox, quiet);
            if !client.session.may_receive(rules) {
                over.push((*key, CloseCode::Unauthorized));
            } else if !client.session.no_longer_granted(rules).is_empty() {
                over.push((*key, CloseCode::Policy));
            }
        }
        for (key, code) in over {
            self.end(key, code);
        }
        for (key, channel) in self.turned(Turned::On, &before, rules) {
            // The others come when they are acknowledged.
            if self.subscriptions.is_live(&channel) {
                self.came(key, &channel, timestamp);
            }
        }
    }

    fn turned(
        &self,
        how: Turned,
        before: &Rules,
        after: &Rules,
    ) -> Vec<(ConnectionKey, ChannelName)> {
        let clients = self.clients.iter();
        clients
            .flat_map(|(key, client)| {
                let channels = client.session.turned(how, before, after).into_iter();
                channels.map(|channel| (*key, channel))
            })
            .collect()
    }
}
