use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::value::to_raw_value;
use tokio::sync::oneshot;

use super::*;
use crate::auth::Verifier;
use crate::auth::keys::Unchanging;
use crate::broker::{Answer, Health, HistoryError, SubscribeError};
use crate::history::{Keep, Kept, Page, Range};
use crate::message::{ConnectionId, Message, MessageKind, Position};
use crate::policy::Policies;
use crate::presence::Scope;

#[path = "hub/give_tests.rs"]
mod give;
#[path = "hub/logs_tests.rs"]
mod logs;

/// Longest wait for something that must happen.
const SOON: Duration = Duration::from_secs(5);

/// A broker whose every call waits until the test answers it. Its logs have epoch 1, and are as long as the test says.
struct Scripted {
    calls: mpsc::UnboundedSender<Call>,
    top: Arc<AtomicU64>,
}

struct Call {
    what: String,
    answer: oneshot::Sender<bool>,
}

impl Scripted {
    fn call(&self, what: String) -> impl Future<Output = bool> + Send + 'static {
        let (answer, answered) = oneshot::channel();
        let sent = self.calls.send(Call { what, answer });
        async move { sent.is_ok() && answered.await.unwrap_or(false) }
    }
}

impl Broker for Scripted {
    fn post(&self, _: ChannelName, _: Message, _: Option<Keep>, _: Answer) {
        unreachable!("the hub never publishes")
    }

    fn history(
        &self,
        channel: ChannelName,
        range: Range,
    ) -> impl Future<Output = Result<Page, HistoryError>> + Send + 'static {
        let after = range.since.map_or(0, |since| since.offset);
        let call = self.call(format!("read {channel} after {after}"));
        let top = self.top.clone();
        async move {
            let cause = "as scripted".into();
            if !call.await {
                return Err(HistoryError { channel, cause });
            }
            let offset = top.load(Ordering::Relaxed);
            let offsets = (after + 1..=offset).filter(|_| range.limit > 0);
            Ok(Page {
                top: Position { epoch: 1, offset },
                messages: offsets.map(kept).collect(),
                past: [].into(),
                shared: Some(offset),
                whole: true,
                complete: true,
                more: false,
            })
        }
    }

    fn subscribe(
        &self,
        channel: ChannelName,
    ) -> impl Future<Output = Result<(), SubscribeError>> + Send + 'static {
        let call = self.call(format!("subscribe {channel}"));
        async move {
            let cause = "as scripted".into();
            if call.await {
                Ok(())
            } else {
                Err(SubscribeError { channel, cause })
            }
        }
    }

    fn unsubscribe(&self, channel: ChannelName) -> impl Future<Output = ()> + Send + 'static {
        let call = self.call(format!("unsubscribe {channel}"));
        async move {
            call.await;
        }
    }

    fn health(&self) -> Health {
        Health::Delivering
    }
}

fn kept(offset: u64) -> Kept {
    let message = message(MessageKind::Chat, &offset.to_string(), None);
    Kept { offset, message }
}

fn message(kind: MessageKind, data: &str, only: Option<ConnectionId>) -> Message {
    Message {
        kind,
        data: to_raw_value(data).unwrap().into(),
        from: None,
        timestamp: 0,
        except: None,
        only,
    }
}

/// Three shards that write down what they are told.
#[derive(Default)]
struct Recorder {
    told: Mutex<Vec<String>>,
    /// Which shard was woken, and how much had been told by then.
    woken: Mutex<Vec<(ShardId, usize)>>,
}

impl Shards for Recorder {
    fn ids(&self) -> Vec<ShardId> {
        (0..3).map(ShardId).collect()
    }

    fn of(&self, number: u64) -> ShardId {
        ShardId(u16::try_from(number % 3).unwrap())
    }

    async fn queue(&self, shard: ShardId, command: Command) -> Result<(), ShardEnded> {
        let told = match command {
            Command::Live { channel, round } => format!("live {channel} {round}"),
            Command::Refused {
                channel,
                round,
                refusal,
            } => {
                format!("refused {channel} {round} {:?}", refusal.code)
            }
            Command::Deliver(d) => {
                format!("deliver {} {}", d.delivery.channel, d.delivery.message.data)
            }
            Command::Disconnect(order) => {
                let only = order.only.as_ref().map_or("", ConnectionId::as_str);
                format!("disconnect {} {only}", order.channel)
            }
            Command::Give(order) => {
                let channels: Vec<_> = order.channels.iter().map(ChannelName::as_str).collect();
                format!("{:?} {} {}", order.gift, order.to, channels.join(" "))
            }
            other => panic!("{other:?}"),
        };
        let mut all = self.told.lock().unwrap();
        all.push(format!("{}: {told}", shard.0));
        Ok(())
    }

    fn wake(&self, shard: ShardId) {
        let told = self.told.lock().unwrap().len();
        self.woken.lock().unwrap().push((shard, told));
    }
}

struct Stage {
    wishes: mpsc::Sender<Wish>,
    events: mpsc::Sender<Event>,
    calls: mpsc::UnboundedReceiver<Call>,
    shards: Arc<Recorder>,
    hub: tokio::task::JoinHandle<()>,
    /// The newest offset in the broker's logs.
    top: Arc<AtomicU64>,
}

impl Stage {
    /// A hub whose own channels are live.
    async fn new() -> Stage {
        let mut stage = Stage::whose_channels_wait();
        for channel in ["broadcast", "system:notifications", "node:gw-0"] {
            stage.answer(&format!("subscribe {channel}"), true).await;
        }
        stage
    }

    fn whose_channels_wait() -> Stage {
        let (calls, call_receiver) = mpsc::unbounded_channel();
        let (wishes, wish_receiver) = mpsc::channel(16);
        let (events, event_receiver) = mpsc::channel(16);
        let shards = Arc::new(Recorder::default());
        let node = ChannelName::node("gw-0").unwrap();
        let top = Arc::new(AtomicU64::new(3));
        let broker = Arc::new(Scripted {
            calls,
            top: top.clone(),
        });
        let hub = Hub::new(broker, shards.clone(), metrics(), &node, rules());
        Stage {
            wishes,
            events,
            calls: call_receiver,
            shards,
            hub: tokio::spawn(hub.run(wish_receiver, event_receiver)),
            top,
        }
    }

    async fn call(&mut self, expected: &str) -> Call {
        let call = tokio::time::timeout(SOON, self.calls.recv())
            .await
            .expect(expected)
            .unwrap();
        assert_eq!(call.what, expected);
        call
    }

    async fn answer(&mut self, expected: &str, yes: bool) {
        let call = self.call(expected).await;
        call.answer.send(yes).unwrap();
    }

    async fn interest(&self, shard: u16, round: Round) {
        let wish = Wish::Interest {
            shard: ShardId(shard),
            channel: news(),
            round,
        };
        self.wishes.send(wish).await.unwrap();
    }

    async fn disinterest(&self, shard: u16) {
        let wish = Wish::Disinterest {
            shard: ShardId(shard),
            channel: news(),
        };
        self.wishes.send(wish).await.unwrap();
    }

    async fn delivery(&self, channel: &str, data: &str, only: Option<ConnectionId>) {
        self.message(MessageKind::Chat, channel, data, only).await;
    }

    async fn message(
        &self,
        kind: MessageKind,
        channel: &str,
        data: &str,
        only: Option<ConnectionId>,
    ) {
        let delivery = Delivery {
            channel: ChannelName::parse(channel).unwrap(),
            message: message(kind, data, only),
            position: None,
        };
        self.events.send(Event::Delivery(delivery)).await.unwrap();
    }

    /// A delivery of a channel with history, whose text is its offset.
    async fn kept(&self, channel: &str, offset: u64) {
        let delivery = Delivery {
            channel: ChannelName::parse(channel).unwrap(),
            message: kept(offset).message,
            position: Some(Position { epoch: 1, offset }),
        };
        self.events.send(Event::Delivery(delivery)).await.unwrap();
    }

    /// Shard 0 gets a channel with history, whose log stands at 3.
    async fn keeps(&mut self, name: &str) {
        let channel = ChannelName::parse(name).unwrap();
        let (shard, round) = (ShardId(0), 1);
        let wish = Wish::Interest {
            shard,
            channel,
            round,
        };
        self.wishes.send(wish).await.unwrap();
        self.answer(&format!("subscribe {name}"), true).await;
        self.answer(&format!("read {name} after 0"), true).await;
        self.told(&format!("0: live {name} 1")).await;
    }

    /// What the shards were told since the last time, once the last of it is `last`.
    async fn told(&self, last: &str) -> Vec<String> {
        let done = || {
            self.shards
                .told
                .lock()
                .unwrap()
                .last()
                .is_some_and(|told| told == last)
        };
        let waited = tokio::time::timeout(SOON, async {
            while !done() {
                tokio::task::yield_now().await;
            }
        });
        let in_time = waited.await.is_ok();
        let told = std::mem::take(&mut *self.shards.told.lock().unwrap());
        assert!(in_time, "no {last:?} in {told:?}");
        told
    }
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::register(&prometheus::Registry::new()).unwrap())
}

/// Of channels whose names begin with `kept:`, something is kept.
fn rules() -> Arc<ArcSwap<Rules>> {
    let policy = gateway_config::ChannelPolicy {
        prefix: Some("kept:".into()),
        history_messages: 50,
        history_seconds: 60,
        ..gateway_config::ChannelPolicy::default()
    };
    let rules = Arc::new(Rules {
        verifier: Verifier::hs256(None, true).unwrap(),
        keys: Arc::new(Unchanging),
        node: "gw-0".into(),
        max_channels: 4,
        auth_deadline_ms: 300,
        ping_seconds: 30,
        policies: Policies::new(&[policy]),
        max_history_bytes: 1_000,
        presence: Scope::default(),
        registers: false,
        message_pace: None,
    });
    Arc::new(ArcSwap::new(rules))
}

fn news() -> ChannelName {
    ChannelName::parse("news").unwrap()
}

#[tokio::test]
async fn a_delivery_goes_to_the_shards_that_want_it_after_they_were_told() {
    let mut stage = Stage::new().await;
    stage.interest(0, 1).await;
    let subscribe = stage.call("subscribe news").await;
    // Not live yet: whoever subscribes has no right to what was published before the acknowledgement.
    stage.delivery("news", "early", None).await;
    stage.delivery("broadcast", "all", None).await;
    let all = [
        r#"0: deliver broadcast "all""#,
        r#"1: deliver broadcast "all""#,
        r#"2: deliver broadcast "all""#,
    ];
    assert_eq!(stage.told(all[2]).await, all);
    subscribe.answer.send(true).unwrap();
    assert_eq!(stage.told("0: live news 1").await, ["0: live news 1"]);
    stage.interest(2, 9).await;
    assert_eq!(stage.told("2: live news 9").await, ["2: live news 9"]);
    stage.delivery("news", "a", None).await;
    stage.delivery("news", "b", None).await;
    let expected = [
        r#"0: deliver news "a""#,
        r#"2: deliver news "a""#,
        r#"0: deliver news "b""#,
        r#"2: deliver news "b""#,
    ];
    assert_eq!(stage.told(expected[3]).await, expected);
}

#[tokio::test]
async fn a_disconnect_goes_where_a_message_would() {
    let mut stage = Stage::new().await;
    stage.interest(1, 1).await;
    stage.answer("subscribe news", true).await;
    stage.told("1: live news 1").await;
    stage.delivery("news", "bye", None).await;
    let kind = MessageKind::Disconnect;
    stage.message(kind, "news", "", None).await;
    let expected = [r#"1: deliver news "bye""#, "1: disconnect news "];
    assert_eq!(stage.told(expected[1]).await, expected);
    let only = Some(ConnectionId::new("gw-0", 5));
    stage.message(kind, "node:gw-0", "", only).await;
    let expected = "2: disconnect node:gw-0 ~gw-0.5";
    assert_eq!(stage.told(expected).await, [expected]);
}

#[tokio::test]
async fn a_late_last_leave_does_not_deafen_a_first_come() {
    let mut stage = Stage::new().await;
    stage.interest(0, 1).await;
    stage.answer("subscribe news", true).await;
    stage.told("0: live news 1").await;
    stage.disinterest(0).await;
    let unsubscribe = stage.call("unsubscribe news").await;
    stage.interest(1, 1).await;
    // The hub goes on with other things, and still does not call while a call is under way.
    stage
        .delivery("node:gw-0", "hello", Some(ConnectionId::new("gw-0", 4)))
        .await;
    let inbox = r#"1: deliver node:gw-0 "hello""#;
    assert_eq!(
        stage.told(inbox).await,
        [inbox],
        "only the shard that holds the connection"
    );
    assert!(
        stage.calls.try_recv().is_err(),
        "two calls for one channel at once"
    );
    unsubscribe.answer.send(true).unwrap();
    stage.answer("subscribe news", true).await;
    assert_eq!(stage.told("1: live news 1").await, ["1: live news 1"]);
    stage.delivery("news", "heard", None).await;
    stage.told(r#"1: deliver news "heard""#).await;
}

#[tokio::test]
async fn a_refused_subscribe_is_told_and_tried_anew() {
    let mut stage = Stage::new().await;
    stage.interest(0, 1).await;
    stage.answer("subscribe news", false).await;
    let refused = "0: refused news 1 Unavailable";
    assert_eq!(stage.told(refused).await, [refused]);
    stage.interest(0, 2).await;
    stage.answer("subscribe news", true).await;
    assert_eq!(stage.told("0: live news 2").await, ["0: live news 2"]);
}

#[tokio::test]
async fn what_the_node_needs_is_asked_for_until_it_comes() {
    let mut stage = Stage::whose_channels_wait();
    stage.answer("subscribe broadcast", false).await;
    stage.answer("subscribe system:notifications", true).await;
    stage.answer("subscribe node:gw-0", true).await;
    stage.answer("subscribe broadcast", true).await;
}

#[tokio::test]
async fn the_hub_ends_with_the_last_shard_also_when_the_broker_went_first() {
    let stage = Stage::new().await;
    drop(stage.events);
    drop(stage.wishes);
    tokio::time::timeout(SOON, stage.hub)
        .await
        .expect("the hub ends")
        .unwrap();
}

#[tokio::test]
async fn a_shard_is_woken_once_for_what_was_there_together() {
    let mut stage = Stage::new().await;
    stage.interest(1, 1).await;
    stage.answer("subscribe news", true).await;
    stage.told("1: live news 1").await;
    let awake = || std::mem::take(&mut *stage.shards.woken.lock().unwrap());
    let waited = tokio::time::timeout(SOON, async {
        while awake().is_empty() {
            tokio::task::yield_now().await;
        }
    });
    waited.await.expect("an answer wakes too");
    for data in ["a", "b", "c"] {
        stage.delivery("news", data, None).await;
    }
    let mut woken = Vec::new();
    let waited = tokio::time::timeout(SOON, async {
        while woken.is_empty() {
            tokio::task::yield_now().await;
            woken = awake();
        }
    });
    waited.await.expect("a wake-up");
    assert_eq!(woken, [(ShardId(1), 3)]);
}
