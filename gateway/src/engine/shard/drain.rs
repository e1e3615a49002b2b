//! Closing connections one by one, at a pace.

use super::*;

/// In the order in which they are popped: first those with whom nothing has happened for longest. Who talks or listens just
/// now notices a reconnect most. `clients`: since when each is quiet.
fn longest_quiet_last(mut clients: Vec<(u32, ConnectionKey)>) -> Vec<ConnectionKey> {
    // Of clients that are quiet for equally long no order is asked for.
    clients.sort_unstable_by_key(|(since, _)| std::cmp::Reverse(*since));
    clients.into_iter().map(|(_, key)| key).collect()
}

impl Shard {
    pub(super) fn begin_drain(&mut self, round: u32, pace: Pace) {
        let now = Instant::now();
        match &mut self.draining {
            Some(draining) => {
                draining.round = round;
                draining.pace = pace;
                draining.next_at = pace.changed(draining.next_at, now);
            }
            None => {
                let clients = self.connections.iter();
                // The self-test leaves by itself, and says meanwhile whether the node works.
                let clients = clients.filter(|(_, c)| !c.session.is_self_test());
                let keys = clients.map(|(slot, c)| (c.heartbeat.quiet_since(), key_of(slot, c)));
                self.draining = Some(Draining {
                    round,
                    pace,
                    next_at: pace.first(now),
                    left: longest_quiet_last(keys.collect()),
                });
            }
        }
        self.report_drained();
    }

    pub(super) fn drain(&mut self, now: Now) {
        while let Some(draining) = &mut self.draining {
            let moment = Instant::now();
            if moment < draining.next_at {
                return;
            }
            let Some(key) = draining.left.pop() else {
                return;
            };
            draining.next_at = draining.pace.following(draining.next_at, moment);
            let pace = draining.pace;
            let Some(connection) = self.connection(key) else {
                continue;
            };
            let after_ms = pace.after_ms(connection.session.number());
            let reconnect = Reply::Reconnect { after_ms };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_quiet_for_longest_go_first() {
        for (since, expected) in [
            (vec![], vec![]),
            (vec![7], vec![0]),
            (vec![3, 1, 2], vec![1, 2, 0]),
            (vec![0, u32::MAX, 5], vec![0, 2, 1]),
        ] {
            let clients = since.iter().zip(0..).map(|(since, slot)| {
                let generation = 0;
                (*since, ConnectionKey { slot, generation })
            });
            let mut left = longest_quiet_last(clients.collect());
            let order: Vec<u32> = std::iter::from_fn(|| Some(left.pop()?.slot)).collect();
            assert_eq!(order, expected, "{since:?}");
        }
    }
}
