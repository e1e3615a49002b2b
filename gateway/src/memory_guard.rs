//! When a node that runs out of memory refuses and evicts. Pure: bytes and the time in, a decision out.
//!
//! ```text
//! 80 %  not ready: a load balancer sends clients elsewhere
//! 100 % refuse: handshakes are answered 503, those under way are closed with 1013
//!       still refusing after a second: evict the oldest tenth with 1001, and again every five seconds
//!  90 % below it: no longer refuse
//! ```
//! Refusing comes first because what is already here costs less to keep than to move: an evicted client comes back
//! somewhere. The oldest go, because they have had the most, and because the newest would come back first.

/// Percent of the limit from which the node is not ready.
pub const FULL_PERCENT: u64 = 80;
/// Percent of the limit below which an overloaded node lets clients in again. Lower than where it stopped, or every
/// freed kilobyte would open the door for one client.
const CALM_PERCENT: u64 = 90;
/// Evicted at once.
pub const EVICT_PERCENT: usize = 10;
/// From the first refusal to the first eviction, in milliseconds: memory that is needed for a moment costs nobody.
const GRACE_MS: u64 = 1_000;
/// Between two evictions, in milliseconds: until it is seen what the one before has brought. Longer than a close
/// handshake may take.
const PAUSE_MS: u64 = 5_000;
/// Of a container's limit, in percent, beyond which the kernel may be too quick for the guard.
const CONTAINER_PERCENT: u64 = 90;

/// Bytes that are used, and how many may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub used: u64,
    pub limit: u64,
}

/// How much of the memory is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Level {
    #[default]
    Fine,
    /// The node wants no more clients.
    Full,
    /// It takes none.
    Over,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    pub level: Level,
    /// Close the oldest [`EVICT_PERCENT`].
    pub evict: bool,
}

/// Remembers since when it is too much.
#[derive(Debug, Default)]
pub struct Guard {
    over: bool,
    /// When it may next evict, if memory is still over.
    evict_at_ms: u64,
}

/// The tighter of two views: what the process itself has against `configured` bytes (0: no such limit), and what
/// everything in its container has against the container's limit, at which the kernel kills.
#[must_use]
pub fn tightest(resident: u64, configured: u64, container: Option<Usage>) -> Option<Usage> {
    let own = (configured > 0).then_some(Usage {
        used: resident,
        limit: configured,
    });
    let container = container.map(|Usage { used, limit }| Usage {
        used,
        limit: limit / 100 * CONTAINER_PERCENT,
    });
    own.into_iter()
        .chain(container)
        .max_by_key(|usage| usage.percent())
}

impl Usage {
    #[must_use]
    pub fn percent(&self) -> u64 {
        self.used.saturating_mul(100) / self.limit.max(1)
    }
}

impl Guard {
    /// `usage` None: there is no limit.
    pub fn decide(&mut self, usage: Option<Usage>, now_ms: u64) -> Decision {
        let percent = usage.map_or(0, |usage| usage.percent());
        if !self.over && percent >= 100 {
            self.over = true;
            self.evict_at_ms = self.evict_at_ms.max(now_ms + GRACE_MS);
        }
        self.over &= percent >= CALM_PERCENT;
        // Also below 100 %: whoever refuses must get out of that state, and nobody may be about to leave by himself.
        let evict = self.over && now_ms >= self.evict_at_ms;
        if evict {
            self.evict_at_ms = now_ms + PAUSE_MS;
        }
        let level = match () {
            () if self.over => Level::Over,
            () if percent >= FULL_PERCENT => Level::Full,
            () => Level::Fine,
        };
        Decision { level, evict }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuse_then_evict_then_look() {
        use Level::*;
        let mut guard = Guard::default();
        // Milliseconds, percent, level, whether it evicts.
        for (now_ms, percent, level, evict) in [
            (0, 10, Fine, false),
            (100, 79, Fine, false),
            (200, 80, Full, false),
            (300, 99, Full, false),
            (400, 100, Over, false),
            (500, 95, Over, false),
            (1_399, 120, Over, false),
            (1_400, 120, Over, true),
            (1_500, 120, Over, false),
            (6_399, 120, Over, false),
            (6_400, 100, Over, true),
            (6_500, 90, Over, false),
            (6_600, 89, Full, false),
            (6_700, 70, Fine, false),
            // Soon after: the pause since the last eviction counts, not only the grace.
            (7_000, 100, Over, false),
            (8_100, 100, Over, false),
            (11_400, 100, Over, true),
            // Between 90 and 100 it stays as it was.
            (50_000, 99, Over, true),
            (50_100, 50, Fine, false),
            (60_000, 100, Over, false),
            (61_000, 100, Over, true),
        ] {
            let usage = Usage {
                used: percent * 10,
                limit: 1_000,
            };
            assert_eq!(
                guard.decide(Some(usage), now_ms),
                Decision { level, evict },
                "{percent} % at {now_ms} ms"
            );
        }
        assert_eq!(guard.decide(None, 70_000).level, Fine, "no limit any more");
    }

    #[test]
    fn the_tighter_limit_counts() {
        let usage = |used, limit| Some(Usage { used, limit });
        for (resident, configured, container, expected) in [
            (50, 0, None, None),
            (50, 100, None, usage(50, 100)),
            (50, 0, usage(60, 1_000), usage(60, 900)),
            (50, 100, usage(60, 1_000), usage(50, 100)),
            // Others in the container, or the kernel's buffers, have the rest.
            (50, 1_000, usage(800, 1_000), usage(800, 900)),
        ] {
            assert_eq!(
                tightest(resident, configured, container),
                expected,
                "{resident} {configured} {container:?}"
            );
        }
    }

    #[test]
    fn extremes() {
        for (used, limit, percent) in [(0, 0, 0), (5, 0, 500), (u64::MAX, 1, u64::MAX), (3, 2, 150)]
        {
            assert_eq!(
                Usage { used, limit }.percent(),
                percent,
                "{used} of {limit}"
            );
        }
    }
}
