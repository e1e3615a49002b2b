//! Who is there, and who comes and goes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::client::Client;
use crate::event_source::EventSource;
use crate::program::{API_KEY, Gateway, request, token, token_that_names};
use crate::redis_server::RedisServer;
use crate::wait::until;

const FILE: &str = r#"
limits: {maxPresenceMembers: 2}
channels:
  - {prefix: "open:", presence: true}
  - {prefix: "room:", presence: true, historyMessages: 10, historySeconds: 60}
  - {prefix: "staff:", presence: true, subscribe: granted}
  - {prefix: "calm:", presence: true, messagesPerSecond: 1, messageBurst: 1}
  - {prefix: "user:", presence: true}
"#;

/// What the others are told. `who` is a user, or a connection.
fn event(event: &str, channel: &str, who: &str) -> Value {
    let key = if who.starts_with('~') {
        "connection"
    } else {
        "user"
    };
    json!({"type": "presence", "channel": channel, "event": event, key: who})
}

async fn list(client: &mut Client, channel: &str) -> Value {
    client
        .send(json!({"type": "presence", "channel": channel, "id": 7}))
        .await;
    client.next().await
}

async fn unsubscribe(client: &mut Client, channel: &str) {
    client
        .send(json!({"type": "unsubscribe", "channel": channel}))
        .await;
    assert_eq!(client.next().await["type"], "unsubscribed");
}

/// What was told on the channel before has been delivered, on a node with one shard: who comes now is not told of it.
async fn settle(client: &mut Client, channel: &str) {
    client
        .send(json!({"type": "chat", "channel": channel, "message": "settled"}))
        .await;
    let said = client.next().await;
    assert!(
        said["message"] == "settled" || said["data"] == "settled",
        "{said}"
    );
}

async fn ask(gateway: &Gateway, query: &str) -> (u16, Value) {
    let path = format!("/api/presence{query}");
    let key = [("x-api-key", API_KEY)];
    let answer = request(gateway.clients, "GET", &path, &key, "").await;
    (answer.status, answer.json())
}

/// A join is taken down before the next request is answered, but a leave when it comes.
async fn total(gateway: &Gateway, channel: &str, expected: u64) {
    until("so many are there", || async {
        match ask(gateway, &format!("?channel={channel}")).await {
            (200, found) if found["total"] == expected => Ok(()),
            (_, found) => Err(found.to_string()),
        }
    })
    .await;
}

#[tokio::test]
async fn who_comes_and_goes_is_told_to_the_others() {
    let gateway = Gateway::with_file(FILE, &["node.name=a", "engine.shards=1"]).await;
    let (mut ann, mut bob) = (gateway.user("ann").await, gateway.client().await);
    ann.subscribe("open:a").await;
    // One's own join is not told.
    settle(&mut ann, "open:a").await;
    bob.subscribe("open:a").await;
    let nobody = bob.id.clone();
    assert_eq!(ann.next_untimed().await, event("join", "open:a", &nobody));
    // Subscribing again is no news.
    bob.subscribe("open:a").await;
    ann.heard_nothing().await;

    let members = json!([{"user": "ann"}, {"connection": nobody}]);
    let found = json!({"type": "presence", "channel": "open:a", "members": members, "total": 2, "covers": "cluster", "id": 7});
    assert_eq!(list(&mut bob, "open:a").await, found);
    let found = json!({"node": "a", "channel": "open:a", "members": members, "total": 2, "covers": "cluster"});
    assert_eq!(ask(&gateway, "?channel=open:a").await, (200, found));
    let gauge = "pushcluster_presence_members";
    assert_eq!(gateway.metric(gauge).await, Some(2.0));

    // It says who it is.
    let bob_is = token("bob", 60);
    bob.send(json!({"type": "auth", "token": bob_is})).await;
    assert_eq!(bob.next().await["type"], "authenticated");
    assert_eq!(ann.next_untimed().await, event("leave", "open:a", &nobody));
    assert_eq!(ann.next_untimed().await, event("join", "open:a", "bob"));
    unsubscribe(&mut bob, "open:a").await;
    assert_eq!(ann.next_untimed().await, event("leave", "open:a", "bob"));
    bob.subscribe("open:a").await;
    assert_eq!(ann.next_untimed().await, event("join", "open:a", "bob"));
    // It goes without a word.
    drop(bob);
    assert_eq!(ann.next_untimed().await, event("leave", "open:a", "bob"));
    ann.close().await;
    total(&gateway, "open:a", 0).await;
    assert_eq!(gateway.metric(gauge).await, Some(0.0));
}

#[tokio::test]
async fn a_user_is_one_member_with_however_many_connections() {
    let gateway = Gateway::with_file(FILE, &["engine.shards=1"]).await;
    let (mut ann, mut again) = (gateway.user("ann").await, gateway.user("ann").await);
    ann.join("a").await;
    settle(&mut ann, "room:a").await;
    again.join("a").await;
    let query = format!("channel=room:a&token={}", token("bob", 60));
    let mut bob = EventSource::open(gateway.clients, &query, &[]).await;
    // The user's own channel and this one are subscribed side by side.
    let said = [bob.next().await, bob.next().await].map(|said| said["type"].to_string());
    assert_eq!(BTreeSet::from(said).len(), 2, "welcome and subscribed");
    for client in [&mut ann, &mut again] {
        assert_eq!(client.next_untimed().await, event("join", "room:a", "bob"));
    }
    let mut third = gateway.client().await;
    third.join("a").await;
    let id = third.id.clone();
    for client in [&mut ann, &mut again] {
        assert_eq!(client.next_untimed().await, event("join", "room:a", &id));
    }
    assert_eq!(bob.next_untimed().await, event("join", "room:a", &id));
    // More than an answer names are counted.
    let found = list(&mut third, "room:a").await;
    let members = json!([{"user": "ann"}, {"user": "bob"}]);
    assert_eq!(
        (&found["members"], &found["total"]),
        (&members, &json!(3)),
        "{found}"
    );

    ann.send(json!({"type": "room", "room": "a", "data": 1}))
        .await;
    let message = bob.next().await;
    assert_eq!(
        (&message["data"], &message["offset"]),
        (&json!(1), &json!(2)),
        "no join is kept"
    );
    drop(ann);
    total(&gateway, "room:a", 3).await;
    again.close().await;
    assert_eq!(bob.next_untimed().await, event("leave", "room:a", "ann"));
    drop(bob);
    assert_eq!(third.next().await["type"], "room");
    assert_eq!(third.next_untimed().await, event("leave", "room:a", "ann"));
    assert_eq!(third.next_untimed().await, event("leave", "room:a", "bob"));
}

#[tokio::test]
async fn who_does_not_answer_a_ping_has_left() {
    let gateway = Gateway::with_file(FILE, &["heartbeat.pingSeconds=1"]).await;
    let (mut ann, mut silent) = (gateway.user("ann").await, gateway.user("bob").await);
    ann.subscribe("open:a").await;
    silent.subscribe("open:a").await;
    assert_eq!(ann.next_untimed().await, event("join", "open:a", "bob"));
    // Pings are answered by who reads.
    assert_eq!(ann.next_untimed().await, event("leave", "open:a", "bob"));
}

/// One user comes and goes on connections of several shards at once: were a last leave and a first join to change
/// places, who watches would take the user for gone for good.
#[tokio::test]
async fn joins_and_leaves_of_a_user_alternate() {
    const TIMES: usize = 800;
    let set = ["engine.shards=4", "limits.messagesPerSecond=0"];
    let gateway = Gateway::with_file(FILE, &set).await;
    // So that no shard has to ask for the channel first.
    let mut there = Vec::new();
    for _ in 0..4 {
        let mut client = gateway.user("watcher").await;
        client.subscribe("open:a").await;
        there.push(client);
    }
    let both = ["subscribe", "unsubscribe"].map(|what| json!({"type": what, "channel": "open:a"}));
    let all: Vec<Value> = std::iter::repeat_n(both, TIMES).flatten().collect();
    let mut comers = Vec::new();
    for _ in 0..4 {
        let (mut client, all) = (gateway.user("ann").await, all.clone());
        comers.push(tokio::spawn(async move {
            client.send_together(&all).await;
            let mut times = 0;
            // Joins and leaves of the others come in between.
            while times < TIMES {
                times += usize::from(client.next().await["type"] == "unsubscribed");
            }
            // Behind all of it on the way to the broker: once this is there, so is the last leave.
            client
                .send(json!({"type": "chat", "channel": "end", "message": 0, "id": 1}))
                .await;
            while client.next().await["type"] != "published" {}
        }));
    }
    for comer in comers {
        comer.await.unwrap();
    }
    let refused = "pushcluster_publish_failures_total{cause=\"unavailable\"}";
    assert_eq!(
        gateway.metric(refused).await,
        Some(0.0),
        "the broker has too much to do"
    );
    let done = gateway.publish(r#"{"channel":"open:a","data":"done"}"#);
    assert_eq!(done.await.status, 200);
    let watcher = &mut there[0];
    let mut joins = 0;
    loop {
        let joined = watcher.next_untimed().await;
        if joined["message"] == "done" {
            break;
        }
        assert_eq!(joined, event("join", "open:a", "ann"));
        let left = watcher.next_untimed().await;
        assert_eq!(left, event("leave", "open:a", "ann"));
        joins += 1;
    }
    assert!(joins > 0);
}

#[tokio::test]
async fn what_is_refused() {
    let gateway = Gateway::with_file(FILE, &[]).await;
    let staff = token_that_names("eve", 60, &json!({"channels": ["staff:*"]}));
    let mut eve = Client::connect(gateway.clients, Some(&staff)).await;
    eve.subscribe("staff:a").await;
    assert_eq!(list(&mut eve, "staff:a").await["total"], 1);
    let mut client = gateway.user("ann").await;
    client.subscribe("news").await;
    let mut codes = Vec::new();
    let channels = [
        "open:a",
        "staff:a",
        "news",
        "user:bob",
        "user:ann",
        "broadcast",
        "",
    ];
    for channel in channels {
        let refused = list(&mut client, channel).await;
        assert_eq!(refused["id"], 7, "{channel}: {refused}");
        codes.push(refused["code"].as_str().unwrap().to_owned());
    }
    assert_eq!(
        codes,
        [
            "denied",
            "denied",
            "no_presence",
            "denied",
            "no_presence",
            "denied",
            "bad_field"
        ]
    );
    // Who has lost the right to be there hears of nobody any more.
    let less = token_that_names("eve", 60, &json!({"channels": []}));
    eve.send(json!({"type": "auth", "token": less})).await;
    let said: BTreeSet<String> = [eve.next().await, eve.next().await]
        .map(|said| said["type"].to_string())
        .into();
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(list(&mut eve, "staff:a").await["code"], "denied");
    total(&gateway, "staff:a", 0).await;
    // Who comes and goes all the time tells everybody, so it is held to their pace.
    client.subscribe("calm:a").await;
    client
        .send(json!({"type": "subscribe", "channel": "calm:b"}))
        .await;
    assert_eq!(client.next().await["code"], "rate_limited");
}

#[tokio::test]
async fn what_is_refused_over_http() {
    let gateway = Gateway::with_file(FILE, &[]).await;
    for (query, status, code) in [
        ("?channel=news", 404, "no_presence"),
        ("?channel=user:ann", 404, "no_presence"),
        ("?channel=", 422, "bad_field"),
        ("?channel=open:a&limit=1", 422, "bad_field"),
        ("", 422, "bad_field"),
    ] {
        let (found, refused) = ask(&gateway, query).await;
        assert_eq!(
            (found, &refused["error"]["code"]),
            (status, &json!(code)),
            "{query}"
        );
    }
    let path = "/api/presence?channel=open:a";
    let anonymous = request(gateway.clients, "GET", path, &[], "").await;
    assert_eq!(anonymous.status, 401);
}

#[tokio::test]
async fn other_nodes_hear_it_and_an_answer_covers_all_of_them() {
    let redis = RedisServer::start().await;
    let url = format!("broker.redis.url=redis://127.0.0.1:{}", redis.port);
    let node = async |name: &str| {
        let slow = ["drain.connectionsPerSecond=1", "drain.deadlineSeconds=1"];
        let one = ["engine.shards=1", "broker.kind=redis", &url, name];
        let gateway = Gateway::with_file(FILE, &[slow.as_slice(), &one].concat()).await;
        gateway.ready().await;
        gateway
    };
    let (a, mut b) = (node("node.name=a").await, node("node.name=b").await);
    let mut ann = a.user("ann").await;
    ann.join("a").await;
    let mut bob = b.user("bob").await;
    bob.join("a").await;
    assert_eq!(ann.next_untimed().await, event("join", "room:a", "bob"));
    let found = list(&mut ann, "room:a").await;
    assert_eq!(found["members"], json!([{"user": "ann"}, {"user": "bob"}]));
    assert_eq!(
        (&found["total"], &found["covers"]),
        (&json!(2), &json!("cluster"))
    );
    total(&b, "room:a", 2).await;
    bob.close().await;
    assert_eq!(ann.next_untimed().await, event("leave", "room:a", "bob"));

    // Those whom a drain has not sent away at its deadline leave with the node.
    let (mut streams, mut sockets) = (Vec::new(), Vec::new());
    for number in 0..6 {
        let user = format!("bob-{number}");
        if number % 2 == 0 {
            let query = format!("channel=room:a&token={}", token(&user, 60));
            streams.push(EventSource::open(b.clients, &query, &[]).await);
        } else {
            let mut bob = b.user(&user).await;
            bob.join("a").await;
            sockets.push(bob);
        }
        assert_eq!(ann.next_untimed().await, event("join", "room:a", &user));
    }
    total(&a, "room:a", 7).await;
    b.signal("TERM");
    let mut left = BTreeSet::new();
    for _ in 0..6 {
        let said = ann.next().await;
        assert_eq!(said["event"], "leave", "{said}");
        left.insert(said["user"].as_str().unwrap().to_owned());
    }
    assert_eq!(left.len(), 6, "{left:?}");
    assert_eq!(b.exit().await.code(), Some(0));
}
