//! How clients are moved between gateways, and how the fleet becomes smaller without closing sockets at once. Pure: what
//! was seen of the gateways and the time in, what to do next out.
//!
//! Nothing is remembered between two looks but on the objects themselves: a pod that gives clients away carries a
//! [`Mark`] in its annotations, and the label by which the Service of the clients selects. An operator that ends
//! after any step leaves a fleet in which the next one goes on.

use k8s_openapi::jiff::Timestamp;

use crate::push_cluster::gateways::clients::Node;
use crate::reason::Told;

pub mod budget;
pub mod closed;
pub mod decide;
pub mod drain;
pub mod rebalance;
pub mod rollout;
pub mod serving;
pub mod victim;

/// The label that the Service of the clients selects on: `true`, or `false` while the pod gives clients away.
pub const SERVING: &str = "pushcluster.io/serving";

/// A gateway takes clients until it has so many percent of `maxConnections` (`/ready`, docs/admin-port.md).
const FULL_PERCENT: u64 = 80;

/// One gateway pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    pub pod: String,
    /// As its kubelet says.
    pub ready: bool,
    /// It was told to end.
    pub ending: bool,
    /// Of another template than the Deployment has now.
    pub is_old: bool,
    /// The value of [`SERVING`]; None without that label.
    pub serving: Option<bool>,
    /// An EndpointSlice of the Service of the clients has it as ready.
    pub listed: bool,
    /// Its node takes no new pods, so it is about to be evicted.
    pub cordoned: bool,
    /// Something is wrong with it that its template may be blamed for.
    pub misbehaves: bool,
    /// What it says of itself; None: it does not answer.
    pub node: Option<Node>,
    /// The pace of its drain, in clients each second, as it says; None: it does not drain, or does not answer.
    pub pace: Option<u32>,
    pub mark: Option<Mark>,
}

/// Why and since when a pod gives clients away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub cause: Cause,
    pub since: Timestamp,
    /// Those that it had then.
    pub clients: u64,
    /// Those that may stay.
    pub down_to: u64,
    /// Since when no EndpointSlice lists a gateway that is to take nobody.
    pub unlisted: Option<Timestamp>,
    /// Set when the pod is the next to be deleted: how many gateways were wished then.
    pub given_up: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    ScaleIn,
    Rebalance,
    Rollout,
    /// Somebody else ends it.
    Ended,
}

/// What is wished, and what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// Of `spec.replicas`.
    pub wished: usize,
    /// The replicas of the Deployment.
    pub size: usize,
    /// Pods of two templates are there.
    pub rolling: bool,
    pub policy: Policy,
    /// Also those that end.
    pub gateways: Vec<Gateway>,
}

/// What the manifest says about moving clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// For all gateways together; None: see [`budget::per_second`].
    pub reconnects_per_second: Option<u32>,
    /// Of one gateway; 0: no limit.
    pub handshakes_per_second: u32,
    /// What a gateway has beyond the time that its clients need at the budget's rate.
    pub deadline_seconds: u32,
}

/// One thing to do to one pod. Each may be done again, and none needs that another was done before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    pub pod: String,
    pub act: Act,
    /// An Event, when it is done.
    pub told: Option<(Told, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The label alone, on a pod that has none or a wrong one.
    Serve,
    /// Out of the Service, and nothing else.
    Close,
    /// Out of the Service, with this mark.
    Withdraw(Mark),
    /// In its mark: no EndpointSlice lists it any more, seen at this time.
    Unlisted(Timestamp),
    /// Its drain is begun, or goes at this pace from now on.
    Shed { per_second: u32, down_to: u64 },
    /// The next to be deleted, so that there are as many as are wished; `cut`: clients that it still has.
    GiveUp { wished: usize, cut: u64 },
    /// The drain is taken back, then the pod is in the Service again, without a mark. `missed`: another pod went instead.
    Readmit { missed: bool },
}

/// What one look came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    pub orders: Vec<Order>,
    /// Those that give clients away, by name.
    pub moving: Vec<Moving>,
    /// Why there are more gateways than wished, and none of them gives its clients away.
    pub waits: Option<Waits>,
}

/// One gateway's progress, in what does not change with every look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moving {
    pub pod: String,
    pub cause: Cause,
    /// Clients that are to go.
    pub clients: u64,
    /// In steps of ten percent.
    pub percent: u64,
    /// When the last of them is gone, at the budget's rate.
    pub due: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// The others have no place for its clients.
    ForRoom,
    /// Gateways are being replaced.
    ForRollout,
}

impl Gateway {
    /// Of a pod that does not answer nothing is known.
    #[must_use]
    pub fn clients(&self) -> Option<u64> {
        self.node.as_ref().map(|node| node.connections)
    }

    /// Whether new clients come to it.
    fn takes(&self) -> bool {
        let drains = self.node.as_ref().is_none_or(|node| node.draining);
        self.ready && !self.ending && !drains && self.mark.is_none()
    }

    /// How many more it takes before it is not ready.
    fn room(&self) -> u64 {
        let room = |node: &Node| {
            let most = node.max_connections * FULL_PERCENT / 100;
            most.saturating_sub(node.connections)
        };
        self.node.as_ref().filter(|_| self.takes()).map_or(0, room)
    }

    /// Clients that are on their way to others, or soon will be.
    fn leaving(&self) -> u64 {
        let clients = self.clients().unwrap_or(0);
        match self.mark {
            _ if self.ending => clients,
            Some(mark) => clients.saturating_sub(mark.down_to),
            None => 0,
        }
    }

    fn is_for(&self, cause: Cause) -> bool {
        !self.ending && self.mark.is_some_and(|mark| mark.cause == cause)
    }

    /// Sends clients away because a person asked it to.
    fn drains_by_hand(&self) -> bool {
        !self.ending && self.mark.is_none() && self.node.as_ref().is_some_and(|n| n.draining)
    }
}

#[cfg(test)]
mod fixture;
