//! Two gateways on one real Redis.

use serde_json::json;

use crate::client::Client;
use crate::program::{Gateway, token};
use crate::redis_server::RedisServer;
use crate::wait::until;

async fn pair(redis: &RedisServer) -> (Gateway, Gateway) {
    let a = Gateway::on_redis(redis.port, &["node.name=a"]).await;
    let b = Gateway::on_redis(redis.port, &["node.name=b"]).await;
    a.ready().await;
    b.ready().await;
    (a, b)
}

#[tokio::test]
async fn everything_crosses_nodes() {
    let redis = RedisServer::start().await;
    let (a, b) = pair(&redis).await;
    let (mut ann, mut bob) = (a.user("ann").await, b.user("bob").await);
    assert!(
        ann.id.starts_with("~a.") && bob.id.starts_with("~b."),
        "{} {}",
        ann.id,
        bob.id
    );

    bob.subscribe("news").await;
    ann.send(json!({"type": "chat", "channel": "news", "message": 1}))
        .await;
    assert_eq!(bob.next().await["message"], 1);

    ann.join("lobby").await;
    bob.join("lobby").await;
    bob.send(json!({"type": "room", "room": "lobby", "data": 2}))
        .await;
    assert_eq!(ann.next().await["data"], 2);

    ann.send(json!({"type": "private", "to": bob.id, "data": 3}))
        .await;
    assert_eq!(
        bob.next_untimed().await,
        json!({"type": "private", "data": 3, "from": "ann"})
    );
    bob.send(json!({"type": "private", "to": "ann", "data": 4}))
        .await;
    assert_eq!(ann.next().await["data"], 4);

    ann.send(json!({"type": "broadcast", "data": 5})).await;
    assert_eq!(bob.next().await["data"], 5);
    ann.heard_nothing().await;

    assert_eq!(
        b.publish(r#"{"channel":"room:lobby","data":6}"#)
            .await
            .status,
        200
    );
    assert_eq!(ann.next().await["data"], 6);
    assert_eq!(bob.next().await["data"], 6);
}

#[tokio::test]
async fn redis_goes_and_comes_back() {
    let mut redis = RedisServer::start().await;
    let (a, b) = pair(&redis).await;
    let (mut ann, mut bob) = (a.client().await, b.client().await);
    ann.subscribe("news").await;
    bob.subscribe("news").await;
    redis.kill();
    let why = a.not_ready("broker").await;
    assert!(why.contains(&format!("127.0.0.1:{}", redis.port)), "{why}");
    b.not_ready("broker").await;
    // A user whom private messages could not reach is not let in as if they could.
    let url = format!("ws://{}/ws?token={}", a.clients, token("ann", 60));
    let mut user = Client::handshake(&url, &[]).await.unwrap();
    assert_eq!(user.closed().await.0, 1013);
    // The connections stay, and clients are told that it does not work now.
    ann.heard_nothing().await;
    ann.send(json!({"type": "chat", "channel": "news", "message": 1}))
        .await;
    assert_eq!(ann.next().await["code"], "unavailable");
    ann.send(json!({"type": "subscribe", "channel": "late"}))
        .await;
    assert_eq!(ann.next().await["code"], "unavailable");
    let answer = a.publish(r#"{"channel":"news","data":1}"#).await;
    assert_eq!(answer.status, 503);
    assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
    assert_eq!(answer.json()["error"]["code"], "unavailable");

    redis.run().await;
    a.ready().await;
    b.ready().await;
    until("published", || async {
        let answer = a.publish(r#"{"channel":"news","data":2}"#).await;
        if answer.status == 200 {
            Ok(())
        } else {
            Err(answer.body)
        }
    })
    .await;
    assert_eq!(ann.next().await["message"], 2);
    assert_eq!(bob.next().await["message"], 2);
}

#[tokio::test]
async fn redis_comes_after_the_gateway() {
    let mut redis = RedisServer::absent();
    let gateway = Gateway::on_redis(redis.port, &[]).await;
    let why = gateway.not_ready("broker").await;
    let log = until("one clear line", || async {
        let log = gateway.log();
        if log.contains("broker.redis.url") {
            Ok(log)
        } else {
            Err(log)
        }
    })
    .await;
    assert!(
        log.contains(&format!("Redis at 127.0.0.1:{}", redis.port)),
        "{log}"
    );
    assert!(why.contains(&format!("127.0.0.1:{}", redis.port)), "{why}");
    let mut early = gateway.client().await;
    redis.run().await;
    gateway.ready().await;
    assert_eq!(
        gateway.log().matches("Connection refused").count(),
        1,
        "{}",
        gateway.log()
    );
    early.subscribe("news").await;
    assert_eq!(
        gateway
            .publish(r#"{"channel":"news","data":1}"#)
            .await
            .status,
        200
    );
    assert_eq!(early.next().await["message"], 1);
    // What the node needs for itself was asked for again.
    until("broadcast reaches it", || async {
        let log = gateway.log();
        if log.contains("subscribed at Redis") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
}
