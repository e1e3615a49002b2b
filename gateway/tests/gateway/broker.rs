//! The promises of `gateway::broker::Broker`, kept by every implementation.

use std::collections::BTreeSet;
use std::sync::Arc;

use gateway::broker::memory::Memory;
use gateway::broker::redis::{Counters, Login, Redis, Settings};
use gateway::broker::{Broker, Event, Events, Health, Publish, PublishError};
use gateway::message::{Message, MessageKind};
use gateway::name::ChannelName;
use serde_json::value::RawValue;

use crate::redis_server::RedisServer;
use crate::wait::{until, within};

mod everywhere;
mod failover;
mod faults;
mod losses;

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
        let published = within(
            "publish",
            self.broker.publish(channel(name), message(number), None),
        )
        .await?;
        assert_eq!(published, None, "nothing is kept");
        Ok(())
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

    /// The channels that the next event says are lost.
    async fn lost(&mut self) -> BTreeSet<String> {
        match self.event().await {
            Event::Lost(channels) => names(channels),
            other => panic!("wanted a loss, got {other:?}"),
        }
    }

    /// Nothing comes until all of these are said to be there again, each once.
    async fn restored(&mut self, mut lost: BTreeSet<String>) {
        while !lost.is_empty() {
            match self.event().await {
                Event::Restored(channels) => {
                    for name in names(channels) {
                        assert!(lost.remove(&name), "{name} was not lost");
                    }
                }
                other => panic!("wanted what is lost ({lost:?}), got {other:?}"),
            }
        }
    }

    /// Waits until these and no other channels were lost and are there again, each once, past what is delivered
    /// meanwhile.
    async fn lost_and_restored(&mut self, expected: BTreeSet<String>) {
        let (mut lost, mut restored) = (BTreeSet::new(), BTreeSet::new());
        while restored.len() < expected.len() {
            match self.event().await {
                Event::Lost(channels) => {
                    for name in names(channels) {
                        assert!(expected.contains(&name), "{name} is not lost");
                        assert!(lost.insert(name.clone()), "{name} is lost twice");
                    }
                }
                Event::Restored(channels) => {
                    for name in names(channels) {
                        assert!(lost.contains(&name), "{name} was not lost");
                        assert!(restored.insert(name.clone()), "{name} is back twice");
                    }
                }
                Event::Delivery(_) => {}
            }
        }
    }

    async fn healthy(&self) {
        until("healthy", || async {
            match self.broker.health() {
                Health::Delivering => Ok(()),
                Health::Impaired(why) | Health::NotDelivering(why) => Err(why),
            }
        })
        .await;
    }

    async fn unhealthy(&self) -> String {
        until("unhealthy", || async {
            match self.broker.health() {
                Health::NotDelivering(why) => Ok(why),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }
}

/// None of an event is named twice.
fn names(channels: Vec<ChannelName>) -> BTreeSet<String> {
    let count = channels.len();
    let names: BTreeSet<String> = channels.into_iter().map(String::from).collect();
    assert!(count > 0 && names.len() == count, "{count}: {names:?}");
    names
}

fn set<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
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
    let (broker, events) = Memory::start(1 << 20);
    Node { broker, events }
}

fn settings(server: &RedisServer) -> Settings {
    crate::redis_server::settings(server.port, Login::default())
}

fn start(settings: Settings) -> (Node<Redis>, prometheus::Registry) {
    let registry = prometheus::Registry::new();
    let (broker, events) = Redis::start(settings, Counters::register(&registry).unwrap());
    (Node { broker, events }, registry)
}

async fn redis(server: &RedisServer) -> Node<Redis> {
    healthy(settings(server)).await
}

async fn healthy(settings: Settings) -> Node<Redis> {
    let (node, _) = start(settings);
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

mod logs;

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
            .map(|i| node.broker.publish(channel("a"), message(i), None))
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
                .map(|i| node.broker.publish(channel("a"), message(i), None))
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
