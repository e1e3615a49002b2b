//! A WebSocket client that speaks the native protocol.

use std::net::SocketAddr;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::wait::within;

pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// This client's connection id.
    pub id: String,
}

impl Client {
    /// Connects and takes the welcome.
    pub async fn connect(address: SocketAddr, token: Option<&str>) -> Client {
        let query = token
            .map(|token| format!("?token={token}"))
            .unwrap_or_default();
        Client::open(&format!("ws://{address}/ws{query}"), &[])
            .await
            .unwrap()
    }

    /// As `handshake`, and takes the welcome.
    pub async fn open(url: &str, headers: &[(&'static str, &str)]) -> Result<Client, Error> {
        let mut client = Client::handshake(url, headers).await?;
        let welcome = client.next().await;
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        client.id = welcome["connection"].as_str().unwrap().to_owned();
        Ok(client)
    }

    /// The error is what a client sees of a refused handshake.
    pub async fn handshake(url: &str, headers: &[(&'static str, &str)]) -> Result<Client, Error> {
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (socket, _) = within("handshake", connect_async(request)).await?;
        Ok(Client {
            socket,
            id: String::new(),
        })
    }

    pub async fn send(&mut self, message: Value) {
        self.send_text(message.to_string()).await;
    }

    pub async fn send_text(&mut self, text: impl Into<String>) {
        let text: String = text.into();
        within("send", self.socket.send(Message::text(text)))
            .await
            .unwrap();
    }

    /// All at once, so that the server reads them in one moment.
    pub async fn send_together(&mut self, messages: &[Value]) {
        for message in messages {
            let text = Message::text(message.to_string());
            within("feed", self.socket.feed(text)).await.unwrap();
        }
        within("send", self.socket.flush()).await.unwrap();
    }

    /// Sends to a server that may be closing.
    pub async fn try_send_text(&mut self, text: &str) -> Result<(), Error> {
        within("send", self.socket.send(Message::text(text))).await
    }

    /// The code and reason with which the server closes, whatever comes before.
    pub async fn closed_at_last(&mut self) -> (u16, String) {
        loop {
            match within("a close", self.socket.next()).await {
                Some(Ok(Message::Close(Some(close)))) => {
                    return (close.code.into(), close.reason.to_string());
                }
                Some(Ok(_)) => {}
                other => panic!("wanted a close, got {other:?}"),
            }
        }
    }

    /// The next message; pings are answered on the way.
    pub async fn next(&mut self) -> Value {
        loop {
            match within("a message", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("wanted a message, got {other:?}"),
            }
        }
    }

    /// Waits for a ping; nothing else may come before. It is answered.
    pub async fn pinged(&mut self) {
        match within("a ping", self.socket.next()).await {
            Some(Ok(Message::Ping(_))) => {}
            other => panic!("wanted a ping, got {other:?}"),
        }
    }

    /// The next message without what no test can know: when.
    pub async fn next_untimed(&mut self) -> Value {
        let mut message = self.next().await;
        if let Some(members) = message.as_object_mut() {
            let timestamp = members.remove("timestamp");
            assert!(timestamp.is_none_or(|t| t.as_u64().unwrap() > 1_600_000_000_000));
        }
        message
    }

    /// The code and reason with which the server closes; nothing else may come before.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            match within("a close", self.socket.next()).await {
                Some(Ok(Message::Close(Some(close)))) => {
                    return (close.code.into(), close.reason.to_string());
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("wanted a close, got {other:?}"),
            }
        }
    }

    pub async fn close(mut self) {
        within("close", self.socket.close(None)).await.unwrap();
        while let Some(Ok(_)) = within("the end", self.socket.next()).await {}
    }

    /// Subscribes and waits for the acknowledgement.
    pub async fn subscribe(&mut self, channel: &str) {
        self.send(json!({"type": "subscribe", "channel": channel}))
            .await;
        let answer = self.next().await;
        assert_eq!(
            (&answer["type"], &answer["channel"]),
            (&json!("subscribed"), &json!(channel))
        );
    }

    pub async fn join(&mut self, room: &str) {
        self.send(json!({"type": "join", "room": room})).await;
        let answer = self.next().await;
        assert_eq!(
            (&answer["type"], &answer["room"]),
            (&json!("joined"), &json!(room))
        );
    }

    /// A round trip: what was on its way to this client has come, and was nothing.
    pub async fn heard_nothing(&mut self) {
        self.send(json!({"type": "ping"})).await;
        assert_eq!(self.next().await["type"], "pong");
    }
}
