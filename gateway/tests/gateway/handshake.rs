//! The opening handshake and what is refused before it.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Error;

use crate::client::Client;
use crate::program::{Gateway, get, read_answer, request, token};
use crate::wait::within;

const HANDSHAKE: [(&str, &str); 4] = [
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// The status with which a handshake with this query is refused.
async fn refused(url: &str) -> u16 {
    match Client::open(url, &[]).await {
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("{url} was let in"),
    }
}

#[tokio::test]
async fn bad_tokens_and_bad_requests() {
    let gateway = Gateway::start(&[]).await;
    let url = |token: &str| format!("ws://{}/ws?token={token}", gateway.clients);
    assert_eq!(refused(&url("nonsense")).await, 401);
    assert_eq!(refused(&url(&token("ann", -60))).await, 401);
    let forged = token("ann", 60).replace("eyJ0", "eyJ1");
    assert_eq!(refused(&url(&forged)).await, 401);

    let plain = get(gateway.clients, "/ws").await;
    assert_eq!(plain.status, 426);
    assert!(
        plain.head.contains("\r\nupgrade: websocket"),
        "{}",
        plain.head
    );
    assert!(
        plain.head.contains("\r\nsec-websocket-version: 13"),
        "{}",
        plain.head
    );
    assert_eq!(plain.json()["error"]["code"], "upgrade_required");
    assert_eq!(get(gateway.clients, "/nothing").await.status, 404);
    assert_eq!(get(gateway.clients, "/api/publish").await.status, 405);
}

/// What a handshake with one more header is answered, in lower case.
async fn answer(gateway: &Gateway, header: (&str, &str)) -> String {
    let headers = [&HANDSHAKE[..], &[header]].concat();
    within("answer", async {
        let mut socket = TcpStream::connect(gateway.clients).await.unwrap();
        let head: String = headers
            .iter()
            .map(|(n, v)| format!("{n}: {v}\r\n"))
            .collect();
        let text = format!("GET /ws HTTP/1.1\r\nhost: x\r\n{head}\r\n");
        socket.write_all(text.as_bytes()).await.unwrap();
        let mut bytes = vec![0; 4_096];
        let n = socket.read(&mut bytes).await.unwrap();
        String::from_utf8_lossy(&bytes[..n]).to_ascii_lowercase()
    })
    .await
}

#[tokio::test]
async fn compression_is_agreed_on_where_it_is_enabled() {
    let agreed = "\r\nsec-websocket-extensions: permessage-deflate; server_no_context_takeover; \
                  client_no_context_takeover\r\n";
    let offer = |text| ("sec-websocket-extensions", text);
    let off = Gateway::start(&[]).await;
    let refused = answer(&off, offer("permessage-deflate")).await;
    assert!(refused.starts_with("http/1.1 101"), "{refused}");
    assert!(!refused.contains("extensions"), "{refused}");

    let on = Gateway::start(&["compression.enabled=true"]).await;
    let taken = answer(&on, offer("permessage-deflate; client_max_window_bits")).await;
    assert!(taken.contains(agreed), "{taken}");
    let unknown = answer(&on, offer("permessage-bzip2")).await;
    assert!(unknown.starts_with("http/1.1 101"), "{unknown}");
    assert!(!unknown.contains("extensions"), "{unknown}");
}

#[tokio::test]
async fn the_subprotocol_is_answered() {
    let gateway = Gateway::start(&[]).await;
    for (offered, expected) in [
        ("pushcluster.v1", 101),
        ("mqtt, pushcluster.v1", 101),
        ("mqtt", 400),
    ] {
        let answer = answer(&gateway, ("sec-websocket-protocol", offered)).await;
        assert!(
            answer.starts_with(&format!("http/1.1 {expected}")),
            "{answer}"
        );
        let answered = answer.contains("\r\nsec-websocket-protocol: pushcluster.v1\r\n");
        assert_eq!(answered, expected == 101, "{answer}");
        assert_eq!(
            answer.contains("s3pplmbitxaq9kygzzhzrbk+xoo="),
            expected == 101
        );
    }
}

#[tokio::test]
async fn bytes_that_come_with_the_handshake_are_not_lost() {
    let gateway = Gateway::start(&[]).await;
    let head: String = HANDSHAKE
        .iter()
        .map(|(n, v)| format!("{n}: {v}\r\n"))
        .collect();
    let mut bytes = format!("GET /ws HTTP/1.1\r\nhost: x\r\n{head}\r\n").into_bytes();
    // A masked text frame with a mask of zeros (RFC 6455 section 5.2).
    let ping = br#"{"type":"ping"}"#;
    bytes.extend([0x81, 0x80 | u8::try_from(ping.len()).unwrap(), 0, 0, 0, 0]);
    bytes.extend(ping);
    let mut socket = TcpStream::connect(gateway.clients).await.unwrap();
    socket.write_all(&bytes).await.unwrap();
    let mut received = Vec::new();
    within("pong", async {
        while !received.windows(6).any(|word| word == b"\"pong\"") {
            assert!(socket.read_buf(&mut received).await.unwrap() > 0, "closed");
        }
    })
    .await;
}

#[tokio::test]
async fn origins() {
    let gateway = Gateway::start(&["listen.allowedOrigins=https://good.example"]).await;
    let url = format!("ws://{}/ws", gateway.clients);
    assert!(Client::open(&url, &[]).await.is_ok(), "no browser");
    assert!(
        Client::open(&url, &[("origin", "https://good.example")])
            .await
            .is_ok()
    );
    match Client::open(&url, &[("origin", "https://bad.example")]).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 403),
        other => panic!("{:?}", other.err()),
    }
}

#[tokio::test]
async fn a_slow_head_does_not_hold_its_place() {
    let gateway =
        Gateway::start(&["limits.handshakeTimeoutSeconds=1", "limits.maxHandshakes=2"]).await;
    let begun = Instant::now();
    let mut silent = TcpStream::connect(gateway.clients).await.unwrap();
    let mut slow = TcpStream::connect(gateway.clients).await.unwrap();
    slow.write_all(b"GET /ws HTTP/1.1\r\nhost: x\r\n")
        .await
        .unwrap();
    // Both places are taken: refused without a word being read.
    let mut third = TcpStream::connect(gateway.clients).await.unwrap();
    let answer = within("an answer", read_answer(&mut third)).await;
    assert_eq!(answer.status, 503);
    assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
    // Drips a byte now and then, as an attacker does: the clock is for the whole head.
    within("the slow one is closed", async {
        let mut pace = tokio::time::interval(Duration::from_millis(100));
        while slow.write_all(b"x").await.is_ok() {
            pace.tick().await;
        }
    })
    .await;
    within("the silent one is closed", read_answer(&mut silent)).await;
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    gateway.client().await.close().await;
}

#[tokio::test]
async fn the_page() {
    let gateway = Gateway::start(&[]).await;
    let page = get(gateway.clients, "/").await;
    assert_eq!(page.status, 200);
    assert!(
        page.head
            .contains("content-security-policy: default-src 'none'"),
        "{}",
        page.head
    );
    assert!(page.body.contains("<title>PushCluster gateway</title>"));
    let again = get(gateway.clients, "/").await;
    assert_ne!(page.head, again.head, "the nonce is new each time");
    let without = Gateway::start(&["listen.page=false"]).await;
    assert_eq!(get(without.clients, "/").await.status, 404);
}

#[tokio::test]
async fn a_message_that_is_too_long_closes() {
    let gateway = Gateway::start(&["limits.maxMessageBytes=1000"]).await;
    let mut client = gateway.client().await;
    client.send_text("x".repeat(1_001)).await;
    assert_eq!(client.closed().await.0, 1009);
    let answer = request(
        gateway.clients,
        "GET",
        &format!("/{}", "x".repeat(100_000)),
        &[],
        "",
    )
    .await;
    assert!((400..500).contains(&answer.status), "{answer:?}");
    // Nobody else noticed.
    let mut other = gateway.client().await;
    other.heard_nothing().await;
}
