//! Gateways that take no new clients, though they give none away yet: old ones of a rollout, and those on a node that is about
//! to be emptied. Whoever came to one of them would be moved again soon.

use super::{Fleet, Gateway};

/// Which of them are kept from new clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    old: bool,
    cordoned: bool,
}

impl Closed {
    /// Both sorts, if the others have room for those that are on their way, and for a tenth of all; else one of them, or none.
    #[must_use]
    pub fn of(fleet: &Fleet) -> Closed {
        let sort = |old, cordoned| Closed { old, cordoned };
        let sorts = [sort(true, true), sort(true, false), sort(false, true)];
        let mut sorts = sorts.into_iter();
        let spared = sorts.find(|closed| closed.is_spared(fleet));
        spared.unwrap_or(sort(false, false))
    }

    /// Whether this one is to take nobody.
    #[must_use]
    pub fn has(self, fleet: &Fleet, gateway: &Gateway) -> bool {
        self.is_one(gateway) || self.has_its_part(fleet, gateway)
    }

    fn is_one(self, gateway: &Gateway) -> bool {
        self.old && gateway.is_old || self.cordoned && gateway.cordoned
    }

    fn stays(self, gateway: &Gateway) -> bool {
        !gateway.ending && !self.is_one(gateway)
    }

    fn is_spared(self, fleet: &Fleet) -> bool {
        let leaving: u64 = fleet.gateways.iter().map(Gateway::leaving).sum();
        let all: u64 = fleet.gateways.iter().filter_map(Gateway::clients).sum();
        let stay = || fleet.gateways.iter().filter(|g| self.stays(g));
        let room: u64 = stay().map(Gateway::room).sum();
        stay().any(Gateway::takes) && room >= leaving + all.div_ceil(10)
    }

    /// Whether one that stays has its part of all clients while another one that stays has less, and room: it takes no more.
    /// Else the first new one would get the most of all that others send away, and some would be moved again when all is done.
    fn has_its_part(self, fleet: &Fleet, gateway: &Gateway) -> bool {
        let all: u64 = fleet.gateways.iter().filter_map(Gateway::clients).sum();
        let part = all.div_ceil((fleet.wished as u64).max(1));
        let has = |gateway: &Gateway| gateway.clients().is_some_and(|clients| clients >= part);
        let others = fleet.gateways.iter().filter(|other| self.stays(other));
        let others = others.filter(|other| !other.is_old && !other.cordoned);
        let mut others = others.filter(|other| other.pod != gateway.pod);
        let mut gateways = fleet.gateways.iter();
        let is_moving = gateways.any(|gateway| match gateway.ending {
            true => gateway.leaving() > 0,
            false => gateway.is_old,
        });
        is_moving
            && self.stays(gateway)
            && !gateway.is_old
            && has(gateway)
            && others.any(|other| other.room() > 0 && !has(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::fixture::{cordoned, ending, fleet, gateway, marked, unready};

    fn old_one(gateway: Gateway) -> Gateway {
        Gateway {
            is_old: true,
            ..gateway
        }
    }

    /// Those that are to take nobody.
    fn closed(wished: usize, gateways: Vec<Gateway>) -> String {
        let fleet = fleet(wished, wished, gateways);
        let closed = Closed::of(&fleet);
        let pods = fleet.gateways.iter().filter(|gateway| !gateway.ending);
        let pods = pods.filter(|gateway| closed.has(&fleet, gateway));
        pods.map(|gateway| gateway.pod.as_str()).collect()
    }

    #[test]
    fn old_ones_take_nobody_while_new_ones_have_room() {
        let old = |clients| old_one(gateway("a", clients));
        let going = |clients| old_one(marked("b", clients));
        for (gateways, expected) in [
            (vec![old(30), going(30)], ""),
            (vec![old(30), going(30), unready("n", 0)], ""),
            (vec![old(30), going(30), gateway("n", 0)], "ab"),
            (vec![old(30), going(30), gateway("n", 40)], "ab"),
            // 30 and 11 more than 80.
            (vec![old(30), going(30), gateway("n", 43)], ""),
            (vec![old(30), gateway("n", 43)], "a"),
        ] {
            assert_eq!(closed(2, gateways.clone()), expected, "{gateways:?}");
        }
    }

    #[test]
    fn those_on_cordoned_nodes_take_nobody_while_others_have_room() {
        let (a, b) = (|| cordoned(gateway("a", 30)), || cordoned(gateway("b", 30)));
        let c = |clients| gateway("c", clients);
        for (gateways, expected) in [
            (vec![a(), b(), c(30)], "ab"),
            // Nobody else is there, or can be used.
            (vec![a(), b()], ""),
            (vec![a(), b(), unready("c", 0)], ""),
            (vec![a(), b(), marked("c", 0)], ""),
            // A tenth of 130 is 13, and it takes 80.
            (vec![a(), b(), c(67)], "ab"),
            (vec![a(), b(), c(68)], ""),
            // The first is evicted, and its thirty clients need room as well.
            (vec![ending(a()), b(), c(38)], "b"),
            (vec![ending(a()), b(), c(41)], ""),
            // In a rollout the old ones take nobody, and the others neither where that is possible.
            (vec![old_one(c(30)), a(), gateway("n", 0)], "ca"),
            (vec![old_one(c(30)), a(), old_one(b())], "cb"),
        ] {
            assert_eq!(closed(3, gateways.clone()), expected, "{gateways:?}");
        }
    }

    #[test]
    fn one_that_has_its_part_leaves_the_rest_to_the_next() {
        let old = || old_one(gateway("a", 30));
        let n = |clients| gateway("n", clients);
        let ends = |clients| ending(gateway("a", clients));
        for (gateways, expected) in [
            // Thirty of sixty.
            (vec![old(), n(30), gateway("m", 0)], "an"),
            (vec![old(), n(29), gateway("m", 1)], "a"),
            // There is no other yet that could take them, or that has less.
            (vec![old(), n(30)], "a"),
            (vec![old(), n(30), unready("m", 0)], "a"),
            (vec![old(), n(40), gateway("m", 35)], "a"),
            // Nothing is moved.
            (vec![n(30), gateway("m", 0)], ""),
            // One ends, and there is another in its place.
            (vec![ends(30), n(30), gateway("m", 0)], "n"),
            (vec![ends(30), n(30)], ""),
            (vec![ends(0), n(30), gateway("m", 0)], ""),
        ] {
            assert_eq!(closed(2, gateways.clone()), expected, "{gateways:?}");
        }
    }
}
