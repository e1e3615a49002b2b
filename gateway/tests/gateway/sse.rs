//! Event streams.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::event_source::EventSource;
use crate::program::{API_KEY, Answer, Gateway, read_answer, request, token};
use crate::redis_server::RedisServer;
use crate::wait::{until, within};

const KEY: (&str, &str) = ("x-api-key", API_KEY);

async fn connected(gateway: &Gateway, count: f64) {
    until("so many are connected", || async {
        match gateway.metric("websocket_connected_clients").await {
            Some(found) if found == count => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

async fn closed(gateway: &Gateway, code: &str) -> Option<f64> {
    let series = format!("pushcluster_connections_closed_total{{code=\"{code}\"}}");
    gateway.metric(&series).await
}

async fn ask(gateway: &Gateway, query: &str, headers: &[(&str, &str)]) -> Answer {
    request(gateway.clients, "GET", &format!("/sse{query}"), headers, "").await
}

/// A client that asks for a stream and reads nothing.
async fn deaf(gateway: &Gateway, channel: &str) -> TcpStream {
    let mut socket = TcpStream::connect(gateway.clients).await.unwrap();
    let text = format!("GET /sse?channel={channel} HTTP/1.1\r\nhost: x\r\n\r\n");
    socket.write_all(text.as_bytes()).await.unwrap();
    socket
}

#[tokio::test]
async fn what_others_get_a_stream_gets_too() {
    let gateway = Gateway::start(&["node.name=a"]).await;
    let query = format!(
        "channel=news&channel=room:lobby&token={}",
        token("ann", 3_600)
    );
    let mut ann = EventSource::open(gateway.clients, &query, &[]).await;
    for line in [
        "content-type: text/event-stream",
        "cache-control: no-store",
        "connection: close",
        "x-accel-buffering: no",
    ] {
        assert!(ann.head.contains(line), "{line}: {}", ann.head);
    }
    let mut said = Vec::new();
    for _ in 0..3 {
        said.push(ann.next_untimed().await);
    }
    let welcome = said.iter().find(|said| said["type"] == "welcome").unwrap();
    let id = welcome["connection"].as_str().unwrap().to_owned();
    assert!(id.starts_with("~a."), "{welcome}");
    for channel in ["news", "room:lobby"] {
        let subscribed = json!({"type": "subscribed", "channel": channel});
        assert!(said.contains(&subscribed), "{said:?}");
    }

    let mut bob = gateway.client().await;
    bob.join("lobby").await;
    bob.send(json!({"type": "chat", "channel": "news", "message": {"x": [1]}}))
        .await;
    assert_eq!(ann.next().await["message"], json!({"x": [1]}));
    bob.send(json!({"type": "room", "room": "lobby", "data": 2}))
        .await;
    assert_eq!(ann.next().await["room"], "lobby");
    bob.send(json!({"type": "private", "to": "ann", "data": 3}))
        .await;
    assert_eq!(ann.next().await["data"], 3);
    bob.send(json!({"type": "private", "to": id, "data": 4}))
        .await;
    assert_eq!(ann.next().await["data"], 4);
    bob.send(json!({"type": "broadcast", "data": 5})).await;
    assert_eq!(ann.next().await["data"], 5);
    let body = json!({"channel": "room:lobby", "data": 6, "exclude": id}).to_string();
    assert_eq!(gateway.publish(&body).await.status, 200);
    let body = r#"{"channel":"system:notifications","data":7}"#;
    assert_eq!(gateway.publish(body).await.status, 200);
    assert_eq!(ann.next().await["message"], 7, "and not 6");
    assert_eq!(ann.last_id, "", "no channel has history");
    let sent = "websocket_messages_sent_total{type=\"private\"}";
    assert_eq!(gateway.metric(sent).await, Some(2.0));
    assert_eq!(
        gateway.metric("websocket_connected_clients").await,
        Some(2.0)
    );
}

#[tokio::test]
async fn what_a_publisher_writes_is_one_event_whatever_it_is() {
    let gateway = Gateway::start(&[]).await;
    let mut source = EventSource::with(gateway.clients, &["news"]).await;
    let data = "{\r\n\"a\"\n\n:\r1,\n\"b\": \"\\n\\ndata: x\"}";
    let body = format!("{{\"channel\":\"news\",\"data\":{data}}}");
    assert_eq!(gateway.publish(&body).await.status, 200);
    assert_eq!(
        source.next().await["message"],
        json!({"a": 1, "b": "\n\ndata: x"})
    );
    assert_eq!(
        gateway
            .publish(r#"{"channel":"news","data":2}"#)
            .await
            .status,
        200
    );
    assert_eq!(source.next().await["message"], 2);
}

#[tokio::test]
async fn who_is_not_let_in() {
    let set = ["auth.anonymous=false", "limits.maxChannelsPerConnection=2"];
    let set = [&set[..], &["listen.allowedOrigins=https://a.example"]].concat();
    let gateway = Gateway::start(&set).await;
    let (good, old) = (token("ann", 3_600), token("ann", -3_600));
    let bearer = format!("Bearer {good}");
    let auth = ("authorization", bearer.as_str());
    for (query, headers, status, code) in [
        ("", &[][..], 401, "unauthorized"),
        (&format!("?token={old}"), &[], 401, "unauthorized"),
        ("?token=x", &[], 401, "unauthorized"),
        ("?channel=user:bob", &[auth], 403, "denied"),
        ("?channel=node:a", &[auth], 403, "denied"),
        ("?channel=broadcast", &[auth], 403, "denied"),
        ("?channel=", &[auth], 422, "bad_field"),
        ("?channels=a", &[auth], 422, "bad_field"),
        (
            "?channel=a&channel=b&channel=c",
            &[auth],
            422,
            "too_many_channels",
        ),
        (
            "",
            &[auth, ("origin", "https://b.example")],
            403,
            "bad_origin",
        ),
    ] {
        let answer = ask(&gateway, query, headers).await;
        assert_eq!(
            (answer.status, answer.json()["error"]["code"].as_str()),
            (status, Some(code)),
            "{query}: {answer:?}"
        );
    }
    let post = request(gateway.clients, "POST", "/sse", &[], "").await;
    assert_eq!(post.status, 405);
    assert!(post.head.contains("allow: get"), "{}", post.head);
    assert_eq!(
        gateway.metric("websocket_connected_clients").await,
        Some(0.0)
    );
    let refused = "pushcluster_refusals_total{limit=\"channels_per_connection\"}";
    assert_eq!(gateway.metric(refused).await, Some(1.0));

    let origin = ("origin", "https://a.example");
    let query = "channel=a&channel=b&channel=a&channel=user:ann";
    let mut source = EventSource::open(gateway.clients, query, &[auth, origin]).await;
    let allowed = "access-control-allow-origin: https://a.example";
    assert!(source.head.contains(allowed), "{}", source.head);
    let mut said = Vec::new();
    for _ in 0..3 {
        said.push(source.next().await["type"].clone());
    }
    assert_eq!(said, ["welcome", "subscribed", "subscribed"]);
}

#[tokio::test]
async fn streams_count_as_connections_and_not_as_callers() {
    let set = ["limits.maxConnections=4", "limits.maxHandshakes=2"];
    let gateway = Gateway::start(&set).await;
    let mut sources = Vec::new();
    for i in 0..4 {
        let open = || async {
            let answer = request(gateway.clients, "GET", "/api/info", &[KEY], "").await;
            let places = answer.status;
            if places == 200 {
                Ok(())
            } else {
                Err(answer.body)
            }
        };
        until("there is a place for a caller", open).await;
        sources.push(EventSource::with(gateway.clients, &["news"]).await);
        connected(&gateway, f64::from(i + 1)).await;
    }
    let answer = ask(&gateway, "?channel=news", &[]).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (503, Some("unavailable"))
    );
    assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
    let channels = request(gateway.clients, "GET", "/api/channels", &[KEY], "").await;
    assert_eq!(
        channels.json()["channels"],
        json!([{"name": "news", "subscribers": 4}])
    );
    drop(sources);
    connected(&gateway, 0.0).await;
    let channels = request(gateway.clients, "GET", "/api/channels", &[KEY], "").await;
    assert_eq!(channels.json()["channels"], json!([]));
    assert_eq!(closed(&gateway, "abnormal").await, Some(4.0));
    EventSource::with(gateway.clients, &["news"]).await;
}

#[tokio::test]
async fn one_that_does_not_read_is_closed_and_delays_nobody() {
    let set = [
        "limits.maxOutboxBytes=200000",
        "limits.maxMessageBytes=100000",
    ];
    let gateway = Gateway::start(&set).await;
    let mut reader = EventSource::with(gateway.clients, &["news"]).await;
    let mut deaf = deaf(&gateway, "news").await;
    connected(&gateway, 2.0).await;
    let body = json!({"channel": "news", "data": "x".repeat(90_000)}).to_string();
    let mut published = 0;
    while closed(&gateway, "slow").await == Some(0.0) {
        assert!(published < 500, "the kernel has taken 45 MB");
        assert_eq!(gateway.publish(&body).await.status, 200);
        assert_eq!(reader.next().await["type"], "chat");
        published += 1;
    }
    connected(&gateway, 1.0).await;
    let refused = "pushcluster_refusals_total{limit=\"outbox_bytes\"}";
    assert_eq!(gateway.metric(refused).await, Some(1.0));
    // What the kernels have taken can still be read.
    let rest = within("the end", read_answer(&mut deaf)).await;
    assert_eq!(rest.status, 200);
    assert!(rest.body.len() < published * 90_100, "it did not get all");
    assert_eq!(gateway.publish(&body).await.status, 200);
    assert_eq!(reader.next().await["type"], "chat");
}

#[tokio::test]
async fn quiet_streams_are_kept_open_and_lost_ones_are_found() {
    let set = ["heartbeat.pingSeconds=1", "limits.maxOutboxBytes=100000000"];
    let gateway = Gateway::start(&set).await;
    let mut source = EventSource::with(gateway.clients, &["news"]).await;
    source.comment().await;
    source.comment().await;
    // Of 18 MB the kernels of both sides hold a part; the rest waits, far from the cap, for one who takes nothing.
    let mut deaf = deaf(&gateway, "large").await;
    connected(&gateway, 2.0).await;
    let body = json!({"channel": "large", "data": "x".repeat(900_000)}).to_string();
    for _ in 0..20 {
        assert_eq!(gateway.publish(&body).await.status, 200);
    }
    connected(&gateway, 1.0).await;
    assert_eq!(closed(&gateway, "abnormal").await, Some(1.0));
    deaf.shutdown().await.unwrap();
    source.comment().await;
}

#[tokio::test]
async fn a_token_that_ends_ends_the_stream() {
    let gateway = Gateway::start(&["auth.leewaySeconds=0"]).await;
    let query = format!("token={}", token("ann", 2));
    let mut source = EventSource::open(gateway.clients, &query, &[]).await;
    assert_eq!(source.next().await["type"], "welcome");
    assert_eq!(source.closed().await, 3000);
    assert_eq!(source.retry, None);
    connected(&gateway, 0.0).await;
}

#[tokio::test]
async fn a_backend_disconnects_streams_too() {
    let gateway = Gateway::start(&[]).await;
    let query = format!("token={}", token("ann", 3_600));
    let mut ann = EventSource::open(gateway.clients, &query, &[]).await;
    assert_eq!(ann.next().await["type"], "welcome");
    let mut other = EventSource::open(gateway.clients, "", &[]).await;
    let id = other.next().await["connection"]
        .as_str()
        .unwrap()
        .to_owned();
    for path in [
        "/api/users/ann/connections".to_owned(),
        format!("/api/connections/{id}"),
    ] {
        let answer = request(gateway.clients, "DELETE", &path, &[KEY], "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(ann.closed().await, 3004);
    assert_eq!(other.closed().await, 3004);
}

#[tokio::test]
async fn a_drain_tells_when_to_come_back() {
    let mut gateway = Gateway::start(&["drain.deadlineSeconds=10"]).await;
    let mut sources = Vec::new();
    for _ in 0..10 {
        sources.push(EventSource::with(gateway.clients, &["news"]).await);
    }
    let mut client = gateway.client().await;
    let begun = Instant::now();
    gateway.signal("TERM");
    for source in &mut sources {
        let reconnect = source.next().await;
        assert_eq!(reconnect["type"], "reconnect", "{reconnect}");
        assert_eq!(source.closed().await, 1012);
        assert_eq!(source.retry, reconnect["after_ms"].as_u64());
    }
    assert_eq!(client.next().await["type"], "reconnect");
    assert_eq!(client.closed().await.0, 1012);
    drop(client);
    assert_eq!(gateway.exit().await.code(), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
}

/// The end of the process waits for every HTTP connection, so this one was cut.
#[tokio::test]
async fn one_that_does_not_read_its_last_event_is_cut() {
    let set = [
        "drain.deadlineSeconds=60",
        "limits.maxOutboxBytes=100000000",
    ];
    let mut gateway = Gateway::start(&set).await;
    let deaf = deaf(&gateway, "large").await;
    connected(&gateway, 1.0).await;
    let body = json!({"channel": "large", "data": "x".repeat(900_000)}).to_string();
    for _ in 0..20 {
        assert_eq!(gateway.publish(&body).await.status, 200);
    }
    gateway.signal("TERM");
    assert_eq!(gateway.exit().await.code(), Some(0));
    drop(deaf);
}

#[tokio::test]
async fn across_nodes_and_without_a_broker() {
    let mut redis = RedisServer::start().await;
    let a = Gateway::on_redis(redis.port, &["node.name=a"]).await;
    let b = Gateway::on_redis(redis.port, &["node.name=b"]).await;
    a.ready().await;
    b.ready().await;
    let mut source = EventSource::with(a.clients, &["news"]).await;
    assert_eq!(
        b.publish(r#"{"channel":"news","data":1}"#).await.status,
        200
    );
    assert_eq!(source.next().await["message"], 1);
    redis.kill();
    a.not_ready("broker").await;
    let mut late = EventSource::open(a.clients, "channel=other", &[]).await;
    assert_eq!(late.next().await["type"], "welcome");
    assert_eq!(late.next().await["code"], "unavailable");
    assert_eq!(late.closed().await, 1013);
    assert!(late.retry >= Some(2_000), "{:?}", late.retry);
}

#[tokio::test]
async fn one_that_returns_is_told_that_nothing_is_kept() {
    let gateway = Gateway::start(&[]).await;
    let headers = [("last-event-id", "7:12")];
    let mut source = EventSource::open(gateway.clients, "channel=news", &headers).await;
    assert_eq!(source.next().await["type"], "welcome");
    let subscribed = source.next().await;
    assert_eq!(
        (&subscribed["channel"], &subscribed["recovered"]),
        (&json!("news"), &json!(false))
    );
}

const KEPT: &str = r#"
channels:
  - {prefix: "kept.", historyMessages: 10, historySeconds: 60}
"#;

async fn send(gateway: &Gateway, channel: &str, data: u64) {
    let body = json!({"channel": channel, "data": data}).to_string();
    assert_eq!(gateway.publish(&body).await.status, 200);
}

/// A stream as an `EventSource` opens it that was told `last_id` last, its `welcome` taken.
async fn again(gateway: &Gateway, query: &str, last_id: &str) -> EventSource {
    let headers = [("last-event-id", last_id)];
    let headers = if last_id.is_empty() {
        &[]
    } else {
        &headers[..]
    };
    let mut source = EventSource::open(gateway.clients, query, headers).await;
    assert_eq!(source.next().await["type"], "welcome");
    source
}

#[tokio::test]
async fn one_that_returns_gets_what_it_missed_once_and_in_order() {
    let gateway = Gateway::with_file(KEPT, &[]).await;
    let query = "channel=kept.a";
    let mut source = again(&gateway, query, "").await;
    let subscribed = source.next().await;
    assert_eq!(
        (&subscribed["offset"], &subscribed["recovered"]),
        (&json!(0), &Value::Null)
    );
    let begins = source.last_id.clone();
    assert!(begins.ends_with(":0"), "{begins}");
    for data in 1..=3 {
        send(&gateway, "kept.a", data).await;
        assert_eq!(source.next().await["message"], data);
    }
    let third = source.last_id.clone();
    assert!(third.ends_with(":3"), "{third}");
    drop(source);
    connected(&gateway, 0.0).await;
    send(&gateway, "kept.a", 4).await;
    send(&gateway, "kept.a", 5).await;

    let mut source = again(&gateway, query, &third).await;
    let subscribed = source.next().await;
    assert_eq!(
        (&subscribed["offset"], &subscribed["recovered"]),
        (&json!(5), &json!(true))
    );
    assert_eq!(source.last_id, third, "it has not read them yet");
    send(&gateway, "kept.a", 6).await;
    for data in 4..=6 {
        assert_eq!(source.next().await["message"], data);
    }
    assert!(source.last_id.ends_with(":6"), "{}", source.last_id);

    // Beside a channel that keeps nothing, in whatever order the two are live.
    let mut source = again(
        &gateway,
        "channel=news&channel=kept.a",
        &format!(",{begins}"),
    )
    .await;
    let (mut recovered, mut messages) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        let event = source.next().await;
        if event["type"] == "subscribed" {
            recovered.push((event["channel"].to_string(), event["recovered"].clone()));
        } else {
            messages.push(event["message"].as_u64().unwrap());
        }
    }
    recovered.sort_by_key(|(channel, _)| channel.clone());
    let expected = [
        ("\"kept.a\"".to_owned(), json!(true)),
        ("\"news\"".to_owned(), json!(false)),
    ];
    assert_eq!(recovered, expected);
    assert_eq!(messages, [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn one_that_missed_too_much_is_told_so() {
    let gateway = Gateway::with_file(KEPT, &[]).await;
    let query = "channel=kept.a";
    let mut source = again(&gateway, query, "").await;
    source.next().await;
    let begins = source.last_id.clone();
    for data in 1..=20 {
        send(&gateway, "kept.a", data).await;
    }
    // The log has lost the first ten; there never was a log of that epoch; that is no id.
    for last_id in [begins.as_str(), "1:3", "x"] {
        let mut source = again(&gateway, query, last_id).await;
        let subscribed = source.next().await;
        assert_eq!(subscribed["recovered"], false, "{last_id}: {subscribed}");
        assert!(source.last_id.ends_with(":20"), "{}", source.last_id);
    }
}
