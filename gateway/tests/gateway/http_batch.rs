//! Messages to one user or connection, and many in one call.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::program::{API_KEY, Answer, Gateway};
use crate::redis_server::RedisServer;

const KEY: (&str, &str) = ("x-api-key", API_KEY);

async fn batch(gateway: &Gateway, messages: &[Value]) -> Answer {
    let body = json!({"messages": messages}).to_string();
    gateway.post("/api/batch", &[KEY], &body).await
}

#[tokio::test]
async fn to_a_user_and_to_a_connection_on_another_node() {
    let redis = RedisServer::start().await;
    let a = Gateway::on_redis(redis.port, &["node.name=a"]).await;
    let b = Gateway::on_redis(redis.port, &["node.name=b"]).await;
    a.ready().await;
    b.ready().await;
    let (mut ann, mut bob) = (b.user("ann").await, b.user("bob m").await);
    for (path, data) in [
        ("/api/users/ann/messages".to_owned(), 1),
        (format!("/api/connections/{}/messages", ann.id), 2),
    ] {
        let body = json!({"data": data}).to_string();
        let answer = a.post(&path, &[KEY], &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["accepted"], true);
        assert_eq!(
            ann.next_untimed().await,
            json!({"type": "private", "data": data})
        );
    }
    bob.heard_nothing().await;
    let path = "/api/users/bob%20m/messages";
    assert_eq!(a.post(path, &[KEY], r#"{"data":3}"#).await.status, 200);
    assert_eq!(bob.next().await["data"], 3);

    let messages = [
        json!({"user": "ann", "data": 4}),
        json!({"connection": bob.id, "data": 5}),
        json!({"user": "ann", "data": 6, "exclude": ann.id}),
    ];
    let answer = batch(&a, &messages).await;
    assert_eq!(answer.json()["accepted"], 3, "{answer:?}");
    assert_eq!(ann.next().await["data"], 4);
    assert_eq!(bob.next().await["data"], 5);
    ann.heard_nothing().await;
}

#[tokio::test]
async fn ten_thousand_in_one_call_keep_their_order_and_have_their_own_results() {
    // The subscriber is as slow as a test is.
    let gateway = Gateway::start(&["limits.maxOutboxBytes=16000000"]).await;
    let mut client = gateway.client().await;
    client.subscribe("news").await;
    let mut messages: Vec<_> = (0..10_000)
        .map(|i| json!({"channel": "news", "data": i}))
        .collect();
    messages[3] = json!({"channel": "news"});
    messages[5_000] = json!({"channel": "", "data": 1});
    let answer = batch(&gateway, &messages).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = answer.json();
    assert_eq!(
        (&answer["accepted"], &answer["refused"]),
        (&json!(9_998), &json!(2))
    );
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 10_000);
    assert_eq!(
        results[3],
        json!({"accepted": false, "error":
            {"code": "bad_field", "message": "data is missing", "field": "data"}})
    );
    assert_eq!(results[5_000]["error"]["field"], "channel");
    assert_eq!(results[9_999]["accepted"], true);
    assert!(results[9_999]["timestamp"].is_u64());
    for i in (0..10_000).filter(|i| ![3, 5_000].contains(i)) {
        assert_eq!(client.next().await["message"], i);
    }
    client.heard_nothing().await;
}

#[tokio::test]
async fn caps_of_a_batch() {
    let set = [
        "api.maxBatchMessages=3",
        "limits.maxRequestBytes=2000",
        "limits.maxMessageBytes=500",
    ];
    let gateway = Gateway::start(&set).await;
    let small = json!({"channel": "a", "data": 1});
    let large = json!({"channel": "a", "data": "x".repeat(600)});
    for (messages, status, code) in [
        (vec![small.clone(); 3], 200, None),
        (vec![small.clone(); 4], 413, Some("too_many")),
        (vec![large.clone(); 4], 413, Some("too_big")),
    ] {
        let answer = batch(&gateway, &messages).await;
        let found = answer.json();
        assert_eq!(
            (answer.status, found["error"]["code"].as_str()),
            (status, code),
            "{answer:?}"
        );
    }
    let answer = batch(&gateway, &[small, large]).await.json();
    assert_eq!(answer["accepted"], 1);
    assert_eq!(answer["results"][1]["error"]["code"], "too_big");
}

#[tokio::test]
async fn without_a_broker_a_batch_is_refused_at_once_and_whole() {
    let mut redis = RedisServer::start().await;
    let gateway = Gateway::on_redis(redis.port, &[]).await;
    gateway.ready().await;
    redis.kill();
    gateway.not_ready("broker").await;
    let messages = vec![json!({"channel": "a", "data": 1}); 5_000];
    let begun = Instant::now();
    let answer = batch(&gateway, &messages).await.json();
    assert_eq!(answer["accepted"], 0);
    assert_eq!(answer["results"].as_array().unwrap().len(), 5_000);
    assert_eq!(answer["results"][4_999]["error"]["code"], "unavailable");
    // Ten windows, each waited for as long as the broker may take, would be twenty seconds.
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn what_the_node_is() {
    let gateway = Gateway::start(&["node.name=a"]).await;
    let _client = gateway.client().await;
    let ask = |headers: &'static [(&'static str, &'static str)]| {
        crate::program::request(gateway.clients, "GET", "/api/info", headers, "")
    };
    let info = ask(&[KEY]).await.json();
    assert_eq!(
        (&info["node"], &info["connections"]),
        (&json!("a"), &json!(1))
    );
    assert!(
        info["uptimeSeconds"].is_u64() && info["version"].is_string(),
        "{info}"
    );
    assert_eq!(ask(&[]).await.status, 401);
}
