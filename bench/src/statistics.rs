//! Medians of paired rounds. Pure.

/// `ours` ÷ `theirs` of rounds that were measured one right after the other. Pairs, because the speed of a shared
/// machine changes by more than what is looked for; a slow minute hits both halves of its pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Paired {
    pub ours: f64,
    pub theirs: f64,
    /// Median of the rounds' ratios, which is not the ratio of the medians.
    pub ratio: f64,
    pub ratio_min: f64,
    pub ratio_max: f64,
}

/// `rounds`: what was measured of ours and of theirs, at least one, none of theirs 0.
pub fn paired(rounds: &[(f64, f64)]) -> Paired {
    let ratios: Vec<f64> = rounds.iter().map(|(ours, theirs)| ours / theirs).collect();
    let side = |pick: fn(&(f64, f64)) -> f64| median(rounds.iter().map(pick).collect());
    Paired {
        ours: side(|round| round.0),
        theirs: side(|round| round.1),
        ratio_min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
        ratio_max: ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        ratio: median(ratios),
    }
}

/// The middle value, or the mean of the two in the middle. `values` has at least one.
pub fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty(), "a median of nothing");
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

/// The value that `per_mille` thousandths of the sorted values do not exceed (nearest rank). At least one value.
pub fn quantile(sorted: &[u64], per_mille: usize) -> u64 {
    let rank = (sorted.len() * per_mille).div_ceil(1_000).max(1);
    sorted[rank - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle() {
        for (values, expected) in [
            (vec![3.0], 3.0),
            (vec![2.0, 1.0], 1.5),
            (vec![9.0, 1.0, 2.0], 2.0),
            (vec![4.0, 1.0, 100.0, 2.0], 3.0),
        ] {
            assert_eq!(median(values.clone()), expected, "{values:?}");
        }
    }

    #[test]
    fn a_machine_that_slows_down_does_not_change_a_ratio() {
        let rounds = [(90.0, 100.0), (9.0, 10.0), (45.0, 50.0)];
        let paired = paired(&rounds);
        for ratio in [paired.ratio, paired.ratio_min, paired.ratio_max] {
            assert!((ratio - 0.9).abs() < 1e-9, "{paired:?}");
        }
        assert_eq!((paired.ours, paired.theirs), (45.0, 50.0));
    }

    #[test]
    fn the_ratio_is_of_pairs_and_not_of_medians() {
        let paired = paired(&[(1.0, 1.0), (10.0, 5.0), (6.0, 2.0)]);
        assert_eq!(
            (paired.ratio, paired.ratio_min, paired.ratio_max),
            (2.0, 1.0, 3.0)
        );
        assert_eq!((paired.ours, paired.theirs), (6.0, 2.0));
    }

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let thousand: Vec<u64> = (1..=1_000).collect();
        for (sorted, per_mille, expected) in [
            (&thousand[..], 500, 500),
            (&thousand, 990, 990),
            (&thousand, 999, 999),
            (&thousand, 1_000, 1_000),
            (&thousand[..1], 999, 1),
            (&thousand[..3], 500, 2),
            (&thousand[..3], 0, 1),
        ] {
            assert_eq!(
                quantile(sorted, per_mille),
                expected,
                "{per_mille} of {}",
                sorted.len()
            );
        }
    }
}
