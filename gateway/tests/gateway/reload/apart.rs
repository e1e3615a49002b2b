//! Keys that are seen on connections of another kind, or on a gateway of their own.

use std::net::SocketAddr;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::stage::Stage;
use crate::event_source::EventSource;
use crate::program::get;
use crate::wait::{until, within};

/// On a gateway of its own: the witness of the others does not read, so it answers no ping.
pub async fn heartbeat(key: &str) {
    let stage = Stage::start().await;
    let mut client = stage.gateway.client().await;
    let mut stream = EventSource::with(stage.clients(), &["a"]).await;
    match key {
        "heartbeat.pingSeconds" => {
            stage.set(json!({"heartbeat": {"pingSeconds": 1}})).await;
            client.pinged().await;
            stream.comment().await;
        }
        "heartbeat.idleSeconds" => {
            let change = json!({"heartbeat": {"pingSeconds": 1, "idleSeconds": 1}});
            stage.set(change).await;
            assert_eq!(client.closed().await.0, 3002);
        }
        other => panic!("no check for {other}"),
    }
}

/// On a gateway of its own, which sends its clients away.
pub async fn drain(key: &str) {
    let stage = Stage::start().await;
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(stage.gateway.client().await);
    }
    let change = json!({"drain": {"connectionsPerSecond": 3, "deadlineSeconds": 3_000}});
    stage.set(change).await;
    match key {
        "drain.connectionsPerSecond" => {
            let progress = stage.gateway.admin("POST", "/drain").await.json();
            assert_eq!(progress["connectionsPerSecond"], 3, "{progress}");
        }
        "drain.deadlineSeconds" => {
            stage.gateway.signal("TERM");
            until("the drain has the new deadline", || async {
                let progress = get(stage.gateway.admin, "/drain").await;
                match progress.json()["secondsLeft"].as_u64() {
                    Some(left) if left > 1_000 => Ok(()),
                    _ => Err(progress.body),
                }
            })
            .await;
        }
        other => panic!("no check for {other}"),
    }
}

/// A client that offers permessage-deflate, and what it was answered with.
struct Deflating {
    socket: TcpStream,
    head: String,
}

impl Deflating {
    async fn connect(address: SocketAddr) -> Deflating {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET /ws HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-extensions: permessage-deflate\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let byte = within("the head of a handshake", socket.read_u8()).await;
            head.push(char::from(byte.unwrap()).to_ascii_lowercase());
        }
        let mut client = Deflating { socket, head };
        // The welcome.
        client.frame().await;
        client
    }

    fn agreed(&self) -> bool {
        self.head.contains("permessage-deflate")
    }

    async fn send(&mut self, text: &str) {
        // Masked with zeros.
        let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0];
        frame.extend(text.as_bytes());
        self.socket.write_all(&frame).await.unwrap();
    }

    /// Whether the next frame is compressed.
    async fn frame(&mut self) -> bool {
        within("a frame", async {
            let first = self.socket.read_u8().await.unwrap();
            let length = match self.socket.read_u8().await.unwrap() {
                126 => self.socket.read_u16().await.unwrap().into(),
                short => usize::from(short),
            };
            let mut payload = vec![0; length];
            self.socket.read_exact(&mut payload).await.unwrap();
            first & 0x40 != 0
        })
        .await
    }
}

pub async fn compression(stage: &Stage, key: &str) {
    assert!(!Deflating::connect(stage.clients()).await.agreed());
    stage.set(json!({"compression": {"enabled": true}})).await;
    let mut client = Deflating::connect(stage.clients()).await;
    assert!(client.agreed());
    if key == "compression.enabled" {
        return;
    }
    client.send(r#"{"type":"subscribe","channel":"a"}"#).await;
    client.frame().await;
    let text = "x".repeat(200);
    stage.publish("a", &text, &[]).await;
    assert!(!client.frame().await, "it is short");
    let less = json!({"compression": {"enabled": true, "minMessageBytes": 100}});
    stage.set(less).await;
    stage.publish("a", &text, &[]).await;
    assert!(client.frame().await, "it is long now");
}
