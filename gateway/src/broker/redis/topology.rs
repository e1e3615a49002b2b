//! Pure: which Redis has the writing copy of what. Made of what Redis and Sentinel say about themselves.
//!
//! In a Cluster each of 16,384 slots has a master; a channel, its log and its Pub/Sub channel share a slot
//! (redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec). Otherwise one master has them all.

use std::collections::BTreeMap;
use std::fmt;

use redis_protocol::resp2::types::BytesFrame;

use super::wire::{field, text};

/// Slots of a Cluster.
pub(super) const SLOTS: usize = 16_384;

/// Where a Redis listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Who has what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Topology {
    /// Nobody was found yet.
    Unknown,
    One(Endpoint),
    Cluster {
        /// In the order of their names, each with at least one slot.
        masters: Vec<Endpoint>,
        /// For each slot the index of its master; None while nobody claims it.
        slots: Vec<Option<u16>>,
    },
}

impl Topology {
    pub(super) fn owner(&self, slot: u16) -> Option<&Endpoint> {
        match self {
            Topology::Unknown => None,
            Topology::One(endpoint) => Some(endpoint),
            Topology::Cluster { masters, slots } => {
                let index = (*slots.get(usize::from(slot))?)?;
                masters.get(usize::from(index))
            }
        }
    }

    pub(super) fn masters(&self) -> &[Endpoint] {
        match self {
            Topology::Unknown => &[],
            Topology::One(endpoint) => std::slice::from_ref(endpoint),
            Topology::Cluster { masters, .. } => masters,
        }
    }

    /// Slots that nobody claims.
    pub(super) fn unclaimed(&self) -> usize {
        match self {
            Topology::Unknown => SLOTS,
            Topology::One(_) => 0,
            Topology::Cluster { slots, .. } => slots.iter().filter(|slot| slot.is_none()).count(),
        }
    }
}

/// A line of `CLUSTER NODES`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    id: String,
    pub(super) endpoint: Endpoint,
    master: bool,
    /// Whether the node speaks of itself.
    myself: bool,
    /// Raised with every failover and every slot that moved: of two that claim a slot, the higher one has it.
    epoch: u64,
    /// First and last slot of each range.
    slots: Vec<(u16, u16)>,
}

/// Whether none of them has a slot: who knows only these has just begun, and was not told of the Cluster yet.
pub(super) fn are_strangers(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| node.slots.is_empty())
}

/// What one node answered to `CLUSTER NODES`. `asked`: how it was reached, for a node that does not know its own address.
/// Nodes without an address and those in a handshake are left out.
pub(super) fn nodes(answer: &str, asked: &Endpoint) -> Vec<Node> {
    answer
        .lines()
        .filter_map(|line| node(line, asked))
        .collect()
}

fn node(line: &str, asked: &Endpoint) -> Option<Node> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [id, address, flags, _, _, _, epoch, _, slots @ ..] = words.as_slice() else {
        return None;
    };
    let flags: Vec<&str> = flags.split(',').collect();
    if flags.contains(&"noaddr") || flags.contains(&"handshake") {
        return None;
    }
    Some(Node {
        id: (*id).to_owned(),
        endpoint: address_of(address, asked)?,
        master: flags.contains(&"master"),
        myself: flags.contains(&"myself"),
        epoch: epoch.parse().ok()?,
        slots: slots.iter().filter_map(|range| slot_range(range)).collect(),
    })
}

/// `ip:port@bus`, and since Redis 7 `,hostname`, which is what certificates name.
fn address_of(text: &str, asked: &Endpoint) -> Option<Endpoint> {
    let mut parts = text.split(',');
    let (address, _bus) = parts.next()?.split_once('@')?;
    let (ip, port) = address.rsplit_once(':')?;
    let hostname = parts.next().filter(|name| !name.is_empty());
    let host = match (hostname, ip) {
        (Some(name), _) => name,
        (None, "") => &asked.host,
        (None, ip) => ip,
    };
    let port = port.parse().ok().filter(|port| *port != 0)?;
    Some(Endpoint {
        host: host.to_owned(),
        port,
    })
}

/// `5` or `0-5460`. A slot on its way (`[93->-id]`) is still with who had it.
fn slot_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && usize::from(last) < SLOTS).then_some((first, last))
}

/// What several nodes said, together. A node that was cut off goes on claiming what it had: the higher epoch wins, as
/// among the nodes themselves.
pub(super) fn cluster(answers: &[Vec<Node>]) -> Topology {
    let mut newest: BTreeMap<&str, &Node> = BTreeMap::new();
    for node in answers.iter().flatten() {
        let known = newest.entry(&node.id).or_insert(node);
        // A node that already has the highest epoch takes a slot without a new one: it knows best itself.
        if (node.epoch, node.myself) > (known.epoch, known.myself) {
            *known = node;
        }
    }
    // In the order of their epochs: who comes later takes what it claims.
    let mut claims: Vec<&Node> = newest.into_values().filter(|node| node.master).collect();
    claims.sort_by_key(|node| node.epoch);
    let mut owners: Vec<Option<&Endpoint>> = vec![None; SLOTS];
    for node in claims {
        for (first, last) in &node.slots {
            owners[usize::from(*first)..=usize::from(*last)].fill(Some(&node.endpoint));
        }
    }
    let mut masters: Vec<&Endpoint> = owners.iter().flatten().copied().collect();
    masters.sort();
    masters.dedup();
    let index = |owner: &Endpoint| masters.binary_search(&owner).ok();
    let slots = owners
        .iter()
        .map(|owner| owner.and_then(index).and_then(|i| u16::try_from(i).ok()))
        .collect();
    Topology::Cluster {
        masters: masters.iter().map(|master| (*master).clone()).collect(),
        slots,
    }
}

/// What a Sentinel answered to `SENTINEL MASTER name` and `SENTINEL GET-MASTER-ADDR-BY-NAME name`: the master, and the
/// epoch of the failover that made it so.
pub(super) fn sentinel_master(state: &BytesFrame, address: &BytesFrame) -> Option<(Endpoint, u64)> {
    let BytesFrame::Array(address) = address else {
        return None;
    };
    let [host, port] = address.as_slice() else {
        return None;
    };
    let endpoint = Endpoint {
        host: text(host)?.to_owned(),
        port: text(port)?.parse().ok().filter(|port| *port != 0)?,
    };
    let epoch = field(state, "config-epoch").and_then(text)?;
    Some((endpoint, epoch.parse().ok()?))
}

/// The slot of `MOVED 3999 127.0.0.1:6381`.
pub(super) fn moved_slot(reason: &str) -> Option<u16> {
    let mut words = reason.split(' ');
    (words.next() == Some("MOVED")).then_some(())?;
    words.next()?.parse().ok()
}

#[cfg(test)]
#[path = "topology_tests.rs"]
mod tests;
