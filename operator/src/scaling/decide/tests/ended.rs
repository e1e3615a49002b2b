//! Gateways that somebody else ends, or is about to.

use super::*;
use crate::scaling::fixture::{cordoned, ending};

#[test]
fn one_that_somebody_ends_is_told_its_part_when_nobody_comes_any_more() {
    let (a, b) = (|| gateway("a", 30), || gateway("b", 20));
    let listed = |gateway| Gateway {
        listed: true,
        ..gateway
    };
    let began = |gateway| Gateway {
        pace: Some(500),
        ..gateway
    };
    let waits = |gateway: Gateway| {
        let mut gateway = ended(gateway);
        gateway.mark.as_mut().unwrap().unlisted = None;
        gateway
    };
    let silent = || ended(silent("d", false));
    let c = || gateway("c", 40);
    for (gateways, second, expected) in [
        (vec![a(), ending(c())], 0, &["c: ends, of 40"] as &[&str]),
        (vec![a(), listed(ending(c()))], 0, &["c: ends, of 40"]),
        (vec![a(), listed(waits(c()))], 1, &[]),
        (vec![a(), waits(c())], 1, &["c: unlisted"]),
        (vec![a(), ended(c())], 1, &[]),
        (vec![a(), ended(c())], 2, &["c: shed 10/s"]),
        // It ends by itself.
        (vec![a(), ending(gateway("c", 0))], 0, &[]),
        // Two share the budget, whoever is told first.
        (
            vec![a(), ended(draining("b", 9, 10)), ended(c())],
            9,
            &["b: shed 5/s", "c: shed 5/s"],
        ),
        (
            vec![a(), ended(draining("b", 9, 10)), ending(c())],
            9,
            &["c: ends, of 40"],
        ),
        // Nobody knows how many that one has.
        (vec![a(), silent(), ended(c())], 9, &["c: shed 5/s"]),
        // The operator was away, or the gateway is of an earlier version.
        (
            vec![a(), began(ending(c()))],
            0,
            &["c: ends, of 40", "c: shed 10/s"],
        ),
        // Who comes back from one must not come to the other.
        (
            vec![a(), listed(ending(b())), waits(c())],
            1,
            &["b: ends, of 20"],
        ),
    ] {
        let wished = gateways.len();
        let fleet = fleet(wished, wished, gateways);
        assert_eq!(lines(&plan(&fleet, at(second))), expected, "{fleet:?}");
    }
}

#[test]
fn those_on_a_cordoned_node_are_closed_and_open_again() {
    let closed = |gateway| Gateway {
        serving: Some(false),
        ..gateway
    };
    let (a, b) = (|| gateway("a", 300), || cordoned(gateway("b", 0)));
    let two = |a, b| fleet(2, 2, vec![with_room(a), with_room(b)]);
    for (fleet, expected) in [
        (two(a(), b()), &["b: close"] as &[&str]),
        // Nobody is sent to it from others.
        (two(a(), closed(b())), &[]),
        // It is no longer cordoned.
        (
            two(gateway("a", 30), closed(gateway("b", 0))),
            &["b: serve"],
        ),
        // All are.
        (two(cordoned(gateway("a", 30)), closed(b())), &["b: serve"]),
        // It goes first when there are to be fewer.
        (
            fleet(
                1,
                2,
                vec![gateway("a", 30), closed(cordoned(gateway("b", 40)))],
            ),
            &["b: withdraw, of 40 GatewayDrains"],
        ),
    ] {
        assert_eq!(lines(&plan(&fleet, at(4))), expected, "{fleet:?}");
    }
}
