//! Closing sockets from a backend, and seeing which channels a node has.

use serde_json::{Value, json};

use crate::program::{API_KEY, Answer, Gateway, request};
use crate::redis_server::RedisServer;
use crate::wait::until;

const KEY: (&str, &str) = ("x-api-key", API_KEY);

async fn delete(gateway: &Gateway, path: &str) -> Answer {
    request(gateway.clients, "DELETE", path, &[KEY], "").await
}

async fn channels(gateway: &Gateway, query: &str) -> Value {
    let path = format!("/api/channels{query}");
    let answer = request(gateway.clients, "GET", &path, &[KEY], "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[tokio::test]
async fn a_user_is_disconnected_on_every_node() {
    let redis = RedisServer::start().await;
    let a = Gateway::on_redis(redis.port, &["node.name=a"]).await;
    let b = Gateway::on_redis(redis.port, &["node.name=b"]).await;
    a.ready().await;
    b.ready().await;
    let (mut here, mut there) = (a.user("ann").await, b.user("ann").await);
    let (mut kept, mut bob) = (b.user("ann").await, b.user("bob").await);
    let sent = a.post("/api/users/ann/messages", &[KEY], r#"{"data":"bye"}"#);
    assert_eq!(sent.await.status, 200);
    let path = format!("/api/users/ann/connections?exclude={}", kept.id);
    let answer = delete(&a, &path).await;
    assert_eq!(
        (answer.status, &answer.json()["accepted"]),
        (200, &json!(true)),
        "{answer:?}"
    );
    for gone in [&mut here, &mut there] {
        assert_eq!(gone.next().await["data"], "bye", "what came before it");
        assert_eq!(gone.closed().await, (3004, "Disconnected".into()));
    }
    assert_eq!(kept.next().await["data"], "bye");
    kept.heard_nothing().await;
    bob.heard_nothing().await;

    let path = format!("/api/connections/{}", bob.id);
    assert_eq!(delete(&a, &path).await.status, 200);
    assert_eq!(bob.closed().await.0, 3004);
    kept.heard_nothing().await;
    until("all three are counted", || async {
        let mut counted = 0.0;
        for gateway in [&a, &b] {
            let series = "pushcluster_connections_closed_total{code=\"disconnected\"}";
            counted += gateway.metric(series).await.unwrap_or_default();
        }
        if counted == 3.0 {
            Ok(())
        } else {
            Err(counted.to_string())
        }
    })
    .await;
}

#[tokio::test]
async fn who_cannot_be_disconnected() {
    let gateway = Gateway::start(&[]).await;
    for (path, status, field) in [
        ("/api/users/nobody/connections", 200, None),
        ("/api/connections/~gone.1", 200, None),
        ("/api/connections/ann", 422, Some("connection")),
        ("/api/users/~n.1/connections", 422, Some("user")),
        ("/api/users/%FF/connections", 422, Some("user")),
        ("/api/users/ann/connections?exclude=x", 422, Some("exclude")),
        ("/api/users/ann/connections?all=1", 422, Some("all")),
    ] {
        let answer = delete(&gateway, path).await;
        let found = answer.json();
        assert_eq!(
            (answer.status, found["error"]["field"].as_str()),
            (status, field),
            "{path}: {answer:?}"
        );
    }
    let stranger = request(
        gateway.clients,
        "DELETE",
        "/api/users/ann/connections",
        &[],
        "",
    );
    assert_eq!(stranger.await.status, 401);
}

#[tokio::test]
async fn channels_of_the_node() {
    let gateway = Gateway::start(&["node.name=a", "engine.shards=3"]).await;
    let mut clients = Vec::new();
    for i in 0..4 {
        let mut client = gateway.client().await;
        for room in 0..=i {
            client.join(&room.to_string()).await;
        }
        clients.push(client);
    }
    clients[0].subscribe("news").await;
    assert_eq!(
        channels(&gateway, "?prefix=room:").await,
        json!({"node": "a", "channels": [
            {"name": "room:0", "subscribers": 4}, {"name": "room:1", "subscribers": 3},
            {"name": "room:2", "subscribers": 2}, {"name": "room:3", "subscribers": 1},
        ]})
    );
    let first = channels(&gateway, "?limit=2").await;
    assert_eq!(first["channels"].as_array().unwrap().len(), 2, "{first}");
    assert_eq!(first["next"], "room:0");
    let rest = channels(&gateway, "?after=room:0&limit=3").await;
    assert_eq!(rest["channels"][0]["name"], "room:1");
    assert_eq!(
        (rest["channels"].as_array().unwrap().len(), &rest["next"]),
        (3, &Value::Null)
    );
    for client in clients {
        client.close().await;
    }
    until("none is left", || async {
        let left = channels(&gateway, "").await;
        if left == json!({"node": "a", "channels": []}) {
            Ok(())
        } else {
            Err(left.to_string())
        }
    })
    .await;
}

#[tokio::test]
async fn that_a_user_was_sent_away_is_not_what_was_said_to_the_user() {
    let file = "channels: [{prefix: 'user:', historyMessages: 10, historySeconds: 60}]";
    let gateway = Gateway::with_file(file, &[]).await;
    let mut ann = gateway.user("ann").await;
    assert_eq!(
        delete(&gateway, "/api/users/ann/connections").await.status,
        200
    );
    assert_eq!(ann.closed().await.0, 3004);
    let sent = gateway.post("/api/users/ann/messages", &[KEY], r#"{"data":"hello"}"#);
    assert_eq!(sent.await.status, 200);
    let mut ann = gateway.user("ann").await;
    ann.send(json!({"type": "history", "channel": "user:ann"}))
        .await;
    let said = ann.next().await;
    assert_eq!(said["offset"], 1, "{said}");
    assert_eq!(said["messages"][0]["data"], "hello");
}
