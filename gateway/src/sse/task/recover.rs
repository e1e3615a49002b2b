//! Coming back: what a client has missed of a channel with history follows its acknowledgement, as the events that it
//! would have been.

use super::*;
use crate::engine::command::Purpose;
use crate::engine::recovering::{Reach, too_much_held};
use crate::history::Page;

impl Task {
    /// On a channel with history the acknowledgement waits for the log.
    pub(super) fn asks_history(
        &mut self,
        key: ConnectionKey,
        channel: &ChannelName,
        ack: &Ack,
    ) -> bool {
        let Ack::Subscribed { recover, .. } = ack else {
            return false;
        };
        let Some(mut range) = self.rules.range(channel, *recover) else {
            return false;
        };
        if recover.is_none() {
            // Only where the log stands.
            range.limit = 0;
        }
        if !self.subscriptions.recover(channel, key, ack) {
            return false;
        }
        self.backlog.push_back(Event::History {
            shard: self.id,
            key,
            channel: channel.clone(),
            range,
            purpose: Purpose::Subscribe,
        });
        true
    }

    pub(super) fn recovered(&mut self, key: ConnectionKey, channel: &ChannelName, page: &Page) {
        // None: it has gone.
        let Some((ack, held)) = self.subscriptions.recovered(channel, key, Reach::of(page)) else {
            return;
        };
        let since = match ack {
            Ack::Subscribed { recover, .. } => recover,
            _ => None,
        };
        let timestamp = self.now().unix_ms;
        let Some(client) = self.clients.get_mut(&key) else {
            return;
        };
        let whole = since.is_some() && page.whole && page.complete;
        // One that ends after this event and before the next one has missed the same, or what cannot be had any more.
        let stands = since.filter(|_| whole).unwrap_or(page.top);
        let id = client.cursor.moved(channel, stands).unwrap_or_default();
        let recovered = client.returns.then_some(whole);
        let said = format::subscribed(channel, timestamp, Some(page.top), recovered);
        self.say(key, [id.as_bytes(), &said].concat());
        self.came(key, channel, timestamp);
        for kept in page.messages.iter().filter(|_| whole) {
            let offset = kept.offset;
            let epoch = page.top.epoch;
            self.owed(
                key,
                &Delivery {
                    channel: channel.clone(),
                    message: kept.message.clone(),
                    position: Some(Position { epoch, offset }),
                },
            );
        }
        for delivery in held {
            self.owed(key, &delivery.delivery);
        }
    }

    /// What somebody was promised in whole is not dropped to make room.
    fn owed(&mut self, key: ConnectionKey, delivery: &Delivery) {
        let event = format::delivery(delivery).into();
        if self.deliver_to(key, delivery, &event, Tag::KEPT) {
            let message = &delivery.message;
            self.metrics.delivered(message.kind, 1, message.timestamp);
        }
    }

    /// Holds a delivery for those who wait for the log; returns those who have it already.
    pub(super) fn hold(&mut self, delivery: &Arc<EncodedDelivery>) -> Vec<ConnectionKey> {
        let channel = &delivery.delivery.channel;
        let Some(recovering) = self.subscriptions.recovering(channel) else {
            return Vec::new();
        };
        let over = recovering.hold(delivery, self.max_outbox);
        let have = recovering.have(delivery);
        for (key, _) in over {
            self.metrics.refused(Limit::OutboxBytes);
            self.say_refused(key, &too_much_held(channel));
        }
        have
    }
}
