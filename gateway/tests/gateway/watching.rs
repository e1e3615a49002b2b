//! Metrics and probes.

use serde_json::json;

use crate::program::{Gateway, get};
use crate::wait::until;

#[tokio::test]
async fn the_five_websocket_metrics() {
    let gateway = Gateway::start(&[]).await;
    let (mut ann, mut bob) = (gateway.client().await, gateway.client().await);
    ann.subscribe("news").await;
    bob.subscribe("news").await;
    for i in 0..3 {
        ann.send(json!({"type": "chat", "channel": "news", "message": i}))
            .await;
        ann.next().await;
        bob.next().await;
    }
    ann.send(json!({"type": "dance"})).await;
    ann.next().await;
    for (series, expected) in [
        ("websocket_connected_clients", 2.0),
        ("websocket_messages_received_total{type=\"chat\"}", 3.0),
        ("websocket_messages_received_total{type=\"subscribe\"}", 2.0),
        ("websocket_messages_received_total{type=\"invalid\"}", 1.0),
        ("websocket_messages_sent_total{type=\"chat\"}", 6.0),
        ("websocket_connection_duration_seconds_count", 0.0),
        (
            "websocket_connection_duration_seconds_bucket{le=\"3600\"}",
            0.0,
        ),
    ] {
        assert_eq!(gateway.metric(series).await, Some(expected), "{series}");
    }
    assert!(
        gateway
            .metric("websocket_message_latency_seconds_count")
            .await
            >= Some(3.0)
    );
    assert!(
        gateway
            .metric("websocket_message_latency_seconds_bucket{le=\"1\"}")
            .await
            >= Some(3.0)
    );

    bob.close().await;
    until("the one that left is counted", || async {
        match gateway
            .metric("websocket_connection_duration_seconds_count")
            .await
        {
            Some(1.0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(
        gateway.metric("websocket_connected_clients").await,
        Some(1.0)
    );
    let closed = "pushcluster_connections_closed_total{code=\"normal\"}";
    assert!(gateway.metric(closed).await.is_some(), "{closed}");
}

#[tokio::test]
async fn probes() {
    let gateway = Gateway::start(&[]).await;
    gateway.ready().await;
    let ready = get(gateway.admin, "/ready").await;
    assert_eq!(
        ready.json(),
        json!({"ready": true, "gates": {"broker": "open", "connections": "open", "drain": "open", "keys": "open", "memory": "open", "self-test": "open"}})
    );
    assert_eq!(get(gateway.admin, "/live").await.status, 200);
    assert_eq!(
        get(gateway.clients, "/metrics").await.status,
        404,
        "not on the clients' port"
    );
    assert!(
        get(gateway.admin, "/version")
            .await
            .body
            .contains(env!("CARGO_PKG_VERSION"))
    );
}
