use super::*;

#[test]
fn numbers_of_a_later_start_are_higher() {
    let now = Duration::from_secs(1_795_000_000);
    let later = now + Duration::from_millis(1);
    assert!(first_number(later) - first_number(now) >= 1_000_000);
    assert!(first_number(now) < u64::MAX / 2);
}

#[test]
fn all_shards_together_do_not_fill_a_brokers_queue() {
    for (shards, expected) in [(0, 1_024), (1, 1_024), (2, 1_024), (5, 409), (65, 31)] {
        let calls = calls_under_way(shards);
        assert_eq!(calls, expected, "{shards}");
        // The last event that is taken may be a leave and a join.
        assert!((calls + 1) * shards < EVENTS_CAPACITY * 3 / 4, "{shards}");
    }
}
