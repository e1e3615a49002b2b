//! Saying who has come to a channel, and who has left it.

use super::*;
use crate::presence::{Change, Changed};

impl Shard {
    /// After the acknowledgement: whoever hears of others is there already.
    pub(super) fn came(&mut self, key: ConnectionKey, channel: &ChannelName, now: Now) {
        self.registered(key, channel);
        if !self.shared.rules.has_presence(channel) {
            return;
        }
        // One that is closing was not acknowledged.
        let Some(connection) = self.connection(key).filter(|c| c.closing.is_none()) else {
            return;
        };
        let number = connection.session.number();
        let user = connection.session.user().cloned();
        self.changed(number, channel, Change::Join { user }, now);
    }

    /// It has said who it is: where it was nobody in particular, it is that user from now on.
    pub(super) fn became(&mut self, key: ConnectionKey, user: &Arc<str>, now: Now) {
        let rules = self.shared.rules.clone();
        let Some(connection) = self.connection(key) else {
            return;
        };
        let number = connection.session.number();
        let channels = connection.session.channels().iter();
        let told = channels.filter(|channel| rules.has_presence(channel));
        let told: Vec<ChannelName> = told.cloned().collect();
        for channel in told {
            let user = user.clone();
            self.changed(number, &channel, Change::Become { user }, now);
        }
    }

    pub(super) fn left(&mut self, number: u64, channel: &ChannelName, now: Now) {
        if self.shared.rules.has_presence(channel) {
            self.changed(number, channel, Change::Leave, now);
        }
    }

    pub(super) fn changed(&mut self, number: u64, channel: &ChannelName, change: Change, now: Now) {
        self.tell(Event::Presence(Changed {
            channel: channel.clone(),
            number,
            change,
            timestamp: now.unix_ms,
        }));
    }
}
