//! Delays in buckets that several processes can add up: 32 to each doubling, so that a quantile is at most 3 % off. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Buckets of one doubling.
const FINE: u64 = 32;
const FINE_BITS: u32 = FINE.ilog2();

/// Microseconds. In JSON pairs of bucket and count.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Histogram {
    buckets: BTreeMap<u64, u64>,
}

impl From<Vec<(u64, u64)>> for Histogram {
    fn from(pairs: Vec<(u64, u64)>) -> Histogram {
        Histogram {
            buckets: pairs.into_iter().collect(),
        }
    }
}

impl From<Histogram> for Vec<(u64, u64)> {
    fn from(histogram: Histogram) -> Vec<(u64, u64)> {
        histogram.buckets.into_iter().collect()
    }
}

/// Below 64 each value has its own; then the five bits behind the first one count.
fn bucket(micros: u64) -> u64 {
    let doubling = micros.max(1).ilog2().saturating_sub(FINE_BITS);
    u64::from(doubling) * FINE + (micros >> doubling)
}

/// The most that belongs into a bucket.
fn most_in(bucket: u64) -> u64 {
    let doubling = (bucket / FINE).saturating_sub(1);
    let kept = bucket - doubling * FINE;
    ((kept + 1) << doubling) - 1
}

impl Histogram {
    pub fn add(&mut self, micros: u64) {
        *self.buckets.entry(bucket(micros)).or_default() += 1;
    }

    pub fn merge(&mut self, other: &Histogram) {
        for (bucket, count) in &other.buckets {
            *self.buckets.entry(*bucket).or_default() += count;
        }
    }

    pub fn count(&self) -> u64 {
        self.buckets.values().sum()
    }

    /// What `per_mille` thousandths do not exceed (nearest rank). None of nothing.
    pub fn quantile(&self, per_mille: u64) -> Option<u64> {
        let rank = (self.count() * per_mille).div_ceil(1_000).max(1);
        let mut seen = 0;
        self.buckets.iter().find_map(|(bucket, count)| {
            seen += count;
            (seen >= rank).then(|| most_in(*bucket))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_without_gaps() {
        let mut last = 0;
        for micros in (0..100_000).chain([1 << 40, u64::MAX >> 8]) {
            let bucket = bucket(micros);
            assert!(bucket == last || bucket == last + 1 || micros > 100_000);
            last = bucket;
            let most = most_in(bucket);
            assert!(
                most >= micros && most - micros <= micros / 32,
                "{micros}: {most}"
            );
        }
    }

    #[test]
    fn quantiles_of_parts_are_those_of_the_whole() {
        let mut parts = [Histogram::default(), Histogram::default()];
        for micros in 1..=1_000 {
            parts[usize::try_from(micros % 2).unwrap()].add(micros);
        }
        let [mut whole, other] = parts;
        whole.merge(&other);
        assert_eq!(whole.count(), 1_000);
        for (per_mille, exact) in [(500, 500), (990, 990), (1_000, 1_000), (0, 1)] {
            let found = whole.quantile(per_mille).unwrap();
            assert!(
                (exact..=exact + exact / 32).contains(&found),
                "{per_mille}: {found}"
            );
        }
        assert_eq!(Histogram::default().quantile(500), None);
    }

    #[test]
    fn a_histogram_is_pairs_in_json() {
        let mut histogram = Histogram::default();
        for micros in [3, 3, 70] {
            histogram.add(micros);
        }
        let text = serde_json::to_string(&histogram).unwrap();
        assert_eq!(text, "[[3,2],[67,1]]");
        assert_eq!(serde_json::from_str::<Histogram>(&text).unwrap(), histogram);
    }
}
