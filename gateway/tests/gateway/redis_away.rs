//! While Redis is away, nothing is dropped in silence: every kind of publish and question is refused with an error that
//! says so, connections stay, and when it is back everything works as before.

use serde_json::{Value, json};

use crate::client::Client;
use crate::history::FILE;
use crate::program::{API_KEY, Answer, Gateway, request};
use crate::redis_server::RedisServer;

const KEY: (&str, &str) = ("x-api-key", API_KEY);

/// What clients may publish, and what of it the others hear.
fn publishes(to: &str, number: u32) -> [(Value, &'static str); 5] {
    [
        (
            json!({"type": "chat", "channel": "news", "message": number}),
            "message",
        ),
        (
            json!({"type": "chat", "channel": "kept:a", "message": number}),
            "message",
        ),
        (
            json!({"type": "room", "room": "lobby", "data": number}),
            "data",
        ),
        (json!({"type": "private", "to": to, "data": number}), "data"),
        (json!({"type": "broadcast", "data": number}), "data"),
    ]
}

fn posts(to: &str, number: u32) -> [(String, Value); 4] {
    [
        (
            "/api/publish".into(),
            json!({"channel": "kept:a", "data": number}),
        ),
        ("/api/broadcast".into(), json!({"data": number})),
        ("/api/users/bob/messages".into(), json!({"data": number})),
        (
            format!("/api/connections/{to}/messages"),
            json!({"data": number}),
        ),
    ]
}

async fn asks(client: &mut Client, mut what: Value) -> Value {
    what["id"] = json!("q");
    client.send(what.clone()).await;
    let answer = client.next().await;
    assert_eq!(answer["id"], "q", "{what}: {answer}");
    answer
}

fn retryable(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
    assert_eq!(answer.json()["error"]["code"], "unavailable", "{answer:?}");
}

async fn refuses_all(gateway: &Gateway, ann: &mut Client, bob: &str) {
    for (publish, _) in publishes(bob, 1) {
        let answer = asks(ann, publish.clone()).await;
        assert_eq!(
            (&answer["type"], &answer["code"]),
            (&json!("error"), &json!("unavailable")),
            "{publish}"
        );
    }
    for question in [
        json!({"type": "subscribe", "channel": "late"}),
        json!({"type": "subscribe", "channel": "kept:late"}),
        json!({"type": "join", "room": "late"}),
        json!({"type": "history", "channel": "kept:a"}),
    ] {
        let answer = asks(ann, question.clone()).await;
        assert_eq!(answer["code"], "unavailable", "{question}: {answer}");
    }
    for (path, body) in posts(bob, 1) {
        retryable(&gateway.post(&path, &[KEY], &body.to_string()).await);
    }
    let history = request(
        gateway.clients,
        "GET",
        "/api/history?channel=kept:a",
        &[KEY],
        "",
    )
    .await;
    retryable(&history);
    let messages = [
        json!({"channel": "news", "data": 1}),
        json!({"user": "bob", "data": 1}),
    ];
    let batch = json!({"messages": messages}).to_string();
    let answer = gateway.post("/api/batch", &[KEY], &batch).await.json();
    assert_eq!(
        (&answer["accepted"], &answer["refused"]),
        (&json!(0), &json!(2)),
        "{answer}"
    );
    for result in answer["results"].as_array().expect("results") {
        assert_eq!(result["error"]["code"], "unavailable", "{answer}");
    }
}

#[tokio::test]
async fn all_is_refused_and_all_works_again() {
    let mut redis = RedisServer::start().await;
    let url = format!("broker.redis.url=redis://127.0.0.1:{}", redis.port);
    let set = ["broker.kind=redis", &url, "broker.redis.timeoutSeconds=2"];
    let (a, b) = (
        Gateway::with_file(FILE, &set).await,
        Gateway::with_file(FILE, &set).await,
    );
    for gateway in [&a, &b] {
        gateway.ready().await;
    }
    let (mut ann, mut bob) = (a.user("ann").await, b.user("bob").await);
    bob.subscribe("news").await;
    bob.subscribe("kept:a").await;
    ann.join("lobby").await;
    bob.join("lobby").await;

    redis.kill();
    a.not_ready("broker").await;
    b.not_ready("broker").await;
    refuses_all(&a, &mut ann, &bob.id).await;
    ann.heard_nothing().await;
    bob.heard_nothing().await;

    redis.run().await;
    a.ready().await;
    b.ready().await;
    // The log is gone with Redis, which had kept nothing.
    assert_eq!(bob.next().await["type"], "position");
    // What was refused is not delivered later; what is accepted now is, everywhere it was heard before.
    for (publish, member) in publishes(&bob.id, 2) {
        let answer = asks(&mut ann, publish.clone()).await;
        assert_eq!(answer["type"], "published", "{publish}: {answer}");
        assert_eq!(bob.next().await[member], 2, "{publish}");
    }
    for (path, body) in posts(&bob.id, 3) {
        assert_eq!(
            a.post(&path, &[KEY], &body.to_string()).await.status,
            200,
            "{path}"
        );
        let heard = bob.next().await;
        let number = heard.get("message").or(heard.get("data"));
        assert_eq!(number, Some(&json!(3)), "{path}: {heard}");
        if path == "/api/broadcast" {
            assert_eq!(ann.next().await["data"], 3);
        }
    }
    let answer = asks(&mut ann, json!({"type": "history", "channel": "kept:a"})).await;
    let kept: Vec<_> = answer["messages"]
        .as_array()
        .expect("messages")
        .iter()
        .map(|m| &m["message"])
        .collect();
    assert_eq!(kept, [&json!(2), &json!(3)]);
    for late in ["late", "kept:late"] {
        ann.subscribe(late).await;
    }
    ann.heard_nothing().await;
    bob.heard_nothing().await;
    for gateway in [&a, &b] {
        let log = gateway.log();
        let said = log.lines().filter_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["level"] == "WARN").then(|| line["message"].to_string())
        });
        let mut once = std::collections::BTreeSet::new();
        for message in said {
            assert!(once.insert(message.clone()), "twice: {message}: {log}");
        }
    }
}
