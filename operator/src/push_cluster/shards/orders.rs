//! Pure: what the Redis of a Cluster are told next. A look, then these orders, then another look; until there are none.
//!
//! Redis elects replicas by itself. What it leaves to its operator: to bring nodes together, to say who begins with
//! which slots and who follows whom, to forget who is gone, and to decide when nobody is left to elect.

use std::collections::BTreeSet;
use std::fmt;

use super::{Health, Pod, Redis, Seen, nodes};

pub mod moves;

/// One command to one Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The pod that is told.
    pub pod: String,
    pub act: Act,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Replaces its master without an election: those who would vote are gone.
    TakeOver,
    /// A node is gone for ever.
    Forget { id: String },
    /// Gets to know the Redis at this address, and through it all others.
    Meet { pod: String, address: String },
    /// Takes slots that nobody has, first and last of each range.
    Claim { ranges: Vec<(u16, u16)> },
    /// Has nothing of its own and follows this master.
    Follow { pod: String, id: String },
    /// Takes slots from this master, with what is in them.
    Take { from: Master, slots: Vec<u16> },
    /// Has a slot that was to go to one that is gone: it stays.
    Keep { slot: u16 },
    /// Takes the place of its master, which waits until it has everything.
    Succeed,
    /// Its Sentinels make another one the master.
    Yield,
    /// The pod is evicted: its StatefulSet would make it otherwise by now.
    Replace,
}

/// Who has slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Master {
    pub pod: String,
    pub id: String,
    pub address: String,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Order { pod, act } = self;
        match act {
            Act::TakeOver => write!(
                f,
                "pod {pod} became master, since most masters are gone and none can be elected"
            ),
            Act::Forget { id } => {
                let short: String = id.chars().take(8).collect();
                write!(f, "pod {pod} forgot node {short}, which is gone")
            }
            Act::Meet { pod: other, .. } => write!(f, "pod {pod} met pod {other}"),
            Act::Claim { ranges } => {
                write!(f, "pod {pod} became master of slots ")?;
                for (place, (first, last)) in ranges.iter().enumerate() {
                    let comma = if place == 0 { "" } else { ", " };
                    write!(f, "{comma}{first}-{last}")?;
                }
                Ok(())
            }
            Act::Follow { pod: master, .. } => write!(f, "pod {pod} follows pod {master}"),
            Act::Take { from, .. } => write!(f, "pod {pod} took slots from pod {}", from.pod),
            Act::Keep { slot } => write!(f, "pod {pod} keeps slot {slot}"),
            Act::Succeed => write!(
                f,
                "pod {pod} takes the place of its master, which is to be replaced"
            ),
            Act::Yield => write!(
                f,
                "pod {pod} gives its place as the master to another, since it is to be replaced"
            ),
            Act::Replace => write!(f, "pod {pod} was evicted, to be made anew as the spec says"),
        }
    }
}

/// `shards`: how many there are to be, at least one; `replicas`: of each master.
pub fn orders(pods: &[Pod], shards: usize, replicas: usize) -> Vec<Order> {
    let seen = Seen::new(pods);
    let mut orders = take_overs(&seen);
    orders.extend(forgotten(&seen));
    orders.extend(meetings(&seen));
    orders.extend(claims(&seen, shards));
    orders.extend(followers(&seen, shards));
    if orders.is_empty() {
        orders.extend(moves::moves(&seen, shards));
    }
    if orders.is_empty() {
        orders.extend(next_replaced(&seen, shards, replicas));
    }
    orders
}

/// One pod that is outdated, while nothing is missing; replicas first, and a master when another has its place. One that
/// does not even run is replaced in any case: it may be what is missing.
fn next_replaced(seen: &Seen, shards: usize, replicas: usize) -> Option<Order> {
    let outdated = || seen.pods.iter().filter(|pod| pod.outdated && !pod.ending);
    if let Some(broken) = outdated().find(|pod| pod.redis == Redis::Absent) {
        return Some(order(broken, Act::Replace));
    }
    let healths = super::health(seen.pods, shards)?;
    let whole = |health: &Health| health.unserved == 0 && health.replicas >= replicas;
    if !healths.iter().all(whole) || seen.pods.iter().any(|pod| pod.ending) {
        return None;
    }
    let is_master = |pod: &&Pod| seen.follows(pod).is_none();
    if let Some(replica) = outdated().find(|pod| !is_master(pod)) {
        return Some(order(replica, Act::Replace));
    }
    let master = outdated().find(|pod| pod.id().is_some())?;
    let in_step = |pod: &&Pod| matches!(pod.redis, Redis::Answers { in_step: true, .. });
    let mut heirs = seen.staying().filter(in_step);
    let heir = heirs.find(|pod| seen.follows(pod) == master.id())?;
    Some(order(heir, Act::Succeed))
}

fn order(pod: &Pod, act: Act) -> Order {
    Order {
        pod: pod.name.clone(),
        act,
    }
}

/// Masters with slots whose process is gone.
fn gone_masters<'a>(seen: &Seen<'a>) -> BTreeSet<&'a str> {
    let owners: BTreeSet<&str> = seen.owners.iter().flatten().copied().collect();
    owners.into_iter().filter(|id| seen.is_gone(id)).collect()
}

/// A majority of the masters elects. When half of them are gone there is none, and replicas would wait for ever. Nor do
/// they elect when they no longer know where the master was, as when another Redis answered there: then nobody misses it.
fn take_overs(seen: &Seen) -> Vec<Order> {
    let masters: BTreeSet<&str> = seen.owners.iter().flatten().copied().collect();
    let gone = gone_masters(seen);
    let none_elects = gone.len() * 2 >= masters.len();
    let offset = |pod: &Pod| match pod.redis {
        Redis::Answers { offset, .. } => offset,
        Redis::Absent | Redis::Silent { .. } => 0,
    };
    let heirs = gone.iter().filter_map(|master| {
        let heirs = seen
            .staying()
            .filter(|pod| seen.follows(pod) == Some(*master));
        let heir = heirs.max_by_key(|pod| offset(pod))?;
        let unmissed = heir.view()?.node(master)?.address.is_none();
        (none_elects || unmissed).then_some(heir)
    });
    heirs.map(|pod| order(pod, Act::TakeOver)).collect()
}

/// Nodes that are gone, at everybody who still knows them: one who does not forget would tell the others again. A
/// master with slots is forgotten only when nobody can take its place.
fn forgotten(seen: &Seen) -> Vec<Order> {
    let mut orders = Vec::new();
    for id in seen.known.keys().filter(|id| seen.is_gone(id)) {
        let heirs = seen
            .known
            .iter()
            .filter(|(heir, node)| node.replica_of.as_deref() == Some(*id) && !seen.is_gone(heir));
        if heirs.count() > 0 {
            // They follow another soon, or take its place; a replica cannot forget its master.
            continue;
        }
        for pod in seen.pods {
            if pod.view().is_some_and(|view| view.node(id).is_some()) {
                let id = (*id).to_owned();
                orders.push(order(pod, Act::Forget { id }));
            }
        }
    }
    orders
}

/// Everybody meets one, who tells all others.
fn meetings(seen: &Seen) -> Vec<Order> {
    let knows = |pod: &Pod, other: &Pod| {
        let (view, id) = (pod.view(), other.id());
        view.zip(id)
            .is_some_and(|(view, id)| view.node(id).is_some())
    };
    let known_by = |pod: &Pod| seen.staying().filter(|other| knows(other, pod)).count();
    let has_slots = |pod: &Pod| pod.id().is_some_and(|id| seen.owned_by(id) > 0);
    let mut anchor: Option<(&Pod, (bool, usize))> = None;
    for pod in seen.staying() {
        let rank = (has_slots(pod), known_by(pod));
        if anchor.is_none_or(|(_, best)| rank > best) {
            anchor = Some((pod, rank));
        }
    }
    let Some((anchor, _)) = anchor else {
        return Vec::new();
    };
    let strangers = seen
        .staying()
        .filter(|pod| pod.name != anchor.name && !(knows(anchor, pod) && knows(pod, anchor)));
    let meet = |other: &Pod| {
        let address = other.address()?.to_owned();
        let pod = other.name.clone();
        Some(order(anchor, Act::Meet { pod, address }))
    };
    strangers.filter_map(meet).collect()
}

/// Slots that nobody has go to the shard that they belong to. What an own master of them, or a replica of it, may still
/// hold is never given to one that has nothing: as long as anybody is silent, they wait.
fn claims(seen: &Seen, shards: usize) -> Vec<Order> {
    if !seen.silent.is_empty() {
        return Vec::new();
    }
    let mut orders = Vec::new();
    for shard in 0..shards {
        let (first, last) = nodes::range(shard, shards);
        let free: Vec<u16> = (first..=last)
            .filter(|slot| seen.owners[usize::from(*slot)].is_none())
            .collect();
        let master = seen.master_of(shard).or_else(|| empty_one(seen, shard));
        if let (false, Some(master)) = (free.is_empty(), master) {
            let ranges = in_ranges(&free);
            orders.push(order(master, Act::Claim { ranges }));
        }
    }
    orders
}

/// The first pod of that shard that has nothing, follows nobody and is known to all.
fn empty_one<'a>(seen: &Seen<'a>, shard: usize) -> Option<&'a Pod> {
    let known_to_all = |pod: &Pod| {
        let mut others = seen.staying();
        others.all(|other| {
            let (mine, its) = (pod.view().zip(other.id()), other.view().zip(pod.id()));
            [mine, its]
                .into_iter()
                .flatten()
                .all(|(view, id)| view.node(id).is_some())
        })
    };
    let mut pods = seen.staying().filter(|pod| pod.shard == shard);
    pods.find(|pod| seen.follows(pod).is_none() && known_to_all(pod))
}

fn in_ranges(slots: &[u16]) -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for slot in slots {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *slot => *last = *slot,
            _ => ranges.push((*slot, *slot)),
        }
    }
    ranges
}

/// Who has no slots follows the master of its shard.
fn followers(seen: &Seen, shards: usize) -> Vec<Order> {
    let mut orders = Vec::new();
    for shard in 0..shards {
        let Some((master, id)) = seen.master_of(shard).and_then(|pod| Some((pod, pod.id()?)))
        else {
            continue;
        };
        for pod in seen.staying().filter(|pod| pod.shard == shard) {
            let knows = pod.view().is_some_and(|view| view.node(id).is_some());
            let has_slots = pod.id().is_some_and(|own| seen.owned_by(own) > 0);
            if pod.name != master.name && knows && !has_slots && seen.follows(pod) != Some(id) {
                let (pod_name, id) = (master.name.clone(), id.to_owned());
                orders.push(order(pod, Act::Follow { pod: pod_name, id }));
            }
        }
    }
    orders
}

#[cfg(test)]
mod tests;
