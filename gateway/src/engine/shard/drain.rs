//! Closing connections one by one, at a pace.

use super::*;

impl Shard {
    pub(super) fn begin_drain(&mut self, round: u32, pace: Pace) {
        let soonest = Instant::now();
        match &mut self.draining {
            Some(draining) => {
                draining.round = round;
                draining.pace = pace;
                // One that was to wait for minutes must not, when it is to go faster now.
                draining.next_at = draining.next_at.min(soonest + pace.every);
            }
            None => {
                let clients = self.connections.iter();
                // The self-test leaves by itself, and says meanwhile whether the node works.
                let clients = clients.filter(|(_, c)| !c.session.is_self_test());
                let keys = clients.map(|(slot, c)| key_of(slot, c));
                self.draining = Some(Draining {
                    round,
                    pace,
                    next_at: soonest,
                    left: keys.collect(),
                });
            }
        }
        self.report_drained();
    }

    pub(super) fn drain(&mut self, now: Now) {
        while let Some(draining) = &mut self.draining {
            if Instant::now() < draining.next_at {
                return;
            }
            let Some(key) = draining.left.pop() else {
                return;
            };
            draining.next_at += draining.pace.every;
            let spread_ms = u64::try_from(draining.pace.spread.as_millis()).unwrap_or(u64::MAX);
            let Some(connection) = self.connection(key) else {
                continue;
            };
            let scattered = connection
                .session
                .number()
                .wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let reconnect = Reply::Reconnect {
                after_ms: scattered % spread_ms.max(1),
            };
            self.reply(key, native::encode_reply(&reconnect, None), now);
            self.begin_close(key, CloseCode::Drain, now);
        }
    }

    pub(super) fn report_drained(&mut self) {
        if let Some(Draining { round, .. }) = self.draining
            && self.connections.is_empty()
        {
            self.tell(Event::Drained {
                shard: self.id,
                round,
            });
        }
    }
}
