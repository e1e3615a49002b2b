//! Closing connections one by one, at a pace.

use super::*;

/// What a busy moment has kept from being closed is made up for this far back, and no further: whoever set the pace counts
/// on it in every second, and not only on the whole. A drain with a deadline has two seconds to spare.
const MADE_UP_FOR: Duration = Duration::from_millis(50);

/// When the one after the present one is due. `due`: when the present one was.
fn following(due: Instant, now: Instant, every: Duration) -> Instant {
    now.checked_sub(MADE_UP_FOR)
        .map_or(due, |first| due.max(first))
        + every
}

/// In the order in which they are popped: first those with whom nothing has happened for longest. Who talks or listens just
/// now notices a reconnect most. `clients`: since when each is quiet.
fn longest_quiet_last(mut clients: Vec<(u32, ConnectionKey)>) -> Vec<ConnectionKey> {
    // Of clients that are quiet for equally long no order is asked for.
    clients.sort_unstable_by_key(|(since, _)| std::cmp::Reverse(*since));
    clients.into_iter().map(|(_, key)| key).collect()
}

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
                let keys = clients.map(|(slot, c)| (c.heartbeat.quiet_since(), key_of(slot, c)));
                self.draining = Some(Draining {
                    round,
                    pace,
                    next_at: soonest,
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
            draining.next_at = following(draining.next_at, moment, draining.pace.every);
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

    #[test]
    fn a_busy_moment_is_not_made_up_for_with_a_burst() {
        let begun = Instant::now() + Duration::from_secs(60);
        let ms = |number| Duration::from_millis(number);
        for (due, now, every, expected) in [
            (0, 0, 100, 100),
            // A little late, and the next one when it was to be.
            (0, 50, 100, 100),
            (0, 51, 100, 101),
            (0, 3_000, 100, 3_050),
            // Many in a moment, of which fifty milliseconds are made up for.
            (0, 50, 1, 1),
            (0, 3_000, 1, 2_951),
        ] {
            let found = following(begun + ms(due), begun + ms(now), ms(every));
            assert_eq!(found - begun, ms(expected), "{due}, {now}, {every}");
        }
    }
}
