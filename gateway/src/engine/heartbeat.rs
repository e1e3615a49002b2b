//! Whether a client is still there, and whether it is there for anything. Pure: milliseconds in, a verdict out.

/// Intervals, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Intervals {
    pub ping_ms: u64,
    pub idle_ms: u64,
}

#[derive(Debug)]
pub struct Heartbeat {
    /// When the next ping is due.
    ping_at_ms: u64,
    /// A ping was sent and nothing at all has come since.
    waiting: bool,
    /// The last message that was not a pong.
    spoke_at_ms: u64,
    /// When a message was last delivered, in units of [`QUIET_UNIT_MS`]: the space is there anyway.
    given_at: u32,
}

/// How exactly it is known for how long nothing was delivered; 2³² of them are 17 years.
const QUIET_UNIT_MS: u64 = 128;

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Fine,
    Ping,
    /// A whole interval since the ping, and not a byte.
    Dead,
    /// Connected for nothing: no message, no channel.
    Idle,
}

impl Heartbeat {
    /// The first ping comes after half to all of an interval, by the connection's number: clients that came
    /// together, as after a restart, are not pinged together for ever.
    pub fn new(now_ms: u64, number: u64, intervals: Intervals) -> Self {
        let half = intervals.ping_ms / 2;
        // The golden ratio spreads consecutive numbers evenly (Knuth, TAOCP 6.4).
        let spread = ((number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) * half) >> 32;
        Heartbeat {
            ping_at_ms: now_ms + half + spread,
            waiting: false,
            spoke_at_ms: now_ms,
            given_at: units(now_ms),
        }
    }

    /// The intervals have changed: if they are shorter now, the next ping is not left to the old ones.
    pub fn hurry(&mut self, now_ms: u64, number: u64, intervals: Intervals) {
        let fresh = Heartbeat::new(now_ms, number, intervals);
        self.ping_at_ms = self.ping_at_ms.min(fresh.ping_at_ms);
    }

    /// Bytes came, of whatever kind.
    pub fn heard(&mut self) {
        self.waiting = false;
    }

    /// A message came.
    pub fn spoke(&mut self, now_ms: u64) {
        self.spoke_at_ms = now_ms;
    }

    /// A message was delivered to it. `now`: of [`units`], once for all who get it.
    pub fn given(&mut self, now: u32) {
        self.given_at = now;
    }

    /// The last moment at which it said something or was told something, in [`units`]. Pings and their answers are nothing.
    pub fn quiet_since(&self) -> u32 {
        units(self.spoke_at_ms).max(self.given_at)
    }

    pub fn tick(&mut self, now_ms: u64, has_channels: bool, intervals: Intervals) -> Verdict {
        if !has_channels && now_ms >= self.spoke_at_ms + intervals.idle_ms {
            return Verdict::Idle;
        }
        if now_ms < self.ping_at_ms {
            return Verdict::Fine;
        }
        if self.waiting {
            return Verdict::Dead;
        }
        self.waiting = true;
        self.ping_at_ms = now_ms + intervals.ping_ms;
        Verdict::Ping
    }

    /// When `tick` can next have something to say. A channel may be left at any time, so idleness always counts.
    pub fn due_ms(&self, now_ms: u64, has_channels: bool, intervals: Intervals) -> u64 {
        let idle = if has_channels {
            u64::MAX
        } else {
            self.spoke_at_ms + intervals.idle_ms
        };
        self.ping_at_ms.min(idle).max(now_ms)
    }
}

/// Milliseconds as coarsely as they are kept.
pub fn units(ms: u64) -> u32 {
    u32::try_from(ms / QUIET_UNIT_MS).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVALS: Intervals = Intervals {
        ping_ms: 30_000,
        idle_ms: 300_000,
    };

    #[test]
    fn a_client_that_answers_lives_and_one_that_does_not_is_dead_after_one_missed_ping() {
        let mut heartbeat = Heartbeat::new(0, 7, INTERVALS);
        let first = heartbeat.due_ms(0, true, INTERVALS);
        assert!((15_000..=30_000).contains(&first), "{first}");
        assert_eq!(heartbeat.tick(first - 1, true, INTERVALS), Verdict::Fine);
        assert_eq!(heartbeat.tick(first, true, INTERVALS), Verdict::Ping);
        heartbeat.heard();
        assert_eq!(
            heartbeat.tick(first + 30_000, true, INTERVALS),
            Verdict::Ping
        );
        assert_eq!(
            heartbeat.tick(first + 59_999, true, INTERVALS),
            Verdict::Fine
        );
        assert_eq!(
            heartbeat.tick(first + 60_000, true, INTERVALS),
            Verdict::Dead
        );
    }

    #[test]
    fn shorter_intervals_count_at_once_and_longer_ones_after_the_next_ping() {
        let of = |seconds: u64| Intervals {
            ping_ms: seconds * 1_000,
            idle_ms: 300_000,
        };
        for (new, earliest, latest) in [
            (2, 1_000, 2_000),
            (30, 15_000, 30_000),
            (600, 15_000, 30_000),
        ] {
            let mut heartbeat = Heartbeat::new(0, 7, of(30));
            heartbeat.hurry(0, 7, of(new));
            let due = heartbeat.due_ms(0, true, of(new));
            assert!((earliest..=latest).contains(&due), "{new} s: {due}");
            assert_eq!(heartbeat.tick(due, true, of(new)), Verdict::Ping);
            assert_eq!(heartbeat.due_ms(due, true, of(new)), due + new * 1_000);
        }
    }

    #[test]
    fn a_client_that_only_answers_pings_is_idle_unless_it_subscribes() {
        for (has_channels, spoke_at, expected) in [
            (false, 0, Verdict::Idle),
            (true, 0, Verdict::Ping),
            (false, 1, Verdict::Ping),
        ] {
            let mut heartbeat = Heartbeat::new(0, 1, INTERVALS);
            heartbeat.spoke(spoke_at);
            assert_eq!(heartbeat.tick(300_000, has_channels, INTERVALS), expected);
        }
    }

    #[test]
    fn who_neither_says_nor_hears_anything_is_quiet() {
        for (spoke_at, given_at, expected) in [
            (None, None, 1_000),
            (Some(9_000), None, 9_000),
            (None, Some(9_000), 9_000),
            (Some(9_000), Some(5_000), 9_000),
            (Some(5_000), Some(9_000), 9_000),
        ] {
            let mut heartbeat = Heartbeat::new(1_000, 7, INTERVALS);
            spoke_at.into_iter().for_each(|at| heartbeat.spoke(at));
            given_at
                .into_iter()
                .for_each(|at| heartbeat.given(units(at)));
            // A ping, and its answer.
            heartbeat.tick(60_000, true, INTERVALS);
            heartbeat.heard();
            let found = heartbeat.quiet_since();
            assert_eq!(found, units(expected), "{spoke_at:?} {given_at:?}");
        }
    }

    #[test]
    fn pings_of_clients_that_came_together_are_spread() {
        let mut due: Vec<u64> = (0..1000)
            .map(|n| Heartbeat::new(0, n, INTERVALS).due_ms(0, true, INTERVALS))
            .collect();
        due.sort_unstable();
        let widest = due.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(
            widest < 60,
            "1000 clients over 15 s, and a gap of {widest} ms"
        );
    }
}
