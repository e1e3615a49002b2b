//! The task as the hub and the router see it.

use std::time::Duration;

use futures::StreamExt;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;
use crate::auth::Verifier;
use crate::auth::keys::Unchanging;
use crate::engine::census::Query;
use crate::engine::command::{EncodedDelivery, Round};
use crate::engine::pace::Pace;
use crate::limits::Cap;
use crate::message::{ConnectionId, Delivery, Message, MessageKind, Position};
use crate::policy::Policies;
use crate::presence::{Change, Changed};
use crate::protocol::native::ErrorCode;

/// Longest wait for something that must happen.
const SOON: Duration = Duration::from_secs(10);
const ID: ShardId = ShardId(3);

struct Stage {
    streams: Streams,
    events: mpsc::Receiver<Event>,
    metrics: Arc<Metrics>,
    connections: Cap,
    next: u64,
}

struct Client(Stream);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(SOON, future).await;
    waited.unwrap_or_else(|_| panic!("{what}: not within {SOON:?}"))
}

impl Stage {
    fn new(max_outbox: usize) -> Stage {
        let metrics = Arc::new(Metrics::register(&prometheus::Registry::new()).unwrap());
        let open = gateway_config::ChannelPolicy {
            prefix: Some("open:".into()),
            presence: true,
            ..gateway_config::ChannelPolicy::default()
        };
        let kept = gateway_config::ChannelPolicy {
            prefix: Some("kept:".into()),
            history_messages: 50,
            history_seconds: 60,
            ..gateway_config::ChannelPolicy::default()
        };
        let rules = Arc::new(Rules {
            verifier: Verifier::hs256(None, true).unwrap(),
            keys: Arc::new(Unchanging),
            node: "gw-0".into(),
            max_channels: 2,
            auth_deadline_ms: 300,
            ping_seconds: 600,
            message_pace: None,
            policies: Policies::new(&[open, kept]),
            max_history_bytes: 1_000,
            presence: crate::presence::Scope::default(),
            registers: false,
        });
        let (streams, events, task) = start(ID, max_outbox, &rules, &metrics);
        tokio::spawn(task);
        Stage {
            streams,
            events,
            metrics,
            connections: Cap::new(100),
            next: 1,
        }
    }

    async fn open(&mut self, channels: &[&str]) -> Result<Client, Refusal> {
        self.open_as(None, channels).await
    }

    async fn open_as(&mut self, user: Option<&str>, channels: &[&str]) -> Result<Client, Refusal> {
        let place = || self.connections.take().unwrap();
        let opening = Opening {
            identity: user.map(|user| Identity {
                user: user.into(),
                expires: None,
                grants: None,
            }),
            channels: channels.iter().map(|name| channel(name)).collect(),
            last_id: None,
            place: place(),
            share: Share::default(),
            line: Arc::new(Line::new(place())),
        };
        let number = self.next;
        self.next += 1;
        let opened = soon("an answer", self.streams.open(number, opening)).await;
        opened.unwrap().map(Client)
    }

    /// A client that has this channel, the first one to have it.
    async fn first(&mut self, name: &str) -> Client {
        let mut client = self.open(&[name]).await.unwrap();
        assert_eq!(client.next().await["type"], "welcome");
        let round = self.interest(name).await;
        let channel = channel(name);
        self.send(Command::Live { channel, round }).await;
        assert_eq!(client.next().await["type"], "subscribed");
        client
    }

    async fn send(&self, command: Command) {
        self.streams.send(command).await.unwrap();
    }

    async fn event(&mut self) -> Event {
        soon("an event", self.events.recv()).await.unwrap()
    }

    async fn interest(&mut self, name: &str) -> Round {
        match self.event().await {
            Event::Interest {
                shard,
                channel,
                round,
            } => {
                assert_eq!((shard, channel.as_str()), (ID, name));
                round
            }
            other => panic!("{other:?}"),
        }
    }

    async fn deliver(&self, name: &str, data: &str, position: Option<Position>) {
        let message = Message {
            kind: MessageKind::Chat,
            data: RawValue::from_string(data.to_owned()).unwrap().into(),
            from: None,
            timestamp: 0,
            except: None,
            only: None,
        };
        let delivery = Delivery {
            channel: channel(name),
            message,
            position,
        };
        let encoded = Arc::new(EncodedDelivery::new(delivery));
        self.send(Command::Deliver(encoded)).await;
    }
}

impl Client {
    /// As it is written.
    async fn text(&mut self) -> Option<String> {
        let event = soon("an event", self.0.next()).await;
        event.map(|Ok(bytes)| String::from_utf8(bytes.to_vec()).unwrap())
    }

    async fn next(&mut self) -> Value {
        let text = self.text().await.expect("an event before the end");
        let data: Vec<_> = text
            .lines()
            .filter_map(|l| l.strip_prefix("data: "))
            .collect();
        serde_json::from_str(&data.join("\n")).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    async fn closed(&mut self) -> u64 {
        let last = self.next().await;
        assert_eq!(last["type"], "close", "{last}");
        assert_eq!(self.text().await, None);
        last["code"].as_u64().unwrap()
    }
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

#[tokio::test]
async fn nothing_comes_before_the_acknowledgement() {
    let mut stage = Stage::new(100_000);
    let mut client = stage.open(&["news"]).await.unwrap();
    assert!(is_stream(stage_number(&client.next().await)));
    let round = stage.interest("news").await;
    stage.deliver("news", "1", None).await;
    let late = round.wrapping_sub(1);
    for round in [late, round] {
        let channel = channel("news");
        stage.send(Command::Live { channel, round }).await;
    }
    stage.deliver("news", "2", None).await;
    assert_eq!(client.next().await["type"], "subscribed");
    assert_eq!(client.next().await["message"], 2);
    // The second client has it at once, and the hub is not asked again.
    let mut second = stage.open(&["news"]).await.unwrap();
    assert_eq!(second.next().await["type"], "welcome");
    assert_eq!(second.next().await["type"], "subscribed");
    drop(client);
    drop(second);
    match stage.event().await {
        Event::Disinterest { shard, channel } => {
            assert_eq!((shard, channel.as_str()), (ID, "news"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((stage.streams.count(), stage.metrics.connected()), (0, 0));
}

fn stage_number(welcome: &Value) -> u64 {
    let id = ConnectionId::parse(welcome["connection"].as_str().unwrap());
    id.unwrap().number().unwrap()
}

#[tokio::test]
async fn nothing_is_said_or_heard_before_the_welcome() {
    let mut stage = Stage::new(100_000);
    let mut other = stage.first("news").await;
    let mut ann = stage.open_as(Some("ann"), &["news"]).await.unwrap();
    let round = stage.interest("user:ann").await;
    // What she asks for is here already, and so is everybody else.
    stage.deliver("news", "1", None).await;
    stage.deliver("broadcast", "2", None).await;
    let channel = channel("user:ann");
    stage.send(Command::Live { channel, round }).await;
    stage.deliver("news", "3", None).await;
    assert_eq!(ann.next().await["type"], "welcome");
    assert_eq!(ann.next().await["type"], "subscribed");
    assert_eq!(ann.next().await["message"], 3);
    for data in 1..=3 {
        assert_eq!(other.next().await["message"], data);
    }
}

#[tokio::test]
async fn an_event_says_where_all_channels_stand() {
    let mut stage = Stage::new(100_000);
    let mut client = stage.open(&["a", "b"]).await.unwrap();
    client.next().await;
    for name in ["a", "b"] {
        let round = stage.interest(name).await;
        let channel = channel(name);
        stage.send(Command::Live { channel, round }).await;
        client.next().await;
    }
    let at = |offset| Some(Position { epoch: 7, offset });
    for (name, position, id) in [
        ("b", at(3), Some("id: ,7:3")),
        ("a", at(9), Some("id: 7:9,7:3")),
        ("a", None, None),
    ] {
        stage.deliver(name, "1", position).await;
        let text = client.text().await.unwrap();
        assert_eq!(text.lines().find(|l| l.starts_with("id")), id, "{text}");
    }
}

#[tokio::test]
async fn what_is_refused_leaves_nothing() {
    let mut stage = Stage::new(100_000);
    for (channels, code) in [
        (&["user:ann"][..], ErrorCode::Denied),
        (&["a", "b", "c"], ErrorCode::TooManyChannels),
    ] {
        let refusal = stage.open(channels).await.err().unwrap();
        assert_eq!(refusal.code, code);
    }
    let mut client = stage.open(&["news"]).await.unwrap();
    assert_eq!(client.next().await["type"], "welcome");
    // The first the hub hears of, so nothing was asked for those that were refused.
    let round = stage.interest("news").await;
    let refusal = Refusal {
        code: ErrorCode::Unavailable,
        message: "not now".into(),
    };
    let channel = channel("news");
    stage
        .send(Command::Refused {
            channel,
            round,
            refusal,
        })
        .await;
    assert_eq!(client.next().await["message"], "not now");
    let text = client.text().await.unwrap();
    assert!(
        text.starts_with("retry: ") && text.contains("1013"),
        "{text}"
    );
    assert_eq!(client.text().await, None);
    assert_eq!(stage.metrics.connected(), 0);
}

#[tokio::test]
async fn what_comes_while_the_log_is_read_is_held_up_to_the_size_of_an_outbox() {
    let mut stage = Stage::new(50_000);
    let mut client = stage.open(&["kept:a"]).await.unwrap();
    assert_eq!(client.next().await["type"], "welcome");
    let round = stage.interest("kept:a").await;
    let name = channel("kept:a");
    let live = Command::Live {
        channel: name,
        round,
    };
    stage.send(live).await;
    assert!(matches!(stage.event().await, Event::History { .. }));
    let data = format!("{:?}", "x".repeat(5_000));
    for offset in 1..=10 {
        let position = Position { epoch: 1, offset };
        stage.deliver("kept:a", &data, Some(position)).await;
    }
    let refused = client.next().await;
    assert_eq!(refused["code"], "unavailable", "{refused}");
    assert_eq!(client.closed().await, 1013);
    let channel = match stage.event().await {
        Event::Disinterest { channel, .. } => channel,
        other => panic!("{other:?}"),
    };
    assert_eq!(channel.as_str(), "kept:a");
}

#[tokio::test]
async fn the_oldest_go_when_memory_is_short() {
    let mut stage = Stage::new(100_000);
    let mut oldest = stage.first("news").await;
    let mut clients = Vec::new();
    for _ in 0..9 {
        let mut client = stage.open(&["news"]).await.unwrap();
        client.next().await;
        client.next().await;
        clients.push(client);
    }
    stage.deliver("news", "1", None).await;
    stage.send(Command::EvictOldest { percent: 10 }).await;
    assert_eq!(oldest.closed().await, 1001, "what waited is gone");
    for client in &mut clients {
        assert_eq!(client.next().await["message"], 1);
    }
    assert_eq!(stage.streams.count(), 9);
}

#[tokio::test]
async fn a_drain_is_paced_reported_and_taken_back() {
    let mut stage = Stage::new(100_000);
    let mut clients = vec![stage.first("news").await];
    for _ in 0..2 {
        let mut client = stage.open(&["news"]).await.unwrap();
        client.next().await;
        client.next().await;
        clients.push(client);
    }
    let pace = |every| Pace {
        every,
        phase: Duration::ZERO,
        spread: Duration::from_secs(1),
    };
    // The first goes at once, the second would in an hour; nobody does once it is taken back.
    let hour = pace(Duration::from_secs(3_600));
    stage
        .send(Command::Drain {
            round: 1,
            pace: hour,
        })
        .await;
    soon("the first has gone", async {
        while stage.streams.count() > 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    stage.send(Command::Readmit).await;
    stage.deliver("news", "1", None).await;
    let mut stayed = Vec::new();
    for mut client in clients {
        let said = client.next().await;
        if said["type"] == "reconnect" {
            assert!(client.text().await.unwrap().starts_with("retry: "));
            assert_eq!(client.closed().await, 1012);
        } else {
            assert_eq!(said["message"], 1);
            stayed.push(client);
        }
    }
    assert_eq!(stayed.len(), 2);
    let at_once = pace(Duration::ZERO);
    stage
        .send(Command::Drain {
            round: 2,
            pace: at_once,
        })
        .await;
    loop {
        match stage.event().await {
            Event::Drained { shard, round } => break assert_eq!((shard, round), (ID, 2)),
            Event::Disinterest { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(stage.metrics.connected(), 0);
}

#[tokio::test]
async fn channels_are_counted_and_the_end_is_told() {
    let mut stage = Stage::new(100_000);
    let mut client = stage.first("news").await;
    let (answer, answered) = oneshot::channel();
    let query = Arc::new(Query {
        prefix: String::new(),
        after: None,
        limit: 10,
    });
    stage.send(Command::Count { query, answer }).await;
    assert_eq!(
        soon("a page", answered).await.unwrap(),
        [(channel("news"), 1)]
    );
    stage.send(Command::Stop).await;
    assert_eq!(client.closed().await, 1001);
    soon("the task has ended", async {
        while let Some(event) = stage.events.recv().await {
            assert!(matches!(event, Event::Disinterest { .. }), "{event:?}");
        }
    })
    .await;
    assert!(stage.streams.has_ended());
}

#[tokio::test]
async fn whoever_is_there_when_all_ends_has_left() {
    let mut stage = Stage::new(100_000);
    let client = stage.first("open:a").await;
    for expected in [Change::Join { user: None }, Change::Leave] {
        match stage.event().await {
            Event::Presence(Changed {
                channel, change, ..
            }) => {
                assert_eq!((channel.as_str(), change), ("open:a", expected));
            }
            other => panic!("{other:?}"),
        }
        stage.streams.send(Command::Stop).await.ok();
    }
    drop(client);
}

#[tokio::test]
async fn one_that_reads_too_slowly_is_closed_and_the_others_get_all() {
    let mut stage = Stage::new(10_000);
    let mut slow = stage.first("news").await;
    let mut quick = stage.open(&["news"]).await.unwrap();
    quick.next().await;
    quick.next().await;
    let large = json!("x".repeat(1_000)).to_string();
    for _ in 0..20 {
        stage.deliver("news", &large, None).await;
        assert_eq!(quick.next().await["type"], "chat");
    }
    let mut got = 0;
    let last = loop {
        let said = slow.next().await;
        if said["type"] == "close" {
            break said;
        }
        got += 1;
    };
    assert_eq!(last["code"], 3008);
    assert!((5..=10).contains(&got), "{got} of 20");
    assert_eq!(stage.streams.count(), 1);
}
