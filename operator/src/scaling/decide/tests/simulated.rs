//! A fleet that does what it is told, second by second, while its size is wished otherwise again and again.

use proptest::prelude::*;

use super::super::*;
use crate::scaling::fixture::{at, cordoned, ending, fleet, gateway};

const BUDGET: u32 = 10;
/// After the last wish, until everything is still: longer than all clients need.
const REST: i64 = 200;

/// Pods that a ReplicaSet keeps, and clients that come back to whichever takes them.
struct World {
    fleet: Fleet,
    made: usize,
    /// Clients sent away in the last second.
    sent: u64,
}

impl World {
    fn new(clients: &[u64]) -> World {
        let pods = clients.iter().enumerate();
        let gateways: Vec<Gateway> = pods.map(|(n, c)| gateway(&format!("{n:03}"), *c)).collect();
        let made = gateways.len();
        World {
            fleet: fleet(made, made, gateways),
            made,
            sent: 0,
        }
    }

    fn total(&self) -> u64 {
        self.fleet
            .gateways
            .iter()
            .filter_map(Gateway::clients)
            .sum()
    }

    /// A look of the operator, and then a second. `dies`: it ends after so many orders.
    fn second(&mut self, now: i64, dies: usize) {
        self.fleet.size = size(&self.fleet);
        self.replicas();
        let plan = plan(&self.fleet, at(now));
        for order in plan.orders.iter().take(dies) {
            let mut gateways = self.fleet.gateways.iter_mut();
            let pod = gateways.find(|gateway| gateway.pod == order.pod).unwrap();
            if let (Act::Shed { .. }, None) = (order.act, pod.pace) {
                assert!(!pod.listed, "who comes back may come to {pod:?}");
            }
            obey(pod, order.act);
        }
        self.clients();
        // Their controller is a second late.
        for gateway in &mut self.fleet.gateways {
            gateway.listed = gateway.serving == Some(true) && gateway.ready;
        }
    }

    /// As a ReplicaSet does: what is to be deleted has nobody, or the test fails.
    fn replicas(&mut self) {
        let gateways = &mut self.fleet.gateways;
        let count = |gateways: &[Gateway]| gateways.iter().filter(|g| !g.ending).count();
        while count(gateways) < self.fleet.size {
            gateways.push(gateway(&format!("{:03}", self.made), 0));
            self.made += 1;
        }
        while count(gateways) > self.fleet.size {
            let first = gateways.iter().position(is_given_up);
            let gone = gateways.remove(first.expect("one that was given up goes"));
            assert_eq!(gone.clients(), Some(0), "{gone:?}");
        }
    }

    fn clients(&mut self) {
        self.sent = 0;
        for gateway in &mut self.fleet.gateways {
            let down_to = gateway.mark.map_or(0, |mark| mark.down_to);
            let pace = u64::from(gateway.pace.unwrap_or(0));
            let Some(node) = &mut gateway.node else {
                continue;
            };
            let go = pace.min(node.connections.saturating_sub(down_to));
            node.connections -= go;
            self.sent += go;
        }
        for client in 0..self.sent {
            let mut taking: Vec<_> = self
                .fleet
                .gateways
                .iter_mut()
                .filter(|g| g.takes() && g.serving == Some(true))
                .collect();
            let place = usize::try_from(client).unwrap() % taking.len();
            taking[place].node.as_mut().unwrap().connections += 1;
        }
    }
}

fn obey(pod: &mut Gateway, act: Act) {
    let drains = |pod: &mut Gateway, pace: Option<u32>| {
        pod.pace = pace;
        pod.ready = pace.is_none();
        pod.node.as_mut().unwrap().draining = pace.is_some();
    };
    match act {
        Act::Serve => pod.serving = Some(true),
        Act::Close => pod.serving = Some(false),
        Act::Withdraw(mark) => (pod.serving, pod.mark) = (Some(false), Some(mark)),
        Act::Unlisted(at) => pod.mark.as_mut().unwrap().unlisted = Some(at),
        Act::Shed { per_second, .. } => drains(pod, Some(per_second)),
        Act::GiveUp { wished, cut } => {
            assert_eq!(cut, 0, "{pod:?}");
            pod.mark.as_mut().unwrap().given_up = Some(wished);
        }
        Act::Readmit { missed } => {
            assert!(!missed, "{pod:?}");
            drains(pod, None);
            (pod.serving, pod.mark) = (Some(true), None);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_wish_cuts_a_client_or_exceeds_the_budget(
        clients in prop::collection::vec(0_u64..40, 1..7),
        wishes in prop::collection::vec((1_usize..7, 0_i64..30), 1..6),
        dies in prop::collection::vec(0_usize..4, 1..40),
    ) {
        let mut world = World::new(&clients);
        let total = world.total();
        let mut now = 0;
        for (place, (wished, seconds)) in wishes.iter().enumerate() {
            world.fleet.wished = *wished;
            let rest = if place + 1 == wishes.len() { REST } else { 0 };
            for _ in 0..seconds + rest {
                let dies = if rest > 0 { usize::MAX } else { dies[usize::try_from(now).unwrap() % dies.len()] };
                world.second(now, dies);
                now += 1;
                prop_assert_eq!(world.total(), total);
                prop_assert!(world.sent <= BUDGET.into(), "{} were sent away", world.sent);
                prop_assert!(world.fleet.gateways.iter().any(|gateway| gateway.serving == Some(true)));
            }
        }
        // As many as wished, or as few as have room for all.
        let last = wishes.last().unwrap().0;
        let needed = usize::try_from(total.div_ceil(80)).unwrap().max(1);
        let count = world.fleet.gateways.len();
        prop_assert!(count == last || (count > last && last < needed + 2), "{:?}", world.fleet);
        prop_assert!(world.fleet.gateways.iter().all(|gateway| gateway.mark.is_none()));
    }
}

/// A node with two of four gateways is emptied, one after the other as a PodDisruptionBudget has it.
#[test]
fn who_leaves_an_emptied_node_does_not_come_to_its_next_gateway() {
    for clients in [[40, 40, 40, 40], [10, 60, 30, 20], [0, 70, 70, 10]] {
        let mut world = World::new(&clients);
        let total = world.total();
        for gateway in &mut world.fleet.gateways[..2] {
            *gateway = cordoned(gateway.clone());
        }
        world.second(0, usize::MAX);
        let kept: Vec<_> = world.fleet.gateways.iter().map(Gateway::clients).collect();
        let mut now = 1;
        for (evicted, kept) in [("000", kept[0]), ("001", kept[1])] {
            let mut gateways = world.fleet.gateways.iter_mut();
            let gone = gateways.find(|g| g.pod == evicted).unwrap();
            assert_eq!(gone.clients(), kept, "somebody came to {evicted}");
            *gone = ending(gone.clone());
            let mut begun = None;
            for second in 0.. {
                world.second(now, usize::MAX);
                now += 1;
                // The other pod is ready some seconds later.
                world.fleet.gateways.last_mut().unwrap().ready = second >= 3;
                assert!(world.sent <= BUDGET.into(), "{} were sent away", world.sent);
                assert_eq!(world.total(), total);
                let evicted = world.fleet.gateways.iter().find(|g| g.pod == evicted);
                let evicted = evicted.unwrap();
                begun = begun.or(evicted.pace.map(|_| second));
                if evicted.clients() == Some(0) && second > 3 {
                    break;
                }
                assert!(second < 60, "{:?}", world.fleet);
            }
            assert!(
                begun.is_none_or(|begun| begun < 5),
                "told after {begun:?} s"
            );
            world.fleet.gateways.retain(|g| g.pod != evicted);
        }
        world.second(now, usize::MAX);
        assert!(world.fleet.gateways.iter().all(|g| g.serving == Some(true)));
    }
}
