//! How fast clients are sent away, by a node and by each of its shards. Pure.

use std::time::{Duration, Instant};

/// How a node, or one of its shards, sends its clients away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Between two closes.
    pub every: Duration,
    /// How much later than at once the first one is, less than `every`: shards of one pace would otherwise all close one at
    /// the same moment.
    pub phase: Duration,
    /// Clients are told to come back after a time up to this.
    pub spread: Duration,
}

/// What a busy moment has kept from being closed is made up for this far back, and no further: whoever set the pace counts
/// on it in every second, and not only on the whole. A drain with a deadline has two seconds to spare.
const MADE_UP_FOR: Duration = Duration::from_millis(50);

impl Pace {
    /// A node's, for each of so many threads, and for the event streams, of which there are `streams` among `all` clients.
    /// The threads have equally many.
    #[must_use]
    pub fn parts(self, threads: usize, (all, streams): (u64, u64)) -> (Vec<Pace>, Pace) {
        let count = u32::try_from(threads.max(1)).unwrap_or(u32::MAX);
        let every = share(self.every.saturating_mul(count), all, all - streams);
        let thread = |place| Pace {
            every,
            phase: every / count * place,
            ..self
        };
        let of_streams = Pace {
            every: share(self.every, all, streams),
            phase: self.every / 2,
            ..self
        };
        ((0..count).map(thread).collect(), of_streams)
    }

    /// When the first one is due of a drain that begins now.
    #[must_use]
    pub fn first(self, now: Instant) -> Instant {
        now + self.phase
    }

    /// When the next one is due of a drain that goes at this pace from now on. `due`: when it was. One that was to wait for
    /// minutes must not, when it is to go faster now.
    #[must_use]
    pub fn changed(self, due: Instant, now: Instant) -> Instant {
        due.min(now + self.every.saturating_sub(self.phase))
    }

    /// When the one after the present one is due. `due`: when the present one was.
    #[must_use]
    pub fn following(self, due: Instant, now: Instant) -> Instant {
        now.checked_sub(MADE_UP_FOR)
            .map_or(due, |first| due.max(first))
            + self.every
    }

    /// What the client of that number is told to wait. Numbers that follow each other are spread (Knuth, TAOCP 6.4).
    #[must_use]
    pub fn after_ms(self, number: u64) -> u64 {
        let spread_ms = u64::try_from(self.spread.as_millis()).unwrap_or(u64::MAX);
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % spread_ms.max(1)
    }
}

/// Between two closes of a part of all clients.
fn share(every: Duration, all: u64, part: u64) -> Duration {
    let part = u32::try_from(part.max(1)).unwrap_or(u32::MAX);
    let all = u32::try_from(all.max(1)).unwrap_or(u32::MAX);
    every.saturating_mul(all) / part
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::MIN_SPREAD;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn a_busy_moment_is_not_made_up_for_with_a_burst() {
        let begun = Instant::now() + Duration::from_secs(60);
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
            let pace = Pace {
                every: ms(every),
                phase: Duration::ZERO,
                spread: Duration::ZERO,
            };
            let found = pace.following(begun + ms(due), begun + ms(now));
            assert_eq!(found - begun, ms(expected), "{due}, {now}, {every}");
        }
    }

    #[test]
    fn threads_and_streams_have_their_parts_of_the_pace() {
        for (every, threads, all, streams, of_thread, of_streams) in [
            (ms(2), 1, 100, 0, ms(2), ms(200)),
            (ms(2), 4, 100, 0, ms(8), ms(200)),
            (ms(2), 1, 100, 50, ms(4), ms(4)),
            (ms(2), 1, 100, 100, ms(200), ms(2)),
            (ms(2), 1, 0, 0, ms(2), ms(2)),
            (ms(0), 2, 100, 3, ms(0), ms(0)),
        ] {
            let pace = Pace {
                every,
                phase: Duration::ZERO,
                spread: ms(1),
            };
            let (of_threads, streams) = pace.parts(threads, (all, streams));
            assert_eq!(of_threads.len(), threads);
            let parts = of_threads.iter().chain([&streams]);
            assert!(parts.clone().all(|part| part.spread == pace.spread));
            assert!(of_threads.iter().all(|part| part.every == of_thread));
            assert_eq!(streams.every, of_streams);
        }
    }

    #[test]
    fn threads_close_one_after_the_other_also_when_the_pace_changes() {
        let now = Instant::now();
        let pace = |every| Pace {
            every,
            phase: Duration::ZERO,
            spread: Duration::ZERO,
        };
        let (slowly, _) = pace(Duration::from_secs(3_600)).parts(4, (100, 0));
        let (fast, _) = pace(ms(10)).parts(4, (100, 0));
        let times = |due: Vec<Instant>| -> Vec<u128> {
            let mut due: Vec<_> = due.iter().map(|at| (*at - now).as_millis()).collect();
            due.sort_unstable();
            due
        };
        let first = fast.iter().map(|part| part.first(now)).collect();
        assert_eq!(times(first), [0, 10, 20, 30]);
        let later = slowly.iter().map(|part| part.following(now, now));
        let changed = later
            .zip(&fast)
            .map(|(due, part)| part.changed(due, now))
            .collect();
        assert_eq!(times(changed), [10, 20, 30, 40]);
    }

    /// When the clients of one shard come back, of a thread that is up to two milliseconds late each time.
    fn arrivals(pace: Pace, begun: Instant, numbers: impl Iterator<Item = u64>) -> Vec<Instant> {
        let mut due = pace.first(begun);
        let mut come = Vec::new();
        for number in numbers {
            let now = due + Duration::from_micros(number * 7_919 % 2_000);
            come.push(now + ms(pace.after_ms(number)));
            due = pace.following(due, now);
        }
        come
    }

    #[test]
    fn no_second_has_more_than_a_twentieth_above_the_pace() {
        let per_second = 100;
        let pace = Pace {
            every: Duration::from_secs(1) / per_second,
            phase: Duration::ZERO,
            spread: MIN_SPREAD,
        };
        let (all, begun) = (10_000, Instant::now());
        for (threads, streams) in [(1, 0), (2, 0), (4, 0), (8, 2_000), (3, 9_997), (2, 10_000)] {
            let (of_threads, of_streams) = pace.parts(threads, (all, streams));
            let threads = threads as u64;
            let mut come = arrivals(of_streams, begun, all - streams..all);
            for (place, pace) in (0..).zip(of_threads) {
                let numbers = (0..all - streams).filter(|number| number % threads == place);
                come.extend(arrivals(pace, begun, numbers));
            }
            let last = come.iter().max().unwrap();
            assert!(
                *last - begun < Duration::from_secs(103),
                "{threads}, {streams}"
            );
            for offset in (0..1_000).step_by(50) {
                let mut seconds = [0; 110];
                for at in &come {
                    let second = (*at - begun + ms(offset)).as_secs();
                    seconds[usize::try_from(second).unwrap()] += 1;
                }
                let most = seconds.into_iter().max().unwrap();
                assert!(most <= 105, "{most}/s, {threads} and {streams} at {offset}");
            }
        }
    }
}
