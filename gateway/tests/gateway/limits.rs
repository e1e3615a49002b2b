//! What happens at the caps.

use tokio_tungstenite::tungstenite::Error;

use crate::client::Client;
use crate::program::{Gateway, get};
use crate::wait::until;

#[tokio::test]
async fn max_connections() {
    let gateway = Gateway::start(&["limits.maxConnections=5"]).await;
    gateway.ready().await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(gateway.client().await);
    }
    let url = format!("ws://{}/ws", gateway.clients);
    match Client::open(&url, &[]).await {
        Err(Error::Http(response)) => {
            assert_eq!(response.status(), 503);
            assert_eq!(response.headers()["retry-after"], "1");
        }
        other => panic!("{:?}", other.err()),
    }
    let why = gateway.not_ready("connections").await;
    assert_eq!(why, "5 of 5 (limits.maxConnections): 80 % or more");
    for client in &mut clients {
        client.heard_nothing().await;
    }
    clients.pop().unwrap().close().await;
    clients.pop().unwrap().close().await;
    gateway.ready().await;
    until("there is room again", || async {
        Client::open(&url, &[]).await.map_err(|e| e.to_string())
    })
    .await;
}

#[tokio::test]
async fn many_at_once_never_exceed_the_cap() {
    let gateway = Gateway::start(&["limits.maxConnections=20"]).await;
    let url = format!("ws://{}/ws", gateway.clients);
    let all = (0..60).map(|_| Client::open(&url, &[]));
    let results = futures::future::join_all(all).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 20);
    assert_eq!(
        gateway.metric("websocket_connected_clients").await,
        Some(20.0)
    );
    drop(results);
    until("all have gone", || async {
        match gateway.metric("websocket_connected_clients").await {
            Some(0.0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(get(gateway.admin, "/ready").await.status, 200);
}

#[tokio::test]
async fn channels_of_one_connection() {
    let gateway = Gateway::start(&["limits.maxChannelsPerConnection=3"]).await;
    let mut client = gateway.client().await;
    for name in ["a", "b", "c"] {
        client.subscribe(name).await;
    }
    client
        .send(serde_json::json!({"type": "subscribe", "channel": "d"}))
        .await;
    assert_eq!(client.next().await["code"], "too_many_channels");
    client
        .send(serde_json::json!({"type": "unsubscribe", "channel": "a"}))
        .await;
    assert_eq!(client.next().await["type"], "unsubscribed");
    client.subscribe("d").await;
}
