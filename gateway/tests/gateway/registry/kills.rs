//! A thousand nodes are killed at any moment of what they write, while others are stalled for longer than their lease; in
//! the end the tables in Redis are the truth, and what was heard on the way leads to the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway::broker::redis::{Login, Redis};
use gateway::broker::{Broker, Event};
use gateway::engine::command::ShardId;
use gateway::message::{ConnectionId, MessageKind};
use gateway::name::ChannelName;
use gateway::presence::{Change, Changed};
use gateway::registry::fact::{Came, Page, Told};
use gateway::registry::{Counters, Registry, Settings};

use super::texts;
use crate::redis_server::{RedisServer, settings};

const KILLS: usize = 1_000;
const NODES: usize = 5;
const USERS: u64 = 6;
const CHANNELS: u64 = 4;
/// Among many kills. For longer than a lease.
const STALL: &str = "CLIENT PAUSE 1600 WRITE";
const LEASE: Duration = Duration::from_secs(1);

/// Numbers that a seed decides (Vigna, xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

#[derive(Clone)]
struct Held {
    user: Arc<str>,
    channels: BTreeSet<String>,
}

/// What a node holds; whoever has the lock tells of it in the same moment.
type Truth = Arc<Mutex<BTreeMap<u64, Held>>>;

struct Node {
    name: Arc<str>,
    registry: Registry,
    truth: Truth,
    answering: tokio::task::AbortHandle,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

fn came(number: u64, held: &Held) -> Told {
    Told::Came(Came {
        number,
        user: held.user.clone(),
        ip: None,
        connected_ms: 1,
        place: None,
    })
}

fn subscribed(number: u64, held: &Held, name: &str) -> [Told; 2] {
    let user = Some(held.user.clone());
    let change = Change::Join { user: user.clone() };
    let told = Told::Subscribed {
        number,
        user,
        channel: channel(name),
    };
    [told, presence(number, name, change)]
}

fn presence(number: u64, name: &str, change: Change) -> Told {
    let changed = Changed {
        channel: channel(name),
        number,
        change,
        timestamp: 1,
    };
    Told::Presence {
        changed,
        aloud: true,
    }
}

impl Node {
    fn start(name: &str, redis: &Redis) -> Node {
        let counters = Counters::register(&prometheus::Registry::new()).unwrap();
        let settings = Settings {
            node: name.into(),
            lease: LEASE,
            max_pending: 10_000,
            shards: 1,
        };
        let name = settings.node.clone();
        let (registry, mut asked) = Registry::start(redis.store(), settings, counters);
        let truth = Truth::default();
        let (of, held) = (registry.clone(), truth.clone());
        let answering = tokio::spawn(async move {
            while let Some(round) = asked.recv().await {
                let held = held.lock().unwrap();
                let told = held.iter().flat_map(|(number, held)| {
                    let channels = held.channels.iter();
                    let channels = channels.flat_map(|name| subscribed(*number, held, name));
                    [came(*number, held)].into_iter().chain(channels)
                });
                let page = Page {
                    round,
                    told: told.collect(),
                    next: None,
                };
                let _ = of.page(ShardId(0), page);
            }
        });
        Node {
            name,
            registry,
            truth,
            answering: answering.abort_handle(),
        }
    }

    /// Somebody comes, goes, or changes a channel.
    fn act(&self, dice: &mut Dice, number: u64) {
        let mut truth = self.truth.lock().unwrap();
        let some = dice.below(truth.len().max(1) as u64);
        let other = truth.keys().copied().nth(usize::try_from(some).unwrap());
        match (dice.below(4), other) {
            (0, Some(number)) => {
                let held = truth.remove(&number).unwrap();
                for name in &held.channels {
                    self.registry.tell(presence(number, name, Change::Leave));
                }
                self.registry.tell(Told::Gone {
                    number,
                    user: Some(held.user),
                    channels: held.channels.iter().map(|name| channel(name)).collect(),
                });
            }
            (1, Some(number)) => {
                let held = truth.get_mut(&number).unwrap();
                let name = format!("c{}", dice.below(CHANNELS));
                if held.channels.remove(&name) {
                    self.registry.tell(presence(number, &name, Change::Leave));
                    self.registry.tell(Told::Unsubscribed {
                        number,
                        user: Some(held.user.clone()),
                        channel: channel(&name),
                    });
                } else {
                    let told = subscribed(number, held, &name);
                    told.into_iter().for_each(|told| self.registry.tell(told));
                    held.channels.insert(name);
                }
            }
            _ => {
                let held = Held {
                    user: format!("u{}", dice.below(USERS)).into(),
                    channels: [format!("c{}", dice.below(CHANNELS))].into(),
                };
                self.registry.tell(came(number, &held));
                for name in &held.channels {
                    let told = subscribed(number, &held, name);
                    told.into_iter().for_each(|told| self.registry.tell(told));
                }
                truth.insert(number, held);
            }
        }
    }
}

/// The fields of each hash, as they are to be.
fn expected(nodes: &[Node]) -> BTreeMap<String, BTreeSet<String>> {
    let mut tables: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for number in 0..USERS {
        tables
            .entry(format!("user:u{number}:connections"))
            .or_default();
        tables
            .entry(format!("user:u{number}:subscriptions"))
            .or_default();
    }
    for number in 0..CHANNELS {
        for part in ["subscribers", "presence", "members"] {
            tables
                .entry(format!("channel:c{number}:{part}"))
                .or_default();
        }
    }
    let mut put = |key: String, field: String| {
        tables.get_mut(&key).unwrap().insert(field);
    };
    for node in nodes {
        for (number, held) in &*node.truth.lock().unwrap() {
            let id = ConnectionId::new(&node.name, *number).to_string();
            let user = &held.user;
            put(format!("user:{user}:connections"), id.clone());
            for name in &held.channels {
                put(format!("user:{user}:subscriptions"), format!("{id} {name}"));
                put(format!("channel:{name}:subscribers"), id.clone());
                put(format!("channel:{name}:presence"), id.clone());
                put(format!("channel:{name}:members"), format!("1{user}"));
            }
        }
    }
    tables
}

async fn found(redis: &RedisServer, keys: &[String]) -> BTreeMap<String, BTreeSet<String>> {
    let mut tables = BTreeMap::new();
    for key in keys {
        let fields = texts(redis, &format!("HKEYS test:{key}")).await;
        tables.insert(key.clone(), fields);
    }
    tables
}

/// Who is where, as one who only listens sees it. Ends when nothing is published any more.
fn listen(mut events: gateway::broker::Events) -> Arc<Mutex<BTreeMap<String, BTreeSet<String>>>> {
    let heard: Arc<Mutex<BTreeMap<String, BTreeSet<String>>>> = Arc::default();
    let list = heard.clone();
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            let delivery = match event {
                Event::Delivery(delivery) => delivery,
                other => panic!("{other:?}: the listener's connection is never cut"),
            };
            assert_eq!(delivery.message.kind, MessageKind::Presence);
            let user = delivery.message.from.unwrap().user.unwrap().to_string();
            let mut heard = heard.lock().unwrap();
            let members = heard.entry(delivery.channel.to_string()).or_default();
            let (event, alternates) = match delivery.message.data.get() {
                "\"join\"" => ("join", members.insert(user.clone())),
                _ => ("leave", members.remove(&user)),
            };
            if !alternates {
                members.insert(format!("{event} of {user} twice"));
            }
        }
    });
    list
}

async fn start(redis: &RedisServer) -> (Redis, gateway::broker::Events) {
    let mut settings = settings(redis.port, Login::default());
    // A stall is no reason to connect anew.
    settings.probe_period = Duration::from_secs(30);
    settings.timeout = Duration::from_secs(10);
    let counters = gateway::broker::redis::Counters::register(&prometheus::Registry::new());
    Redis::start(settings, counters.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_ghosts_after_a_thousand_kills() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(u64::from(std::process::id()) + 1);
    println!("SEED={seed}");
    let mut dice = Dice(seed);
    let redis = RedisServer::start().await;
    let (broker, events) = start(&redis).await;
    for number in 0..CHANNELS {
        let name = channel(&format!("c{number}"));
        broker.subscribe(name).await.unwrap();
    }
    let heard = listen(events);
    let mut number = 0;
    let names = ["a", "b", "c", "d", "e"];
    let mut nodes: Vec<Node> = names
        .iter()
        .map(|name| Node::start(name, &broker))
        .collect();
    for kill in 0..KILLS {
        for _ in 0..dice.below(12) {
            number += 1;
            nodes[usize::try_from(dice.below(NODES as u64)).unwrap()].act(&mut dice, number);
        }
        let victim = usize::try_from(dice.below(NODES as u64)).unwrap();
        // Some have written all they know, some a part of it, some nothing.
        match dice.below(4) {
            0 => {}
            1 => tokio::task::yield_now().await,
            _ => drop(nodes[victim].registry.settle().await),
        }
        nodes[victim] = Node::start(names[victim], &broker);
        if kill % 200 == 100 {
            redis.ask(STALL).await;
        }
    }
    // Not all of it is to be empty.
    for _ in 0..200 {
        number += 1;
        nodes[usize::try_from(dice.below(NODES as u64)).unwrap()].act(&mut dice, number);
    }
    let expected = expected(&nodes);
    let facts: usize = expected.values().map(BTreeSet::len).sum();
    assert!(facts > 200, "{facts}");
    let keys: Vec<String> = expected.keys().cloned().collect();
    let end = tokio::time::Instant::now() + Duration::from_secs(120);
    let mut pace = tokio::time::interval(Duration::from_millis(200));
    loop {
        pace.tick().await;
        let found = found(&redis, &keys).await;
        let mut members = heard.lock().unwrap().clone();
        members.retain(|_, members| !members.is_empty());
        let mut listed = BTreeMap::new();
        for (key, fields) in &found {
            if let Some(name) = key.strip_suffix(":members").filter(|_| !fields.is_empty()) {
                let name = name.strip_prefix("channel:").unwrap().to_owned();
                listed.insert(name, fields.iter().map(|f| f[1..].to_owned()).collect());
            }
        }
        if found == expected && members == listed {
            break;
        }
        if tokio::time::Instant::now() > end {
            assert_eq!(found, expected, "SEED={seed}: the tables");
            assert_eq!(members, listed, "SEED={seed}: what was heard");
        }
    }
}
