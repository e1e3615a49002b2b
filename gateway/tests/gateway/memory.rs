//! What happens when memory is short: clients that do not read make it grow for real.

use serde_json::json;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Error;

use crate::client::Client;
use crate::program::{Gateway, get};
use crate::wait::until;

/// Of one message: few of them fill the memory, and none is above the limit of a message.
const MESSAGE_BYTES: usize = 1_000_000;

#[tokio::test]
async fn a_full_node_refuses_then_evicts_the_oldest_and_recovers() {
    let set = [
        "limits.maxMemoryBytes=160000000",
        // What waits for one client alone must not close it before memory is short.
        "limits.maxOutboxBytes=1000000000",
        // One shard, so that the oldest tenth of 20 is the first two for certain.
        "engine.shards=1",
    ];
    let gateway = Gateway::start(&set).await;
    gateway.ready().await;
    let mut deaf = gateway.client().await;
    deaf.subscribe("to a client that does not read").await;
    let mut second = gateway.client().await;
    let mut others = Vec::new();
    for _ in 0..18 {
        others.push(gateway.client().await);
    }
    let body = json!({
        "channel": "to a client that does not read",
        "data": "x".repeat(MESSAGE_BYTES),
    });
    let body = body.to_string();
    let url = format!("ws://{}/ws", gateway.clients);
    until("memory is full", || async {
        assert_eq!(gateway.publish(&body).await.status, 200);
        // No more than the handshake: who passes it just before is closed with 1013 instead of a welcome.
        match connect_async(&url).await {
            Ok(_) => Err(get(gateway.admin, "/ready").await.body),
            Err(Error::Http(response)) => {
                assert_eq!(response.status(), 503);
                assert_eq!(response.headers()["retry-after"], "1");
                Ok(())
            }
            Err(other) => panic!("{other}"),
        }
    })
    .await;
    let why = gateway.not_ready("memory").await;
    assert!(why.contains("152 MiB"), "{why}");
    // The first two of twenty, one of which has all the memory.
    assert_eq!(
        second.closed().await,
        (1001, "Server overloaded".to_owned())
    );
    gateway.ready().await;
    until("clients are let in again", || async {
        Client::open(&url, &[]).await.map_err(|e| e.to_string())
    })
    .await;
    for client in &mut others {
        client.heard_nothing().await;
    }
    drop(deaf);
    until("the evictions are counted", || async {
        match gateway.metric("pushcluster_evictions_total").await {
            Some(2.0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let refused = "pushcluster_refusals_total{limit=\"memory_bytes\"}";
    assert!(gateway.metric(refused).await >= Some(1.0));
    assert_eq!(
        gateway.metric("pushcluster_memory_limit_bytes").await,
        Some(160_000_000.0)
    );
}

#[tokio::test]
async fn a_limit_that_is_too_low_for_anybody() {
    let gateway = Gateway::start(&["limits.maxMemoryBytes=1000000"]).await;
    gateway.not_ready("memory").await;
    let url = format!("ws://{}/ws", gateway.clients);
    match Client::open(&url, &[]).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 503),
        other => panic!("{:?}", other.err()),
    }
}

#[tokio::test]
async fn without_a_limit_nothing_is_refused() {
    let gateway = Gateway::start(&["limits.maxMemoryBytes=0"]).await;
    gateway.ready().await;
    gateway.client().await.heard_nothing().await;
}
