//! Gateways of another template take the place of those that are there, surge first: one more is made, the clients of an
//! old one go to the new ones, and it ends empty. The Deployment makes the pods; when it may take its next step is said
//! here.

use super::{Cause, Fleet, Gateway};

/// Whether the Deployment waits: there is one more than there is to be, and no old one is empty yet. It
/// would end one that has its clients as soon as the new one is ready.
#[must_use]
pub fn holds(fleet: &Fleet) -> bool {
    let given_up = |gateway: &&Gateway| gateway.mark.is_some_and(|mark| mark.given_up.is_some());
    let count = pods(fleet).count();
    let is_going = old(fleet).any(|gateway| given_up(&gateway));
    old(fleet).next().is_some() && old(fleet).count() < count && count > fleet.size && !is_going
}

/// The old gateway that goes next, when all new ones serve and no other is on its way: one that is not ready, else the
/// emptiest.
#[must_use]
pub fn next(fleet: &Fleet) -> Option<&Gateway> {
    let serve = new(fleet).all(|gateway| gateway.takes() && !gateway.misbehaves);
    let is_ready = serve && holds(fleet);
    let is_under_way = old(fleet).any(|gateway| gateway.mark.is_some());
    let candidates = old(fleet).filter(|_| is_ready && !is_under_way);
    candidates.min_by_key(|gateway| (gateway.ready, gateway.clients(), gateway.pod.clone()))
}

/// So many clients have to be on their way before it is asked where they are.
const ENOUGH: u64 = 20;

/// Whether clients that an old gateway sent away do not come to the new ones: fewer than a quarter of them. Not while
/// other old gateways take some of them.
#[must_use]
pub fn stay_away(fleet: &Fleet) -> bool {
    let gone = |gateway: &Gateway| {
        let mark = gateway.mark.filter(|mark| mark.cause == Cause::Rollout)?;
        Some(mark.clients.saturating_sub(gateway.clients()?))
    };
    let gone: u64 = old(fleet).filter_map(gone).sum();
    let come: u64 = new(fleet).filter_map(Gateway::clients).sum();
    let elsewhere = old(fleet).any(|gateway| gateway.serving == Some(true));
    let can_come = new(fleet).next().is_some();
    can_come && gone >= ENOUGH && come * 4 < gone && !elsewhere
}

fn pods(fleet: &Fleet) -> impl Iterator<Item = &Gateway> {
    fleet.gateways.iter().filter(|gateway| !gateway.ending)
}

fn old(fleet: &Fleet) -> impl Iterator<Item = &Gateway> {
    pods(fleet).filter(|gateway| gateway.is_old)
}

fn new(fleet: &Fleet) -> impl Iterator<Item = &Gateway> {
    pods(fleet).filter(|gateway| !gateway.is_old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::fixture::{fleet, gateway, given_up, marked, silent, unready};

    fn old_one(gateway: Gateway) -> Gateway {
        Gateway {
            is_old: true,
            ..gateway
        }
    }

    #[test]
    fn one_after_the_other_goes_when_the_new_ones_serve() {
        let (a, b) = (|| old_one(gateway("a", 30)), || old_one(gateway("b", 20)));
        let new = || gateway("n", 0);
        let misbehaves = || Gateway {
            misbehaves: true,
            ..new()
        };
        let ending = || Gateway {
            ending: true,
            ..old_one(gateway("e", 5))
        };
        for (gateways, is_held, who) in [
            (vec![gateway("a", 1), gateway("b", 1)], false, None),
            // The first new one is not there yet.
            (vec![a(), b()], false, None),
            (vec![a(), b(), unready("n", 0)], true, None),
            (vec![a(), b(), silent("n", false)], true, None),
            (vec![a(), b(), new()], true, Some("b")),
            // One that may be taken back ends nobody.
            (vec![a(), b(), misbehaves()], true, None),
            (vec![a(), old_one(unready("c", 40)), new()], true, Some("c")),
            (vec![a(), old_one(marked("b", 5)), new()], true, None),
            (vec![a(), old_one(given_up("b", 2)), new()], false, None),
            // It ends, and the Deployment makes the next new one.
            (vec![a(), ending(), new()], false, None),
            (vec![a(), ending(), new(), unready("m", 0)], true, None),
            (vec![new(), gateway("m", 0), a()], true, Some("a")),
            // All are new, and one too many for another reason.
            (vec![new(), gateway("m", 0), gateway("l", 0)], false, None),
        ] {
            let fleet = fleet(2, 2, gateways);
            let next = next(&fleet).map(|gateway| gateway.pod.as_str());
            assert_eq!((holds(&fleet), next), (is_held, who), "{fleet:?}");
        }
    }

    #[test]
    fn clients_that_do_not_come_are_noticed() {
        // Sixty clients, and so many are left.
        let goes = |left| {
            let mut gateway = old_one(marked("b", left));
            gateway.mark.as_mut().unwrap().cause = Cause::Rollout;
            gateway
        };
        let new = |clients| gateway("n", clients);
        let serves = || old_one(gateway("a", 30));
        for (gateways, expected) in [
            (vec![goes(60), new(0)], false),
            // They are on their way.
            (vec![goes(41), new(0)], false),
            (vec![goes(40), new(0)], true),
            (vec![goes(40), new(4)], true),
            (vec![goes(40), new(5)], false),
            (vec![goes(0), new(14)], true),
            (vec![goes(0), new(15)], false),
            (vec![goes(0), new(0), serves()], false),
            // There is none that they could come to.
            (vec![goes(0)], false),
            // A scale-in.
            (vec![old_one(marked("b", 0)), new(0)], false),
        ] {
            let fleet = fleet(2, 2, gateways);
            assert_eq!(stay_away(&fleet), expected, "{fleet:?}");
        }
    }
}
