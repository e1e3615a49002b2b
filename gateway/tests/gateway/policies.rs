//! Channel policies: who may do what, how much, and how fast.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::program::{Gateway, token_that_names};
use crate::wait::{until, within};

const RIGHTS: &str = r#"
channels:
  - {prefix: "room:", subscribe: authenticated, publish: authenticated}
  - {prefix: "room:staff", subscribe: granted, publish: granted}
  - {prefix: "prices.", subscribe: anyone, publish: nobody}
  - {prefix: broadcast, publish: nobody}
  - {prefix: "user:", publish: granted}
"#;

async fn with_token(gateway: &Gateway, channels: Value) -> Client {
    let token = token_that_names("ann", 3_600, &channels);
    Client::connect(gateway.clients, Some(&token)).await
}

/// What a request is answered with: its type, or the error's code.
async fn answer(client: &mut Client, mut request: Value) -> String {
    request["id"] = json!(1);
    client.send(request).await;
    // A publish to a channel that the client has comes back before its answer, or after it.
    loop {
        let answer = client.next().await;
        if answer["id"] == 1 {
            let code = answer.get("code").unwrap_or(&answer["type"]);
            return code.as_str().unwrap().to_owned();
        }
    }
}

#[tokio::test]
async fn who_may_subscribe_and_publish() {
    let gateway = Gateway::with_file(RIGHTS, &[]).await;
    let mut nobody = gateway.client().await;
    let mut ann = with_token(&gateway, json!(null)).await;
    let staff = json!({"channels": ["room:staff*", "user:bob"]});
    let mut boss = with_token(&gateway, staff).await;
    for (request, expected) in [
        (
            json!({"type": "join", "room": "a"}),
            ["denied", "joined", "joined"],
        ),
        (
            json!({"type": "room", "room": "a", "data": 1}),
            ["not_in_room", "published", "published"],
        ),
        (
            json!({"type": "chat", "channel": "room:a", "message": 1}),
            ["denied", "published", "published"],
        ),
        (
            json!({"type": "join", "room": "staff"}),
            ["denied", "denied", "joined"],
        ),
        (
            json!({"type": "chat", "channel": "room:staff", "message": 1}),
            ["denied", "denied", "published"],
        ),
        (
            json!({"type": "subscribe", "channel": "prices.eur"}),
            ["subscribed"; 3],
        ),
        (
            json!({"type": "chat", "channel": "prices.eur", "message": 1}),
            ["denied"; 3],
        ),
        (
            json!({"type": "chat", "channel": "free", "message": 1}),
            ["published"; 3],
        ),
        (json!({"type": "broadcast", "data": 1}), ["denied"; 3]),
        (
            json!({"type": "private", "to": "bob", "data": 1}),
            ["denied", "denied", "published"],
        ),
        (
            json!({"type": "private", "to": ann.id, "data": 1}),
            ["denied"; 3],
        ),
    ] {
        for (client, expected) in [&mut nobody, &mut ann, &mut boss].into_iter().zip(expected) {
            assert_eq!(answer(client, request.clone()).await, expected, "{request}");
        }
    }
    // The gateway's own API is not bound by what clients may.
    let body = json!({"channel": "prices.eur", "data": 5}).to_string();
    assert_eq!(gateway.publish(&body).await.status, 200);
    assert_eq!(nobody.next().await["message"], 5);
}

#[tokio::test]
async fn a_new_token_that_names_less_takes_the_rest_away() {
    let gateway = Gateway::with_file(RIGHTS, &[]).await;
    let mut ann = with_token(&gateway, json!({"subscribe": ["room:staff"]})).await;
    ann.join("staff").await;
    ann.join("a").await;
    let less = token_that_names("ann", 3_600, &json!({"channels": []}));
    ann.send(json!({"type": "auth", "token": less})).await;
    assert_eq!(
        ann.next().await,
        json!({"type": "unsubscribed", "channel": "room:staff"})
    );
    assert_eq!(ann.next().await["type"], "authenticated");
    for (channel, data) in [("room:staff", 1), ("room:a", 2)] {
        let body = json!({"channel": channel, "data": data}).to_string();
        assert_eq!(gateway.publish(&body).await.status, 200);
    }
    assert_eq!(ann.next().await["data"], 2, "not what goes to the staff");
}

#[tokio::test]
async fn size_and_pace_of_a_channel() {
    let file = r#"
channels:
  - {prefix: "small.", maxMessageBytes: 10}
  - {prefix: "calm.", messagesPerSecond: 1, messageBurst: 2}
"#;
    let gateway = Gateway::with_file(file, &[]).await;
    let (mut one, mut other) = (gateway.client().await, gateway.client().await);
    let chat = |channel: &str, message: &str| json!({"type": "chat", "channel": channel, "message": message});
    // With its quotes it has 10 bytes.
    let largest = "x".repeat(8);
    assert_eq!(
        answer(&mut one, chat("small.a", &largest)).await,
        "published"
    );
    let larger = "x".repeat(9);
    assert_eq!(answer(&mut one, chat("small.a", &larger)).await, "too_big");
    assert_eq!(answer(&mut one, chat("other", &larger)).await, "published");
    // Its channels together; other channels, and other clients, have nothing to do with it.
    let channels = ["calm.a", "calm.b", "calm.a", "free"];
    let requests = channels.iter().enumerate().map(|(id, channel)| {
        let mut request = chat(channel, "x");
        request["id"] = json!(id);
        request
    });
    one.send_together(&requests.collect::<Vec<_>>()).await;
    let mut answers = vec![String::new(); channels.len()];
    for _ in channels {
        let answer = one.next().await;
        let id = usize::try_from(answer["id"].as_u64().unwrap()).unwrap();
        let code = answer.get("code").unwrap_or(&answer["type"]);
        answers[id] = code.as_str().unwrap().to_owned();
    }
    assert_eq!(
        answers,
        ["published", "published", "rate_limited", "published"]
    );
    assert_eq!(answer(&mut other, chat("calm.a", "x")).await, "published");
    for (limit, count) in [("message_bytes", 1.0), ("messages_per_second", 1.0)] {
        let series = format!("pushcluster_refusals_total{{limit=\"{limit}\"}}");
        // A shard's numbers appear at the end of its round.
        until("it is counted", || async {
            match gateway.metric(&series).await {
                Some(counted) if counted == count => Ok(()),
                other => Err(format!("{limit}: {other:?}")),
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_keeps_its_connection_where_messages_may_be_dropped() {
    let file = r#"
limits: {maxOutboxBytes: 100000, maxMessageBytes: 100000}
channels:
  - {prefix: "prices.", slowConsumer: latest}
  - {prefix: "log.", slowConsumer: dropOldest}
"#;
    let gateway = Gateway::with_file(file, &[]).await;
    for (channel, rule) in [("prices.eur", "latest"), ("log.a", "drop_oldest")] {
        let mut deaf = gateway.client().await;
        deaf.subscribe(channel).await;
        let large = json!({"channel": channel, "data": "x".repeat(90_000)}).to_string();
        let dropped = format!("pushcluster_messages_dropped_total{{rule=\"{rule}\"}}");
        // Far more than the kernel's buffers and the outbox hold together.
        until("messages are dropped", || async {
            assert_eq!(gateway.publish(&large).await.status, 200);
            match gateway.metric(&dropped).await {
                Some(count) if count >= 1.0 => Ok(()),
                other => Err(format!("{rule}: {other:?}")),
            }
        })
        .await;
        let last = json!({"channel": channel, "data": "last"}).to_string();
        assert_eq!(gateway.publish(&last).await.status, 200);
        while deaf.next().await["message"] != "last" {}
        deaf.heard_nothing().await;
    }
}

#[tokio::test]
async fn messages_wait_where_a_policy_says_so() {
    let file = r#"{"channels": [{"prefix": "chat.", "batchMilliseconds": 1000}]}"#;
    let gateway = Gateway::with_file(file, &[]).await;
    let mut client = gateway.client().await;
    client.subscribe("chat.a").await;
    client.subscribe("other").await;
    for channel in ["chat.a", "other"] {
        let body = json!({"channel": channel, "data": channel}).to_string();
        assert_eq!(gateway.publish(&body).await.status, 200);
    }
    assert_eq!(client.next().await["message"], "other");
    client.heard_nothing().await;
    assert_eq!(client.next().await["message"], "chat.a");
}

#[tokio::test]
async fn an_event_stream_that_is_not_read_stays_where_messages_may_be_dropped() {
    let file = r#"
limits: {maxOutboxBytes: 100000, maxMessageBytes: 100000}
channels:
  - {prefix: "log.", slowConsumer: dropOldest}
"#;
    let gateway = Gateway::with_file(file, &[]).await;
    let mut deaf = TcpStream::connect(gateway.clients).await.unwrap();
    let request = "GET /sse?channel=log.a HTTP/1.1\r\nhost: x\r\n\r\n";
    deaf.write_all(request.as_bytes()).await.unwrap();
    let large = json!({"channel": "log.a", "data": "x".repeat(90_000)}).to_string();
    let dropped = "pushcluster_messages_dropped_total{rule=\"drop_oldest\"}";
    until("messages are dropped", || async {
        assert_eq!(gateway.publish(&large).await.status, 200);
        match gateway.metric(dropped).await {
            Some(count) if count >= 1.0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let last = json!({"channel": "log.a", "data": "the last one"}).to_string();
    assert_eq!(gateway.publish(&last).await.status, 200);
    let mut read = Vec::new();
    within("the last message", async {
        while !String::from_utf8_lossy(&read).contains("the last one") {
            assert_ne!(deaf.read_buf(&mut read).await.unwrap(), 0, "it ended");
            // Only the end is of interest, and the whole is long.
            let surplus = read.len().saturating_sub(1_000);
            read.drain(..surplus);
        }
    })
    .await;
}
