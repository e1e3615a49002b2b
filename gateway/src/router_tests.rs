use super::*;

#[test]
fn numbers_of_a_later_start_are_higher() {
    let now = Duration::from_secs(1_795_000_000);
    let later = now + Duration::from_millis(1);
    assert!(first_number(later) - first_number(now) >= 1_000_000);
    assert!(first_number(now) < u64::MAX / 2);
}

#[test]
fn a_part_of_the_connections_leaves_at_a_part_of_the_pace() {
    let ms = Duration::from_millis;
    for (every, all, part, expected) in [
        (ms(2), 100, 100, ms(2)),
        (ms(2), 100, 50, ms(4)),
        (ms(2), 100, 1, ms(200)),
        (ms(2), 100, 0, ms(200)),
        (ms(2), 0, 0, ms(2)),
        (ms(0), 100, 3, ms(0)),
    ] {
        let spread = ms(1);
        let made = share_of(Pace { every, spread }, all, part);
        assert_eq!(
            (made.every, made.spread),
            (expected, spread),
            "{part} of {all}"
        );
    }
}
