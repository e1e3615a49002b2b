//! Who is connected on all nodes, in a real Redis, while nodes and Redis come and go.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::client::Client;
use crate::event_source::EventSource;
use crate::program::{API_KEY, Gateway, request};
use crate::redis_cluster::RedisCluster;
use crate::redis_server::RedisServer;
use crate::wait::until;

mod kills;
mod places;

/// Long enough for a machine that is busy: a node that is late is taken for dead.
const LEASE: &str = "broker.redis.leaseSeconds=3";

const FILE: &str = r#"
channels:
  - {prefix: "room:", presence: true}
"#;

async fn node(redis: &RedisServer, name: &str) -> Gateway {
    let name = format!("node.name={name}");
    let url = format!("broker.redis.url=redis://127.0.0.1:{}", redis.port);
    let set = ["broker.kind=redis", &url, "broker.redis.timeoutSeconds=2"];
    let set = [&set[..], &[&name, LEASE]].concat();
    let gateway = Gateway::with_file(FILE, &set).await;
    gateway.ready().await;
    gateway
}

/// What the others in the room are told.
async fn hears(client: &mut Client, event: &str, user: &str) {
    let said = json!({"type": "presence", "channel": "room:a", "event": event, "user": user});
    assert_eq!(client.next_untimed().await, said);
}

/// Waits until these users are in the room, as this node tells it.
async fn present(gateway: &Gateway, expected: &[&str]) {
    let expected: Vec<Value> = expected.iter().map(|user| json!({"user": user})).collect();
    until("those who are there", || async {
        let key = [("x-api-key", API_KEY)];
        let path = "/api/presence?channel=room:a";
        let answer = request(gateway.clients, "GET", path, &key, "").await;
        let found = answer.json();
        let whole = found["total"] == json!(expected.len());
        match answer.status == 200 && whole && found["members"] == json!(expected) {
            true => Ok(()),
            false => Err(answer.body),
        }
    })
    .await;
}

async fn ask(gateway: &Gateway, user: &str) -> (u16, Value) {
    let path = format!("/api/users/{user}/connections");
    let key = [("x-api-key", API_KEY)];
    let answer = request(gateway.clients, "GET", &path, &key, "").await;
    (answer.status, answer.json())
}

/// Waits until these are the user's connections, as this node tells it.
async fn connections(gateway: &Gateway, user: &str, expected: &[&str]) {
    let expected: BTreeSet<&str> = expected.iter().copied().collect();
    until("the user's connections", || async {
        let (status, found) = ask(gateway, user).await;
        let named = found["connections"].as_array().into_iter().flatten();
        let named: BTreeSet<&str> = named.filter_map(|c| c["connection"].as_str()).collect();
        let whole = found["total"] == json!(expected.len());
        match status == 200 && whole && named == expected {
            true => Ok(()),
            false => Err(found.to_string()),
        }
    })
    .await;
}

/// The texts of an answer of Redis.
async fn texts(redis: &RedisServer, command: &str) -> BTreeSet<String> {
    let answer = redis.ask(command).await;
    let texts = answer
        .lines()
        .filter(|line| !line.starts_with(['*', '$', '+', '-']));
    texts.map(str::to_owned).collect()
}

/// Waits until a hash, set or list of ours has these.
async fn holds(redis: &RedisServer, command: &str, expected: &[&str]) {
    let expected: BTreeSet<String> = expected.iter().map(|text| (*text).to_owned()).collect();
    until(command, || async {
        let found = texts(redis, command).await;
        match found == expected {
            true => Ok(()),
            false => Err(format!("{found:?} instead of {expected:?}")),
        }
    })
    .await;
}

async fn counted(gateways: &[&Gateway], series: &str) -> f64 {
    let mut sum = 0.0;
    for gateway in gateways {
        sum += gateway.metric(series).await.unwrap_or_default();
    }
    sum
}

#[tokio::test]
async fn everybody_is_known_on_every_node() {
    let redis = RedisServer::start().await;
    let (a, b) = (node(&redis, "a").await, node(&redis, "b").await);
    let (mut here, mut there) = (a.user("ann").await, b.user("ann").await);
    let mut nobody = b.client().await;
    here.subscribe("news").await;
    there.subscribe("news").await;
    there.join("lobby").await;
    nobody.subscribe("news").await;
    connections(&a, "ann", &[&here.id, &there.id]).await;
    connections(&b, "ann", &[&here.id, &there.id]).await;
    let (_, found) = ask(&a, "ann").await;
    let first = &found["connections"][0];
    assert_eq!(
        (&first["node"], &first["ip"]),
        (&json!("a"), &json!("127.0.0.1")),
        "{found}"
    );
    assert!(
        first["connectedAt"].as_u64().unwrap() > 1_700_000_000_000,
        "{found}"
    );

    let subscribers = "HKEYS pushcluster:channel:news:subscribers";
    holds(&redis, subscribers, &[&here.id, &there.id, &nobody.id]).await;
    let of_ann = [
        format!("{} news", here.id),
        format!("{} news", there.id),
        format!("{} room:lobby", there.id),
    ];
    let subscriptions = "HKEYS pushcluster:user:ann:subscriptions";
    holds(
        &redis,
        subscriptions,
        &of_ann.each_ref().map(String::as_str),
    )
    .await;

    there
        .send(json!({"type": "unsubscribe", "channel": "news"}))
        .await;
    there.next().await;
    drop(here);
    connections(&b, "ann", &[&there.id]).await;
    holds(&redis, subscribers, &[&nobody.id]).await;
    holds(&redis, subscriptions, &[&of_ann[2]]).await;
    drop((there, nobody));
    connections(&b, "ann", &[]).await;
    // What is empty vanishes.
    until("nothing is left", || async {
        let mut left = texts(&redis, "KEYS pushcluster:*").await;
        left.retain(|key| {
            !(key.ends_with(":lease") || key.ends_with(":nodes") || key.contains(":probe:"))
        });
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn one_who_says_later_who_it_is_is_registered_with_what_it_has() {
    let redis = RedisServer::start().await;
    let a = node(&redis, "a").await;
    let mut ann = a.client().await;
    ann.subscribe("news").await;
    let token = crate::program::token("ann", 60);
    ann.send(json!({"type": "auth", "token": token})).await;
    assert_eq!(ann.next().await["type"], "authenticated");
    connections(&a, "ann", &[&ann.id]).await;
    let subscription = format!("{} news", ann.id);
    holds(
        &redis,
        "HKEYS pushcluster:user:ann:subscriptions",
        &[&subscription],
    )
    .await;
    let stream = EventSource::open(a.clients, &format!("channel=news&token={token}"), &[]).await;
    until("the stream is there, too", || async {
        let (_, found) = ask(&a, "ann").await;
        if found["total"] == 2 {
            Ok(())
        } else {
            Err(found.to_string())
        }
    })
    .await;
    drop(stream);
    connections(&a, "ann", &[&ann.id]).await;
}

#[tokio::test]
async fn a_killed_node_is_reaped_once() {
    let redis = RedisServer::start().await;
    let a = node(&redis, "a").await;
    let (b, c) = (node(&redis, "b").await, node(&redis, "c").await);
    let mut here = a.user("ann").await;
    here.subscribe("news").await;
    let mut lost = Vec::new();
    for n in 0..20 {
        let mut client = b.user(&format!("bob{n}")).await;
        client.subscribe("news").await;
        lost.push(client);
    }
    connections(&a, "bob7", &[&lost[7].id]).await;
    b.signal("KILL");
    connections(&a, "bob7", &[]).await;
    holds(
        &redis,
        "HKEYS pushcluster:channel:news:subscribers",
        &[&here.id],
    )
    .await;
    let reaps = "pushcluster_registry_reaps_total";
    until("somebody has reaped it", || async {
        let reaps = counted(&[&a, &c], reaps).await;
        if reaps == 1.0 {
            Ok(())
        } else {
            Err(format!("{reaps} reaps"))
        }
    })
    .await;
    let facts = counted(&[&a, &c], "pushcluster_registry_reaped_facts_total").await;
    assert!(
        facts >= 60.0,
        "{facts}: each a connection and a subscription of channel and user"
    );
    // It comes back under its name, and what it writes now stays.
    let b = node(&redis, "b").await;
    let again = b.user("bob7").await;
    connections(&a, "bob7", &[&again.id]).await;
    connections(&a, "ann", &[&here.id]).await;
}

/// Redis comes back with what it had when it wrote its disk last. Nobody tells it what it has missed but the nodes.
#[tokio::test]
async fn a_redis_that_went_back_is_told_all_that_is() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().display().to_string();
    let mut redis = RedisServer::start_as(&["--dir", &dir]).await;
    let gateway = node(&redis, "a").await;
    let (stays, leaves) = (gateway.user("ann").await, gateway.user("bob").await);
    connections(&gateway, "ann", &[&stays.id]).await;
    connections(&gateway, "bob", &[&leaves.id]).await;
    assert!(redis.ask("SAVE").await.starts_with("+OK"));
    drop(leaves);
    let comes = gateway.user("cid").await;
    connections(&gateway, "bob", &[]).await;
    connections(&gateway, "cid", &[&comes.id]).await;
    redis.kill();
    redis.run().await;
    connections(&gateway, "cid", &[&comes.id]).await;
    connections(&gateway, "bob", &[]).await;
    connections(&gateway, "ann", &[&stays.id]).await;
}

#[tokio::test]
async fn a_node_that_ends_leaves_nothing_to_reap() {
    let redis = RedisServer::start().await;
    let (a, mut b) = (node(&redis, "a").await, node(&redis, "b").await);
    let _bob = b.user("bob").await;
    b.signal("TERM");
    assert!(b.exit().await.success());
    let (_, found) = ask(&a, "bob").await;
    assert_eq!(found["total"], 0, "{found}");
    let nodes = texts(&redis, "ZRANGE pushcluster:nodes 0 -1").await;
    assert!(
        nodes.len() == 1 && nodes.iter().all(|node| node.starts_with("a.")),
        "{nodes:?}"
    );
}

#[tokio::test]
async fn a_frozen_node_was_reaped_and_registers_again() {
    let redis = RedisServer::start().await;
    let (a, b) = (node(&redis, "a").await, node(&redis, "b").await);
    let mut bob = b.user("bob").await;
    bob.subscribe("news").await;
    connections(&a, "bob", &[&bob.id]).await;
    b.signal("STOP");
    connections(&a, "bob", &[]).await;
    b.signal("CONT");
    connections(&a, "bob", &[&bob.id]).await;
    holds(
        &redis,
        "HKEYS pushcluster:channel:news:subscribers",
        &[&bob.id],
    )
    .await;
    let again = "pushcluster_registry_registrations_total{reason=\"reaped\"}";
    assert!(counted(&[&b], again).await >= 1.0);
    let lease = counted(&[&b], "pushcluster_registry_lease_remaining_seconds").await;
    assert!(lease > 0.0 && lease <= 3.0, "{lease}");
}

#[tokio::test]
async fn redis_comes_back_empty_and_is_told_everything() {
    let mut redis = RedisServer::start().await;
    let (a, b) = (node(&redis, "a").await, node(&redis, "b").await);
    let (mut ann, gone) = (a.user("ann").await, a.user("ann").await);
    ann.subscribe("news").await;
    connections(&b, "ann", &[&ann.id, &gone.id]).await;
    redis.kill();
    a.not_ready("broker").await;
    drop(gone);
    assert_eq!(ask(&b, "ann").await.0, 503);
    redis.run().await;
    a.ready().await;
    b.ready().await;
    connections(&b, "ann", &[&ann.id]).await;
    holds(
        &redis,
        "HKEYS pushcluster:channel:news:subscribers",
        &[&ann.id],
    )
    .await;
}

#[tokio::test]
async fn another_programs_keys_are_left_alone() {
    let redis = RedisServer::start().await;
    redis.ask("SET pushcluster:user:ann:connections mine").await;
    let a = node(&redis, "a").await;
    let (_ann, bob) = (a.user("ann").await, a.user("bob").await);
    // The others do not wait for what can never be written.
    connections(&a, "bob", &[&bob.id]).await;
    assert!(counted(&[&a], "pushcluster_registry_foreign_keys_total").await >= 1.0);
    assert_eq!(ask(&a, "ann").await.0, 503);
    let kept = redis.ask("GET pushcluster:user:ann:connections").await;
    assert!(kept.contains("mine"), "{kept}");
}

#[tokio::test]
async fn a_node_alone_asks_itself() {
    let a = Gateway::start(&["node.name=a"]).await;
    let (ann, bob) = (a.user("ann").await, a.user("bob").await);
    connections(&a, "ann", &[&ann.id]).await;
    connections(&a, "bob", &[&bob.id]).await;
    connections(&a, "nobody", &[]).await;
    let none = a.metric("pushcluster_registry_pending_facts").await;
    assert_eq!(none, None, "nothing of a registry is there");
}

#[tokio::test]
async fn in_a_cluster() {
    let cluster = RedisCluster::start(2_000).await;
    let port = cluster.servers[0].port;
    let start = |name: &'static str| async move {
        let set = ["broker.redis.mode=cluster", LEASE, name];
        let gateway = Gateway::on_redis(port, &set).await;
        gateway.ready().await;
        gateway
    };
    let (a, b) = (start("node.name=a").await, start("node.name=b").await);
    let mut ids = Vec::new();
    let mut clients = Vec::new();
    for n in 0..10 {
        let mut client = b.user(&format!("user{n}")).await;
        client.subscribe(&format!("channel{n}")).await;
        ids.push(client.id.clone());
        clients.push(client);
    }
    for (n, id) in ids.iter().enumerate() {
        connections(&a, &format!("user{n}"), &[id]).await;
    }
    b.signal("KILL");
    for n in 0..ids.len() {
        connections(&a, &format!("user{n}"), &[]).await;
    }
    assert_eq!(
        counted(&[&a], "pushcluster_registry_reaps_total").await,
        1.0
    );
}

#[tokio::test]
async fn a_user_comes_with_the_first_connection_on_any_node_and_leaves_with_the_last() {
    let redis = RedisServer::start().await;
    let (a, b) = (node(&redis, "a").await, node(&redis, "b").await);
    let mut watcher = a.user("watcher").await;
    watcher.join("a").await;
    present(&b, &["watcher"]).await;
    let (mut here, mut there) = (a.user("ann").await, b.user("ann").await);
    here.join("a").await;
    hears(&mut watcher, "join", "ann").await;
    there.join("a").await;
    let mut bob = b.user("bob").await;
    bob.join("a").await;
    hears(&mut watcher, "join", "bob").await;
    present(&a, &["ann", "bob", "watcher"]).await;
    drop(here);
    bob.close().await;
    hears(&mut watcher, "leave", "bob").await;
    present(&b, &["ann", "watcher"]).await;
    drop(there);
    hears(&mut watcher, "leave", "ann").await;
    present(&a, &["watcher"]).await;
    let mut stranger = b.client().await;
    stranger.join("a").await;
    assert_eq!(watcher.next().await["connection"], json!(stranger.id));
    let token = crate::program::token("zoe", 60);
    stranger.send(json!({"type": "auth", "token": token})).await;
    assert_eq!(watcher.next().await["event"], "leave");
    hears(&mut watcher, "join", "zoe").await;
    present(&b, &["watcher", "zoe"]).await;
}

#[tokio::test]
async fn users_of_a_killed_node_leave_and_those_of_a_frozen_one_come_back() {
    let redis = RedisServer::start().await;
    let (a, b) = (node(&redis, "a").await, node(&redis, "b").await);
    let mut watcher = a.user("watcher").await;
    watcher.join("a").await;
    let (mut here, mut there, mut bob) = (
        a.user("ann").await,
        b.user("ann").await,
        b.user("bob").await,
    );
    here.join("a").await;
    hears(&mut watcher, "join", "ann").await;
    there.join("a").await;
    bob.join("a").await;
    hears(&mut watcher, "join", "bob").await;
    present(&a, &["ann", "bob", "watcher"]).await;
    b.signal("STOP");
    hears(&mut watcher, "leave", "bob").await;
    b.signal("CONT");
    hears(&mut watcher, "join", "bob").await;
    present(&b, &["ann", "bob", "watcher"]).await;
    b.signal("KILL");
    hears(&mut watcher, "leave", "bob").await;
    present(&a, &["ann", "watcher"]).await;
    watcher.heard_nothing().await;
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_tells_nobody_what_they_know() {
    let mut redis = RedisServer::start().await;
    let (a, b) = (node(&redis, "a").await, node(&redis, "b").await);
    let (mut ann, mut bob) = (a.user("ann").await, b.user("bob").await);
    ann.join("a").await;
    present(&b, &["ann"]).await;
    bob.join("a").await;
    hears(&mut ann, "join", "bob").await;
    redis.kill();
    a.not_ready("broker").await;
    ann.send(json!({"type": "presence", "channel": "room:a"}))
        .await;
    assert_eq!(ann.next().await["code"], "unavailable");
    redis.run().await;
    a.ready().await;
    b.ready().await;
    present(&a, &["ann", "bob"]).await;
    ann.heard_nothing().await;
}
