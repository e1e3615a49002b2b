use super::*;

#[test]
fn a_drain_is_as_slow_as_asked_or_as_fast_as_needed() {
    let ms = Duration::from_millis;
    for (rate, connections, deadline_s, shards, expected) in [
        (500, 1_000, 30, 1, ms(2)),
        (500, 1_000, 30, 4, ms(8)),
        // 28 seconds for 28,000 connections.
        (500, 28_000, 30, 1, ms(1)),
        (500, 0, 30, 1, ms(2)),
        (0, 10, 30, 1, ms(1_000)),
        // No time at all: at once.
        (500, 1_000, 1, 1, ms(0)),
    ] {
        let made = pace(rate, connections, Duration::from_secs(deadline_s), shards);
        assert_eq!(
            made, expected,
            "{rate}/s, {connections} in {deadline_s} s on {shards}"
        );
    }
}

#[test]
fn numbers_of_a_later_start_are_higher() {
    let now = Duration::from_secs(1_795_000_000);
    let later = now + Duration::from_millis(1);
    assert!(first_number(later) - first_number(now) >= 1_000_000);
    assert!(first_number(now) < u64::MAX / 2);
}
