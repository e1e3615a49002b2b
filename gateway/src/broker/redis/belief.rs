//! Which master to believe in, of those that Sentinels name. Pure: answers and the time in.

use std::time::Duration;

use tokio::time::Instant;

use super::topology::Endpoint;

/// For so long a majority must know less than was known before. Sentinels tell each other of a new master every two
/// seconds; who still does not know has forgotten, as when all of them were replaced.
const FORGOTTEN: Duration = Duration::from_secs(5);

/// The highest epoch so far; a lower one is old, until it is plain that nobody has the higher one any more.
#[derive(Debug, Default)]
pub(super) struct Belief {
    epoch: u64,
    /// Since when a majority has known only older ones.
    older_since: Option<Instant>,
}

impl Belief {
    /// The master that counts. None: nobody answered, or only with what is old. `sentinels`: how many there are.
    pub(super) fn weigh(
        &mut self,
        answers: Vec<(Endpoint, u64)>,
        sentinels: usize,
        now: Instant,
    ) -> Option<Endpoint> {
        let majority = answers.len() * 2 > sentinels;
        let older_since = self.older_since.take();
        // Of equals the first, which answered first.
        let (master, epoch) = answers.into_iter().rev().max_by_key(|(_, epoch)| *epoch)?;
        if epoch < self.epoch {
            let since = older_since.filter(|_| majority).unwrap_or(now);
            if now.duration_since(since) < FORGOTTEN {
                self.older_since = majority.then_some(since);
                return None;
            }
        }
        self.epoch = epoch;
        Some(master)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(port: u16) -> Endpoint {
        Endpoint {
            host: "redis".into(),
            port,
        }
    }

    /// Each row: the second, the answers as master's port and epoch, and the master that counts.
    type Row = (u64, &'static [(u16, u64)], Option<u16>);

    fn plays(rows: &[Row]) {
        let mut belief = Belief::default();
        let begin = Instant::now();
        for (second, answers, expected) in rows {
            let now = begin + Duration::from_secs(*second);
            let answered = answers
                .iter()
                .map(|(port, epoch)| (endpoint(*port), *epoch));
            let master = belief.weigh(answered.collect(), 3, now);
            assert_eq!(master, expected.map(endpoint), "{second} s: {answers:?}");
        }
    }

    #[test]
    fn the_highest_epoch_wins_and_an_older_one_is_not_gone_back_to() {
        plays(&[
            (0, &[], None),
            (1, &[(1, 4)], Some(1)),
            (2, &[(1, 4), (2, 5), (1, 4)], Some(2)),
            (3, &[(1, 4)], None),
            (4, &[(3, 5), (2, 5)], Some(3)),
        ]);
    }

    /// All Sentinels were replaced, and count from 0 again: a gateway that held on to the old epoch would never find
    /// a master again.
    #[test]
    fn what_a_majority_has_forgotten_is_forgotten() {
        plays(&[
            (0, &[(1, 7)], Some(1)),
            (1, &[(2, 0), (2, 0)], None),
            (5, &[(2, 0), (2, 0)], None),
            (6, &[(2, 0), (2, 0)], Some(2)),
            (7, &[(3, 1)], Some(3)),
        ]);
    }

    /// One Sentinel that was replaced, or two that have not heard yet, are no reason to go back.
    #[test]
    fn a_minority_and_a_moment_change_nothing() {
        plays(&[
            (0, &[(1, 7)], Some(1)),
            (1, &[(2, 0)], None),
            (9, &[(2, 0)], None),
            (10, &[(2, 6), (2, 6)], None),
            (12, &[(2, 6), (1, 7)], Some(1)),
            (14, &[(2, 6), (2, 6)], None),
            (16, &[(2, 6)], None),
            (18, &[(2, 6), (2, 6)], None),
            (20, &[], None),
            (21, &[(2, 6), (2, 6)], None),
        ]);
    }
}
