//! Channels with history: who comes back gets what was missed, on the same node and on another one.

use serde_json::{Value, json};

use crate::client::Client;
use crate::program::Gateway;
use crate::redis_server::RedisServer;
use crate::wait::until;

pub const FILE: &str = r#"
channels:
  - {prefix: "kept:", historyMessages: 10, historySeconds: 60}
  - {prefix: "kept:not", historyMessages: 0}
"#;

pub async fn publish(gateway: &Gateway, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let body = json!({"channel": "kept:a", "data": number}).to_string();
        assert_eq!(gateway.publish(&body).await.status, 200);
    }
}

pub async fn subscribed(client: &mut Client, recover: Option<Value>) -> Value {
    let mut request = json!({"type": "subscribe", "channel": "kept:a"});
    if let Some(recover) = recover {
        request["recover"] = recover;
    }
    client.send(request).await;
    client.next().await
}

pub fn numbers(answer: &Value) -> Vec<u64> {
    let messages = answer["messages"].as_array().expect("messages");
    let number = |m: &Value| m["message"].as_u64().expect("a number");
    messages.iter().map(number).collect()
}

/// `a` and `b` may be one gateway, or two with the same broker.
pub async fn comes_back(a: &Gateway, b: &Gateway) {
    let mut client = a.client().await;
    let first = subscribed(&mut client, None).await;
    assert_eq!(first["type"], "subscribed", "{first}");
    assert_eq!(
        (&first["offset"], first.get("recovered")),
        (&json!(0), None)
    );
    publish(a, 0..3).await;
    for number in 0..3 {
        let message = client.next().await;
        assert_eq!(message["message"], number);
        assert_eq!(message["offset"], number + 1);
    }
    client.close().await;

    publish(b, 3..6).await;
    let mut client = b.client().await;
    let position = json!({"epoch": first["epoch"], "offset": 3});
    let back = subscribed(&mut client, Some(position)).await;
    assert_eq!(back["recovered"], true, "{back}");
    assert_eq!(
        (numbers(&back), &back["offset"]),
        (vec![3, 4, 5], &json!(6))
    );
    publish(a, 6..7).await;
    assert_eq!(client.next().await["offset"], 7);

    // More than is kept has come meanwhile.
    publish(b, 7..20).await;
    let mut late = a.client().await;
    let position = json!({"epoch": first["epoch"], "offset": 3});
    let gone = subscribed(&mut late, Some(position)).await;
    assert_eq!(gone["recovered"], false, "{gone}");
    assert_eq!((&gone["offset"], gone.get("messages")), (&json!(20), None));
    late.send(json!({"type": "history", "channel": "kept:a", "limit": 2, "id": 1}))
        .await;
    let newest = late.next().await;
    assert_eq!((numbers(&newest), &newest["id"]), (vec![18, 19], &json!(1)));
}

#[tokio::test]
async fn on_one_node() {
    let gateway = Gateway::with_file(FILE, &[]).await;
    comes_back(&gateway, &gateway).await;
}

#[tokio::test]
async fn on_another_node() {
    let redis = RedisServer::start().await;
    let url = format!("broker.redis.url=redis://127.0.0.1:{}", redis.port);
    let set = ["broker.kind=redis", url.as_str()];
    let a = Gateway::with_file(FILE, &set).await;
    let b = Gateway::with_file(FILE, &set).await;
    a.ready().await;
    b.ready().await;
    comes_back(&a, &b).await;
}

#[tokio::test]
async fn what_a_node_missed_it_gets_from_the_log() {
    let redis = RedisServer::start().await;
    let set = on(&redis);
    let set = set.each_ref().map(String::as_str);
    let deaf = Gateway::with_file(FILE, &set).await;
    deaf.ready().await;
    let mut client = deaf.client().await;
    let first = subscribed(&mut client, None).await;
    assert_eq!(first["type"], "subscribed", "{first}");
    let list = redis.ask("CLIENT LIST TYPE pubsub").await;
    let (_, id) = list.split_once("id=").expect("one subscribes");
    let (id, _) = id.split_once(' ').expect("fields");
    let other = Gateway::with_file(FILE, &set).await;
    other.ready().await;
    redis.ask(&format!("CLIENT KILL ID {id}")).await;
    // The node comes back a moment later; no later message shows what it missed.
    publish(&other, 0..3).await;
    for number in 0..3 {
        let message = client.next().await;
        assert_eq!(message["message"], number);
        assert_eq!(message["offset"], number + 1);
    }
    until("the log was read", || async {
        let mut reads = 0.0;
        for result in ["filled", "whole"] {
            let series = format!(r#"pushcluster_gap_fills_total{{result="{result}"}}"#);
            reads += deaf.metric(&series).await.unwrap();
        }
        if reads >= 1.0 {
            Ok(())
        } else {
            Err(format!("{reads} reads"))
        }
    })
    .await;
}

#[tokio::test]
async fn who_stayed_is_told_that_the_log_was_lost() {
    let mut redis = RedisServer::start().await;
    let gateway = Gateway::with_file(FILE, &on(&redis).each_ref().map(String::as_str)).await;
    gateway.ready().await;
    let mut client = gateway.client().await;
    let first = subscribed(&mut client, None).await;
    publish(&gateway, 0..2).await;
    for offset in 1..3 {
        assert_eq!(client.next().await["offset"], offset);
    }
    redis.kill();
    redis.run().await;
    let told = client.next().await;
    assert_eq!(
        (&told["type"], &told["channel"], &told["recovered"]),
        (&json!("position"), &json!("kept:a"), &json!(false)),
        "{told}"
    );
    assert_ne!(told["epoch"], first["epoch"]);
    assert_eq!(told["offset"], 0);
    gateway.ready().await;
    publish(&gateway, 2..3).await;
    let next = client.next().await;
    assert_eq!((&next["offset"], &next["message"]), (&json!(1), &json!(2)));
    let lost = r#"pushcluster_gap_fills_total{result="new_epoch"}"#;
    assert_eq!(gateway.metric(lost).await, Some(1.0));
}

fn on(redis: &RedisServer) -> [String; 2] {
    let url = format!("broker.redis.url=redis://127.0.0.1:{}", redis.port);
    ["broker.kind=redis".into(), url]
}

#[tokio::test]
async fn what_is_not_kept_and_what_is_not_yours() {
    let gateway = Gateway::with_file(FILE, &[]).await;
    let mut client = gateway.client().await;
    for (channel, code) in [
        ("news", "no_history"),
        ("kept:not", "no_history"),
        ("user:ann", "denied"),
    ] {
        client
            .send(json!({"type": "history", "channel": channel}))
            .await;
        assert_eq!(client.next().await["code"], code, "{channel}");
    }
}
