//! `Idempotency-Key`: a retry is harmless.

use std::cell::Cell;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::program::{API_KEY, Answer, Gateway, read_answer};
use crate::redis_server::RedisServer;
use crate::wait::{until, within};

async fn publish(gateway: &Gateway, key: &str, body: &str) -> Answer {
    let headers = [("x-api-key", API_KEY), ("idempotency-key", key)];
    gateway.post("/api/publish", &headers, body).await
}

fn code(answer: &Answer) -> (u16, String) {
    let code = answer.json()["error"]["code"].as_str().map(str::to_owned);
    (answer.status, code.unwrap_or_default())
}

#[tokio::test]
async fn a_retry_gets_the_first_answer_and_publishes_nothing() {
    let gateway = Gateway::start(&[]).await;
    let mut client = gateway.client().await;
    client.subscribe("news").await;
    let body = r#"{"channel":"news","data":1}"#;
    let first = publish(&gateway, "\"k1\"", body).await;
    assert_eq!(first.status, 200, "{first:?}");
    assert!(!first.head.contains("idempotency-replayed"));
    assert_eq!(client.next().await["message"], 1);
    let again = publish(&gateway, "\"k1\"", body).await;
    assert_eq!((again.status, &again.body), (200, &first.body));
    assert!(again.head.contains("idempotency-replayed: true"));
    client.heard_nothing().await;

    let other = publish(&gateway, "k1", r#"{"channel":"news","data":2}"#).await;
    assert_eq!(code(&other), (422, "key_reused".into()));
    let headers = [("x-api-key", API_KEY), ("idempotency-key", "k1")];
    let elsewhere = gateway.post("/api/broadcast", &headers, body).await;
    assert_eq!(code(&elsewhere), (422, "key_reused".into()));
    assert_eq!(
        code(&publish(&gateway, "", body).await),
        (400, "bad_key".into())
    );
    client.heard_nothing().await;
    assert_eq!(publish(&gateway, "k2", body).await.status, 200);
    assert_eq!(client.next().await["message"], 1);
}

#[tokio::test]
async fn what_was_refused_is_tried_again() {
    let mut redis = RedisServer::start().await;
    let gateway = Gateway::on_redis(redis.port, &[]).await;
    gateway.ready().await;
    let mut client = gateway.client().await;
    client.subscribe("news").await;
    let body = r#"{"channel":"news","data":1}"#;
    assert_eq!(publish(&gateway, "k", "{}").await.status, 422);
    redis.kill();
    gateway.not_ready("broker").await;
    let refused = publish(&gateway, "k", body).await;
    assert_eq!(code(&refused), (503, "unavailable".into()));
    redis.run().await;
    gateway.ready().await;
    until("published", || async {
        let answer = publish(&gateway, "k", body).await;
        if answer.status == 200 {
            Ok(())
        } else {
            Err(answer.body)
        }
    })
    .await;
    assert_eq!(client.next().await["message"], 1);
}

/// Sends a request with the key, and returns its socket once the gateway works on it. Redis is paused meanwhile.
async fn under_way(gateway: &Gateway, key: &str, body: &str) -> TcpStream {
    let mut socket = TcpStream::connect(gateway.clients).await.unwrap();
    let text = format!(
        "POST /api/publish HTTP/1.1\r\nhost: {}\r\nx-api-key: {API_KEY}\r\nidempotency-key: {key}\r\n\
         content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        gateway.clients,
        body.len()
    );
    socket.write_all(text.as_bytes()).await.unwrap();
    // Before the first one this is refused for its body, and leaves no trace.
    until("the first request is under way", || async {
        match code(&publish(gateway, key, "{}").await) {
            (422, code) if code == "key_reused" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    socket
}

const SLOW: [&str; 2] = [
    "broker.redis.timeoutSeconds=15",
    "broker.redis.probeSeconds=60",
];

#[tokio::test]
async fn the_same_key_at_once() {
    let redis = RedisServer::start().await;
    let gateway = Gateway::on_redis(redis.port, &SLOW).await;
    gateway.ready().await;
    let body = r#"{"channel":"news","data":1}"#;
    redis.signal("STOP");
    let mut first = under_way(&gateway, "k", body).await;
    let second = publish(&gateway, "k", body).await;
    assert_eq!(code(&second), (409, "in_progress".into()));
    redis.signal("CONT");
    let first = within("the first answer", read_answer(&mut first)).await;
    assert_eq!(first.status, 200, "{first:?}");
    let third = publish(&gateway, "k", body).await;
    assert_eq!((third.status, &third.body), (200, &first.body));
}

#[tokio::test]
async fn a_caller_that_gives_up_has_its_answer_kept() {
    let redis = RedisServer::start().await;
    let gateway = Gateway::on_redis(redis.port, &SLOW).await;
    gateway.ready().await;
    let mut client = gateway.client().await;
    client.subscribe("news").await;
    let body = r#"{"channel":"news","data":1}"#;
    redis.signal("STOP");
    drop(under_way(&gateway, "k", body).await);
    redis.signal("CONT");
    assert_eq!(client.next().await["message"], 1);
    let again = until("answered", || async {
        let answer = publish(&gateway, "k", body).await;
        if answer.status == 409 {
            Err(answer.body)
        } else {
            Ok(answer)
        }
    })
    .await;
    assert_eq!(again.status, 200, "{again:?}");
    assert!(again.head.contains("idempotency-replayed: true"));
    client.heard_nothing().await;
}

#[tokio::test]
async fn what_nobody_knows_is_not_done_again() {
    let redis = RedisServer::start().await;
    let gateway = Gateway::on_redis(redis.port, &["broker.redis.probeSeconds=60"]).await;
    gateway.ready().await;
    let (body, tries) = (r#"{"channel":"news","data":1}"#, Cell::new(0));
    let (key, first) = until("a publish that was sent is not answered", || async {
        let key = format!("k{}", tries.replace(tries.get() + 1));
        redis.signal("STOP");
        let answer = publish(&gateway, &key, body).await;
        redis.signal("CONT");
        gateway.ready().await;
        match code(&answer) {
            (504, unanswered) if unanswered == "unanswered" => Ok((key, answer)),
            // Something else was on its way to Redis, so that this never left.
            _ => Err(answer.body),
        }
    })
    .await;
    let again = publish(&gateway, &key, body).await;
    assert_eq!((again.status, &again.body), (504, &first.body));
}

#[tokio::test]
async fn kept_answers_are_bounded() {
    let gateway = Gateway::start(&["api.idempotencyBytes=2000"]).await;
    let body = r#"{"channel":"news","data":1}"#;
    for i in 0..20 {
        assert_eq!(publish(&gateway, &format!("k{i}"), body).await.status, 200);
    }
    let evicted = gateway
        .metric("pushcluster_idempotency_evictions_total")
        .await;
    assert!(evicted >= Some(10.0), "{evicted:?}");
    let last = publish(&gateway, "k19", body).await;
    assert!(last.head.contains("idempotency-replayed: true"));
}
