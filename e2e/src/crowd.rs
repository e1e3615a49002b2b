//! Many clients that do as they are told: they go where the Service of the PushCluster sends them, wait as long as they are
//! advised to, and recover what they missed. What happened to them is written down.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams};
use rand::Rng;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use crate::gateway::CLIENTS_PORT;
use crate::namespace::Namespace;
use crate::push_client::PushClient;

/// Between two tries, and two looks at where the Service sends clients: as soon as a node's proxy hears it.
const PACE: Duration = Duration::from_millis(100);

/// What one client noticed.
#[derive(Debug, Clone, PartialEq)]
pub enum Noticed {
    /// It was told to go to another gateway.
    Moved,
    /// The connection ended, and nobody had told it.
    Cut(String),
    /// A gateway to which the Service sent it did not let it in.
    Refused(String),
    /// Something was missing, twice there, or in another order.
    Lost(String),
}

#[derive(Debug, Clone)]
pub struct Note {
    pub client: usize,
    pub at: Instant,
    pub noticed: Noticed,
}

/// Ends with this value, and every client with it.
pub struct Crowd {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    channel: String,
    /// Where the Service sends clients.
    doors: Mutex<Vec<SocketAddr>>,
    notes: Mutex<Vec<Note>>,
    /// Of each client: where it is, and the offset that it has heard.
    clients: Mutex<Vec<(Option<SocketAddr>, u64)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Crowd {
    /// So many on each of these gateways, all subscribed to a channel with history. Later the Service `name` says where
    /// clients go.
    #[must_use]
    pub fn gather(
        namespace: &Namespace,
        (name, channel): (&str, &str),
        first: &[(SocketAddr, usize)],
    ) -> Crowd {
        let places = first.iter().flat_map(|(door, count)| vec![*door; *count]);
        let places: Vec<SocketAddr> = places.collect();
        let shared = Arc::new(Shared {
            channel: channel.to_owned(),
            doors: Mutex::default(),
            notes: Mutex::default(),
            clients: Mutex::new(vec![(None, 0); places.len()]),
        });
        let mut tasks = JoinSet::new();
        let slices: Api<EndpointSlice> =
            Api::namespaced(namespace.cluster.client(), &namespace.name);
        tasks.spawn(follow(slices, name.to_owned(), shared.clone()));
        for (number, place) in places.into_iter().enumerate() {
            let client = Client {
                number,
                shared: shared.clone(),
                at: None,
            };
            tasks.spawn(client.live(place));
        }
        Crowd {
            shared,
            _tasks: tasks,
        }
    }

    /// Clients that are on a gateway right now.
    pub fn here(&self) -> usize {
        let clients = lock(&self.shared.clients);
        clients.iter().filter(|(door, _)| door.is_some()).count()
    }

    /// Clients on this gateway.
    pub fn on(&self, gateway: SocketAddr) -> usize {
        let clients = lock(&self.shared.clients);
        let there = clients.iter().filter(|(door, _)| *door == Some(gateway));
        there.count()
    }

    /// The least offset that a client has heard.
    pub fn heard(&self) -> u64 {
        let clients = lock(&self.shared.clients);
        clients.iter().map(|(_, offset)| *offset).min().unwrap_or(0)
    }

    /// What was noticed until now; the next call begins anew.
    pub fn take_notes(&self) -> Vec<Note> {
        std::mem::take(&mut *lock(&self.shared.notes))
    }

    /// How many were told to go until now.
    pub fn moved(&self) -> usize {
        let notes = lock(&self.shared.notes);
        let moved = notes.iter().filter(|note| note.noticed == Noticed::Moved);
        moved.count()
    }
}

/// The most that were told to go within so much time.
pub fn most_within(notes: &[Note], time: Duration) -> usize {
    let moved = notes.iter().filter(|note| note.noticed == Noticed::Moved);
    let mut times: Vec<Instant> = moved.map(|note| note.at).collect();
    times.sort_unstable();
    let within = |(place, begin): (usize, &Instant)| {
        let rest = times[place..].iter();
        rest.take_while(|at| **at < *begin + time).count()
    };
    times.iter().enumerate().map(within).max().unwrap_or(0)
}

/// Each client was told to go once at most, and nothing else happened to anybody. How many were.
pub fn all_moved_once(notes: &[Note]) -> Result<usize> {
    let others = notes.iter().filter(|note| note.noticed != Noticed::Moved);
    let others: Vec<_> = others.collect();
    ensure!(others.is_empty(), "{} notes: {others:#?}", others.len());
    let mut clients: Vec<usize> = notes.iter().map(|note| note.client).collect();
    clients.sort_unstable();
    let all = clients.len();
    clients.dedup();
    ensure!(
        clients.len() == all,
        "{} were moved, {all} times",
        clients.len()
    );
    Ok(all)
}

/// Keeps the doors as the Service has them.
async fn follow(slices: Api<EndpointSlice>, name: String, shared: Arc<Shared>) {
    let labels = ListParams::default().labels(&format!("kubernetes.io/service-name={name}"));
    let mut looks = interval(PACE);
    loop {
        looks.tick().await;
        // The API server may be busy; who looks next will know.
        let Ok(found) = slices.list(&labels).await else {
            continue;
        };
        let endpoints = found.items.iter().flat_map(|slice| &slice.endpoints);
        let ready = endpoints.filter(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            conditions.is_none_or(|conditions| conditions.ready != Some(false))
        });
        let addresses = ready.flat_map(|endpoint| &endpoint.addresses);
        let addresses = addresses.filter_map(|address| address.parse().ok());
        *lock(&shared.doors) = addresses
            .map(|address| SocketAddr::new(address, CLIENTS_PORT))
            .collect();
    }
}

struct Client {
    number: usize,
    shared: Arc<Shared>,
    /// Epoch and offset.
    at: Option<(u64, u64)>,
}

impl Client {
    async fn live(mut self, first: SocketAddr) {
        let mut next = Some(first);
        loop {
            let Some(door) = next.take().or_else(|| self.any_door()) else {
                pass(PACE).await;
                continue;
            };
            let stay = self.stay(door).await;
            self.is_at(None);
            match stay {
                Ok(wait) => pass(wait).await,
                Err(noticed) => {
                    self.note(noticed);
                    pass(PACE).await;
                }
            }
        }
    }

    fn any_door(&self) -> Option<SocketAddr> {
        let doors = lock(&self.shared.doors);
        let place = rand::rng().random_range(0..doors.len().max(1));
        doors.get(place).copied()
    }

    fn note(&self, noticed: Noticed) {
        lock(&self.shared.notes).push(Note {
            client: self.number,
            at: Instant::now(),
            noticed,
        });
    }

    fn is_at(&self, door: Option<SocketAddr>) {
        let offset = self.at.map_or(0, |(_, offset)| offset);
        lock(&self.shared.clients)[self.number] = (door, offset);
    }

    /// One connection, until it is told to go; how long to wait then.
    async fn stay(&mut self, door: SocketAddr) -> Result<Duration, Noticed> {
        let refused = |error: anyhow::Error| Noticed::Refused(format!("{door}: {error:#}"));
        let mut client = self.enter(door).await.map_err(refused)?;
        loop {
            let message = client.next().await;
            let message = message.map_err(|error| Noticed::Cut(format!("{door}: {error:#}")))?;
            match message["type"].as_str() {
                Some("reconnect") => {
                    self.note(Noticed::Moved);
                    let wait = message["after_ms"].as_u64().unwrap_or(0);
                    // It closes, too.
                    while client.next().await.is_ok() {}
                    return Ok(Duration::from_millis(wait));
                }
                Some("subscribed") => self.subscribed(&message),
                Some("chat") => self.heard(&message),
                _ => Ok(()),
            }
            .map_err(|error| Noticed::Lost(format!("{door}: {error:#}")))?;
            self.is_at(Some(door));
        }
    }

    async fn enter(&self, door: SocketAddr) -> Result<PushClient<TcpStream>> {
        let stream = TcpStream::connect(door).await.context("connect")?;
        let mut client = PushClient::connect(stream).await?;
        let mut request = json!({"type": "subscribe", "channel": self.shared.channel});
        if let Some((epoch, offset)) = self.at {
            request["recover"] = json!({"epoch": epoch, "offset": offset});
        }
        client.send(&request).await?;
        Ok(client)
    }

    fn subscribed(&mut self, message: &Value) -> Result<()> {
        let (epoch, offset) = (number(message, "epoch")?, number(message, "offset")?);
        match self.at {
            None => self.at = Some((epoch, offset)),
            Some(_) if message["recovered"] != true => bail!("not recovered: {message}"),
            Some(_) => {
                for missed in message["messages"].as_array().into_iter().flatten() {
                    self.heard(missed)?;
                }
                ensure!(
                    self.at == Some((epoch, offset)),
                    "{:?}, not {message}",
                    self.at
                );
            }
        }
        Ok(())
    }

    fn heard(&mut self, message: &Value) -> Result<()> {
        let offset = number(message, "offset")?;
        let Some((epoch, before)) = self.at else {
            bail!("before the acknowledgement: {message}");
        };
        self.at = Some((epoch, offset));
        ensure!(offset == before + 1, "after {before}: {message}");
        Ok(())
    }
}

fn number(message: &Value, key: &str) -> Result<u64> {
    let number = message[key].as_u64();
    number.with_context(|| format!("no {key} in {message}"))
}

async fn pass(time: Duration) {
    let _ = timeout(time, std::future::pending::<()>()).await;
}

/// Publishes to the channel again and again while something else goes on; what came of that, and the last offset.
pub async fn beside<T>(crowd: &Crowd, act: impl Future<Output = Result<T>>) -> Result<(T, u64)> {
    let mut last = 0;
    let publish = async {
        let mut pace = interval(PACE);
        let mut client = None;
        loop {
            pace.tick().await;
            // It is moved, as all others are.
            if let Ok((again, offset)) = publish(&crowd.shared, client.take()).await {
                (client, last) = (Some(again), offset);
            }
        }
    };
    let done = tokio::select! {
        done = act => done?,
        () = publish => bail!("nobody publishes any more"),
    };
    Ok((done, last))
}

async fn publish(
    shared: &Shared,
    client: Option<PushClient<TcpStream>>,
) -> Result<(PushClient<TcpStream>, u64)> {
    let mut client = match client {
        Some(client) => client,
        None => {
            let door = lock(&shared.doors).first().copied();
            PushClient::connect(TcpStream::connect(door.context("no door")?).await?).await?
        }
    };
    let message = json!({"type": "chat", "channel": shared.channel, "message": "x", "id": 1});
    client.send(&message).await?;
    let answer = client.receive("published", Duration::from_secs(30)).await?;
    let offset = number(&answer, "offset")?;
    Ok((client, offset))
}

/// Waits until all have heard what was published last.
pub async fn until_all_heard(crowd: &Crowd, offset: u64) -> Result<()> {
    crate::wait::eventually(
        "all have heard everything",
        Duration::from_secs(60),
        async || {
            let heard = crowd.heard();
            ensure!(
                heard >= offset,
                "{heard} of {offset}, {} are here",
                crowd.here()
            );
            Ok::<_, anyhow::Error>(())
        },
    )
    .await
}

/// Where clients reach this pod.
pub fn door(pod: &Pod) -> Result<SocketAddr> {
    let address = pod
        .status
        .as_ref()
        .and_then(|status| status.pod_ip.as_ref());
    let address = address.context("a gateway has no address")?.parse()?;
    Ok(SocketAddr::new(address, CLIENTS_PORT))
}
