//! Messages at a pace, and how late they came.
//!
//! The clock starts when a message was due and not when it was sent: a server that makes the publisher wait would
//! otherwise be late without anybody noticing.

use std::time::{Duration, Instant};

use crate::client::{Crowd, LoadError};
use crate::statistics::quantile;

/// Of [`Quantiles`].
pub const UNIT: &str = "microseconds";

/// Names and thousandths.
pub const QUANTILES: [(&str, usize); 3] = [("p50", 500), ("p99", 990), ("p99.9", 999)];

/// Microseconds at [`QUANTILES`].
pub type Quantiles = [f64; QUANTILES.len()];

/// So much longer than planned, and the server does not keep up with the load.
const STALLED: Duration = Duration::from_secs(20);

pub struct Paced {
    pace: Duration,
    messages: usize,
    published: usize,
    began: Instant,
    /// A subscriber's deliveries come in order, so its n-th is the n-th message.
    seen: Vec<usize>,
    /// Nanoseconds.
    late: Vec<u64>,
}

impl Paced {
    /// So many messages as fit this length, and at least one.
    pub fn new(subscribers: usize, pace: Duration, length: Duration) -> Paced {
        let messages = length.as_nanos() / pace.as_nanos().max(1);
        let messages = usize::try_from(messages).unwrap_or(1).max(1);
        Paced {
            pace,
            messages,
            published: 0,
            began: Instant::now(),
            seen: vec![0; subscribers],
            late: Vec::with_capacity(messages * subscribers),
        }
    }

    pub fn run(
        &mut self,
        crowd: &mut Crowd,
        mut publish: impl FnMut(&mut Crowd) -> anyhow::Result<()>,
    ) -> anyhow::Result<Quantiles> {
        while !self.step(crowd, &mut publish)? {}
        Ok(self.quantiles())
    }

    /// Publishes what is due and reads what has come. Whether all has come.
    pub fn step(
        &mut self,
        crowd: &mut Crowd,
        publish: &mut impl FnMut(&mut Crowd) -> anyhow::Result<()>,
    ) -> anyhow::Result<bool> {
        if self.published < self.messages && Instant::now() >= self.due(self.published) {
            publish(crowd)?;
            self.published += 1;
        }
        let (began, pace) = (self.began, self.pace);
        let (seen, late) = (&mut self.seen, &mut self.late);
        crowd.turn(|number| {
            let due = began + times(pace, seen[number]);
            seen[number] += 1;
            let after = Instant::now().saturating_duration_since(due);
            late.push(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
        })?;
        let expected = self.messages * self.seen.len();
        if Instant::now() > self.due(self.messages) + STALLED {
            return Err(LoadError::Stalled {
                peer: crowd.peer(),
                received: self.late.len() as u64,
                expected: expected as u64,
            }
            .into());
        }
        Ok(self.late.len() >= expected)
    }

    fn due(&self, message: usize) -> Instant {
        self.began + times(self.pace, message)
    }

    /// Of what has come; at least one delivery.
    pub fn quantiles(&mut self) -> Quantiles {
        self.late.sort_unstable();
        QUANTILES.map(|(_, per_mille)| microseconds(quantile(&self.late, per_mille)))
    }
}

fn times(pace: Duration, count: usize) -> Duration {
    pace * u32::try_from(count).unwrap_or(u32::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "seconds, at most")]
fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1_000.0
}
