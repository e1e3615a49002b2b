//! The native protocol between clients of one gateway on memory.

use serde_json::json;

use crate::client::Client;
use crate::program::{Gateway, token};

#[tokio::test]
async fn ping_and_mistakes() {
    let gateway = Gateway::start(&[]).await;
    let mut client = gateway.client().await;
    client.send(json!({"type": "ping"})).await;
    assert_eq!(client.next().await, json!({"type": "pong"}));
    client.send(json!({"type": "ping", "id": 7})).await;
    assert_eq!(client.next().await, json!({"type": "pong", "id": 7}));
    for (text, code) in [
        (r#"{"type":"dance","id":"a"}"#, "unknown_type"),
        ("not json", "bad_json"),
        ("[]", "bad_json"),
        (r#"{"type":"subscribe"}"#, "bad_field"),
        (r#"{"type":"subscribe","channel":"node:x"}"#, "denied"),
        (
            r#"{"type":"subscribe","channel":"user:somebody"}"#,
            "denied",
        ),
    ] {
        client.send_text(text).await;
        let answer = client.next().await;
        assert_eq!(
            (&answer["type"], &answer["code"]),
            (&json!("error"), &json!(code)),
            "{text}"
        );
    }
    client.heard_nothing().await;
}

#[tokio::test]
async fn chat() {
    let gateway = Gateway::start(&[]).await;
    let (mut ann, mut nobody) = (gateway.user("ann").await, gateway.client().await);
    ann.subscribe("news").await;
    nobody.subscribe("news").await;
    ann.send(json!({"type": "chat", "channel": "news", "message": {"a": [1, "ü"]}}))
        .await;
    let expected =
        json!({"type": "chat", "channel": "news", "message": {"a": [1, "ü"]}, "from": "ann"});
    assert_eq!(
        ann.next_untimed().await,
        expected,
        "a chat comes back to its sender"
    );
    assert_eq!(nobody.next_untimed().await, expected);

    nobody
        .send(json!({"type": "unsubscribe", "channel": "news"}))
        .await;
    assert_eq!(nobody.next().await["type"], "unsubscribed");
    ann.send(json!({"type": "chat", "channel": "news", "message": 2}))
        .await;
    assert_eq!(ann.next().await["message"], 2);
    nobody.heard_nothing().await;
}

#[tokio::test]
async fn what_one_client_sends_keeps_its_order() {
    let gateway = Gateway::start(&[]).await;
    let (mut sender, mut reader) = (gateway.client().await, gateway.client().await);
    reader.subscribe("news").await;
    for i in 0..2_000 {
        sender
            .send(json!({"type": "chat", "channel": "news", "message": i}))
            .await;
    }
    for i in 0..2_000 {
        assert_eq!(reader.next().await["message"], i);
    }
}

#[tokio::test]
async fn rooms_leave_out_the_sender() {
    let gateway = Gateway::start(&[]).await;
    let (mut ann, mut bob) = (gateway.user("ann").await, gateway.user("bob").await);
    let mut outside = gateway.client().await;
    ann.join("lobby").await;
    bob.join("lobby").await;
    ann.send(json!({"type": "room", "room": "lobby", "data": "hello"}))
        .await;
    let expected = json!({"type": "room", "room": "lobby", "data": "hello", "from": "ann"});
    assert_eq!(bob.next_untimed().await, expected);
    ann.heard_nothing().await;
    outside.heard_nothing().await;

    bob.send(json!({"type": "leave", "room": "lobby"})).await;
    assert_eq!(bob.next().await["type"], "left");
    bob.send(json!({"type": "room", "room": "lobby", "data": 1}))
        .await;
    assert_eq!(bob.next().await["code"], "not_in_room");
    ann.heard_nothing().await;
}

#[tokio::test]
async fn private_to_a_user_and_to_one_connection() {
    let gateway = Gateway::start(&[]).await;
    let mut sender = gateway.user("ann").await;
    let (mut phone, mut browser) = (gateway.user("bob").await, gateway.user("bob").await);
    sender
        .send(json!({"type": "private", "to": "bob", "data": 1}))
        .await;
    let expected = json!({"type": "private", "data": 1, "from": "ann"});
    assert_eq!(phone.next_untimed().await, expected);
    assert_eq!(browser.next_untimed().await, expected);

    sender
        .send(json!({"type": "private", "to": phone.id, "data": 2}))
        .await;
    assert_eq!(phone.next().await["data"], 2);
    browser.heard_nothing().await;
    sender.heard_nothing().await;
}

#[tokio::test]
async fn broadcast_reaches_everyone_else() {
    let gateway = Gateway::start(&[]).await;
    let mut sender = gateway.client().await;
    let mut others = [
        gateway.client().await,
        gateway.user("bob").await,
        gateway.client().await,
    ];
    sender.send(json!({"type": "broadcast", "data": [1]})).await;
    for other in &mut others {
        let message = other.next_untimed().await;
        assert_eq!(
            (&message["type"], &message["data"]),
            (&json!("broadcast"), &json!([1]))
        );
    }
    sender.heard_nothing().await;
}

#[tokio::test]
async fn tokens() {
    let gateway = Gateway::start(&["auth.anonymous=false"]).await;
    let mut late = gateway.client().await;
    late.send(json!({"type": "subscribe", "channel": "news"}))
        .await;
    assert_eq!(late.next().await["code"], "unauthorized");
    late.send(json!({"type": "auth", "token": "nonsense"}))
        .await;
    assert_eq!(late.next().await["code"], "unauthorized");
    late.send(json!({"type": "auth", "token": token("ann", -60)}))
        .await;
    assert_eq!(late.next().await["code"], "unauthorized");
    late.send(json!({"type": "auth", "token": token("ann", 60), "id": 1}))
        .await;
    let answer = late.next().await;
    assert_eq!(
        (&answer["type"], &answer["user"], &answer["id"]),
        (&json!("authenticated"), &json!("ann"), &json!(1))
    );
    late.subscribe("news").await;

    let bearer = format!("Bearer {}", token("bob", 60));
    let url = format!("ws://{}/ws", gateway.clients);
    let mut bob = Client::open(&url, &[("authorization", &bearer)])
        .await
        .unwrap();
    bob.send(json!({"type": "chat", "channel": "news", "message": 1}))
        .await;
    assert_eq!(late.next().await["from"], "bob");
}

#[tokio::test]
async fn a_token_that_ends_closes_the_connection() {
    let gateway = Gateway::start(&[]).await;
    let mut client = Client::connect(gateway.clients, Some(&token("ann", 2))).await;
    assert_eq!(client.closed().await, (3000, "Unauthorized".into()));
}
