//! Those who know the protocol, and use it against the others: who never end, never read, break off, or send too much.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use gateway::protocol::close::CloseCode;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Error;

use super::raw::{HANDSHAKE, Raw, header, masked, text};
use super::tally::{Count, closed, error, evicted, http, limit, received};
use super::{BURST, MAX_MESSAGE_BYTES, PER_USER};
use crate::client::Client;
use crate::program::{API_KEY, Gateway, token};

/// What one does, and what is counted of it.
pub fn all(gateway: &Gateway) -> Vec<BoxFuture<'_, Vec<Count>>> {
    let mut all = vec![
        silent(gateway).boxed(),
        endless_head(gateway).boxed(),
        half_a_head(gateway).boxed(),
        text_flood(gateway).boxed(),
        ping_flood(gateway).boxed(),
        flood_of_one_policy(gateway).boxed(),
        crowd_of_one_user(gateway).boxed(),
        deaf(gateway).boxed(),
    ];
    for broken in broken() {
        all.push(breaks_off(gateway, broken.clone(), true).boxed());
        all.push(breaks_off(gateway, broken, false).boxed());
    }
    all
}

async fn silent(gateway: &Gateway) -> Vec<Count> {
    assert_eq!(Raw::connect(gateway).await.answer(true).await, "");
    vec![http("head_timeout")]
}

/// A byte now and then: the clock is for the whole head.
async fn endless_head(gateway: &Gateway) -> Vec<Count> {
    let mut raw = Raw::connect(gateway).await;
    raw.send(format!("GET /ws HTTP/1.1\r\n{HANDSHAKE}x: ").as_bytes())
        .await;
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    while raw.try_send(b"x").await {
        pace.tick().await;
    }
    vec![http("head_timeout")]
}

async fn half_a_head(gateway: &Gateway) -> Vec<Count> {
    let mut raw = Raw::connect(gateway).await;
    raw.send(b"GET /ws HTTP/1.1\r\nupgrade: web").await;
    raw.hang_up().await;
    vec![http("head_cut")]
}

/// What has come when a connection ends without a goodbye.
fn broken() -> Vec<Vec<u8>> {
    let chat = text(r#"{"type":"chat","channel":"numbers","message":"poison"}"#);
    vec![
        Vec::new(),
        chat[..1].to_vec(),
        chat[..5].to_vec(),
        chat[..chat.len() - 1].to_vec(),
        masked(0x01, b"{\"type\":"),
        [masked(0x01, b"{"), header(0x89, 100)].concat(),
        header(0x81, MAX_MESSAGE_BYTES as u64),
    ]
}

async fn breaks_off(gateway: &Gateway, bytes: Vec<u8>, rudely: bool) -> Vec<Count> {
    let mut raw = Raw::connect(gateway).await.upgrade("").await;
    raw.send(&bytes).await;
    if rudely {
        raw.reset();
    } else {
        raw.hang_up().await;
    }
    vec![closed(CloseCode::Abnormal)]
}

/// One burst is heard, one is refused, and then it is over.
async fn text_flood(gateway: &Gateway) -> Vec<Count> {
    let mut raw = Raw::connect(gateway).await.upgrade("").await;
    raw.send(&text(r#"{"type":"ping"}"#).repeat(2 * BURST + 1))
        .await;
    let said = raw.end().await;
    assert_eq!(said.texts.len(), 2 * BURST);
    for (index, text) in said.texts.iter().enumerate() {
        let said: Value = serde_json::from_str(text).unwrap();
        if index < BURST {
            assert_eq!(said, json!({"type": "pong"}));
        } else {
            assert_eq!(said["code"], "rate_limited");
        }
    }
    assert_eq!(said.close.unwrap().0, CloseCode::Policy.code());
    let mut counts = vec![received("ping"); 2 * BURST + 1];
    counts.extend(vec![limit("messages_per_second"); BURST + 1]);
    counts.extend(vec![error("rate_limited"); BURST]);
    counts.push(closed(CloseCode::Policy));
    counts
}

/// Of WebSocket pings, which have no answer but a pong.
async fn ping_flood(gateway: &Gateway) -> Vec<Count> {
    let mut raw = Raw::connect(gateway).await.upgrade("").await;
    raw.send(&masked(0x89, b"x").repeat(2 * BURST + 1)).await;
    let said = raw.end().await;
    assert_eq!(said.pongs, 2 * BURST);
    assert_eq!(said.close.unwrap().0, CloseCode::Policy.code());
    vec![limit("messages_per_second"), closed(CloseCode::Policy)]
}

async fn flood_of_one_policy(gateway: &Gateway) -> Vec<Count> {
    let mut raw = Raw::connect(gateway).await.upgrade("").await;
    let chat =
        |channel| text(&json!({"type": "chat", "channel": channel, "message": 1}).to_string());
    let all = [
        chat("paced.a"),
        chat("paced.b"),
        chat("paced.a"),
        chat("paced.c"),
    ];
    raw.send(&[all.concat(), masked(0x88, b"")].concat()).await;
    let said = raw.end().await;
    assert_eq!(said.texts.len(), 2, "{said:?}");
    assert!(
        said.texts
            .iter()
            .all(|text| text.contains("\"rate_limited\"")),
        "{said:?}"
    );
    let mut counts = vec![received("chat"); 4];
    for _ in 0..2 {
        counts.extend([error("rate_limited"), limit("messages_per_second")]);
    }
    counts.push(closed(CloseCode::Normal));
    counts
}

/// In the handshake and in a message.
async fn crowd_of_one_user(gateway: &Gateway) -> Vec<Count> {
    let token = token("eve", 3_600);
    let url = format!("ws://{}/ws?token={token}", gateway.clients);
    let mut crowd = Vec::new();
    for _ in 0..PER_USER {
        crowd.push(Client::open(&url, &[]).await.unwrap());
    }
    match Client::open(&url, &[]).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 429),
        other => panic!("{:?}", other.err()),
    }
    let mut late = gateway.client().await;
    late.send(json!({"type": "auth", "token": token})).await;
    assert_eq!(late.next().await["code"], "too_many_connections");
    assert_eq!(late.closed().await.0, CloseCode::Policy.code());
    drop(late);
    let mut counts = vec![
        http("too_many_connections"),
        limit("connections_per_user"),
        received("auth"),
        error("too_many_connections"),
        limit("connections_per_user"),
        closed(CloseCode::Policy),
    ];
    for client in crowd {
        client.close().await;
        counts.push(closed(CloseCode::Normal));
    }
    counts
}

/// Has a channel on which much is said, and reads nothing.
async fn deaf(gateway: &Gateway) -> Vec<Count> {
    let mut raw = Raw::narrow(gateway).await.upgrade("").await;
    raw.send(&text(r#"{"type":"subscribe","channel":"flood"}"#))
        .await;
    let data = "x".repeat(MAX_MESSAGE_BYTES - 100);
    let message = json!({"channel": "flood", "data": data});
    let batch = json!({"messages": vec![message; 50]}).to_string();
    // Far more than the kernel's buffers and the outbox hold together.
    while gateway.metric(&evicted()).await != Some(1.0) {
        let answer = gateway
            .post("/api/batch", &[("x-api-key", API_KEY)], &batch)
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    drop(raw);
    vec![
        received("subscribe"),
        evicted(),
        limit("outbox_bytes"),
        closed(CloseCode::Slow),
    ]
}
