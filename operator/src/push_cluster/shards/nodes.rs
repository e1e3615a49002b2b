//! `CLUSTER NODES`, read (redis.io/docs/latest/commands/cluster-nodes).

use std::collections::BTreeMap;

/// Slots of a Cluster.
pub const SLOTS: u16 = 16_384;

/// What one Redis says of itself and of all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Its own.
    pub id: String,
    pub nodes: Vec<Node>,
    /// Slots of which it has a part, while they go from one master to another.
    pub open: Vec<(u16, Way)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    In,
    Out,
}

impl View {
    pub fn node(&self, id: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }

    pub fn myself(&self) -> Option<&Node> {
        self.node(&self.id)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// 40 hexadecimal digits, made anew with every start.
    pub id: String,
    /// Without the port. None: the one who speaks does not know it.
    pub address: Option<String>,
    /// The id of its master; None for a master.
    pub replica_of: Option<String>,
    /// Raised with every failover: of two that claim a slot, the higher one has it.
    pub epoch: u64,
    /// First and last slot of each range.
    pub slots: Vec<(u16, u16)>,
}

/// None when the answer does not say who speaks. Nodes in a handshake are left out: their ids are made up until it ends.
pub fn parse(answer: &str) -> Option<View> {
    let mut id = None;
    let (mut nodes, mut open) = (Vec::new(), Vec::new());
    for line in answer.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [name, address, flags, master, _, _, epoch, _, slots @ ..] = words.as_slice() else {
            continue;
        };
        let flagged = |flag| flags.split(',').any(|word| word == flag);
        if flagged("handshake") {
            continue;
        }
        if flagged("myself") {
            id = Some((*name).to_owned());
            open = slots.iter().filter_map(|slot| on_its_way(slot)).collect();
        }
        nodes.push(Node {
            id: (*name).to_owned(),
            address: address_of(address),
            replica_of: flagged("slave").then(|| (*master).to_owned()),
            epoch: epoch.parse().ok()?,
            slots: slots.iter().filter_map(|range| slot_range(range)).collect(),
        });
    }
    Some(View {
        id: id?,
        nodes,
        open,
    })
}

/// `ip:port@bus`, and `,hostname` where one is announced.
fn address_of(text: &str) -> Option<String> {
    let (address, _) = text.split_once('@')?;
    let (ip, _) = address.rsplit_once(':')?;
    (!ip.is_empty()).then(|| ip.to_owned())
}

/// `5` or `0-5460`. A slot on its way (`[93->-id]`) is still with who had it.
fn slot_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last < SLOTS).then_some((first, last))
}

/// `[93->-id]` goes to that node, `[93-<-id]` comes from it.
fn on_its_way(text: &str) -> Option<(u16, Way)> {
    let (slot, way) = text.strip_prefix('[')?.split_once('-')?;
    let way = match way.get(..1)? {
        ">" => Way::Out,
        "<" => Way::In,
        _ => return None,
    };
    Some((slot.parse().ok()?, way))
}

/// Every node, as it is described with the highest epoch, and among those by itself.
pub fn newest<'a>(views: impl Iterator<Item = &'a View>) -> BTreeMap<&'a str, &'a Node> {
    let mut newest: BTreeMap<&str, (&Node, bool)> = BTreeMap::new();
    for view in views {
        for node in &view.nodes {
            let itself = node.id == view.id;
            let known = newest.entry(&node.id).or_insert((node, itself));
            if (itself, node.epoch) > (known.1, known.0.epoch) {
                *known = (node, itself);
            }
        }
    }
    let newest = newest.into_iter();
    newest.map(|(id, (node, _))| (id, node)).collect()
}

/// Of each slot the id of its master. A node that was cut off goes on claiming what it had: the higher epoch wins, as
/// among the nodes themselves.
pub fn owners<'a>(newest: &BTreeMap<&'a str, &'a Node>) -> Vec<Option<&'a str>> {
    let mut claims: Vec<(&str, &Node)> = newest.iter().map(|(id, node)| (*id, *node)).collect();
    claims.retain(|(_, node)| node.replica_of.is_none());
    claims.sort_by_key(|(_, node)| node.epoch);
    let mut owners = vec![None; usize::from(SLOTS)];
    for (id, node) in claims {
        for (first, last) in &node.slots {
            owners[usize::from(*first)..=usize::from(*last)].fill(Some(id));
        }
    }
    owners
}

/// The slots of a shard when all have as many: first and last.
///
/// # Panics
/// Without shards.
pub fn range(shard: usize, shards: usize) -> (u16, u16) {
    let bound = |shard: usize| shard * usize::from(SLOTS) / shards;
    let number = |slot: usize| u16::try_from(slot).unwrap_or(SLOTS - 1);
    (number(bound(shard)), number(bound(shard + 1) - 1))
}

/// In which shard's [`range`] a slot is.
pub fn shard_of(slot: u16, shards: usize) -> usize {
    (0..shards)
        .rev()
        .find(|shard| range(*shard, shards).0 <= slot)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_what_is_made_up_or_on_its_way_is_not() {
        let answer = "\
            aa 10.1.0.5:6379@16379 myself,master - 0 0 3 connected 0-5460 9000 [93->-bb] [9001-<-cc]\n\
            bb 10.1.0.6:6379@16379,demo-redis-0-1 slave aa 0 1700 3 connected\n\
            cc fd00::7:6379@16379 master,fail - 1 1 2 disconnected 5461-8999\n\
            dd :0@0 master,noaddr - 1 1 2 disconnected\n\
            ee 10.1.0.9:6379@16379 handshake - 0 0 0 connected\n";
        let node =
            |id: &str, address: Option<&str>, replica_of: Option<&str>, epoch, slots: &[_]| Node {
                id: id.into(),
                address: address.map(Into::into),
                replica_of: replica_of.map(Into::into),
                epoch,
                slots: slots.to_vec(),
            };
        let expected = View {
            id: "aa".into(),
            open: vec![(93, Way::Out), (9_001, Way::In)],
            nodes: vec![
                node(
                    "aa",
                    Some("10.1.0.5"),
                    None,
                    3,
                    &[(0, 5_460), (9_000, 9_000)],
                ),
                node("bb", Some("10.1.0.6"), Some("aa"), 3, &[]),
                node("cc", Some("fd00::7"), None, 2, &[(5_461, 8_999)]),
                node("dd", None, None, 2, &[]),
            ],
        };
        assert_eq!(parse(answer), Some(expected));
        assert_eq!(
            parse("aa 10.1.0.5:6379@16379 master - 0 0 3 connected"),
            None
        );
    }

    #[test]
    fn shards_have_every_slot_once_and_as_many_each() {
        for shards in [1, 3, 7, 32] {
            let mut next = 0;
            for shard in 0..shards {
                let (first, last) = range(shard, shards);
                assert_eq!(first, next, "{shard} of {shards}");
                assert_eq!(
                    (shard_of(first, shards), shard_of(last, shards)),
                    (shard, shard)
                );
                let fair = usize::from(SLOTS) / shards;
                assert!((fair..=fair + 1).contains(&usize::from(last - first + 1)));
                next = last + 1;
            }
            assert_eq!(next, SLOTS, "{shards}");
        }
    }
}
