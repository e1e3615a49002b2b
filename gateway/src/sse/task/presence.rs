//! Event streams are present like any other subscriber.

use super::*;
use crate::presence::{Change, Changed};

impl Task {
    pub(super) fn came(&mut self, key: ConnectionKey, channel: &ChannelName, timestamp: u64) {
        self.registered(key, channel);
        // One that could not be told is gone.
        let Some(client) = self.clients.get(&key) else {
            return;
        };
        let user = client.session.user().cloned();
        let number = client.session.number();
        self.changed(number, channel, Change::Join { user }, timestamp);
    }

    pub(super) fn changed(
        &mut self,
        number: u64,
        channel: &ChannelName,
        change: Change,
        timestamp: u64,
    ) {
        if self.rules.has_presence(channel) {
            self.backlog.push_back(Event::Presence(Changed {
                channel: channel.clone(),
                number,
                change,
                timestamp,
            }));
        }
    }
}
