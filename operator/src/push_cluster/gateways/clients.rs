//! How many clients there are, where, and for how many more there is room. Pure.

use std::collections::BTreeSet;

use serde::Deserialize;

/// What one gateway says of itself (`GET /node`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    pub version: String,
    pub connections: u64,
    pub max_connections: u64,
    pub draining: bool,
    /// What is worth a look at its broker while messages flow.
    #[serde(default)]
    pub impaired: Option<String>,
}

/// All of them together. Gateways that did not answer are counted apart, and in nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Clients {
    /// Also those of gateways that drain.
    pub connected: u64,
    /// Until every gateway that takes clients is full.
    pub capacity_left: u64,
    /// Of the gateway with the fewest and of that with the most, of those that take clients.
    pub fewest: u64,
    pub most: u64,
    /// In order, each once.
    pub versions: Vec<String>,
    pub silent: usize,
}

/// None: nobody answered.
pub fn clients(answers: &[(String, Option<Node>)]) -> Option<Clients> {
    let nodes: Vec<&Node> = answers
        .iter()
        .filter_map(|(_, node)| node.as_ref())
        .collect();
    if nodes.is_empty() {
        return None;
    }
    let taking: Vec<&Node> = nodes
        .iter()
        .copied()
        .filter(|node| !node.draining)
        .collect();
    let counts = || taking.iter().map(|node| node.connections);
    let versions: BTreeSet<&String> = nodes.iter().map(|node| &node.version).collect();
    Some(Clients {
        connected: nodes.iter().map(|node| node.connections).sum(),
        capacity_left: taking
            .iter()
            .map(|node| node.max_connections.saturating_sub(node.connections))
            .sum(),
        fewest: counts().min().unwrap_or(0),
        most: counts().max().unwrap_or(0),
        versions: versions.into_iter().cloned().collect(),
        silent: answers.len() - nodes.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(version: &str, connections: u64, draining: bool) -> Option<Node> {
        Some(Node {
            version: version.into(),
            connections,
            max_connections: 100,
            draining,
            impaired: None,
        })
    }

    #[test]
    fn who_drains_has_clients_and_no_room() {
        for (nodes, expected) in [
            (vec![], None),
            (vec![None, None], None),
            (
                vec![node("1", 30, false), node("1", 110, false)],
                Some((140, 70, 30, 110, vec!["1"], 0)),
            ),
            (
                vec![node("2", 30, false), node("1", 50, true), None],
                Some((80, 70, 30, 30, vec!["1", "2"], 1)),
            ),
            (vec![node("1", 50, true)], Some((50, 0, 0, 0, vec!["1"], 0))),
        ] {
            let answers: Vec<_> = nodes.into_iter().map(|node| ("pod".into(), node)).collect();
            let expected = expected.map(
                |(connected, capacity_left, fewest, most, versions, silent)| Clients {
                    connected,
                    capacity_left,
                    fewest,
                    most,
                    versions: versions.into_iter().map(Into::into).collect(),
                    silent,
                },
            );
            assert_eq!(clients(&answers), expected, "{answers:?}");
        }
    }
}
