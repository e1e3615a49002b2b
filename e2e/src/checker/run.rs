//! Publishers and subscribers of one channel, against gateways that come and go. What they do next is decided by a
//! seed; when it happens is the machine's affair.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Channel, Heard, History, Number, Outcome, Position, Published};
use crate::push_client::PushClient;

/// Longest wait for what a gateway owes; far above what it takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest life of a subscriber's connection before it goes by itself, in milliseconds.
const LONGEST_STAY_MS: u64 = 1_500;
/// Of one publisher, and before a connection that failed is tried again.
const PACE: Duration = Duration::from_millis(10);

/// Where the gateways are right now.
#[derive(Clone, Default)]
pub struct Fleet(Arc<Mutex<Vec<SocketAddr>>>);

impl Fleet {
    pub fn set(&self, addresses: Vec<SocketAddr>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    fn any(&self, random: &mut StdRng) -> Option<SocketAddr> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = random.random_range(0..all.len().max(1));
        all.get(index).copied()
    }

    async fn connect(&self, random: &mut StdRng) -> Result<PushClient<TcpStream>> {
        let address = self.any(random).context("no gateway")?;
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await??;
        PushClient::connect(stream).await
    }
}

/// Who takes part.
#[derive(Debug, Clone, Copy)]
pub struct Cast {
    pub publishers: usize,
    pub subscribers: usize,
    pub seed: u64,
}

/// Publishes and listens until `faults` ends, and then until everybody has heard the last message.
pub async fn run(
    channel: &str,
    fleet: &Fleet,
    cast: Cast,
    faults: impl Future<Output = Result<()>>,
) -> Result<Channel> {
    let (stop, stopped) = watch::channel(false);
    let (finish, finished) = watch::channel(None);
    let random = |salt: usize| StdRng::seed_from_u64(cast.seed.wrapping_add(salt as u64));
    let publishers: Vec<_> = (0..cast.publishers)
        .map(|publisher| {
            let publisher = Publisher::new(publisher, channel, fleet, random(publisher));
            tokio::spawn(publisher.run(stopped.clone()))
        })
        .collect();
    let subscribers: Vec<_> = (0..cast.subscribers)
        .map(|index| {
            let subscriber = Subscriber {
                channel: channel.to_owned(),
                fleet: fleet.clone(),
                random: random(1_000 + index),
                at: None,
                heard: Vec::new(),
            };
            tokio::spawn(subscriber.run(finished.clone()))
        })
        .collect();
    faults.await?;
    stop.send_replace(true);
    let mut published = Vec::new();
    for publisher in publishers {
        published.extend(publisher.await?);
    }
    let mut last = Publisher::new(cast.publishers, channel, fleet, random(cast.publishers));
    let end = timeout(PATIENCE, last.until_accepted())
        .await
        .context("no gateway accepts a message any more")?;
    published.extend(last.published);
    finish.send_replace(Some(end));
    let mut histories = Vec::new();
    for (index, subscriber) in subscribers.into_iter().enumerate() {
        let name = format!("subscriber {index}");
        let heard = subscriber.await?;
        histories.push(History { name, heard });
    }
    Ok(Channel {
        name: channel.to_owned(),
        published,
        histories,
        end,
    })
}

struct Publisher {
    index: usize,
    channel: String,
    fleet: Fleet,
    random: StdRng,
    published: Vec<Published>,
}

impl Publisher {
    fn new(index: usize, channel: &str, fleet: &Fleet, random: StdRng) -> Publisher {
        Publisher {
            index,
            channel: channel.to_owned(),
            fleet: fleet.clone(),
            random,
            published: Vec::new(),
        }
    }

    async fn run(mut self, stopped: watch::Receiver<bool>) -> Vec<Published> {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut client = None;
        while !*stopped.borrow() {
            pace.tick().await;
            self.publish(&mut client).await;
        }
        self.published
    }

    async fn until_accepted(&mut self) -> Position {
        let mut pace = interval(PACE);
        let mut client = None;
        loop {
            pace.tick().await;
            if let Some(Outcome::Accepted(end)) = self.publish(&mut client).await {
                return end;
            }
        }
    }

    /// One message, each with a new number: what was not answered is not sent again.
    async fn publish(&mut self, client: &mut Option<PushClient<TcpStream>>) -> Option<Outcome> {
        if client.is_none() {
            *client = self.fleet.connect(&mut self.random).await.ok();
        }
        let gateway = client.as_mut()?;
        let sequence = self.published.len() as u64;
        let number = Number {
            publisher: self.index,
            sequence,
        };
        let message = json!({"type": "chat", "channel": self.channel, "id": sequence,
            "message": [self.index, sequence]});
        let answer = async {
            gateway.send(&message).await?;
            loop {
                let answer = gateway.next().await?;
                if answer["id"] == sequence {
                    return anyhow::Ok(answer);
                }
            }
        };
        let outcome = match timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => outcome(&answer),
            _ => Outcome::Unknown,
        };
        if outcome == Outcome::Unknown {
            *client = None;
        }
        self.published.push(Published { number, outcome });
        Some(outcome)
    }
}

fn outcome(answer: &Value) -> Outcome {
    match (answer["type"].as_str(), answer["code"].as_str()) {
        (Some("published"), _) => position(answer).map_or(Outcome::Unknown, Outcome::Accepted),
        (_, Some("unavailable")) => Outcome::Refused,
        _ => Outcome::Unknown,
    }
}

fn position(message: &Value) -> Result<Position> {
    let number = |key: &str| {
        message[key]
            .as_u64()
            .with_context(|| format!("{key} of {message}"))
    };
    Ok(Position {
        epoch: number("epoch")?,
        offset: number("offset")?,
    })
}

struct Subscriber {
    channel: String,
    fleet: Fleet,
    random: StdRng,
    at: Option<Position>,
    heard: Vec<Heard>,
}

impl Subscriber {
    /// Comes and goes until there is an end, and then stays until it has come there, or its patience is over.
    async fn run(mut self, finished: watch::Receiver<Option<Position>>) -> Vec<Heard> {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = finished.clone();
        while finished.borrow().is_none() {
            pace.tick().await;
            let stay = Duration::from_millis(self.random.random_range(1..LONGEST_STAY_MS));
            // Its life is over, or the connection ended: both are the end of it.
            let _ = timeout(stay, self.listen(None)).await;
            self.heard.push(Heard::Ended);
        }
        let end = *last.borrow_and_update();
        let stays = async {
            while self.at != end {
                pace.tick().await;
                if self.listen(end).await.is_err() {
                    self.heard.push(Heard::Ended);
                }
            }
        };
        // Who does not come there is found by the judge.
        let _ = timeout(PATIENCE, stays).await;
        self.heard
    }

    /// One connection, until it ends or `end` has been heard.
    async fn listen(&mut self, end: Option<Position>) -> Result<()> {
        let mut client = self.fleet.connect(&mut self.random).await?;
        let mut request = json!({"type": "subscribe", "channel": self.channel});
        if let Some(Position { epoch, offset }) = self.at {
            request["recover"] = json!({"epoch": epoch, "offset": offset});
        }
        client.send(&request).await?;
        let mut subscribed = false;
        while end.is_none() || self.at != end {
            let message = client.next().await?;
            match message["type"].as_str() {
                Some("subscribed") => {
                    ensure!(!subscribed, "subscribed twice: {message}");
                    subscribed = true;
                    self.subscribed(&message)?;
                }
                Some("chat") => self.message(&message)?,
                Some("position") => self.moved(&message)?,
                Some("pong") => {}
                _ => bail!("the gateway says {message}"),
            }
        }
        Ok(())
    }

    fn subscribed(&mut self, message: &Value) -> Result<()> {
        let at = position(message)?;
        let recovered = message["recovered"].as_bool();
        self.heard.push(Heard::Subscribed { at, recovered });
        if recovered != Some(true) {
            self.at = Some(at);
        }
        for missed in message["messages"].as_array().into_iter().flatten() {
            self.message(missed)?;
        }
        Ok(())
    }

    fn moved(&mut self, message: &Value) -> Result<()> {
        let at = position(message)?;
        let recovered = message["recovered"] == true;
        self.heard.push(Heard::Moved { at, recovered });
        self.at = Some(at);
        Ok(())
    }

    fn message(&mut self, message: &Value) -> Result<()> {
        let offset = message["offset"].as_u64().context("an offset")?;
        let part = |index: usize| {
            let part = message["message"][index].as_u64();
            part.with_context(|| format!("no number of ours: {message}"))
        };
        let number = Number {
            publisher: usize::try_from(part(0)?)?,
            sequence: part(1)?,
        };
        self.heard.push(Heard::Message { offset, number });
        if let Some(at) = &mut self.at {
            at.offset = offset;
        }
        Ok(())
    }
}
