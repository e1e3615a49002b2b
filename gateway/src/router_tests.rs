use super::*;

#[test]
fn numbers_of_a_later_start_are_higher() {
    let now = Duration::from_secs(1_795_000_000);
    let later = now + Duration::from_millis(1);
    assert!(first_number(later) - first_number(now) >= 1_000_000);
    assert!(first_number(now) < u64::MAX / 2);
}
