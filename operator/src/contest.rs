//! Who else writes what the operator writes. A change that a person made is put back at once; two programs that put back
//! each other's would do so as fast as the API server answers, and every round may replace pods.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many times an object is put back at once …
const RESTORATIONS: usize = 5;
/// … within this time; then it stays as the other one wants it until the first of them is so old.
const WINDOW: Duration = Duration::from_secs(30);

/// When each object was put back, the last [`RESTORATIONS`] times. An entry goes when its last time is older than
/// [`WINDOW`], with the next restoration of any object.
#[derive(Default)]
pub struct Contests(Mutex<HashMap<String, VecDeque<Instant>>>);

impl Contests {
    /// Whether `object` (namespace, kind and name) may be put back now, which is remembered. If not: how long from now
    /// it may not.
    pub fn restore(&self, object: &str, now: Instant) -> Result<(), Duration> {
        let mut contests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        contests.retain(|_, times| {
            let last = times.back().copied();
            last.is_some_and(|last| now.duration_since(last) < WINDOW)
        });
        let times = contests.entry(object.to_owned()).or_default();
        if times.len() == RESTORATIONS {
            let since = now.duration_since(times[0]);
            if since < WINDOW {
                return Err(WINDOW - since);
            }
            times.pop_front();
        }
        times.push_back(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_person_is_put_right_at_once_and_a_program_at_a_pace() {
        let contests = Contests::default();
        let begin = Instant::now();
        for (second, expected) in [
            (0, Ok(())),
            (1, Ok(())),
            (2, Ok(())),
            (3, Ok(())),
            (4, Ok(())),
            (5, Err(25 * SECOND)),
            (29, Err(SECOND)),
            (30, Ok(())),
            (30, Err(SECOND)),
            (31, Ok(())),
        ] {
            let now = begin + second * SECOND;
            assert_eq!(contests.restore("a", now), expected, "at {second} s");
        }
        assert_eq!(contests.restore("b", begin + 31 * SECOND), Ok(()));
    }

    #[test]
    fn an_object_that_is_left_alone_is_forgotten() {
        let contests = Contests::default();
        let begin = Instant::now();
        contests.restore("a", begin).unwrap();
        contests.restore("b", begin + WINDOW).unwrap();
        let left = contests.0.lock().unwrap();
        assert_eq!(left.keys().collect::<Vec<_>>(), ["b"]);
    }
}
