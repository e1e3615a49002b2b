//! Clients of the fullest gateways for those that came later.

use super::Gateway;

/// A gateway may have so many percent more clients than there are on average, …
const TOLERANCE_PERCENT: u64 = 10;
/// … and so many: fewer are not worth a reconnect.
const TOLERANCE: u64 = 50;

/// Those that have too many, and how many each keeps: the average. All of them at once, so that nobody is sent to
/// another one that has too many; those that stay in the Service have room for all who come. Nobody, when of one
/// that is there nothing is known.
#[must_use]
pub fn choose(gateways: &[Gateway]) -> Vec<(&Gateway, u64)> {
    let all_take = gateways.iter().all(Gateway::takes);
    let Some(mean) = mean(gateways).filter(|_| all_take) else {
        return Vec::new();
    };
    let most = mean + (mean * TOLERANCE_PERCENT / 100).max(TOLERANCE);
    let too_full = |gateway: &&Gateway| gateway.clients().is_some_and(|clients| clients > most);
    let surplus: u64 = gateways
        .iter()
        .filter(too_full)
        .filter_map(|gateway| Some(gateway.clients()? - mean))
        .sum();
    let others = gateways.iter().filter(|gateway| !too_full(gateway));
    if others.map(Gateway::room).sum::<u64>() < surplus {
        return Vec::new();
    }
    let chosen = gateways.iter().filter(too_full);
    chosen.map(|gateway| (gateway, mean)).collect()
}

/// Clients of each, if they had equally many. None, when of one that is there nothing is known.
#[must_use]
pub fn mean(gateways: &[Gateway]) -> Option<u64> {
    let known: Option<Vec<u64>> = gateways.iter().map(Gateway::clients).collect();
    let total: u64 = known?.iter().sum();
    Some(total.div_ceil((gateways.len() as u64).max(1)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scaling::fixture::{draining, gateway, silent};

    fn with_room(pod: &str, clients: u64) -> Gateway {
        let mut gateway = gateway(pod, clients);
        if let Some(node) = &mut gateway.node {
            node.max_connections = 10_000;
        }
        gateway
    }

    #[test]
    fn who_has_too_many_keeps_the_average() {
        for (clients, expected) in [
            (vec![], vec![]),
            (vec![500], vec![]),
            (vec![0, 0], vec![]),
            // Not worth it.
            (vec![100, 0], vec![]),
            (vec![102, 0], vec![(0, 51)]),
            (vec![1_100, 900], vec![]),
            (vec![1_101, 899], vec![(0, 1_000)]),
            // Each is moved once: the two that are full give to the one that is not.
            (vec![1_000, 1_000, 0], vec![(0, 667), (1, 667)]),
            (vec![8_000, 8_000, 100], vec![(0, 5_367), (1, 5_367)]),
        ] {
            let fleet: Vec<Gateway> = clients
                .iter()
                .enumerate()
                .map(|(place, clients)| with_room(&place.to_string(), *clients))
                .collect();
            let chosen: Vec<(usize, u64)> = choose(&fleet)
                .into_iter()
                .map(|(gateway, down_to)| (gateway.pod.parse().unwrap(), down_to))
                .collect();
            assert_eq!(chosen, expected, "{clients:?}");
        }
    }

    #[test]
    fn nobody_is_moved_into_the_unknown() {
        let full = || with_room("a", 900);
        assert_eq!(choose(&[full(), with_room("b", 0)]).len(), 1);
        for other in [silent("b", true), silent("b", false), draining("b", 0, 5)] {
            assert_eq!(choose(&[full(), other]), []);
        }
        // It has room for 80.
        assert_eq!(choose(&[full(), gateway("b", 0)]), []);
    }

    proptest! {
        #[test]
        fn afterwards_nobody_has_too_many(clients in prop::collection::vec(0_u64..5_000, 2..10)) {
            let fleet: Vec<Gateway> = clients
                .iter()
                .enumerate()
                .map(|(place, clients)| with_room(&place.to_string(), *clients))
                .collect();
            let chosen = choose(&fleet);
            // Somebody takes them.
            prop_assert!(chosen.len() < fleet.len());
            for (gateway, down_to) in &chosen {
                prop_assert!(gateway.clients().unwrap() > down_to + TOLERANCE);
                prop_assert!(clients.iter().sum::<u64>().div_ceil(clients.len() as u64) == *down_to);
            }
        }
    }
}
