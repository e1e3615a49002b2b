//! A master dies, or loses a slot, and what nodes then see.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use gateway::broker::redis::Settings;
use gateway::broker::{Broker, Publish};
use gateway::history::{Keep, Range};

use super::{Node, channel, counted, healthy, message, set, start};
use crate::redis_cluster::{RANGES, RedisCluster};
use crate::redis_sentinel::Sentinels;
use crate::redis_server::ask;
use crate::wait::{until, within};

const KEEP: Keep = Keep {
    messages: 1_000,
    age_ms: 60_000,
};
/// How long after Redis answers again a message must arrive.
const AGAIN: Duration = Duration::from_secs(3);

/// Publishes until it is accepted, then expects exactly that one.
async fn delivers_again<B: Broker>(node: &mut Node<B>, name: &str) {
    let number = until("a publish is accepted", || async {
        let number = 9_000;
        let published = node.publish(name, number).await;
        published.map(|()| number).map_err(|e| e.to_string())
    })
    .await;
    assert_eq!(node.delivery().await, (name.to_owned(), number));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinel_master_is_killed_and_comes_back() {
    let mut sentinels = Sentinels::start(1_000).await;
    let (mut node, registry) = start(sentinels.settings());
    node.healthy().await;
    let names: Vec<String> = (0..200).map(|i| format!("channel {i}")).collect();
    for name in &names {
        node.subscribe(name).await;
    }
    let (mut master, mut losses) = (0, 0.0);
    for round in 0..2 {
        sentinels.servers[master].kill();
        let died = Instant::now();
        let error = until("a publish is refused", || async {
            match node.publish("channel 1", 1).await {
                Ok(()) => Err("accepted".to_owned()),
                Err(e) => Ok(e),
            }
        })
        .await;
        assert!(died.elapsed() < Duration::from_secs(4), "{error}");
        let next = sentinels.other_than(master).await;
        let answers = Instant::now();
        node.lost_and_restored(set(names.iter().map(String::as_str)))
            .await;
        delivers_again(&mut node, "channel 7").await;
        assert!(answers.elapsed() < AGAIN, "{:?}", answers.elapsed());
        losses += 1.0;
        let counted = counted(&registry, "pushcluster_broker_losses_total");
        assert!((counted - losses).abs() < 0.1, "{counted}");

        // It begins as a master, with nothing in it, before the Sentinels make a replica of it.
        sentinels.servers[master].run().await;
        for i in 0..50 {
            node.publish("channel 9", round * 100 + i).await.unwrap();
            let delivered = node.delivery().await;
            assert_eq!(delivered, ("channel 9".into(), round * 100 + i));
        }
        let old = &sentinels.servers[master];
        until("it is a replica", || async {
            // The Sentinels end the connections of clients when they make a replica of it; ours may be one.
            let role = ask(old.port, "ROLE").await?;
            if role.contains("slave") && role.contains("connected") {
                Ok(())
            } else {
                Err(role)
            }
        })
        .await;
        let clients = old.ask("CLIENT LIST").await;
        assert!(!clients.contains("pushcluster-"), "{clients}");
        node.healthy().await;
        master = next;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinel_master_hangs_and_goes_on_as_if_nothing_were() {
    let sentinels = Sentinels::start(1_000).await;
    let mut node = healthy(sentinels.settings()).await;
    node.subscribe("a").await;
    sentinels.servers[0].signal("STOP");
    let next = sentinels.other_than(0).await;
    node.lost_and_restored(set(["a"])).await;
    delivers_again(&mut node, "a").await;
    // It still believes that it is the master.
    sentinels.servers[0].signal("CONT");
    for i in 0..50 {
        node.publish("a", i).await.unwrap();
        assert_eq!(node.delivery().await, ("a".into(), i));
        let offsets = node.keep_all("log", i..i + 1).await;
        assert_eq!(node.top("log").await, offsets[0], "not of the old one");
    }
    let clients = sentinels.servers[next].ask("CLIENT LIST").await;
    assert!(clients.contains("pushcluster-publisher"), "{clients}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_master_is_killed() {
    let mut cluster = RedisCluster::start(2_000).await;
    let mut node = healthy(cluster.settings()).await;
    let names: Vec<String> = (0..60).map(|i| format!("channel {i}")).collect();
    let mut of_the_dead = BTreeSet::new();
    for name in &names {
        node.subscribe(name).await;
        let slot = cluster.slot(&format!("test:{{channel:{name}}}")).await;
        if slot <= RANGES[0].1 {
            of_the_dead.insert(name.clone());
        }
    }
    assert!((1..60).contains(&of_the_dead.len()), "{of_the_dead:?}");
    cluster.servers[0].kill();
    // The other masters are there, and the node says that one is not.
    let why = node.unhealthy().await;
    let dead = cluster.servers[0].port;
    assert!(why.contains(&dead.to_string()), "{why}");
    let replica = &cluster.servers[3];
    until("its replica has taken over", || async {
        let role = replica.ask("ROLE").await;
        let info = replica.ask("CLUSTER INFO").await;
        let took_over = role.contains("master") && info.contains("cluster_state:ok");
        if took_over { Ok(()) } else { Err(role) }
    })
    .await;
    let answers = Instant::now();
    node.lost_and_restored(of_the_dead).await;
    for name in &names {
        delivers_again(&mut node, name).await;
    }
    assert!(answers.elapsed() < AGAIN, "{:?}", answers.elapsed());
    node.healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_moves_while_messages_flow() {
    let cluster = RedisCluster::start(30_000).await;
    let mut node = healthy(cluster.settings()).await;
    let name = "channel-x";
    let slot = cluster.slot("test:{channel:channel-x}").await;
    let from = RANGES
        .iter()
        .position(|(first, last)| (*first..=*last).contains(&slot))
        .unwrap();
    node.subscribe(name).await;
    // Of which nothing is lost.
    for i in 0..30 {
        node.subscribe(&format!("channel {i}")).await;
    }
    for round in 0..4 {
        let (source, target) = if round % 2 == 0 {
            (from, (from + 1) % 3)
        } else {
            ((from + 1) % 3, from)
        };
        // Kept, so that the slot has keys: what finds them half moved waits, and none overtakes another.
        let published = node.keep_all(name, 0..300);
        let reading = async {
            let mut tops = Vec::new();
            for _ in 0..50 {
                tops.push(node.top(name).await);
            }
            assert!(tops.is_sorted(), "{tops:?}");
        };
        let moving = cluster.move_slot(slot, source, target);
        let (offsets, (), ()) = tokio::join!(published, reading, moving);
        assert!(offsets.is_sorted(), "{offsets:?}");
        assert_eq!(offsets.len(), 300, "none is refused");
        assert_eq!(Some(&node.top(name).await), offsets.last());
        node.lost_and_restored(set([name])).await;
        delivers_again_after(&mut node, name).await;
        let there = cluster.servers[target].ask("PUBSUB SHARDCHANNELS").await;
        assert!(there.contains(name), "{there}");
        let other = cluster.servers[(from + 2) % 3]
            .ask("PUBSUB SHARDCHANNELS")
            .await;
        assert!(!other.contains(name), "only where its slot is: {other}");
    }
}

/// Like [`delivers_again`], past what was still on its way.
async fn delivers_again_after<B: Broker>(node: &mut Node<B>, name: &str) {
    node.publish(name, 9_000).await.unwrap();
    while node.delivery().await.1 != 9_000 {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_masters_of_its_channels_hear_a_message() {
    let cluster = RedisCluster::start(30_000).await;
    let mut node = healthy(cluster.settings()).await;
    let other = healthy(cluster.settings()).await;
    node.subscribe("channel-x").await;
    // From one node to the other, and Redis counts who took it.
    other.publish("channel-x", 1).await.unwrap();
    assert_eq!(node.delivery().await, ("channel-x".into(), 1));
    let slot = cluster.slot("test:{channel:channel-x}").await;
    for (number, (first, last)) in RANGES.iter().enumerate() {
        let channels = cluster.servers[number].ask("PUBSUB SHARDCHANNELS").await;
        let owns = (*first..=*last).contains(&slot);
        assert_eq!(channels.contains("channel-x"), owns, "{number}: {channels}");
        assert!(channels.contains("probe:"), "each is probed: {channels}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_as_configured_says_so() {
    let server = crate::redis_server::RedisServer::start().await;
    let replica =
        crate::redis_server::RedisServer::start_as(&["--replicaof", "127.0.0.1", "1"]).await;
    let full = crate::redis_server::RedisServer::start_as(&["--maxmemory", "1"]).await;
    let plain = super::settings(&server);
    for (settings, expected) in [
        (super::settings(&replica), "is a replica"),
        (super::settings(&full), "takes no messages: OOM"),
        (
            Settings {
                mode: gateway::broker::redis::Mode::Cluster,
                ..plain.clone()
            },
            "is of mode standalone, and broker.redis.mode says cluster",
        ),
        (
            Settings {
                mode: gateway::broker::redis::Mode::Sentinel,
                ..plain
            },
            "is of mode standalone, and broker.redis.mode says sentinel",
        ),
    ] {
        let (node, _) = start(settings);
        until("it says what is wrong", || async {
            let why = node.unhealthy().await;
            if why.contains(expected) {
                Ok(())
            } else {
                Err(why)
            }
        })
        .await;
    }
}

impl<B: Broker> Node<B> {
    /// Publishes messages that are kept, one after the other; their offsets.
    async fn keep_all(&self, name: &str, numbers: std::ops::Range<usize>) -> Vec<u64> {
        let mut offsets = Vec::new();
        for number in numbers {
            let publish = self
                .broker
                .publish(channel(name), message(number), Some(KEEP));
            let position = within("publish", publish).await.unwrap();
            offsets.push(position.expect("it is kept").offset);
        }
        offsets
    }

    /// The newest offset of the channel's log.
    async fn top(&self, name: &str) -> u64 {
        let range = Range {
            since: None,
            limit: 0,
            bytes: 1 << 20,
            keep: KEEP,
        };
        let page = self.broker.history(channel(name), range);
        within("history", page).await.unwrap().top.offset
    }
}
