//! Telling which connections are here and what they have, for those who know the connections of all nodes.

use super::*;
use crate::engine::told;
use crate::registry::fact::{Came, Page, Round, Told, is_written};

/// Connections that are looked at for one page.
const PAGE: usize = 128;

impl Shard {
    /// It is welcome as somebody. What it has already is that user's, too.
    pub(super) fn register(&mut self, key: ConnectionKey, now: Now) {
        if self.shared.rules.registers {
            let told = self.told(key, now);
            told.into_iter()
                .for_each(|told| self.tell(Event::Told(told)));
        }
    }

    /// It has been told that it has the channel.
    pub(super) fn registered(&mut self, key: ConnectionKey, channel: &ChannelName) {
        if !self.shared.rules.registers || !is_written(channel) {
            return;
        }
        // One that is closing was not told, and tells of its end itself.
        let Some(connection) = self.connection(key).filter(|c| c.closing.is_none()) else {
            return;
        };
        let told = told::subscribed(&connection.session, channel);
        self.tell(Event::Told(told));
    }

    pub(super) fn deregistered(&mut self, key: ConnectionKey, channel: &ChannelName) {
        if !self.shared.rules.registers || !is_written(channel) {
            return;
        }
        let Some(connection) = self.connection(key) else {
            return;
        };
        let told = told::unsubscribed(&connection.session, channel);
        self.tell(Event::Told(told));
    }

    pub(super) fn gone(&mut self, session: &Session, channels: Vec<ChannelName>) {
        let known = session.user().is_some() || !channels.is_empty();
        if self.shared.rules.registers && known && !session.is_self_test() {
            self.tell(Event::Told(told::gone(session, channels)));
        }
    }

    /// A page of all that is here, which begins at this slot.
    pub(super) fn tell_page(&mut self, round: Round, from: u64, now: Now) {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let to = from.saturating_add(PAGE);
        let here = self.connections.iter().filter(|(slot, _)| *slot >= from);
        let here = here.map(|(slot, connection)| (slot, key_of(slot, connection)));
        let here: Vec<_> = here.take(PAGE + 1).collect();
        let page = here.iter().filter(|(slot, _)| *slot < to);
        let told = page.flat_map(|(_, key)| {
            let (told, present) = (self.told(*key, now), self.present(*key, now));
            told.into_iter().chain(present)
        });
        let told = told.collect();
        let next = here.iter().find(|(slot, _)| *slot >= to);
        let next = next.map(|(slot, _)| *slot as u64);
        let page = Page { round, told, next };
        self.tell(Event::Held {
            shard: self.id,
            page,
        });
    }

    /// The connections that have this channel.
    pub(super) fn who(&mut self, channel: &ChannelName, now: Now) -> Vec<Came> {
        let keys: Vec<_> = self.subscriptions.members(channel).collect();
        let came = keys.into_iter().filter_map(|key| self.came_of(key, now));
        came.collect()
    }

    /// All that is known of a connection that is welcome.
    fn told(&self, key: ConnectionKey, now: Now) -> Vec<Told> {
        let Some(connection) = self.here_now(key) else {
            return Vec::new();
        };
        let came = self.came_of(key, now).map(Told::Came);
        let has = told::has(&connection.session, &self.subscriptions);
        came.into_iter().chain(has).collect()
    }

    /// The channels in which others may know of it.
    fn present(&self, key: ConnectionKey, now: Now) -> Vec<Told> {
        let Some(connection) = self.here_now(key) else {
            return Vec::new();
        };
        let rules = &self.shared.rules;
        told::present(&connection.session, rules, &self.subscriptions, now).collect()
    }

    fn came_of(&self, key: ConnectionKey, now: Now) -> Option<Came> {
        let connection = self.here_now(key)?;
        let noted = connection.share.as_ref().and_then(|share| share.client);
        let peer = || connection.socket.peer_addr().ok();
        let ip = noted.or_else(|| peer().map(|peer| peer.ip().to_canonical()));
        let place = connection.share.as_ref().and_then(|share| share.place);
        told::came(&connection.session, ip, place, now)
    }

    /// A connection that has been welcomed and is not closing: others are not yet, or no longer, here.
    fn here_now(&self, key: ConnectionKey) -> Option<&Connection> {
        let connection = self.connections.get(key.slot as usize)?;
        let here = connection.generation == key.generation
            && connection.closing.is_none()
            && !connection.session.is_self_test();
        here.then_some(connection)
    }
}
