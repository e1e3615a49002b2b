//! A Redis Cluster: what its pods say of it (`nodes`), what they are told next (`orders`), and how they are asked and
//! told (`speak`). All but the last is pure.

use std::collections::{BTreeMap, BTreeSet};

use nodes::{Node, View};

pub mod nodes;
pub mod orders;
pub mod speak;

/// A pod of a shard, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    pub name: String,
    /// From 0.
    pub shard: usize,
    /// Whether Kubernetes is about to remove it.
    pub ending: bool,
    /// Whether its StatefulSet would make it otherwise by now.
    pub outdated: bool,
    pub redis: Redis,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redis {
    /// None runs in it, so none that is known has its address.
    Absent,
    /// It runs at this address and did not answer; why.
    Silent { address: String, why: String },
    Answers {
        address: String,
        view: View,
        /// Bytes of replication that it has: of two replicas of one master, the greater has more.
        offset: u64,
        /// Whether it follows its master right now.
        in_step: bool,
    },
}

impl Pod {
    fn view(&self) -> Option<&View> {
        match &self.redis {
            Redis::Answers { view, .. } => Some(view),
            Redis::Absent | Redis::Silent { .. } => None,
        }
    }

    fn address(&self) -> Option<&str> {
        match &self.redis {
            Redis::Absent => None,
            Redis::Silent { address, .. } | Redis::Answers { address, .. } => Some(address),
        }
    }

    fn id(&self) -> Option<&str> {
        self.view().map(|view| view.id.as_str())
    }
}

/// What all of them say, together.
struct Seen<'a> {
    pods: &'a [Pod],
    /// By the id of the node in them; those that answered.
    present: BTreeMap<&'a str, &'a Pod>,
    /// Addresses where a Redis runs that did not answer.
    silent: BTreeSet<&'a str>,
    /// Every node that anybody has heard of, as whoever knows best describes it.
    known: BTreeMap<&'a str, &'a Node>,
    /// Of each slot the id of its master; None while nobody claims it.
    owners: Vec<Option<&'a str>>,
}

impl<'a> Seen<'a> {
    fn new(pods: &'a [Pod]) -> Self {
        let views = || pods.iter().filter_map(Pod::view);
        let known = nodes::newest(views());
        Seen {
            pods,
            present: pods
                .iter()
                .filter_map(|pod| Some((pod.id()?, pod)))
                .collect(),
            silent: pods
                .iter()
                .filter(|pod| pod.view().is_none())
                .filter_map(Pod::address)
                .collect(),
            owners: nodes::owners(&known),
            known,
        }
    }

    /// Whether the process of that id has ended for certain. A Redis takes a new id with every start, so where another
    /// one answers, or none runs, this one is no more. One that is only silent may be alive, with all that it holds.
    fn is_gone(&self, id: &str) -> bool {
        if self.present.contains_key(id) {
            return false;
        }
        let address = self.known.get(id).and_then(|node| node.address.as_deref());
        match address {
            Some(address) => !self.silent.contains(address),
            None => self.silent.is_empty(),
        }
    }

    /// Pods that answered and are to stay, in the order of their names.
    fn staying(&self) -> impl Iterator<Item = &'a Pod> {
        let pods = self.pods.iter();
        pods.filter(|pod| !pod.ending && pod.view().is_some())
    }

    fn owned_by(&self, id: &str) -> usize {
        let owners = self.owners.iter();
        owners.filter(|owner| **owner == Some(id)).count()
    }

    /// The pod of that shard which has slots; of two, the one that has more.
    fn master_of(&self, shard: usize) -> Option<&'a Pod> {
        let pods = self.present.values().filter(|pod| pod.shard == shard);
        let owning = pods.filter_map(|pod| Some((self.owned_by(pod.id()?), *pod)));
        let most = owning.filter(|(slots, _)| *slots > 0);
        most.max_by_key(|(slots, _)| *slots).map(|(_, pod)| pod)
    }

    /// Of which shard a slot is: of the one whose pod has it, or whose pods follow who had it; of the one that it is to be
    /// of when nobody does.
    fn shard_of(&self, slot: u16, shards: usize) -> usize {
        let shard = self.owners[usize::from(slot)].and_then(|owner| {
            let at = self
                .known
                .get(owner)
                .and_then(|node| node.address.as_deref());
            let has = |pod: &&Pod| pod.id() == Some(owner);
            let is_heir = |pod: &&Pod| self.follows(pod) == Some(owner);
            let was_there = |pod: &&Pod| at.is_some() && pod.address() == at;
            let mut pods = self.pods.iter();
            let found = pods.clone().find(has);
            let found = found.or_else(|| pods.clone().find(is_heir));
            found.or_else(|| pods.find(was_there)).map(|pod| pod.shard)
        });
        shard.unwrap_or_else(|| nodes::shard_of(slot, shards))
    }

    /// Whom this pod's Redis follows, in its own words.
    fn follows(&self, pod: &'a Pod) -> Option<&'a str> {
        pod.view()?.myself()?.replica_of.as_deref()
    }
}

/// How one shard is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub master: Option<String>,
    /// That have what the master has.
    pub replicas: usize,
    /// Its slots that have no master that answers.
    pub unserved: usize,
}

/// How each shard is; None when pods run and none of them answers, so that nothing can be said.
pub fn health(pods: &[Pod], shards: usize) -> Option<Vec<Health>> {
    let seen = Seen::new(pods);
    if seen.present.is_empty() && !seen.silent.is_empty() {
        return None;
    }
    let is_served = |slot: &u16| {
        let owner = seen.owners[usize::from(*slot)];
        owner.is_some_and(|id| seen.present.contains_key(id))
    };
    let unserved: Vec<usize> = (0..nodes::SLOTS)
        .filter(|slot| !is_served(slot))
        .map(|slot| seen.shard_of(slot, shards))
        .collect();
    let of = |shard| {
        let master = seen.master_of(shard);
        let id = master.and_then(Pod::id);
        let in_step = |pod: &&Pod| matches!(pod.redis, Redis::Answers { in_step: true, .. });
        let replicas = seen.present.values().copied().filter(in_step);
        Health {
            master: master.map(|pod| pod.name.clone()),
            replicas: replicas
                .filter(|pod| id.is_some() && seen.follows(pod) == id)
                .count(),
            unserved: unserved.iter().filter(|of| **of == shard).count(),
        }
    };
    Some((0..shards).map(of).collect())
}
