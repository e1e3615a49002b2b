//! A round: messages between nodes, so that it is seen and not assumed that what one publishes reaches the others.
//!
//! ```text
//! every node, asked at the same time:   socket ─ subscribe ─ hears who published in this round
//! those that are to publish:            socket ─ publish, publish, … until the round ends
//! ```
//! Who publishes does so again and again, because the others subscribe a moment earlier or later. It is one channel that
//! no client can name, on sockets as a client's, which count for nothing as the self-test's do not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use super::client::Client;
use super::{Failure, SelfTest};
use crate::name::ChannelName;
use crate::tls::Tls;

/// Between two messages of a node in a round.
const EVERY: Duration = Duration::from_millis(250);
/// Rounds at the same time; whoever asks more often than this gets nothing new from it.
const MAX_ROUNDS: usize = 16;
/// Longest name of a round, in bytes.
const MAX_NAME_BYTES: usize = 64;
/// Nodes that publish in a round: each message goes to all nodes.
const MAX_PUBLISHERS: usize = 16;
/// Longest round, in seconds.
const MAX_SECONDS: u64 = 10;

/// What a node is asked for.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Round {
    /// The same on all nodes, and another one in each round.
    pub round: String,
    /// The nodes that publish: names. A node that finds its own publishes, and every node waits for all of them.
    pub from: Vec<String>,
    /// How long the round is.
    pub seconds: u64,
}

/// What a node heard.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Heard {
    /// Nodes of which a message arrived, in the order of their first ones.
    pub heard: Vec<String>,
    /// What this node could not do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// Why there is no round.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NoRound {
    #[error("{0}")]
    Wrong(String),
    #[error("{MAX_ROUNDS} rounds are under way")]
    TooMany,
}

impl Round {
    fn check(&self) -> Result<(), NoRound> {
        let wrong = |what: String| Err(NoRound::Wrong(what));
        if self.round.is_empty() || self.round.len() > MAX_NAME_BYTES {
            return wrong(format!("round: must be 1 to {MAX_NAME_BYTES} bytes"));
        }
        if self.from.is_empty() || self.from.len() > MAX_PUBLISHERS {
            return wrong(format!("from: must be 1 to {MAX_PUBLISHERS} nodes"));
        }
        if !(1..=MAX_SECONDS).contains(&self.seconds) {
            return wrong(format!("seconds: must be 1 to {MAX_SECONDS}"));
        }
        Ok(())
    }

    fn message(&self, node: &str) -> Value {
        json!({"round": self.round, "from": node})
    }

    /// The node that a message of this round is from, if it is one.
    fn sender(&self, message: &Value) -> Option<&String> {
        let from = message["from"].as_str()?;
        let ours = message["round"] == *self.round;
        self.from.iter().find(|node| ours && *node == from)
    }

    fn is_complete(&self, heard: &Heard) -> bool {
        self.from.iter().all(|node| heard.heard.contains(node))
    }
}

/// Cloning shares it.
#[derive(Clone)]
pub struct Rounds {
    test: SelfTest,
    /// Where clients connect, with this TLS.
    at: SocketAddr,
    tls: Option<Tls>,
    places: Arc<Semaphore>,
}

impl Rounds {
    /// None: there is nobody to test, or no address to reach it at.
    #[must_use]
    pub fn at(clients: &TcpListener, test: Option<SelfTest>, tls: Option<Tls>) -> Option<Rounds> {
        Some(Rounds {
            test: test?,
            at: super::reachable(clients.local_addr().ok()?),
            tls,
            places: Arc::new(Semaphore::new(MAX_ROUNDS)),
        })
    }

    /// Returns as soon as every node of `round.from` was heard, at the round's end at the latest. Until then the node
    /// goes on publishing for others.
    pub async fn hold(&self, round: Round) -> Result<Heard, NoRound> {
        round.check()?;
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| NoRound::TooMany)?;
        let (told, mut hearing) = watch::channel(Heard::default());
        let (rounds, own) = (self.clone(), round.clone());
        tokio::spawn(async move {
            let deadline = Duration::from_secs(own.seconds);
            let both =
                async { tokio::join!(rounds.listen(&own, &told), rounds.publish(&own, &told)) };
            let _ = tokio::time::timeout(deadline, both).await;
            drop(place);
        });
        // An error: the round has ended, and what was heard until then is there.
        let complete = |heard: &Heard| round.is_complete(heard) || heard.failed.is_some();
        let _ = hearing.wait_for(complete).await;
        let heard = hearing.borrow().clone();
        Ok(heard)
    }

    async fn listen(&self, round: &Round, told: &watch::Sender<Heard>) {
        let listening = async {
            let mut client = self.open().await?;
            client.subscribe(&ChannelName::between_nodes()).await?;
            let note = |answer: &Value| {
                if let Some(from) = round.sender(&answer["message"]) {
                    told.send_if_modified(|heard| {
                        let new = !heard.heard.contains(from);
                        if new {
                            heard.heard.push(from.clone());
                        }
                        new
                    });
                }
                round.is_complete(&told.borrow())
            };
            client.hear("receive", note).await?;
            client.close().await;
            Ok(())
        };
        fail(listening.await, told);
    }

    async fn publish(&self, round: &Round, told: &watch::Sender<Heard>) {
        let node = &self.test.node;
        if !round.from.iter().any(|name| **name == **node) {
            return;
        }
        let publishing = async {
            let mut client = self.open().await?;
            let channel = ChannelName::between_nodes();
            loop {
                client
                    .say(&json!({"type": "chat", "channel": channel.as_str(), "message": round.message(node)}))
                    .await?;
                tokio::time::sleep(EVERY).await;
            }
        };
        fail(publishing.await, told);
    }

    async fn open(&self) -> Result<Client, Failure> {
        self.test.open(self.at, self.tls.as_ref()).await
    }
}

fn fail(done: Result<(), Failure>, told: &watch::Sender<Heard>) {
    if let Err(failure) = done {
        told.send_modify(|heard| heard.failed = Some(failure.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(name: &str, from: &[&str], seconds: u64) -> Round {
        Round {
            round: name.into(),
            from: from.iter().map(|&node| node.into()).collect(),
            seconds,
        }
    }

    #[test]
    fn what_may_be_asked_for() {
        let many = ["a"; MAX_PUBLISHERS + 1];
        for (round, expected) in [
            (round("r", &["a"], 1), Ok(())),
            (round(&"r".repeat(64), &many[1..], 10), Ok(())),
            (round("", &["a"], 1), Err("round: must be 1 to 64 bytes")),
            (
                round(&"r".repeat(65), &["a"], 1),
                Err("round: must be 1 to 64 bytes"),
            ),
            (round("r", &[], 1), Err("from: must be 1 to 16 nodes")),
            (round("r", &many, 1), Err("from: must be 1 to 16 nodes")),
            (round("r", &["a"], 0), Err("seconds: must be 1 to 10")),
            (round("r", &["a"], 11), Err("seconds: must be 1 to 10")),
        ] {
            let expected = expected.map_err(|what: &str| NoRound::Wrong(what.into()));
            assert_eq!(round.check(), expected, "{round:?}");
        }
    }

    #[test]
    fn only_messages_of_this_round_and_its_nodes_count() {
        let own = round("r", &["a", "b"], 1);
        for (message, expected) in [
            (own.message("a"), Some("a")),
            (own.message("c"), None),
            (round("q", &["a"], 1).message("a"), None),
            (json!("a"), None),
            (Value::Null, None),
        ] {
            let found = own.sender(&message).map(String::as_str);
            assert_eq!(found, expected, "{message}");
        }
    }
}
