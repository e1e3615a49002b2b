//! The promises of `gateway::broker::Broker`, kept by every implementation.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway::broker::memory::Memory;
use gateway::broker::redis::{Counters, Redis, Settings};
use gateway::broker::{Broker, Event, Events, Health, PublishError};
use gateway::message::{Message, MessageKind};
use gateway::name::ChannelName;
use serde_json::value::RawValue;

use crate::redis_server::{Proxy, RedisServer};
use crate::wait::{until, within};

/// A broker and what it delivers, as a gateway holds it.
struct Node<B> {
    broker: B,
    events: Events,
}

impl<B: Broker> Node<B> {
    async fn subscribe(&self, name: &str) {
        within("subscribe", self.broker.subscribe(channel(name)))
            .await
            .unwrap();
    }

    async fn publish(&self, name: &str, number: usize) -> Result<(), PublishError> {
        within(
            "publish",
            self.broker.publish(channel(name), message(number)),
        )
        .await
    }

    async fn event(&mut self) -> Event {
        within("an event", self.events.recv())
            .await
            .expect("the broker lives")
    }

    /// The next delivery: its channel and the number in its message.
    async fn delivery(&mut self) -> (String, usize) {
        match self.event().await {
            Event::Delivery(d) => (d.channel.to_string(), d.message.data.get().parse().unwrap()),
            other => panic!("wanted a delivery, got {other:?}"),
        }
    }

    async fn healthy(&self) {
        until("healthy", || async {
            match self.broker.health() {
                Health::Delivering => Ok(()),
                Health::NotDelivering(why) => Err(why),
            }
        })
        .await;
    }

    async fn unhealthy(&self) -> String {
        until("unhealthy", || async {
            match self.broker.health() {
                Health::NotDelivering(why) => Ok(why),
                Health::Delivering => Err("still delivering".into()),
            }
        })
        .await
    }
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

fn message(number: usize) -> Message {
    Message {
        kind: MessageKind::Chat,
        data: Arc::from(RawValue::from_string(number.to_string()).unwrap()),
        from: None,
        timestamp: 1,
        except: None,
        only: None,
    }
}

fn memory() -> Node<Memory> {
    let (broker, events) = Memory::start();
    Node { broker, events }
}

fn settings(server: &RedisServer) -> Settings {
    Settings {
        host: "127.0.0.1".into(),
        port: server.port,
        database: 0,
        username: None,
        password: None,
        prefix: "test:".into(),
        timeout: Duration::from_secs(2),
        probe_period: Duration::from_millis(200),
    }
}

fn start(settings: Settings) -> (Node<Redis>, prometheus::Registry) {
    let registry = prometheus::Registry::new();
    let (broker, events) = Redis::start(settings, Counters::register(&registry).unwrap());
    (Node { broker, events }, registry)
}

async fn redis(server: &RedisServer) -> Node<Redis> {
    let (node, _) = start(settings(server));
    node.healthy().await;
    node
}

fn counted(registry: &prometheus::Registry, name: &str) -> f64 {
    let families = registry.gather();
    let family = families
        .iter()
        .find(|family| family.name() == name)
        .unwrap();
    family
        .get_metric()
        .iter()
        .map(|metric| metric.get_counter().get_value())
        .sum()
}

/// Runs one promise on every implementation.
macro_rules! promise {
    ($name:ident) => {
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_memory() {
                super::promises::$name(super::memory()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_redis() {
                let server = super::RedisServer::start().await;
                super::promises::$name(super::redis(&server).await).await;
            }
        }
    };
}

promise!(order_is_that_of_the_calls);
promise!(a_subscription_is_live_when_subscribe_returns);
promise!(unsubscribe_stops_one_channel);
promise!(subscribing_again_after_unsubscribing);
promise!(many_channels);
promise!(a_node_that_does_not_read_loses_nothing_that_was_accepted);
promise!(publishing_to_nobody_is_accepted);

mod promises {
    use super::*;

    pub(super) async fn order_is_that_of_the_calls<B: Broker>(mut node: Node<B>) {
        node.subscribe("a").await;
        let mut futures: Vec<_> = (0..500)
            .map(|i| node.broker.publish(channel("a"), message(i)))
            .collect();
        // Awaited from the last to the first: only the order of the calls may count.
        while let Some(future) = futures.pop() {
            within("publish", future).await.unwrap();
        }
        for i in 0..500 {
            assert_eq!(node.delivery().await, ("a".into(), i));
        }
    }

    pub(super) async fn a_subscription_is_live_when_subscribe_returns<B: Broker>(
        mut node: Node<B>,
    ) {
        for i in 0..200 {
            let name = format!("channel {i}");
            node.subscribe(&name).await;
            node.publish(&name, i).await.unwrap();
            assert_eq!(node.delivery().await, (name, i));
        }
    }

    pub(super) async fn unsubscribe_stops_one_channel<B: Broker>(mut node: Node<B>) {
        node.subscribe("a").await;
        node.subscribe("b").await;
        node.publish("a", 1).await.unwrap();
        assert_eq!(node.delivery().await, ("a".into(), 1));
        within("unsubscribe", node.broker.unsubscribe(channel("a"))).await;
        node.publish("a", 2).await.unwrap();
        node.publish("b", 3).await.unwrap();
        assert_eq!(node.delivery().await, ("b".into(), 3));
    }

    pub(super) async fn subscribing_again_after_unsubscribing<B: Broker>(mut node: Node<B>) {
        for i in 0..200 {
            node.subscribe("a").await;
            node.publish("a", i).await.unwrap();
            assert_eq!(node.delivery().await, ("a".into(), i));
            within("unsubscribe", node.broker.unsubscribe(channel("a"))).await;
        }
    }

    pub(super) async fn many_channels<B: Broker>(mut node: Node<B>) {
        let names: Vec<String> = (0..3_000).map(|i| format!("channel {i}")).collect();
        let all = names
            .iter()
            .map(|name| node.broker.subscribe(channel(name)));
        for subscribed in within("subscribe to all", futures::future::join_all(all)).await {
            subscribed.unwrap();
        }
        for i in (0..names.len()).step_by(100) {
            node.publish(&names[i], i).await.unwrap();
            assert_eq!(node.delivery().await, (names[i].clone(), i));
        }
    }

    pub(super) async fn a_node_that_does_not_read_loses_nothing_that_was_accepted<B: Broker>(
        mut node: Node<B>,
    ) {
        node.subscribe("a").await;
        let publisher = tokio::spawn({
            let publishing: Vec<_> = (0..12_000)
                .map(|i| node.broker.publish(channel("a"), message(i)))
                .collect();
            futures::future::join_all(publishing)
        });
        let mut received = Vec::new();
        let mut results = None;
        let mut publisher = publisher;
        // Reads on until everything that was accepted has come.
        loop {
            tokio::select! {
                ended = &mut publisher, if results.is_none() => {
                    let ended = ended.unwrap();
                    assert_eq!(ended.len(), 12_000);
                    results = Some((0..12_000).filter(|i| ended[*i].is_ok()).collect::<Vec<_>>());
                }
                (_, number) = node.delivery() => received.push(number),
            }
            if results
                .as_ref()
                .is_some_and(|accepted| accepted.len() == received.len())
            {
                break;
            }
        }
        assert_eq!(results.unwrap(), received, "once each and in order");
        assert!(received.len() >= 4_096, "{}", received.len());
    }

    pub(super) async fn publishing_to_nobody_is_accepted<B: Broker>(mut node: Node<B>) {
        node.publish("nobody", 1).await.unwrap();
        node.subscribe("nobody").await;
        node.publish("nobody", 2).await.unwrap();
        assert_eq!(node.delivery().await, ("nobody".into(), 2));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_see_the_same_order() {
    let server = RedisServer::start().await;
    let (mut a, mut b) = (redis(&server).await, redis(&server).await);
    a.subscribe("x").await;
    b.subscribe("x").await;
    let from_a = async {
        for i in 0..300 {
            a.broker.publish(channel("x"), message(i)).await.unwrap();
        }
    };
    let from_b = async {
        for i in 1_000..1_300 {
            b.broker.publish(channel("x"), message(i)).await.unwrap();
        }
    };
    within("both publish", async { tokio::join!(from_a, from_b) }).await;
    let (mut seen_a, mut seen_b) = (Vec::new(), Vec::new());
    for _ in 0..600 {
        seen_a.push(a.delivery().await.1);
        seen_b.push(b.delivery().await.1);
    }
    assert_eq!(seen_a, seen_b);
    // A node that is gone takes nothing with it.
    drop(a);
    b.publish("x", 7).await.unwrap();
    assert_eq!(b.delivery().await.1, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_restarts() {
    let mut server = RedisServer::start().await;
    let (mut node, registry) = start(settings(&server));
    node.healthy().await;
    for i in 0..1_200 {
        node.subscribe(&format!("channel {i}")).await;
    }
    server.kill();
    assert!(matches!(node.event().await, Event::Lost));
    let why = node.unhealthy().await;
    assert!(why.contains(&format!("127.0.0.1:{}", server.port)), "{why}");
    let asked = Instant::now();
    let refused = node.publish("channel 7", 1).await.unwrap_err();
    assert!(
        asked.elapsed() < Duration::from_secs(3),
        "{:?}",
        asked.elapsed()
    );
    assert!(
        matches!(refused, PublishError::Unavailable { .. }),
        "{refused}"
    );
    let error = within("subscribe", node.broker.subscribe(channel("late")))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("subscribe to late failed: Redis at "),
        "{error}"
    );

    server.run().await;
    assert!(matches!(node.event().await, Event::Restored));
    node.healthy().await;
    for i in [0, 7, 1_199] {
        node.publish(&format!("channel {i}"), i).await.unwrap();
        assert_eq!(node.delivery().await, (format!("channel {i}"), i));
    }
    assert!((counted(&registry, "pushcluster_broker_losses_total") - 1.0).abs() < 0.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_subscription_is_killed() {
    let server = RedisServer::start().await;
    let mut node = redis(&server).await;
    node.subscribe("a").await;
    for i in 0..5 {
        assert_eq!(server.ask("CLIENT KILL TYPE pubsub").await, ":1\r\n+OK\r\n");
        assert!(matches!(node.event().await, Event::Lost));
        assert!(matches!(node.event().await, Event::Restored));
        node.publish("a", i).await.unwrap();
        assert_eq!(node.delivery().await, ("a".into(), i));
        node.healthy().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_hangs_with_its_sockets_open() {
    let server = RedisServer::start().await;
    let mut node = redis(&server).await;
    node.subscribe("a").await;
    server.signal("STOP");
    let asked = Instant::now();
    // Two, so that the second waits behind the first: neither may wait longer than promised.
    let (first, second) = within("publish", async {
        tokio::join!(node.broker.publish(channel("a"), message(1)), async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            node.broker.publish(channel("a"), message(2)).await
        })
    })
    .await;
    assert!(
        asked.elapsed() < Duration::from_secs(4),
        "{:?}",
        asked.elapsed()
    );
    assert!(
        matches!(first, Err(PublishError::Unanswered { .. })),
        "{first:?}"
    );
    assert!(second.is_err(), "{second:?}");
    let why = node.unhealthy().await;
    assert!(why.contains("no probe came back"), "{why}");

    server.signal("CONT");
    node.healthy().await;
    // No Lost: the connection held, and Redis passes on what it had received before.
    until("a publish is accepted", || async {
        node.publish("a", 3).await.map_err(|e| e.to_string())
    })
    .await;
    while node.delivery().await != ("a".into(), 3) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_is_open_and_silent_is_replaced() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(server.port).await;
    let (mut node, _) = start(Settings {
        port: proxy.port,
        ..settings(&server)
    });
    node.healthy().await;
    node.subscribe("a").await;
    proxy.swallow_subscriptions();
    // Accepted by Redis, and gone on the way back, without any error on any socket.
    node.publish("a", 1).await.unwrap();
    let why = node.unhealthy().await;
    assert!(why.contains("no probe came back"), "{why}");
    assert!(matches!(node.event().await, Event::Lost));
    assert!(matches!(node.event().await, Event::Restored));
    node.publish("a", 2).await.unwrap();
    assert_eq!(node.delivery().await, ("a".into(), 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_no_gateway_wrote_are_counted_and_dropped() {
    let server = RedisServer::start().await;
    let (mut node, registry) = start(settings(&server));
    node.healthy().await;
    node.subscribe("a").await;
    for payload in [
        "nonsense",
        "{}",
        "[1]",
        r#""\xff\xfe""#,
        "'{\"kind\":\"chat\"}'",
    ] {
        assert_eq!(
            server
                .ask(&format!("PUBLISH test:channel:a {payload}"))
                .await,
            ":1\r\n+OK\r\n"
        );
    }
    node.publish("a", 1).await.unwrap();
    assert_eq!(node.delivery().await, ("a".into(), 1));
    assert!((counted(&registry, "pushcluster_broker_bad_payloads_total") - 5.0).abs() < 0.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_comes_after_the_node() {
    let mut server = RedisServer::absent();
    let (mut node, _) = start(settings(&server));
    let why = until("the cause is known", || async {
        match node.broker.health() {
            Health::NotDelivering(why) if why.contains("refused") => Ok(why),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(why.contains("Connection refused"), "{why}");
    let refused = node.publish("a", 1).await.unwrap_err();
    assert!(
        matches!(refused, PublishError::Unavailable { .. }),
        "{refused}"
    );

    server.run().await;
    node.healthy().await;
    node.subscribe("a").await;
    node.publish("a", 2).await.unwrap();
    // No Lost, no Restored: nothing was ever there to lose.
    assert_eq!(node.delivery().await, ("a".into(), 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords() {
    let password = "a-long-enough-one";
    let server = RedisServer::start_with(Some(password)).await;
    for (given, expected) in [(None, "NOAUTH"), (Some("not-it"), "WRONGPASS")] {
        let (node, _) = start(Settings {
            password: given.map(str::to_owned),
            ..settings(&server)
        });
        let why = until("refused", || async {
            match node.broker.health() {
                Health::NotDelivering(why) if why.contains(expected) => Ok(why),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        assert!(
            !why.contains("not-it"),
            "the password is in no message: {why}"
        );
        assert!(node.publish("a", 1).await.is_err());
    }
    let right = Settings {
        password: Some(password.into()),
        ..settings(&server)
    };
    let (mut node, _) = start(Settings {
        database: 3,
        ..right
    });
    node.healthy().await;
    node.subscribe("a").await;
    node.publish("a", 1).await.unwrap();
    assert_eq!(node.delivery().await, ("a".into(), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_broker_closes_its_connections() {
    let server = RedisServer::start().await;
    let node = redis(&server).await;
    node.subscribe("a").await;
    drop(node);
    until("no connection is left", || async {
        // The one that asks is always there.
        let list = server.ask("CLIENT LIST").await;
        let left = list.lines().filter(|line| line.contains("id=")).count();
        if left == 1 { Ok(()) } else { Err(list) }
    })
    .await;
}
