//! A token bucket: so many at once, and then so many a second. Pure: the time is an argument.
//!
//! One number is the whole state, the moment at which the bucket will be full again (the "generic cell rate
//! algorithm" of ITU-T I.371): a connection pays eight bytes for its limit, and nothing ticks.

/// How fast, and how many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Nanoseconds in which one comes back.
    interval_ns: u64,
    /// Nanoseconds in which a whole burst comes back.
    burst_ns: u64,
}

/// One bucket; full in the beginning.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bucket {
    full_at_ns: u64,
}

/// What one more came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    /// Too many: refuse it, and say so.
    Over,
    /// As many refused as a burst allows, and it goes on: whoever does this does not listen to refusals.
    Abuse,
}

impl Pace {
    /// None when `per_second` is 0: no limit. A burst is at least one, or nothing would ever pass.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Option<Pace> {
        let interval_ns = 1_000_000_000u64.checked_div(per_second.into())?.max(1);
        let burst_ns = interval_ns.saturating_mul(burst.max(1).into());
        Some(Pace {
            interval_ns,
            burst_ns,
        })
    }
}

impl Bucket {
    /// Takes one if there is one. What is refused costs nothing, so that whoever comes later is not made to pay for
    /// those who were turned away.
    pub fn take(&mut self, pace: Pace, now_ns: u64) -> bool {
        let full_at_ns = self.full_at_ns.max(now_ns).saturating_add(pace.interval_ns);
        let passes = full_at_ns - now_ns <= pace.burst_ns;
        if passes {
            self.full_at_ns = full_at_ns;
        }
        passes
    }

    /// Takes one, on credit if need be: what is refused costs as well, so that only who slows down is heard again.
    pub fn charge(&mut self, pace: Pace, now_ns: u64) -> Verdict {
        self.full_at_ns = self.full_at_ns.max(now_ns).saturating_add(pace.interval_ns);
        let owed_ns = self.full_at_ns - now_ns;
        if owed_ns <= pace.burst_ns {
            Verdict::Pass
        } else if owed_ns <= pace.burst_ns.saturating_mul(2) {
            Verdict::Over
        } else {
            Verdict::Abuse
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_burst_at_once_and_then_the_pace() {
        let pace = Pace::new(10, 3).unwrap();
        // Milliseconds, whether it passes.
        let mut bucket = Bucket::default();
        for (at, passes) in [
            (1_000, true),
            (1_000, true),
            (1_000, true),
            (1_000, false),
            (1_099, false),
            (1_100, true),
            (1_100, false),
            (1_350, true),
            (1_350, true),
            (1_350, false),
            (9_000, true),
            (9_000, true),
            (9_000, true),
            (9_000, false),
        ] {
            assert_eq!(bucket.take(pace, at * MS), passes, "at {at} ms");
        }
    }

    #[test]
    fn who_does_not_slow_down_is_told_and_then_is_abuse() {
        use Verdict::*;
        let pace = Pace::new(10, 2).unwrap();
        let mut bucket = Bucket::default();
        for (at, verdict) in [
            (0, Pass),
            (0, Pass),
            (0, Over),
            (0, Over),
            (0, Abuse),
            // Five are owed; two of them, and the one that comes, may be.
            (400, Pass),
            (400, Over),
            (1_000, Pass),
        ] {
            assert_eq!(bucket.charge(pace, at * MS), verdict, "at {at} ms");
        }
    }

    #[test]
    fn extremes() {
        assert_eq!(Pace::new(0, 5), None);
        for (per_second, burst) in [(u32::MAX, u32::MAX), (1, 0), (1, u32::MAX)] {
            let pace = Pace::new(per_second, burst).unwrap();
            let mut bucket = Bucket::default();
            assert!(bucket.take(pace, 0), "{per_second} {burst}");
            assert_eq!(
                bucket.charge(pace, u64::MAX - pace.burst_ns.min(1)),
                Verdict::Pass,
                "{per_second} {burst}"
            );
        }
    }
}
