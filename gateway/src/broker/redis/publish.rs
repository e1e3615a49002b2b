//! The publisher task: one bounded queue, one pipeline under way at a time.
//!
//! One at a time keeps the order whatever happens to a pipeline, and loses little: while one is on its
//! way the next fills, so the busier the node, the larger the batches.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, PubsubInterface};
use fred::types::config::{
    Config, ConnectionConfig, Options, ReconnectPolicy, ServerConfig, UnresponsiveConfig,
};
use fred::types::{Builder, Value};
use tokio::sync::{mpsc, oneshot};

use super::log::{self, LogKeys};
use super::probe::Pulse;
use super::{Counters, Settings};
use crate::history::Keep;
use crate::message::Position;

/// Messages that wait for the publisher. More are refused.
const QUEUE_CAPACITY: usize = 16_384;
/// Messages of one pipeline.
const BATCH: usize = 512;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With its place in the log, if there is one.
    Accepted(Option<Position>),
    /// Never left this process.
    Unavailable,
    /// Left, and nobody knows.
    Unanswered,
}

struct Item {
    outgoing: Outgoing,
    answer: oneshot::Sender<Outcome>,
    deadline: Instant,
    /// With less time left than this leaves, sending would only turn a clear refusal into an uncertain one.
    send_by: Instant,
}

/// A message on its way.
pub(super) struct Outgoing {
    /// Redis's name of the channel.
    pub channel: String,
    pub payload: Bytes,
    /// Where it is kept, if it is.
    pub log: Option<(LogKeys, Keep)>,
}

/// The way in. When the last clone is dropped the task ends.
#[derive(Clone)]
pub(super) struct Publisher {
    queue: mpsc::Sender<Item>,
    timeout: Duration,
    pulse: Arc<Pulse>,
    counters: Counters,
}

/// One that does not keep the task alive.
pub(super) struct WeakPublisher {
    queue: mpsc::WeakSender<Item>,
    timeout: Duration,
    pulse: Arc<Pulse>,
    counters: Counters,
}

impl WeakPublisher {
    pub(super) fn upgrade(&self) -> Option<Publisher> {
        let (pulse, counters) = (self.pulse.clone(), self.counters.clone());
        Some(Publisher {
            queue: self.queue.upgrade()?,
            timeout: self.timeout,
            pulse,
            counters,
        })
    }
}

impl Publisher {
    pub(super) fn downgrade(&self) -> WeakPublisher {
        let (pulse, counters) = (self.pulse.clone(), self.counters.clone());
        WeakPublisher {
            queue: self.queue.downgrade(),
            timeout: self.timeout,
            pulse,
            counters,
        }
    }

    /// Takes the message's place in the queue now; the future only waits for the answer, which comes
    /// within the timeout.
    pub(super) fn publish(
        &self,
        outgoing: Outgoing,
    ) -> impl Future<Output = Outcome> + Send + 'static {
        let (answer, answered) = oneshot::channel();
        let now = Instant::now();
        let (deadline, send_by) = (now + self.timeout, now + self.timeout.mul_f32(0.9));
        let queued = !self.pulse.is_down()
            && self
                .queue
                .try_send(Item {
                    outgoing,
                    answer,
                    deadline,
                    send_by,
                })
                .is_ok();
        if !queued {
            self.counters.unavailable.inc();
        }
        async move {
            if !queued {
                return Outcome::Unavailable;
            }
            // A task that ended dropped the item, before or after it sent it.
            answered.await.unwrap_or(Outcome::Unanswered)
        }
    }
}

/// The client is for reading: what is published goes through the queue.
pub(super) fn start(
    settings: &Settings,
    pulse: Arc<Pulse>,
    counters: Counters,
) -> (Publisher, Client) {
    let (queue, items) = mpsc::channel(QUEUE_CAPACITY);
    let client = client(settings);
    tokio::spawn(run(client.clone(), items, counters.clone()));
    let publisher = Publisher {
        queue,
        timeout: settings.timeout,
        pulse,
        counters,
    };
    (publisher, client)
}

fn client(settings: &Settings) -> Client {
    let mut config = Config {
        server: ServerConfig::new_centralized(&settings.host, settings.port),
        username: settings.username.clone(),
        password: settings.password.clone(),
        database: (settings.database != 0).then_some(settings.database),
        // A Redis that is not there yet is tried again, like one that went away.
        fail_fast: false,
        ..Config::default()
    };
    if config.password.is_none() {
        config.username = None;
    }
    let connection = ConnectionConfig {
        connection_timeout: settings.timeout,
        internal_command_timeout: settings.timeout,
        // Sending again could deliver twice, and after later messages.
        max_command_attempts: 1,
        reconnect_on_auth_error: true,
        unresponsive: UnresponsiveConfig {
            max_timeout: Some(settings.timeout * 3),
            interval: Duration::from_secs(1),
        },
        ..ConnectionConfig::default()
    };
    let policy = ReconnectPolicy::Constant {
        attempts: 0,
        max_attempts: 0,
        delay: 250,
        jitter: 250,
    };
    Builder::from_config(config)
        .set_connection_config(connection)
        .set_policy(policy)
        .build()
        .expect("a centralized server with these options is a valid configuration")
}

async fn run(client: Client, mut items: mpsc::Receiver<Item>, counters: Counters) {
    let connection = tokio::spawn(keep_connected(client.clone()));
    let mut batch = Vec::with_capacity(BATCH);
    while items.recv_many(&mut batch, BATCH).await > 0 {
        send(&client, &mut batch, &counters).await;
    }
    connection.abort();
    // Otherwise fred's own tasks live on, and keep a connection to Redis.
    let _ = client.quit().await;
}

/// fred reconnects by its policy; some refusals (a wrong password) end it, and may be put right later.
async fn keep_connected(client: Client) {
    loop {
        if let Ok(Err(e)) = client.connect().await {
            tracing::debug!("publisher's connection to Redis ended: {e}");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Sends a batch and answers every item of it, by the deadline of its oldest one.
async fn send(client: &Client, batch: &mut Vec<Item>, counters: &Counters) {
    let now = Instant::now();
    let connected = client.is_connected();
    // What waited too long behind a batch without an answer is refused unsent: its publisher was
    // promised an answer by now, and a late message is worse than a refused one.
    let stale = batch
        .iter()
        .take_while(|item| !connected || item.send_by <= now)
        .count();
    for item in batch.drain(..stale) {
        answer(item, Outcome::Unavailable, counters);
    }
    let Some(oldest) = batch.first() else { return };

    let options = Options {
        timeout: Some(oldest.deadline - now),
        max_attempts: Some(1),
        fail_fast: true,
        ..Options::default()
    };
    let pipeline = client.pipeline();
    let collector = pipeline.with_options(&options);
    for item in batch.iter() {
        let Outgoing {
            channel,
            payload,
            log,
        } = &item.outgoing;
        // Only collects; an error would be one of its own arguments.
        let collected: Result<(), _> = match log {
            None => collector.publish(channel.as_str(), payload.clone()).await,
            Some((keys, keep)) => {
                let arguments = keys.append(channel, payload, *keep);
                collector.custom(fred::cmd!("EVAL"), arguments).await
            }
        };
        debug_assert!(collected.is_ok(), "{collected:?}");
    }
    let results = pipeline.try_all::<Value>().await;
    // One answer for each message, or a single error for the whole pipeline.
    let whole = (results.len() < batch.len()).then(|| outcome(results.first()));
    for (i, item) in batch.drain(..).enumerate() {
        answer(
            item,
            whole.unwrap_or_else(|| outcome(results.get(i))),
            counters,
        );
    }
}

fn outcome(result: Option<&Result<Value, Error>>) -> Outcome {
    let e = match result {
        Some(Err(e)) => e,
        Some(Ok(value)) => return Outcome::Accepted(log::position(value)),
        None => return Outcome::Accepted(None),
    };
    tracing::debug!("publish to Redis: {e}");
    match e.kind() {
        ErrorKind::IO
        | ErrorKind::Timeout
        | ErrorKind::Canceled
        | ErrorKind::Protocol
        | ErrorKind::Parse => Outcome::Unanswered,
        // Redis itself said no (NOPERM, OOM, LOADING, …), so it passed nothing on.
        _ => Outcome::Unavailable,
    }
}

fn answer(item: Item, outcome: Outcome, counters: &Counters) {
    match outcome {
        Outcome::Accepted(_) => {}
        Outcome::Unavailable => counters.unavailable.inc(),
        Outcome::Unanswered => counters.unanswered.inc(),
    }
    // A publisher that no longer waits has decided for itself.
    let _ = item.answer.send(outcome);
}
