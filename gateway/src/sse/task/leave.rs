//! The ways in which a client ends.

use super::*;
use crate::presence::Change;

/// A client has this long to read its last events.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// An `EventSource` that was closed for a passing cause comes back after this time, in milliseconds, and up to so much
/// again, so that not all come back together.
const BACKOFF_MS: u64 = 2_000;

impl Task {
    pub(super) fn disconnect(&mut self, order: &Disconnect) {
        let keys: Vec<_> = match &order.only {
            Some(_) => self.here(order.only.as_ref()).into_iter().collect(),
            None => self.subscriptions.members(&order.channel).collect(),
        };
        let except = self.here(order.except.as_ref());
        for key in keys.into_iter().filter(|key| Some(*key) != except) {
            self.end(key, CloseCode::Disconnected);
        }
    }

    pub(super) fn begin_drain(&mut self, round: u32, pace: Pace) {
        let now = Instant::now();
        match &mut self.draining {
            Some(draining) => {
                draining.round = round;
                draining.pace = pace;
                draining.next_at = pace
                    .changed(draining.next_at.into_std(), now.into_std())
                    .into();
            }
            None => {
                self.draining = Some(Draining {
                    round,
                    pace,
                    next_at: pace.first(now.into_std()).into(),
                    left: self.clients.keys().copied().collect(),
                });
            }
        }
        self.report_drained();
    }

    pub(super) fn drain(&mut self) {
        while let Some(draining) = &mut self.draining {
            let now = Instant::now();
            if now < draining.next_at {
                return;
            }
            let Some(key) = draining.left.pop() else {
                return;
            };
            let (pace, due) = (draining.pace, draining.next_at.into_std());
            draining.next_at = pace.following(due, now.into_std()).into();
            if let Some(client) = self.clients.get(&key) {
                let after_ms = pace.after_ms(client.session.number());
                self.say(key, format::reply(&Reply::Reconnect { after_ms }));
                self.say(key, format::retry(after_ms));
                self.end(key, CloseCode::Drain);
            }
        }
    }

    pub(super) fn report_drained(&mut self) {
        if let Some(Draining { round, .. }) = self.draining
            && self.clients.is_empty()
        {
            self.backlog.push_back(Event::Drained {
                shard: self.id,
                round,
            });
        }
    }

    pub(super) fn evict_oldest(&mut self, percent: usize) {
        let mut keys: Vec<_> = self.clients.keys().copied().collect();
        // Numbers go up: the lowest came first.
        keys.sort_unstable_by_key(|key| (key.generation, key.slot));
        let count = (keys.len() * percent).div_ceil(100);
        for key in keys.into_iter().take(count) {
            if let Some(client) = self.clients.get(&key) {
                client.outbox.discard();
            }
            self.end(key, CloseCode::Overloaded);
        }
    }

    pub(super) fn look(&mut self) {
        let now = self.now();
        let rules = self.rules.clone();
        let cx = Context { rules: &rules, now };
        let over: Vec<_> = self
            .clients
            .iter()
            .filter_map(|(key, client)| Some((*key, client.session.tick(cx)?)))
            .collect();
        for (key, code) in over {
            self.end(key, code);
        }
        let now = Instant::now();
        let due = self.closing.partition_point(|(at, _)| *at <= now);
        for (_, line) in self.closing.drain(..due) {
            line.cut();
        }
    }

    /// The one place where a client ends. One that has gone hears nothing of what is said here.
    pub(super) fn end(&mut self, key: ConnectionKey, code: CloseCode) {
        let Some(mut client) = self.clients.remove(&key) else {
            return;
        };
        let (number, timestamp) = (client.session.number(), self.now().unix_ms);
        let channels = client.session.take_channels();
        for channel in &channels {
            self.changed(number, channel, Change::Leave, timestamp);
            if self.subscriptions.unsubscribe(channel, key).last {
                self.backlog.push_back(Event::Disinterest {
                    shard: self.id,
                    channel: channel.clone(),
                });
            }
        }
        self.gone(&client.session, channels);
        let mut last = Vec::new();
        if matches!(
            code,
            CloseCode::TryAgainLater | CloseCode::Slow | CloseCode::Overloaded
        ) {
            last = format::retry(BACKOFF_MS + scattered(key) % BACKOFF_MS);
        }
        last.extend(format::close(code));
        client.outbox.end(last.into());
        let lived_ms = self.now().monotonic_ms - client.session.opened_ms();
        self.metrics.closed(code, lived_ms);
        self.open.fetch_sub(1, Ordering::Relaxed);
        let deadline = Instant::now() + CLOSE_DEADLINE;
        self.closing.push_back((deadline, client.line));
        self.report_drained();
    }

    /// Whoever is left is told, and cut if it does not listen. What is to be said of them is returned.
    pub(super) fn stop(mut self) -> VecDeque<Event> {
        let keys: Vec<_> = self.clients.keys().copied().collect();
        for key in keys {
            self.end(key, CloseCode::GoingAway);
        }
        let closing = std::mem::take(&mut self.closing);
        tokio::spawn(async move {
            sleep(CLOSE_DEADLINE).await;
            for (_, line) in closing {
                line.cut();
            }
        });
        self.backlog
    }
}

/// Spreads numbers that follow each other (Knuth, TAOCP 6.4).
fn scattered(key: ConnectionKey) -> u64 {
    u64::from(key.slot).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16
}
