//! Slots that go from one master to another, because there are to be more shards, or fewer.

use std::collections::BTreeMap;

use super::super::nodes::{Way, range};
use super::super::{Pod, Seen};
use super::{Act, Master, Order, empty_one, order};

/// First what is on its way already, whoever began it: a slot that is in two places answers half of its keys with
/// `ASK`. Then what is next, from one master to one other.
pub(super) fn moves(seen: &Seen, shards: usize) -> Vec<Order> {
    let begun = begun(seen);
    if begun.is_empty() {
        planned(seen, shards).into_iter().collect()
    } else {
        begun
    }
}

fn begun(seen: &Seen) -> Vec<Order> {
    let open = |way| {
        let pods = seen.staying();
        pods.flat_map(move |pod| {
            let open = pod.view().into_iter().flat_map(|view| &view.open);
            let open = open.filter(move |(_, found)| *found == way);
            open.map(move |(slot, _)| (*slot, pod))
        })
    };
    let mut coming: BTreeMap<(&str, &str), Vec<u16>> = BTreeMap::new();
    for (slot, to) in open(Way::In) {
        if let Some(id) = seen.owners[usize::from(slot)]
            && to.id() != Some(id)
        {
            coming.entry((id, &to.name)).or_default().push(slot);
        }
    }
    let mut orders: Vec<Order> = Vec::new();
    for ((id, to), slots) in coming {
        let to = seen.pods.iter().find(|pod| pod.name == to);
        orders.extend(to.and_then(|to| take(seen, to, id, slots)));
    }
    for (slot, from) in open(Way::Out) {
        let has_it = seen.owners[usize::from(slot)] == from.id();
        if has_it && !open(Way::In).any(|(coming, _)| coming == slot) {
            orders.push(order(from, Act::Keep { slot }));
        }
    }
    orders
}

/// The last slots of who has too many go to the first who has too few: a slot moves once, and no more than need to.
fn planned(seen: &Seen, shards: usize) -> Option<Order> {
    let masters: Vec<(&Pod, Vec<u16>)> = masters(seen)?;
    let have = |shard: usize| -> usize {
        let of = masters.iter().filter(|(pod, _)| pod.shard == shard);
        of.map(|(_, slots)| slots.len()).sum()
    };
    let wanted = |shard: usize| {
        if shard >= shards {
            return 0;
        }
        let (first, last) = range(shard, shards);
        usize::from(last - first) + 1
    };
    let (to, missing) = (0..shards).find_map(|shard| {
        let missing = wanted(shard).checked_sub(have(shard))?;
        let master = seen.master_of(shard).or_else(|| empty_one(seen, shard))?;
        (missing > 0).then_some((master, missing))
    })?;
    let (from, slots) = masters.iter().rev().find_map(|(pod, slots)| {
        let surplus = have(pod.shard).checked_sub(wanted(pod.shard))?;
        let count = surplus.min(missing).min(slots.len());
        (count > 0).then(|| (*pod, slots[slots.len() - count..].to_vec()))
    })?;
    take(seen, to, from.id()?, slots)
}

/// Every master with its slots; None while one of them does not answer.
fn masters<'a>(seen: &Seen<'a>) -> Option<Vec<(&'a Pod, Vec<u16>)>> {
    let mut masters: BTreeMap<&str, Vec<u16>> = BTreeMap::new();
    for (slot, owner) in (0..).zip(&seen.owners) {
        masters.entry((*owner)?).or_default().push(slot);
    }
    let mut found: Vec<(&Pod, Vec<u16>)> = masters
        .into_iter()
        .map(|(id, slots)| Some((*seen.present.get(id)?, slots)))
        .collect::<Option<_>>()?;
    found.sort_by_key(|(pod, _)| pod.shard);
    Some(found)
}

fn take(seen: &Seen, to: &Pod, id: &str, slots: Vec<u16>) -> Option<Order> {
    let from = seen.present.get(id)?;
    let from = Master {
        pod: from.name.clone(),
        id: id.to_owned(),
        address: from.address()?.to_owned(),
    };
    Some(order(to, Act::Take { from, slots }))
}

/// Whether all slots are with shards that are to stay, so that the others may go.
pub fn are_others_empty(pods: &[Pod], shards: usize) -> bool {
    let seen = Seen::new(pods);
    masters(&seen).is_some_and(|masters| masters.iter().all(|(pod, _)| pod.shard < shards))
}

/// Slots that are still to go to another shard.
pub fn still_to_go(pods: &[Pod], shards: usize) -> usize {
    let seen = Seen::new(pods);
    let Some(masters) = masters(&seen) else {
        return 0;
    };
    let mut have: BTreeMap<usize, usize> = BTreeMap::new();
    for (pod, slots) in masters {
        *have.entry(pod.shard).or_default() += slots.len();
    }
    let surplus = have.into_iter().map(|(shard, have)| {
        if shard >= shards {
            return have;
        }
        let (first, last) = range(shard, shards);
        have.saturating_sub(usize::from(last - first) + 1)
    });
    surplus.sum()
}
