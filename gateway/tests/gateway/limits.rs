//! What happens at the caps.

use serde_json::json;
use tokio_tungstenite::tungstenite::Error;

use crate::client::Client;
use crate::program::{Gateway, token};
use crate::wait::{until, within};

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
    refused_in_all(&gateway, "connections", 1.0).await;
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
    // A place is free a moment after its client has been counted out.
    gateway.ready().await;
}

#[tokio::test]
async fn channels_of_one_connection() {
    let gateway = Gateway::start(&["limits.maxChannelsPerConnection=3"]).await;
    let mut client = gateway.client().await;
    for name in ["a", "b", "c"] {
        client.subscribe(name).await;
    }
    client
        .send(json!({"type": "subscribe", "channel": "d"}))
        .await;
    assert_eq!(client.next().await["code"], "too_many_channels");
    refused_in_all(&gateway, "channels_per_connection", 1.0).await;
    client
        .send(json!({"type": "unsubscribe", "channel": "a"}))
        .await;
    assert_eq!(client.next().await["type"], "unsubscribed");
    client.subscribe("d").await;
}

/// The status with which a handshake is refused, and what `Retry-After` says.
async fn refused(url: &str, headers: &[(&'static str, &str)]) -> (u16, String) {
    match Client::open(url, headers).await {
        Err(Error::Http(response)) => {
            let retry_after = response.headers().get("retry-after");
            let retry_after = retry_after.map_or("", |value| value.to_str().unwrap());
            (response.status().as_u16(), retry_after.to_owned())
        }
        other => panic!("{:?}", other.err()),
    }
}

/// A shard's numbers appear at the end of its round.
async fn refused_in_all(gateway: &Gateway, limit: &str, count: f64) {
    until("the refusals are counted", || async {
        match refusals(gateway, limit).await {
            Some(counted) if counted == count => Ok(()),
            other => Err(format!("{limit}: {other:?}")),
        }
    })
    .await;
}

async fn refusals(gateway: &Gateway, limit: &str) -> Option<f64> {
    let series = format!("pushcluster_refusals_total{{limit=\"{limit}\"}}");
    gateway.metric(&series).await
}

#[tokio::test]
async fn connections_of_one_user() {
    let gateway = Gateway::start(&["limits.maxConnectionsPerUser=2"]).await;
    let ann = token("ann", 3_600);
    let first = Client::connect(gateway.clients, Some(&ann)).await;
    let _second = Client::connect(gateway.clients, Some(&ann)).await;
    let url = format!("ws://{}/ws?token={ann}", gateway.clients);
    assert_eq!(refused(&url, &[]).await, (429, "1".to_owned()));
    let _bob = Client::connect(gateway.clients, Some(&token("bob", 3_600))).await;
    // Nobody in particular may connect, but not become the user who has enough.
    let mut late = gateway.client().await;
    late.send(json!({"type": "auth", "token": ann, "id": 1}))
        .await;
    let error = late.next().await;
    assert_eq!(
        (&error["code"], &error["id"]),
        (&json!("too_many_connections"), &json!(1))
    );
    assert_eq!(late.closed().await.0, 1008);
    refused_in_all(&gateway, "connections_per_user", 2.0).await;
    first.close().await;
    until("the place is free again", || async {
        Client::open(&url, &[]).await.map_err(|e| e.to_string())
    })
    .await;
}

#[tokio::test]
async fn connections_of_one_user_who_says_so_later() {
    let gateway = Gateway::start(&["limits.maxConnectionsPerUser=1"]).await;
    let ann = token("ann", 3_600);
    let mut first = gateway.client().await;
    for _ in 0..2 {
        // Again is no second connection.
        first.send(json!({"type": "auth", "token": ann})).await;
        assert_eq!(first.next().await["type"], "authenticated");
    }
    let url = format!("ws://{}/ws?token={ann}", gateway.clients);
    assert_eq!(refused(&url, &[]).await.0, 429);
    first.close().await;
    until("the place is free again", || async {
        Client::open(&url, &[]).await.map_err(|e| e.to_string())
    })
    .await;
}

#[tokio::test]
async fn connections_from_one_address() {
    let set = [
        "limits.maxConnectionsPerAddress=1",
        "listen.trustedProxies=127.0.0.0/8",
    ];
    let gateway = Gateway::start(&set).await;
    let url = format!("ws://{}/ws", gateway.clients);
    let from = |address| [("x-forwarded-for", address)];
    let mut clients = Vec::new();
    for address in [
        "192.0.2.1",
        "192.0.2.2",
        "2001:db8:1:1::1",
        "2001:db8:1:2::1",
    ] {
        clients.push(Client::open(&url, &from(address)).await.unwrap());
    }
    for address in [
        "192.0.2.1",
        "198.51.100.1, 192.0.2.2",
        "2001:db8:1:1:ffff::1",
    ] {
        assert_eq!(
            refused(&url, &from(address)).await,
            (429, "1".to_owned()),
            "{address}"
        );
    }
    refused_in_all(&gateway, "connections_per_address", 3.0).await;
    clients.remove(0).close().await;
    until("the place is free again", || async {
        let opened = Client::open(&url, &from("192.0.2.1")).await;
        opened.map_err(|e| e.to_string())
    })
    .await;
}

#[tokio::test]
async fn a_header_of_a_stranger_is_no_address() {
    let gateway = Gateway::start(&["limits.maxConnectionsPerAddress=1"]).await;
    let _here = gateway.client().await;
    let url = format!("ws://{}/ws", gateway.clients);
    let lie = [("x-forwarded-for", "192.0.2.1")];
    assert_eq!(refused(&url, &lie).await.0, 429);
}

#[tokio::test]
async fn handshakes_come_at_a_pace() {
    let gateway = Gateway::start(&["limits.handshakesPerSecond=2"]).await;
    let url = format!("ws://{}/ws", gateway.clients);
    let all = futures::future::join_all((0..40).map(|_| Client::open(&url, &[]))).await;
    let let_in = all.iter().filter(|result| result.is_ok()).count();
    assert!((2..30).contains(&let_in), "{let_in} of 40 were let in");
    for refused in all.iter().filter_map(|result| result.as_ref().err()) {
        match refused {
            Error::Http(response) => {
                assert_eq!(response.status(), 503);
                assert_eq!(response.headers()["retry-after"], "1");
            }
            other => panic!("{other}"),
        }
    }
    refused_in_all(&gateway, "handshakes_per_second", (40 - let_in) as f64).await;
    // Who was let in is served, and a little later there is room.
    for mut client in all.into_iter().flatten() {
        client.heard_nothing().await;
    }
    until("there is room again", || async {
        Client::open(&url, &[]).await.map_err(|e| e.to_string())
    })
    .await;
}

#[tokio::test]
async fn messages_of_one_connection_come_at_a_pace() {
    let set = ["limits.messagesPerSecond=1", "limits.messageBurst=3"];
    let gateway = Gateway::start(&set).await;
    let (mut hasty, mut calm) = (gateway.client().await, gateway.client().await);
    let pings: Vec<_> = (0..5).map(|id| json!({"type": "ping", "id": id})).collect();
    hasty.send_together(&pings).await;
    for id in 0..3 {
        assert_eq!(hasty.next().await, json!({"type": "pong", "id": id}));
    }
    for id in 3..5 {
        let error = hasty.next().await;
        assert_eq!(
            (&error["type"], &error["code"], &error["id"]),
            (&json!("error"), &json!("rate_limited"), &json!(id))
        );
    }
    calm.heard_nothing().await;
    // It goes on, as fast as it can. What it is told on the way is more of the same.
    let flood = json!({"type": "ping"}).to_string();
    for _ in 0..4 {
        let _ = hasty.try_send_text(&flood).await;
    }
    assert_eq!(hasty.closed_at_last().await.0, 1008);
    calm.heard_nothing().await;
    let counted = refusals(&gateway, "messages_per_second").await.unwrap();
    assert!(counted >= 3.0, "{counted}");
}

#[tokio::test]
async fn a_message_that_is_too_big() {
    let gateway = Gateway::start(&["limits.maxMessageBytes=1000"]).await;
    let mut client = gateway.client().await;
    let chat = |bytes| json!({"type": "chat", "channel": "a", "message": "x".repeat(bytes)});
    client.send(chat(900)).await;
    client.heard_nothing().await;
    client.send(chat(1_000)).await;
    assert_eq!(client.closed().await.0, 1009);
    refused_in_all(&gateway, "message_bytes", 1.0).await;
}

#[tokio::test]
async fn a_client_that_does_not_read() {
    let set = [
        "limits.maxOutboxBytes=100000",
        "limits.maxMessageBytes=100000",
    ];
    let gateway = Gateway::start(&set).await;
    let (mut deaf, mut good) = (gateway.client().await, gateway.client().await);
    deaf.subscribe("a").await;
    good.subscribe("a").await;
    let body = json!({"channel": "a", "data": "x".repeat(90_000)}).to_string();
    // Far more than the kernel's buffers and the outbox hold together.
    let closed = async {
        while refusals(&gateway, "outbox_bytes").await != Some(1.0) {
            assert_eq!(gateway.publish(&body).await.status, 200);
            // Before the next one comes: who reads must not be taken for slow when the machine is.
            good.next().await;
        }
    };
    within("it is closed", closed).await;
    good.heard_nothing().await;
    drop(deaf);
}
