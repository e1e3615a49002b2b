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

/// Connections of one user on three nodes.
struct Everywhere {
    nodes: Vec<Gateway>,
    anns: Vec<Client>,
    stream: EventSource,
}

impl Everywhere {
    async fn on(redis: &RedisServer) -> Everywhere {
        let file = "channels: [{prefix: 'closed', subscribe: nobody}]";
        let mut nodes = Vec::new();
        for name in ["node.name=a", "node.name=b", "node.name=c"] {
            nodes.push(Gateway::on_redis_with(redis.port, file, &[name]).await);
        }
        let mut anns = Vec::new();
        for node in &nodes[..2] {
            node.ready().await;
            anns.push(node.user("ann").await);
        }
        anns.push(nodes[0].user("ann").await);
        nodes[2].ready().await;
        let query = format!("token={}", token("ann", 3_600));
        let mut stream = EventSource::open(nodes[2].clients, &query, &[]).await;
        assert_eq!(stream.next().await["type"], "welcome");
        Everywhere {
            nodes,
            anns,
            stream,
        }
    }

    async fn hear(&mut self, expected: Value) {
        for ann in &mut self.anns {
            assert_eq!(ann.next_untimed().await, expected);
        }
        assert_eq!(self.stream.next_untimed().await, expected);
    }

    /// What was said before this, if anything, was said to nobody.
    async fn hear_next(&mut self, what: &str) {
        let body = json!({"data": what}).to_string();
        let sent = self.nodes[0].post("/api/users/ann/messages", &[KEY], &body);
        assert_eq!(sent.await.status, 200);
        self.hear(json!({"type": "private", "data": what})).await;
    }

    async fn publish(&self, data: u32) {
        let body = json!({"channel": "closed", "data": data}).to_string();
        assert_eq!(self.nodes[0].publish(&body).await.status, 200);
    }
}

#[tokio::test]
async fn a_user_is_subscribed_on_every_node() {
    let redis = RedisServer::start().await;
    let mut ann = Everywhere::on(&redis).await;
    let mut bob = ann.nodes[2].user("bob").await;

    ask(&ann.nodes[2], "subscribe", "ann", &["closed"]).await;
    ann.hear(acknowledged("subscribed", "closed")).await;
    ann.publish(1).await;
    let message = json!({"type": "chat", "channel": "closed", "message": 1});
    ann.hear(message).await;
    // Again: nothing happens, also to who asks by itself for what it was given.
    ask(&ann.nodes[0], "subscribe", "ann", &["closed"]).await;
    ann.hear_next("once").await;
    ann.anns[0].subscribe("closed").await;
    bob.send(json!({"type": "subscribe", "channel": "closed"}))
        .await;
    assert_eq!(bob.next().await["code"], "denied");

    ask(&ann.nodes[1], "unsubscribe", "ann", &["closed", "never"]).await;
    ann.hear(acknowledged("unsubscribed", "closed")).await;
    ask(&ann.nodes[1], "unsubscribe", "ann", &["closed"]).await;
    ann.publish(2).await;
    ann.hear_next("no more").await;
    bob.heard_nothing().await;
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
