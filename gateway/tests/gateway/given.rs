//! Channels that clients did not ask for: a backend gives them to a user, or a token names them.

use serde_json::{Value, json};

use crate::client::Client;
use crate::event_source::EventSource;
use crate::program::{API_KEY, Answer, Gateway, token, token_that_names};
use crate::redis_server::RedisServer;
use crate::wait::until;

const KEY: (&str, &str) = ("x-api-key", API_KEY);

/// `what`: `subscribe` or `unsubscribe`.
async fn ask(gateway: &Gateway, what: &str, user: &str, channels: &[&str]) -> Answer {
    let body = json!({"user": user, "channels": channels}).to_string();
    let answer = gateway.post(&format!("/api/{what}"), &[KEY], &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

fn acknowledged(what: &str, channel: &str) -> Value {
    json!({"type": what, "channel": channel})
}

#[tokio::test]
async fn a_user_is_subscribed_on_every_node() {
    let redis = RedisServer::start().await;
    let mut nodes = Vec::new();
    for name in ["a", "b", "c"] {
        let name = format!("node.name={name}");
        let file = "channels: [{prefix: 'closed', subscribe: nobody}]";
        nodes.push(Gateway::on_redis_with(redis.port, file, &[&name]).await);
    }
    for node in &nodes {
        node.ready().await;
    }
    let [a, b, c] = nodes.as_slice() else {
        unreachable!()
    };
    let mut anns = [
        a.user("ann").await,
        b.user("ann").await,
        b.user("ann").await,
    ];
    let mut bob = c.user("bob").await;
    let query = format!("token={}", token("ann", 3_600));
    let mut stream = EventSource::open(c.clients, &query, &[]).await;
    assert_eq!(stream.next().await["type"], "welcome");

    ask(c, "subscribe", "ann", &["closed"]).await;
    // The first message after the answer to the call need not reach who is not subscribed yet; after the
    // acknowledgement each does, and nothing comes before it.
    for ann in &mut anns {
        assert_eq!(
            ann.next_untimed().await,
            acknowledged("subscribed", "closed")
        );
    }
    assert_eq!(
        stream.next_untimed().await,
        acknowledged("subscribed", "closed")
    );
    assert_eq!(
        a.publish(r#"{"channel":"closed","data":1}"#).await.status,
        200
    );
    for ann in &mut anns {
        assert_eq!(ann.next().await["message"], 1);
    }
    assert_eq!(stream.next().await["message"], 1);

    // Again: nothing happens, also to who asks by itself for what it was given.
    ask(a, "subscribe", "ann", &["closed"]).await;
    for ann in &mut anns {
        ann.heard_nothing().await;
    }
    anns[0].subscribe("closed").await;
    bob.send(json!({"type": "subscribe", "channel": "closed"}))
        .await;
    assert_eq!(bob.next().await["code"], "denied");

    ask(b, "unsubscribe", "ann", &["closed", "never"]).await;
    for ann in &mut anns {
        assert_eq!(
            ann.next_untimed().await,
            acknowledged("unsubscribed", "closed")
        );
    }
    assert_eq!(
        stream.next_untimed().await,
        acknowledged("unsubscribed", "closed")
    );
    ask(b, "unsubscribe", "ann", &["closed"]).await;
    assert_eq!(
        a.publish(r#"{"channel":"closed","data":2}"#).await.status,
        200
    );
    for ann in &mut anns {
        ann.heard_nothing().await;
    }
    bob.heard_nothing().await;
    let body = r#"{"data":"and now"}"#;
    a.post("/api/users/ann/messages", &[KEY], body).await;
    assert_eq!(
        stream.next().await["data"],
        "and now",
        "nothing came between"
    );
    until("nobody has it in Redis", || async {
        let found = redis.ask("PUBSUB CHANNELS *closed*").await;
        if found.starts_with("*0") {
            Ok(())
        } else {
            Err(found)
        }
    })
    .await;
}

#[tokio::test]
async fn what_finds_no_room_is_told_and_counted() {
    let gateway = Gateway::start(&["limits.maxChannelsPerConnection=2"]).await;
    let mut full = gateway.user("ann").await;
    full.subscribe("own-1").await;
    full.subscribe("own-2").await;
    let mut free = gateway.user("ann").await;
    ask(&gateway, "subscribe", "ann", &["given"]).await;
    assert_eq!(full.next().await["code"], "too_many_channels");
    assert_eq!(
        free.next_untimed().await,
        acknowledged("subscribed", "given")
    );
    until("it is counted", || async {
        let series = "pushcluster_errors_total{code=\"too_many_channels\"}";
        let found = gateway.metric(series).await;
        if found == Some(1.0) {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await;
    let body = r#"{"user":"ann","channels":["a","b","c"]}"#;
    let answer = gateway.post("/api/subscribe", &[KEY], body).await;
    assert_eq!(answer.status, 413, "{answer:?}");
    assert_eq!(answer.json()["error"]["code"], "too_many");
    let answer = gateway.post("/api/subscribe", &[], body).await;
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn what_a_token_names_is_there_with_the_welcome() {
    let file =
        "channels: [{prefix: '', subscribe: nobody, historyMessages: 10, historySeconds: 60}]";
    let gateway = Gateway::with_file(file, &["limits.maxChannelsPerConnection=3"]).await;
    let claim = json!({"autoSubscribe": ["news", "user:bob", "room:a"]});
    let token = token_that_names("ann", 3_600, &claim);
    assert_eq!(
        gateway
            .publish(r#"{"channel":"news","data":1}"#)
            .await
            .status,
        200
    );

    let mut ann = Client::connect(gateway.clients, Some(&token)).await;
    let mut named = Vec::new();
    for _ in 0..3 {
        let said = ann.next().await;
        let name = said["channel"].as_str().or(said["code"].as_str());
        named.push(name.unwrap_or_default().to_owned());
        if said["channel"] == "news" {
            assert_eq!(said["offset"], 1, "where the log stands: {said}");
        }
    }
    named.sort();
    assert_eq!(named, ["denied", "news", "room:a"]);
    let mut later = gateway.client().await;
    later.send(json!({"type": "auth", "token": token})).await;
    assert_eq!(later.next().await["type"], "authenticated");
    let mut named: Vec<_> = Vec::new();
    for _ in 0..3 {
        named.push(later.next().await["type"].to_string());
    }
    named.sort();
    assert_eq!(named, ["\"error\"", "\"subscribed\"", "\"subscribed\""]);
    assert_eq!(
        gateway
            .publish(r#"{"channel":"news","data":2}"#)
            .await
            .status,
        200
    );
    for client in [&mut ann, &mut later] {
        assert_eq!(client.next().await["message"], 2);
    }
}

#[tokio::test]
async fn an_event_stream_comes_back_to_what_its_token_names() {
    let file =
        "channels: [{prefix: 'news', subscribe: nobody, historyMessages: 10, historySeconds: 60}]";
    let gateway = Gateway::with_file(file, &[]).await;
    let token = token_that_names("ann", 3_600, &json!({"autoSubscribe": ["news"]}));
    let query = format!("channel=other&token={token}");
    let mut stream = EventSource::open(gateway.clients, &query, &[]).await;
    assert_eq!(stream.next().await["type"], "welcome");
    assert_eq!(stream.next().await["channel"], "other");
    assert_eq!(stream.next().await["channel"], "news");
    gateway.publish(r#"{"channel":"news","data":1}"#).await;
    assert_eq!(stream.next().await["message"], 1);
    let last = stream.last_id.clone();
    drop(stream);
    gateway.publish(r#"{"channel":"news","data":2}"#).await;
    let headers = [("last-event-id", last.as_str())];
    let mut stream = EventSource::open(gateway.clients, &query, &headers).await;
    assert_eq!(stream.next().await["type"], "welcome");
    let mut said = Vec::new();
    for _ in 0..3 {
        said.push(stream.next().await);
    }
    let recovered = said
        .iter()
        .find(|said| said["channel"] == "news" && said["type"] == "subscribed");
    assert_eq!(recovered.unwrap()["recovered"], true, "{said:?}");
    assert!(said.iter().any(|said| said["message"] == 2), "{said:?}");
}
