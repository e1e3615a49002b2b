//! The gateway's round trip through its own port.

use std::cell::RefCell;

use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Error;

use crate::client::Client;
use crate::program::{API_KEY, Gateway, get, request};
use crate::redis_server::RedisServer;
use crate::wait::until;

const PASSED: &str = "pushcluster_self_tests_total{result=\"passed\"}";

async fn passed(gateway: &Gateway, times: f64) {
    until("the self-test passes", || async {
        match gateway.metric(PASSED).await {
            Some(count) if count >= times => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn it_passes_and_counts_for_nothing() {
    let gateway = Gateway::start(&[]).await;
    gateway.ready().await;
    passed(&gateway, 1.0).await;
    for series in [
        "websocket_connected_clients",
        "websocket_messages_received_total{type=\"subscribe\"}",
        "websocket_messages_received_total{type=\"chat\"}",
        "websocket_messages_sent_total{type=\"chat\"}",
        "websocket_messages_sent_total{type=\"reply\"}",
        "websocket_connection_duration_seconds_count",
        "websocket_message_latency_seconds_count",
        "pushcluster_connections_closed_total{code=\"normal\"}",
    ] {
        assert_eq!(gateway.metric(series).await, Some(0.0), "{series}");
    }
    let key = [("x-api-key", API_KEY)];
    let channels = request(gateway.clients, "GET", "/api/channels", &key, "").await;
    assert_eq!(channels.status, 200);
    assert!(!channels.body.contains("self-test"), "{}", channels.body);
}

#[tokio::test]
async fn a_full_node_for_known_users_only_still_works() {
    let set = [
        "limits.maxConnections=1",
        "limits.handshakesPerSecond=1",
        "limits.messagesPerSecond=1",
        "limits.messageBurst=1",
        "auth.anonymous=false",
    ];
    let gateway = Gateway::start(&set).await;
    let _only = gateway.user("ann").await;
    let before = gateway.metric(PASSED).await.unwrap();
    passed(&gateway, before + 1.0).await;
    // What opens the door is the secret, not the header.
    let url = format!("ws://{}/ws", gateway.clients);
    match Client::open(&url, &[("x-pushcluster-self-test", "1")]).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 503),
        other => panic!("{:?}", other.err()),
    }
}

#[tokio::test]
async fn clients_cannot_use_its_channel() {
    let gateway = Gateway::start(&["node.name=a"]).await;
    let mut client = gateway.client().await;
    let channel = "node:a:self-test";
    for message in [
        json!({"type": "subscribe", "channel": channel}),
        json!({"type": "chat", "channel": channel, "message": 1}),
    ] {
        client.send(message.clone()).await;
        assert_eq!(client.next().await["code"], "denied", "{message}");
    }
    let body = json!({"channel": channel, "data": 1}).to_string();
    assert_eq!(gateway.publish(&body).await.status, 422);
}

#[tokio::test]
async fn a_node_that_no_client_can_reach_is_not_ready() {
    let set = [
        "limits.maxHandshakes=1",
        "limits.handshakeTimeoutSeconds=60",
    ];
    let gateway = Gateway::start(&set).await;
    gateway.ready().await;
    // They say nothing, and one of them has the one place of those who have yet to say something.
    let silent = RefCell::new(Vec::new());
    let why = until("the self-test fails", || async {
        let socket = TcpStream::connect(gateway.clients).await.unwrap();
        silent.borrow_mut().push(socket);
        let ready = get(gateway.admin, "/ready").await.json();
        let gate = ready["gates"]["self-test"].as_str().unwrap().to_owned();
        if gate == "open" { Err(gate) } else { Ok(gate) }
    })
    .await;
    assert!(why.starts_with("handshake: "), "{why}");
    drop(silent);
    gateway.ready().await;
}

#[tokio::test]
async fn a_node_whose_broker_is_gone_is_not_ready() {
    let mut redis = RedisServer::start().await;
    let gateway = Gateway::on_redis(redis.port, &[]).await;
    gateway.ready().await;
    redis.kill();
    let why = gateway.not_ready("self-test").await;
    assert!(why.starts_with("subscribe: "), "{why}");
}
