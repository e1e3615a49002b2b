//! What nodes write down in Redis beside messages: scripts, many at a time, on the connections of [`Clients`].

use std::collections::HashMap;
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::{CustomCommand, Value};
use futures::future::join_all;
use tokio::time::timeout;

use super::clients::{Clients, is_elsewhere};
use super::names::Names;
use super::topology::Endpoint;

/// A script and what it is about. Keys of one call have one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub script: &'static str,
    pub keys: Vec<String>,
    pub arguments: Vec<String>,
}

/// What a script returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Number(i64),
    /// What is no text in it is left out.
    Texts(Vec<String>),
    /// A key has something else in it, which nobody of us wrote. For people.
    Foreign(String),
    Nothing,
}

impl Answer {
    #[must_use]
    pub fn number(&self) -> Option<i64> {
        match self {
            Answer::Number(number) => Some(*number),
            _ => None,
        }
    }

    #[must_use]
    pub fn texts(self) -> Vec<String> {
        match self {
            Answer::Texts(texts) => texts,
            _ => Vec::new(),
        }
    }
}

/// Cloning shares the connections.
#[derive(Clone)]
pub struct Store {
    pub(super) clients: Clients,
    pub(super) names: Names,
    pub(super) timeout: Duration,
}

impl Store {
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Longest wait for an answer.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.timeout
    }

    /// An answer for each call. Calls to one master are carried out in their order. After an error, which is for the
    /// log, any of them may have been carried out, and all may be called again.
    pub async fn run(&self, calls: &[Call]) -> Result<Vec<Answer>, String> {
        let answers = timeout(self.timeout, self.run_at_masters(calls)).await;
        answers.unwrap_or_else(|_| Err("Redis did not answer in time".to_owned()))
    }

    async fn run_at_masters(&self, calls: &[Call]) -> Result<Vec<Answer>, String> {
        let mut parts: HashMap<Endpoint, (Client, Vec<usize>)> = HashMap::new();
        for (index, call) in calls.iter().enumerate() {
            let slot = self.names.slot(call.keys[0].as_bytes());
            let (endpoint, client) = self.clients.at(slot).await?;
            let (_, indices) = parts
                .entry(endpoint)
                .or_insert_with(|| (client, Vec::new()));
            indices.push(index);
        }
        let parts = parts
            .into_iter()
            .map(|(endpoint, (client, indices))| async move {
                let answers = self.run_at(&endpoint, &client, indices.iter().map(|i| &calls[*i]));
                answers.await.map(|answers| (indices, answers))
            });
        let mut found = vec![Answer::Nothing; calls.len()];
        for part in join_all(parts).await {
            let (indices, answers) = part?;
            for (index, answer) in indices.into_iter().zip(answers) {
                found[index] = answer;
            }
        }
        Ok(found)
    }

    async fn run_at<'a>(
        &self,
        endpoint: &Endpoint,
        client: &Client,
        calls: impl Iterator<Item = &'a Call>,
    ) -> Result<Vec<Answer>, String> {
        let pipeline = client.pipeline();
        for call in calls {
            let eval = CustomCommand::new_static("EVAL", None::<u16>, false);
            let count = call.keys.len().to_string();
            let words = [call.script.to_owned(), count].into_iter();
            let words = words.chain(call.keys.iter().chain(&call.arguments).cloned());
            let queued: Result<(), _> = pipeline.custom(eval, words.collect()).await;
            queued.map_err(|e| format!("Redis at {endpoint}: {e}"))?;
        }
        let mut answers = Vec::new();
        for answer in pipeline.try_all::<Value>().await {
            answers.push(match answer {
                Ok(value) => read(value),
                Err(error) if is_foreign(error.details()) => {
                    Answer::Foreign(error.details().to_owned())
                }
                Err(error) => {
                    if is_elsewhere(&error) {
                        self.clients.look_again(endpoint);
                    }
                    return Err(format!("Redis at {endpoint}: {error}"));
                }
            });
        }
        Ok(answers)
    }
}

/// Whether the script found what none of ours writes. It would find it again.
fn is_foreign(details: &str) -> bool {
    ["WRONGTYPE", "hash value is not an integer"]
        .iter()
        .any(|words| details.contains(words))
}

fn read(value: Value) -> Answer {
    match value {
        Value::Integer(number) => Answer::Number(number),
        Value::Array(values) => {
            Answer::Texts(values.into_iter().filter_map(Value::into_string).collect())
        }
        _ => Answer::Nothing,
    }
}
