//! What was said in a channel, over HTTP.

use serde_json::{Value, json};

use crate::program::{API_KEY, Gateway, request};
use crate::redis_server::RedisServer;

const FILE: &str = r#"
limits: {maxOutboxBytes: 4096, maxMessageBytes: 3000}
channels:
  - {prefix: "kept:", historyMessages: 10, historySeconds: 60}
  - {prefix: "node:", historyMessages: 10, historySeconds: 60}
"#;

async fn ask(gateway: &Gateway, query: &str) -> (u16, Value) {
    let key = [("x-api-key", API_KEY)];
    let path = format!("/api/history?{query}");
    let answer = request(gateway.clients, "GET", &path, &key, "").await;
    (answer.status, answer.json())
}

async fn found(gateway: &Gateway, query: &str) -> Value {
    let (status, found) = ask(gateway, query).await;
    assert_eq!(status, 200, "{query}: {found}");
    found
}

fn data(found: &Value) -> Vec<Value> {
    let messages = found["messages"].as_array().unwrap();
    messages.iter().map(|m| m["data"].clone()).collect()
}

async fn publish(gateway: &Gateway, channel: &str, data: &Value) {
    let body = json!({"channel": channel, "data": data}).to_string();
    assert_eq!(gateway.publish(&body).await.status, 200);
}

/// `a` and `b` may be one gateway, or two with the same broker.
async fn page_by_page(a: &Gateway, b: &Gateway) {
    let nothing = found(a, "channel=kept:a").await;
    assert_eq!(
        (&nothing["offset"], &nothing["whole"]),
        (&json!(0), &json!(true))
    );
    assert_eq!(nothing["messages"], json!([]));
    let mut ann = a.user("ann").await;
    ann.send(json!({"type": "chat", "channel": "kept:a", "message": 1, "id": 1}))
        .await;
    assert_eq!(ann.next().await["type"], "published");
    for number in 2..6 {
        publish(b, "kept:a", &json!(number)).await;
    }

    let all = found(b, "channel=kept:a").await;
    assert_eq!(all["epoch"], nothing["epoch"]);
    assert_eq!((&all["offset"], all.get("next")), (&json!(5), None));
    assert_eq!(data(&all), [1, 2, 3, 4, 5]);
    let first = &all["messages"][0];
    assert!(
        first["timestamp"].as_u64() > Some(1_600_000_000_000),
        "{first}"
    );
    assert_eq!(
        (&first["type"], &first["from"]),
        (&json!("chat"), &json!("ann"))
    );
    assert_eq!(all["messages"][1].get("from"), None);
    let newest = found(b, "channel=kept:a&limit=2").await;
    assert_eq!(
        (data(&newest), newest.get("next")),
        (vec![json!(4), json!(5)], None)
    );

    let (mut since, mut read) = (format!("{}:0", all["epoch"]), Vec::new());
    for last in [false, false, true] {
        let page = found(a, &format!("channel=kept:a&limit=2&since={since}")).await;
        assert_eq!(page["whole"], true, "{page}");
        read.extend(data(&page));
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut since),
            None => assert!(last, "{page}"),
        }
    }
    assert_eq!(read, [1, 2, 3, 4, 5]);
    let none = found(a, &format!("channel=kept:a&since={}:5", all["epoch"])).await;
    assert_eq!((&none["whole"], data(&none)), (&json!(true), vec![]));

    // It is kept no longer, or was said in another log.
    for number in 6..13 {
        publish(b, "kept:a", &json!(number)).await;
    }
    for since in [format!("{}:1", all["epoch"]), "1:12".to_owned()] {
        let rest = found(a, &format!("channel=kept:a&since={since}")).await;
        assert_eq!(
            (&rest["whole"], &rest["offset"]),
            (&json!(false), &json!(12)),
            "{rest}"
        );
        assert_eq!((data(&rest).len(), data(&rest)[0].clone()), (10, json!(3)));
    }
}

#[tokio::test]
async fn on_one_node() {
    let gateway = Gateway::with_file(FILE, &[]).await;
    page_by_page(&gateway, &gateway).await;
}

#[tokio::test]
async fn on_another_node_and_without_a_broker() {
    let mut redis = RedisServer::start().await;
    let url = format!("broker.redis.url=redis://127.0.0.1:{}", redis.port);
    let set = ["broker.kind=redis", url.as_str()];
    let a = Gateway::with_file(FILE, &set).await;
    let b = Gateway::with_file(FILE, &set).await;
    a.ready().await;
    b.ready().await;
    page_by_page(&a, &b).await;
    redis.kill();
    a.not_ready("broker").await;
    let (status, refused) = ask(&a, "channel=kept:a").await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (503, &json!("unavailable"))
    );
}

#[tokio::test]
async fn a_page_has_room_for_the_largest_message() {
    let gateway = Gateway::with_file(FILE, &[]).await;
    let large = json!("x".repeat(2_900));
    for _ in 0..2 {
        publish(&gateway, "kept:large", &large).await;
    }
    let epoch = &found(&gateway, "channel=kept:large&limit=1").await["epoch"];
    let page = found(&gateway, &format!("channel=kept:large&since={epoch}:0")).await;
    assert_eq!(data(&page), std::slice::from_ref(&large));
    let since = page["next"].as_str().unwrap();
    let page = found(&gateway, &format!("channel=kept:large&since={since}")).await;
    assert_eq!((data(&page), page.get("next")), (vec![large], None));
}

#[tokio::test]
async fn what_is_not_kept_and_what_is_refused() {
    let gateway = Gateway::with_file(FILE, &["node.name=a"]).await;
    for (query, status, code) in [
        ("channel=news", 404, "no_history"),
        ("channel=node:a", 404, "no_history"),
        ("channel=", 422, "bad_field"),
        ("", 422, "bad_field"),
        ("channel=kept:a&since=1", 422, "bad_field"),
        ("channel=kept:a&limit=0", 422, "bad_field"),
        ("channel=kept:a&until=1", 422, "bad_field"),
    ] {
        let (found, refused) = ask(&gateway, query).await;
        assert_eq!(
            (found, &refused["error"]["code"]),
            (status, &json!(code)),
            "{query}"
        );
    }
    let path = "/api/history?channel=kept:a";
    let anonymous = request(gateway.clients, "GET", path, &[], "").await;
    assert_eq!(anonymous.status, 401);
}
