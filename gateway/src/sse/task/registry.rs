//! Telling which streams are here and what they have, as threads do of their sockets.

use super::*;
use crate::engine::told;
use crate::registry::fact::{Came, Page, Round, Told, is_written};

/// Streams on one page.
const PAGE: usize = 128;

impl Task {
    /// It is welcome. It has no channels yet.
    pub(super) fn register(&mut self, key: ConnectionKey) {
        if let Some(came) = self.came_of(key).filter(|_| self.rules.registers) {
            self.backlog.push_back(Event::Told(Told::Came(came)));
        }
    }

    /// It has been told that it has the channel.
    pub(super) fn registered(&mut self, key: ConnectionKey, channel: &ChannelName) {
        if !self.rules.registers || !is_written(channel) {
            return;
        }
        let Some(client) = self.clients.get(&key) else {
            return;
        };
        let told = told::subscribed(&client.session, channel);
        self.backlog.push_back(Event::Told(told));
    }

    pub(super) fn deregistered(&mut self, key: ConnectionKey, channel: &ChannelName) {
        if !self.rules.registers || !is_written(channel) {
            return;
        }
        let Some(client) = self.clients.get(&key) else {
            return;
        };
        let told = told::unsubscribed(&client.session, channel);
        self.backlog.push_back(Event::Told(told));
    }

    pub(super) fn gone(&mut self, session: &Session, channels: Vec<ChannelName>) {
        if self.rules.registers {
            let told = told::gone(session, channels);
            self.backlog.push_back(Event::Told(told));
        }
    }

    /// A page of all that is here, by number.
    pub(super) fn tell_page(&mut self, round: Round, from: u64) {
        let clients = self.clients.iter();
        let numbers = clients.map(|(key, client)| (client.session.number(), *key));
        let mut here: Vec<_> = numbers.filter(|(number, _)| *number >= from).collect();
        here.sort_unstable();
        let next = here.get(PAGE).map(|(number, _)| *number);
        here.truncate(PAGE);
        let told = here.into_iter().flat_map(|(_, key)| {
            let present = self.present(key);
            self.told(key).into_iter().chain(present)
        });
        let page = Page {
            round,
            told: told.collect(),
            next,
        };
        self.backlog.push_back(Event::Held {
            shard: self.id,
            page,
        });
    }

    /// The streams that have this channel.
    pub(super) fn who(&self, channel: &ChannelName) -> Vec<Came> {
        let keys = self.subscriptions.members(channel);
        keys.filter_map(|key| self.came_of(key)).collect()
    }

    fn told(&self, key: ConnectionKey) -> Vec<Told> {
        let Some(client) = self.clients.get(&key) else {
            return Vec::new();
        };
        let came = self.came_of(key).map(Told::Came);
        let has = told::has(&client.session, &self.subscriptions);
        came.into_iter().chain(has).collect()
    }

    /// The channels in which others may know of it.
    fn present(&self, key: ConnectionKey) -> Vec<Told> {
        let Some(client) = self.clients.get(&key) else {
            return Vec::new();
        };
        let now = self.now();
        told::present(&client.session, &self.rules, &self.subscriptions, now).collect()
    }

    fn came_of(&self, key: ConnectionKey) -> Option<Came> {
        let client = self.clients.get(&key)?;
        let share = &client.share;
        told::came(&client.session, share.client, share.place, self.now())
    }
}
