//! Publishers and subscribers of one channel, against gateways that come and go. What they do next is decided by a
//! seed; when it happens is the machine's affair.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use super::publisher::{By, Publisher};
use super::subscriber::{Stay, Subscriber};
use super::{Channel, History, Number, Position};
use crate::push_client::PushClient;

/// Longest wait for an answer on one connection; far above what it takes, also beside a load of 50.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Longest wait until messages flow again after a fault. A Sentinel that was kept from running for two seconds trusts
/// itself with no failover for half a minute, and TCP tries a path that was dead for a minute again a minute later.
pub(super) const RECOVERS: Duration = Duration::from_secs(180);
/// Of one publisher, and before a connection that failed is tried again.
pub(super) const PACE: Duration = Duration::from_millis(10);

/// Where the gateways are right now, and what their HTTP API wants to see.
#[derive(Clone, Default)]
pub struct Fleet {
    addresses: Arc<Mutex<Vec<SocketAddr>>>,
    api_key: Arc<str>,
    publishers: Arc<AtomicUsize>,
    /// When each of the staying subscribers heard something live, in this run.
    live: Arc<Mutex<BTreeMap<usize, Vec<Instant>>>>,
}

impl Fleet {
    #[must_use]
    pub fn new(api_key: &str) -> Fleet {
        Fleet {
            api_key: api_key.into(),
            ..Fleet::default()
        }
    }

    pub fn set(&self, addresses: Vec<SocketAddr>) {
        *self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    fn all(&self) -> Vec<SocketAddr> {
        let all = self.addresses.lock();
        all.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn any(&self, random: &mut StdRng) -> Option<SocketAddr> {
        let all = self.all();
        let index = random.random_range(0..all.len().max(1));
        all.get(index).copied()
    }

    /// The gateway in that place, whichever it is by now.
    pub(super) fn at(&self, index: usize) -> Option<SocketAddr> {
        self.all().get(index).copied()
    }

    pub(super) fn api_key(&self) -> &str {
        &self.api_key
    }

    pub(super) fn hears(&self, place: usize) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.entry(place).or_default().push(Instant::now());
    }

    /// Waits until all staying subscribers, so many, have heard something live after this moment; how long it was until
    /// the last of them did, also if that is a while ago.
    pub async fn all_hear(&self, staying: usize, since: Instant) -> Result<Duration> {
        let hear = async {
            let mut looks = interval(PACE);
            loop {
                looks.tick().await;
                let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
                let first = |times: &Vec<Instant>| times.iter().copied().find(|time| *time > since);
                let firsts: Vec<Instant> = live.values().filter_map(first).collect();
                if firsts.len() >= staying {
                    let last = firsts.into_iter().max().unwrap_or(since);
                    return last.duration_since(since);
                }
            }
        };
        let heard = timeout(RECOVERS, hear).await;
        heard.context("not every gateway delivers again")
    }

    /// Of a publisher that was not there before.
    pub(super) fn new_publisher(&self) -> usize {
        self.publishers.fetch_add(1, Ordering::Relaxed)
    }
}

pub(super) async fn connect(address: SocketAddr) -> Result<PushClient<TcpStream>> {
    let stream = timeout(PATIENCE, TcpStream::connect(address)).await??;
    PushClient::connect(stream).await
}

/// Who takes part.
#[derive(Debug, Clone, Copy)]
pub struct Cast {
    /// Over WebSocket.
    pub publishers: usize,
    /// Over HTTP.
    pub posters: usize,
    /// Subscribers that go to another gateway every now and then.
    pub roaming: usize,
    /// Subscribers that stay with one gateway, the first with the first; for as long as it lets them.
    pub staying: usize,
    pub seed: u64,
}

/// Publishes and listens until `faults` ends, and then until everybody has heard the last message.
pub async fn run(
    name: &str,
    fleet: &Fleet,
    cast: Cast,
    faults: impl Future<Output = Result<()>>,
) -> Result<Channel> {
    fleet
        .live
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clear();
    let (stop, stopped) = watch::channel(false);
    let (finish, finished) = watch::channel(None);
    let random = |salt: usize| StdRng::seed_from_u64(cast.seed.wrapping_add(salt as u64));
    let here = Arc::new(AtomicUsize::new(0));
    let mut subscribers = JoinSet::new();
    for index in 0..cast.roaming + cast.staying {
        let stay = match index.checked_sub(cast.roaming) {
            Some(place) => Stay::At(place),
            None => Stay::Roaming,
        };
        let subscriber = Subscriber::new(name, fleet.clone(), stay, random(1_000 + index));
        let (finished, here) = (finished.clone(), here.clone());
        subscribers.spawn(async move { (index, subscriber.run(finished, here).await) });
    }
    let all_here = async {
        let mut looks = interval(PACE);
        while here.load(Ordering::Relaxed) < cast.roaming + cast.staying {
            looks.tick().await;
        }
    };
    timeout(PATIENCE, all_here)
        .await
        .context("not every subscriber is acknowledged")?;
    let publishers: Vec<_> = (0..cast.publishers + cast.posters)
        .map(|index| {
            let by = if index < cast.publishers {
                By::WebSocket
            } else {
                By::Http
            };
            let publisher = Publisher::new(name, fleet.clone(), by, random(index));
            tokio::spawn(publisher.run(stopped.clone()))
        })
        .collect();
    faults.await?;
    stop.send_replace(true);
    let mut published = Vec::new();
    for publisher in publishers {
        published.extend(publisher.await?);
    }
    let mut last = Publisher::new(name, fleet.clone(), By::WebSocket, random(999));
    let end = timeout(RECOVERS, last.until_accepted())
        .await
        .context("no gateway accepts a message any more")?;
    published.extend(last.published);
    finish.send_replace(Some(end));
    let mut heard = subscribers.join_all().await;
    heard.sort_by_key(|(index, _)| *index);
    let histories = heard.into_iter().map(|(index, heard)| {
        let place = index.checked_sub(cast.roaming);
        let name = place.map_or(format!("roaming {index}"), |place| {
            format!("staying {place}")
        });
        History { name, heard }
    });
    Ok(Channel {
        name: name.to_owned(),
        published,
        histories: histories.collect(),
        end,
        log_survives: false,
    })
}

pub(super) fn position(message: &Value) -> Result<Position> {
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

/// The number in a message of ours.
pub(super) fn number(message: &Value) -> Result<Number> {
    let part = |index: usize| {
        let part = message[index].as_u64();
        part.with_context(|| format!("no number of ours: {message}"))
    };
    Ok(Number {
        publisher: usize::try_from(part(0)?)?,
        sequence: part(1)?,
    })
}
