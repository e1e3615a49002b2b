//! How long to wait before the next try at an object that failed. One bad object never delays another.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);
/// An object that did not fail for so long does not fail in a row.
const FORGOTTEN: Duration = Duration::from_secs(900);

struct Failures {
    count: u32,
    last: Instant,
}

/// Failures in a row, for each object that has any. An object's entry goes with its next success. One that was deleted
/// has neither success nor failure any more: its entry goes when another object fails, once it is old enough.
#[derive(Default)]
pub struct Backoff(Mutex<HashMap<String, Failures>>);

impl Backoff {
    /// `jitter`: 0.0 to 1.0, so that objects which failed together do not come back together.
    pub fn failed(&self, object: &str, now: Instant, jitter: f64) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|_, failures| now.duration_since(failures.last) < FORGOTTEN);
        let entry = failures.entry(object.to_owned()).or_insert(Failures {
            count: 0,
            last: now,
        });
        entry.count = entry.count.saturating_add(1);
        entry.last = now;
        delay(entry.count, jitter)
    }

    pub fn succeeded(&self, object: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(object);
    }
}

/// Doubles from one second to five minutes; the half of it at least, by jitter up to all of it.
fn delay(failures: u32, jitter: f64) -> Duration {
    let doubled = FIRST.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(16)));
    doubled
        .min(LONGEST)
        .mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes_and_a_success_forgets() {
        let backoff = Backoff::default();
        let now = Instant::now();
        let waits: Vec<u64> = (0..12)
            .map(|_| backoff.failed("a", now, 1.0).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(backoff.failed("b", now, 0.0), Duration::from_millis(500));
        backoff.succeeded("a");
        assert_eq!(backoff.failed("a", now, 1.0), Duration::from_secs(1));
    }

    #[test]
    fn an_object_that_is_gone_is_forgotten() {
        let backoff = Backoff::default();
        let begin = Instant::now();
        backoff.failed("deleted", begin, 1.0);
        backoff.failed("other", begin + FORGOTTEN, 1.0);
        let left = backoff.0.lock().unwrap();
        assert_eq!(left.keys().collect::<Vec<_>>(), ["other"]);
    }
}
