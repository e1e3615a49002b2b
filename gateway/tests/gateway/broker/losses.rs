//! A connection ends, and nothing else: what is lost is named, comes back, and all else goes on meanwhile.

use gateway::broker::Broker;
use gateway::broker::redis::Settings;

use super::{BTreeSet, Node, counted, settings, start};
use crate::redis_cluster::{RANGES, RedisCluster};
use crate::redis_sentinel::Sentinels;
use crate::redis_server::RedisServer;

/// Nothing fails here: no failover may begin because the machine is busy.
const NEVER_MS: u32 = 30_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_one_redis() {
    let server = RedisServer::start().await;
    let names = names();
    names_what_it_loses(settings(&server), &server, (&names, &names)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sentinel() {
    let sentinels = Sentinels::start(NEVER_MS).await;
    let names = names();
    let master = &sentinels.servers[0];
    names_what_it_loses(sentinels.settings(), master, (&names, &names)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_cluster() {
    let cluster = RedisCluster::start(NEVER_MS).await;
    let names = names();
    for (master, (first, last)) in RANGES.into_iter().enumerate() {
        let mut there = BTreeSet::new();
        for name in &names {
            let slot = cluster.slot(&format!("test:{{channel:{name}}}")).await;
            if (first..=last).contains(&slot) {
                there.insert(name.clone());
            }
        }
        assert!((1..names.len()).contains(&there.len()), "{there:?}");
        let server = &cluster.servers[master];
        names_what_it_loses(cluster.settings(), server, (&names, &there)).await;
    }
}

fn names() -> BTreeSet<String> {
    (0..60).map(|i| format!("channel {i}")).collect()
}

/// `all` are subscribed, and of these `there` at the server.
async fn names_what_it_loses(
    settings: Settings,
    server: &RedisServer,
    (all, there): (&BTreeSet<String>, &BTreeSet<String>),
) {
    let (mut node, registry) = start(settings);
    node.healthy().await;
    for name in all {
        node.subscribe(name).await;
    }
    // Not wanted any more: not lost, either.
    let left = there.first().unwrap();
    node.broker.unsubscribe(super::channel(left)).await;
    let expected: BTreeSet<String> = there.iter().skip(1).cloned().collect();
    for round in 0..3 {
        end_subscriptions(server).await;
        assert_eq!(node.lost().await, expected, "{round}");
        node.restored(expected.clone()).await;
        delivers(&mut node, all.iter().filter(|name| *name != left)).await;
        let losses = counted(&registry, "pushcluster_broker_losses_total");
        assert!((losses - f64::from(round + 1)).abs() < 0.1, "{losses}");
    }
    node.subscribe(left).await;
    delivers(&mut node, [left]).await;
}

async fn delivers<B: Broker>(node: &mut Node<B>, names: impl IntoIterator<Item = &String>) {
    for (number, name) in names.into_iter().enumerate() {
        node.publish(name, number).await.unwrap();
        assert_eq!(node.delivery().await, (name.clone(), number));
    }
}

/// Of gateways: Sentinels subscribe, too.
async fn end_subscriptions(server: &RedisServer) {
    let clients = server.ask("CLIENT LIST").await;
    let ours = clients
        .lines()
        .filter(|line| line.contains("name=pushcluster-subscriber "));
    let id = |line: &str| line.split([' ', '=']).nth(1).map(str::to_owned);
    let ids: Vec<String> = ours.filter_map(id).collect();
    assert_eq!(ids.len(), 1, "{clients}");
    let killed = server.ask(&format!("CLIENT KILL ID {}", ids[0])).await;
    assert!(killed.starts_with(":1"), "{killed}");
}
