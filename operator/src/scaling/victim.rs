//! Which gateway goes when there are to be fewer.

use super::{FULL_PERCENT, Gateway};
use crate::push_cluster::gateways::clients::Node;

/// Why none was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

/// The pods that go, at most `count`: those that nobody can use first, then the emptiest. `Err`: fewer than that, because
/// those that stay have no room for the clients of another one.
///
/// `leaving` are clients that have no place yet: of pods that were chosen before and still have them.
pub fn choose(
    gateways: &[Gateway],
    count: usize,
    leaving: u64,
) -> (Vec<&Gateway>, Result<(), NoRoom>) {
    let mut candidates: Vec<&Gateway> = gateways
        .iter()
        .filter(|gateway| !gateway.ending && gateway.mark.is_none())
        .collect();
    candidates.sort_by_key(|gateway| (rank(gateway), gateway.clients(), gateway.pod.clone()));
    let mut chosen: Vec<&Gateway> = Vec::new();
    let mut moved = leaving;
    for candidate in candidates.iter().take(count) {
        let with = moved + candidate.clients().unwrap_or(0);
        let stays = |gateway: &&&Gateway| {
            let chosen = chosen.iter().any(|chosen| chosen.pod == gateway.pod);
            !chosen && gateway.pod != candidate.pod
        };
        let rest: Vec<_> = candidates.iter().filter(stays).collect();
        let room: u64 = rest.iter().map(|gateway| gateway.room()).sum();
        let serves = rest.iter().any(|gateway| gateway.takes());
        // One that serves nobody is missed by nobody.
        let is_missed = candidate.ready || candidate.clients().is_some_and(|clients| clients > 0);
        if is_missed && !(serves && room >= with) {
            return (chosen, Err(NoRoom));
        }
        moved = with;
        chosen.push(candidate);
    }
    (chosen, Ok(()))
}

/// Those that are not ready go first, then those that are about to be evicted, then those of which is known how many clients
/// they have. One that is not ready because it is full is not sick.
fn rank(gateway: &Gateway) -> u8 {
    let is_full = |node: &Node| node.connections * 100 >= node.max_connections * FULL_PERCENT;
    match (gateway.ready, &gateway.node) {
        (false, Some(node)) if !is_full(node) => 0,
        (false, None) => 0,
        (_, Some(_)) if gateway.cordoned => 1,
        (_, Some(_)) => 2,
        (true, None) => 3,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scaling::fixture::{MAX, cordoned, gateway, marked, silent, unready};

    #[test]
    fn the_emptiest_goes_and_what_is_not_ready_before_it() {
        let ending = || Gateway {
            ending: true,
            ..gateway("a", 0)
        };
        for (fleet, count, expected, is_enough) in [
            (
                vec![gateway("a", 5), gateway("b", 3), gateway("c", 4)],
                1,
                "b",
                true,
            ),
            (
                vec![gateway("a", 5), gateway("b", 3), gateway("c", 4)],
                2,
                "bc",
                true,
            ),
            // Of equals the first by name, so that every look chooses alike.
            (vec![gateway("b", 3), gateway("a", 3)], 1, "a", true),
            (vec![gateway("a", 0), unready("b", 9)], 1, "b", true),
            (vec![gateway("a", 0), silent("b", false)], 1, "b", true),
            // Nobody knows what it has.
            (vec![gateway("a", 9), silent("b", true)], 1, "", false),
            (
                vec![gateway("a", 9), gateway("c", 9), silent("b", true)],
                1,
                "a",
                true,
            ),
            // Not ready since it has too many.
            (
                vec![gateway("a", 3), gateway("b", 5), unready("c", MAX)],
                1,
                "a",
                true,
            ),
            (
                vec![ending(), gateway("b", 3), gateway("c", 4)],
                1,
                "b",
                true,
            ),
            (
                vec![marked("a", 1), gateway("b", 3), gateway("c", 4)],
                1,
                "b",
                true,
            ),
            // The last that takes clients stays, whatever else is there.
            (vec![gateway("a", 0), unready("b", 0)], 2, "b", false),
            (vec![gateway("a", 0)], 1, "", false),
            // 80 of 100 is where a gateway takes no more.
            (vec![gateway("a", 30), gateway("b", 50)], 1, "a", true),
            (vec![gateway("a", 31), gateway("b", 50)], 1, "", false),
            (
                vec![gateway("a", 20), gateway("b", 30), gateway("c", 40)],
                2,
                "a",
                false,
            ),
        ] {
            let (chosen, enough) = choose(&fleet, count, 0);
            let names: String = chosen.iter().map(|chosen| chosen.pod.as_str()).collect();
            assert_eq!(
                (names.as_str(), enough.is_ok()),
                (expected, is_enough),
                "{fleet:?}"
            );
        }
    }

    #[test]
    fn one_that_is_about_to_be_evicted_goes_before_one_with_fewer_clients() {
        let b = || cordoned(gateway("b", 5));
        for (fleet, expected) in [
            ([gateway("a", 3), b(), gateway("c", 4)], "b"),
            ([gateway("a", 3), b(), unready("c", 4)], "c"),
            ([gateway("a", 3), b(), cordoned(gateway("c", 4))], "c"),
        ] {
            let (chosen, enough) = choose(&fleet, 1, 0);
            assert_eq!((chosen[0].pod.as_str(), enough), (expected, Ok(())));
        }
    }

    #[test]
    fn who_leaves_already_needs_the_room_first() {
        let fleet = [gateway("a", 10), gateway("b", 30), gateway("c", 30)];
        assert_eq!(choose(&fleet, 1, 90).0.len(), 1);
        assert_eq!(choose(&fleet, 1, 91).0.len(), 0);
    }

    proptest! {
        #[test]
        fn those_that_stay_have_room_for_all(
            clients in prop::collection::vec((0_u64..=MAX, any::<bool>()), 1..12),
            count in 0_usize..12,
        ) {
            let gateways = clients.iter().enumerate().map(|(place, (clients, ready))| {
                let name = format!("{place:02}");
                if *ready { gateway(&name, *clients) } else { unready(&name, *clients) }
            });
            let fleet: Vec<Gateway> = gateways.collect();
            let (chosen, _) = choose(&fleet, count, 0);
            prop_assert!(chosen.len() <= count);
            let is_chosen = |gateway: &&Gateway| chosen.iter().any(|chosen| chosen.pod == gateway.pod);
            let moved: u64 = chosen.iter().filter_map(|gateway| gateway.clients()).sum();
            let stay = || fleet.iter().filter(|gateway| !is_chosen(gateway));
            prop_assert!(moved == 0 || stay().map(Gateway::room).sum::<u64>() >= moved);
            let some_ready = chosen.iter().any(|gateway| gateway.ready);
            prop_assert!(!some_ready || stay().any(Gateway::takes));
        }
    }
}
