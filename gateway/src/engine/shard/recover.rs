//! Subscribing to a channel with history: the acknowledgement says where its log stands, and what was missed.

use super::*;
use crate::engine::command::{EncodedDelivery, Purpose};
use crate::engine::outbox::Tag;
use crate::engine::recovering::{Reach, too_much_held};
use crate::history::Page;
use crate::protocol::native::{Delivered, Log, RequestId};

impl Shard {
    /// Deliveries of the channel reach this connection. On one with history the acknowledgement waits for the log.
    pub(super) fn joined(
        &mut self,
        key: ConnectionKey,
        channel: &ChannelName,
        ack: &Ack,
        now: Now,
    ) {
        let Ack::Subscribed { recover, .. } = ack else {
            return self.acknowledge(key, channel, ack, now);
        };
        let Some(mut range) = self.shared.rules.range(channel, *recover) else {
            return self.acknowledge(key, channel, ack, now);
        };
        if recover.is_none() {
            // Only where the log stands.
            range.limit = 0;
        }
        if self.subscriptions.recover(channel, key, ack) {
            self.ask_history(key, channel.clone(), range, Purpose::Subscribe);
        } else {
            let refusal = Refusal {
                code: ErrorCode::InProgress,
                message: format!("subscribe to {channel} refused: it is under way already"),
            };
            self.refuse(key, &refusal, ack.id(), now);
        }
    }

    pub(super) fn ask_history(
        &mut self,
        key: ConnectionKey,
        channel: ChannelName,
        range: Range,
        purpose: Purpose,
    ) {
        self.tell(Event::History {
            shard: self.id,
            key,
            channel,
            range,
            purpose,
        });
    }

    /// The log has been read, or could not be.
    pub(super) fn history(
        &mut self,
        key: ConnectionKey,
        channel: &ChannelName,
        (purpose, found): (Purpose, Result<Page, Refusal>),
        now: Now,
    ) {
        match (purpose, found) {
            (Purpose::Answer(id), Ok(page)) => {
                let answer = history_answer(channel, &page, id.as_ref());
                self.reply(key, answer, now);
            }
            (Purpose::Answer(id), Err(refusal)) => self.refuse(key, &refusal, id.as_ref(), now),
            (Purpose::Subscribe, Ok(page)) => self.recovered(key, channel, &page, now),
            (Purpose::Subscribe, Err(refusal)) => {
                if let Some(ack) = self.unsubscribe(channel, key, now) {
                    self.not_recovered(key, channel, (&refusal, ack.id()), now);
                }
            }
        }
    }

    fn recovered(&mut self, key: ConnectionKey, channel: &ChannelName, page: &Page, now: Now) {
        // None: it left, or lost its place, and was told so.
        let Some((ack, held)) = self.subscriptions.recovered(channel, key, Reach::of(page)) else {
            return;
        };
        let asked = matches!(
            ack,
            Ack::Subscribed {
                recover: Some(_),
                ..
            }
        );
        let recovered = page.whole && page.complete;
        let reply = Reply::Subscribed {
            channel: channel.as_str(),
            timestamp: now.unix_ms,
            log: Some(Log {
                top: page.top,
                recovered: asked.then_some(recovered),
                messages: (asked && recovered).then(|| delivered(channel, page)),
            }),
        };
        self.reply(key, native::encode_reply(&reply, ack.id()), now);
        self.came(key, channel, now);
        for delivery in held {
            self.deliver_to(key, &delivery, now);
        }
    }

    /// Holds a delivery for those who wait for the log; returns those who have it already.
    pub(super) fn hold(&mut self, delivery: &Arc<EncodedDelivery>, now: Now) -> Vec<ConnectionKey> {
        let channel = &delivery.delivery.channel;
        let Some(recovering) = self.subscriptions.recovering(channel) else {
            return Vec::new();
        };
        let max_bytes = self.shared.settings.max_outbox_bytes;
        let over = recovering.hold(delivery, max_bytes);
        let have = recovering.have(delivery);
        for (key, ack) in over {
            self.metrics.refused(Limit::OutboxBytes);
            let refusal = too_much_held(channel);
            self.unsubscribe(channel, key, now);
            self.not_recovered(key, channel, (&refusal, ack.id()), now);
        }
        have
    }

    /// A subscription that cannot be told what it missed is none: the client asks again.
    fn not_recovered(
        &mut self,
        key: ConnectionKey,
        channel: &ChannelName,
        (refusal, id): (&Refusal, Option<&RequestId>),
        now: Now,
    ) {
        if let Some(connection) = self.connection(key) {
            connection.session.forget(channel);
        }
        self.refuse(key, refusal, id, now);
    }

    fn deliver_to(&mut self, key: ConnectionKey, delivery: &EncodedDelivery, now: Now) {
        let cap = self.shared.settings.max_outbox_bytes;
        // What somebody was promised in whole is not dropped to make room.
        let tag = Tag::KEPT;
        let message = &delivery.delivery.message;
        let except = message.except.as_ref().and_then(|id| self.here(id));
        let Some(connection) = self.connection(key).filter(|c| c.closing.is_none()) else {
            return;
        };
        if except == Some(key) {
            return;
        }
        let pushed = connection.outbox.push(delivery.native().clone(), tag, cap);
        self.metrics.delivered(message.kind, 1, message.timestamp);
        self.mark_dirty(key);
        if pushed.is_err() {
            self.begin_close(key, CloseCode::Slow, now);
        }
    }
}

fn history_answer(channel: &ChannelName, page: &Page, id: Option<&RequestId>) -> Bytes {
    let log = Log {
        top: page.top,
        recovered: None,
        messages: Some(delivered(channel, page)),
    };
    let reply = Reply::History {
        channel: channel.as_str(),
        log,
    };
    native::encode_reply(&reply, id)
}

fn delivered<'a>(channel: &'a ChannelName, page: &'a Page) -> Vec<Delivered<'a>> {
    page.messages
        .iter()
        .map(|kept| Delivered::new(channel, &kept.message, Some(kept.offset)))
        .collect()
}
