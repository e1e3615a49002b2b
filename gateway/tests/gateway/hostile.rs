//! Hostile clients and honest ones on one gateway, all at once. What each hostile one is told is known beforehand, and
//! so is every count; the honest ones must notice nothing.

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use gateway::protocol::close::CloseCode;
use serde_json::{Value, json};

use crate::client::Client;
use crate::program::{Gateway, token};
use crate::wait::within;
use honest::{Honest, Publisher};
use raw::{DEFLATE, Raw};
use tally::{Count, as_many, closed, error, http, is_just, limit, received};

mod frames;
mod heads;
mod honest;
mod raw;
mod requests;
mod sockets;
mod tally;
mod tokens;

const MAX_MESSAGE_BYTES: usize = 10_000;
const MAX_CHANNELS: usize = 8;
const BURST: usize = 50;
const PER_USER: usize = 3;

const POLICIES: &str = r#"
listen:
  allowedOrigins: ["https://good.example"]
compression: {enabled: true}
limits:
  maxMessageBytes: 10000
  maxOutboxBytes: 200000
  maxChannelsPerConnection: 8
  maxConnectionsPerUser: 3
  messagesPerSecond: 1
  messageBurst: 50
  handshakeTimeoutSeconds: 2
channels:
  - {prefix: "kept.", historyMessages: 10, historySeconds: 60}
  - {prefix: "closed.", subscribe: nobody, publish: nobody}
  - {prefix: "small.", maxMessageBytes: 10}
  - {prefix: "paced.", messagesPerSecond: 1, messageBurst: 2}
"#;

/// The frame, then a message that must not be heard any more; the close that the table of codes names, and no other.
async fn breaks_a_rule(gateway: &Gateway, row: frames::Row) -> Vec<Count> {
    let more = if row.deflate { DEFLATE } else { "" };
    let mut raw = Raw::connect(gateway).await.upgrade(more).await;
    raw.send(&[row.bytes, frames::poison()].concat()).await;
    let said = raw.end().await;
    let close = (row.code.code(), row.code.reason().to_owned());
    assert_eq!(
        (said.texts, said.close),
        (vec![], Some(close)),
        "{}",
        row.name
    );
    let mut counts = vec![closed(row.code)];
    if row.code == CloseCode::TooBig {
        counts.push(limit("message_bytes"));
    }
    counts
}

/// Every line is answered by name, under its id, and the connection lives.
async fn asks_for_too_much(gateway: &Gateway, script: requests::Script) -> Vec<Count> {
    let token = script.user.map(|user| token(user, 3_600));
    let mut client = Client::connect(gateway.clients, token.as_deref()).await;
    let mut counts = Vec::new();
    assert!(script.lines.len() < BURST);
    for line in script.lines {
        client.send_text(&line.text).await;
        let answer = client.next().await;
        let said = match answer["type"].as_str() {
            Some("error") => Err(answer["code"].as_str().unwrap()),
            other => Ok(other.unwrap()),
        };
        assert_eq!(said, line.answer, "{:.200}: {answer}", line.text);
        // What has an id that can be one is answered under it.
        if let (true, Ok(request)) = (
            line.kind != "invalid",
            serde_json::from_str::<Value>(&line.text),
        ) {
            assert_eq!(answer["id"], request["id"], "{}", line.text);
        }
        counts.push(received(line.kind));
        if let Err(code) = line.answer {
            counts.push(error(code));
        }
        counts.extend(limit_behind(line.answer.err()));
    }
    client.heard_nothing().await;
    client.close().await;
    counts.extend([received("ping"), closed(CloseCode::Normal)]);
    counts
}

fn limit_behind(code: Option<&str>) -> Option<Count> {
    match code? {
        "too_big" => Some(limit("message_bytes")),
        "too_many_channels" => Some(limit("channels_per_connection")),
        _ => None,
    }
}

async fn asks_over_http(gateway: &Gateway, row: heads::Row) -> Vec<Count> {
    let mut raw = Raw::connect(gateway).await;
    // What is too large is not read to its end, and the reset for that may overtake the answer.
    let large = row.bytes.len() > 32 << 10;
    let sent = raw.try_send(&row.bytes).await;
    let answer = raw.answer(row.ends).await;
    assert!(sent || large, "{}", row.name);
    let mut answers = answer
        .match_indices("HTTP/1.1 ")
        .map(|(at, _)| &answer[at + 9..at + 12]);
    let status = answers.next().map(|status| status.parse::<u16>().unwrap());
    assert!(
        status == row.status || (large && status.is_none()),
        "{}: {answer}",
        row.name
    );
    assert_eq!(answers.next(), None, "{}: {answer}", row.name);
    row.counts
}

/// In the handshake, and in a message.
async fn lies_about_who_it_is(gateway: &Gateway, row: tokens::Row) -> Vec<Count> {
    let mut raw = Raw::connect(gateway).await;
    let head = format!(
        "GET /ws?token={} HTTP/1.1\r\n{}\r\n",
        row.token,
        raw::HANDSHAKE
    );
    raw.send(head.as_bytes()).await;
    let answer = raw.answer(false).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{}: {answer}", row.name);
    let mut client = gateway.client().await;
    client
        .send(json!({"type": "auth", "token": row.token}))
        .await;
    let refused = client.next().await;
    assert_eq!(refused["code"], "unauthorized", "{}: {refused}", row.name);
    let why = refused["message"].as_str().unwrap();
    assert!(
        answer.contains(&why.replace('"', "\\\"")),
        "{}: {why}\n{answer}",
        row.name
    );
    client.close().await;
    vec![
        http("unauthorized"),
        tally::token(row.cause),
        received("auth"),
        error("unauthorized"),
        tally::token(row.cause),
        closed(CloseCode::Normal),
    ]
}

#[tokio::test]
async fn nobody_notices_those_who_break_every_rule() {
    let gateway = Gateway::with_file(POLICIES, &[]).await;
    let honest = Honest::begin(&gateway, Publisher::Backend(gateway.clients)).await;
    let mut hostile: Vec<BoxFuture<'_, Vec<Count>>> = sockets::all(&gateway);
    let all = &gateway;
    hostile.extend(
        frames::rows()
            .into_iter()
            .map(|row| breaks_a_rule(all, row).boxed()),
    );
    hostile.extend(
        requests::scripts()
            .into_iter()
            .map(|row| asks_for_too_much(all, row).boxed()),
    );
    hostile.extend(
        heads::rows()
            .into_iter()
            .map(|row| asks_over_http(all, row).boxed()),
    );
    hostile.extend(
        tokens::rows()
            .into_iter()
            .map(|row| lies_about_who_it_is(all, row).boxed()),
    );
    let mut counts = join_all(hostile).await.concat();
    counts.extend(honest.end().await);
    is_just(&gateway, &counts).await;
    gateway.ready().await;
    assert_eq!(
        gateway.metric("websocket_connected_clients").await,
        Some(0.0)
    );
}

/// Places for handshakes and for connections, all of them taken.
#[tokio::test]
async fn nobody_notices_a_crowd_at_the_door() {
    let set = ["limits.maxHandshakes=12", "limits.maxConnections=12"];
    let gateway = Gateway::with_file(
        POLICIES,
        &[&set[..], &["limits.messagesPerSecond=0"]].concat(),
    )
    .await;
    let publisher = gateway.client().await;
    let honest = Honest::begin(&gateway, Publisher::Client(publisher.into())).await;
    let mut counts = Vec::new();
    let mut guests = Vec::new();
    for _ in 0..3 {
        guests.push(gateway.client().await);
    }
    for _ in 0..5 {
        let mut raw = Raw::connect(&gateway).await;
        raw.send(format!("GET /ws HTTP/1.1\r\n{}\r\n", raw::HANDSHAKE).as_bytes())
            .await;
        assert!(raw.answer(false).await.starts_with("HTTP/1.1 503"));
        counts.extend([http("unavailable"), limit("connections")]);
    }
    // Each holds a place until its time is over, or finds none.
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(Raw::connect(&gateway).await);
    }
    let mut refused = 0;
    for mut raw in silent {
        let answer = within("it is sent away", raw.answer(true)).await;
        if answer.is_empty() {
            counts.push(http("head_timeout"));
        } else {
            assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
            counts.push(limit("handshakes"));
            refused += 1;
        }
    }
    assert!(refused >= 8, "{refused} of 20 for 12 places");
    // The gateway's own may have been among those who found none.
    let own = r#"pushcluster_self_tests_total{result="failed"}"#;
    counts.extend(as_many(&gateway, own, limit("handshakes")).await);
    for guest in guests {
        guest.close().await;
        counts.push(closed(CloseCode::Normal));
    }
    counts.extend(honest.end().await);
    counts.push(closed(CloseCode::Abnormal));
    counts.extend(as_many(&gateway, &received("chat"), received("chat")).await);
    is_just(&gateway, &counts).await;
}
