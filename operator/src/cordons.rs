//! Nodes that take no new pods: `kubectl cordon` makes them so, and `kubectl drain` does before it evicts. Gateways there are
//! about to be evicted.
//!
//! One watch tells that something has happened to one of them, and what is so is asked for after that: a watch alone does not
//! tell of what ended while it was interrupted.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use crate::failure::line;

/// Of the watch and of the list.
pub const SELECTED: &str = "spec.unschedulable=true";
/// Longest that an answer is believed while nothing is heard.
const BELIEVED: Duration = Duration::from_secs(600);
/// How long what is noted of a PushCluster stays that nobody looks at: it is gone, since each is looked at more often.
const FORGOTTEN: Duration = Duration::from_secs(3_600);

/// Namespace and name of a PushCluster.
type Key = (String, String);

/// What is known of such nodes. An operator of one namespace has no right to look at nodes, and knows of none.
pub struct Cordons {
    everywhere: bool,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// None: something was heard since.
    nodes: Option<(Instant, BTreeSet<String>)>,
    /// Counts what was heard, so that an answer from before it is not kept.
    words: u64,
    /// When each was looked at, and on which nodes its gateways were then. An entry goes with a word of one of its nodes, after
    /// which it is looked at again if it is still there, and after [`FORGOTTEN`].
    gateways: HashMap<Key, (Instant, BTreeSet<String>)>,
}

impl Known {
    fn note(&mut self, of: Key, on: BTreeSet<String>, now: Instant) {
        let is_recent = |since: Instant| now.duration_since(since) < FORGOTTEN;
        self.gateways.retain(|_, (since, _)| is_recent(*since));
        self.gateways.insert(of, (now, on));
    }
}

impl Cordons {
    #[must_use]
    pub fn new(everywhere: bool) -> Cordons {
        Cordons {
            everywhere,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something has happened to this node: the PushClusters that had gateways there.
    pub fn heard(&self, node: &str) -> Vec<Key> {
        let mut known = self.known();
        known.nodes = None;
        known.words += 1;
        let gateways = &mut known.gateways;
        let there = gateways.extract_if(|_, (_, nodes)| nodes.contains(node));
        there.map(|(key, _)| key).collect()
    }

    /// The names of all such nodes; `on`: where the gateways of this one are now.
    pub async fn nodes(&self, client: &Client, of: Key, on: BTreeSet<String>) -> BTreeSet<String> {
        if !self.everywhere {
            return BTreeSet::new();
        }
        let words = {
            let mut known = self.known();
            known.note(of, on, Instant::now());
            if let Some((since, nodes)) = &known.nodes
                && since.elapsed() < BELIEVED
            {
                return nodes.clone();
            }
            known.words
        };
        let asked = Instant::now();
        let nodes: Api<Node> = Api::all(client.clone());
        let listed = nodes
            .list_metadata(&ListParams::default().fields(SELECTED))
            .await;
        let nodes: BTreeSet<String> = match listed {
            Ok(listed) => listed.iter().map(ResourceExt::name_any).collect(),
            // Clients are moved without it, only some of them twice.
            Err(error) => {
                tracing::warn!("listing cordoned nodes failed: {}", line(&error));
                BTreeSet::new()
            }
        };
        let mut known = self.known();
        if known.words == words {
            known.nodes = Some((asked, nodes.clone()));
        }
        nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn who_has_gateways_on_a_node_hears_of_it_once() {
        let cordons = Cordons::new(true);
        let key = |name: &str| ("ns".to_owned(), name.to_owned());
        let now = Instant::now();
        let note = |name, nodes: &[&str]| cordons.known().note(key(name), set(nodes), now);
        note("a", &["n1", "n2"]);
        note("b", &["n2"]);
        cordons.known().nodes = Some((Instant::now(), set(&["n2"])));
        assert_eq!(cordons.heard("n1"), [key("a")]);
        assert_eq!(cordons.known().nodes, None);
        // It has not been looked at since.
        assert_eq!(cordons.heard("n2"), [key("b")]);
        note("a", &["n2"]);
        assert_eq!(cordons.heard("n3"), []);
        assert_eq!(cordons.heard("n2"), [key("a")]);
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let mut known = Known::default();
        let key = |name: &str| ("ns".to_owned(), name.to_owned());
        let begun = Instant::now();
        known.note(key("a"), set(&["n1"]), begun);
        known.note(key("b"), set(&["n1"]), begun + FORGOTTEN / 2);
        known.note(key("c"), set(&["n1"]), begun + FORGOTTEN);
        let mut left: Vec<_> = known.gateways.into_keys().map(|(_, name)| name).collect();
        left.sort();
        assert_eq!(left, ["b", "c"]);
    }
}
