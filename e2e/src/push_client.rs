//! A client of the native JSON protocol (`pushcluster.v1`), as an application would write it.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// Longest wait for an answer that the gateway gives at once.
const ANSWER: Duration = Duration::from_secs(10);

/// One WebSocket connection. Messages that arrive while it waits for something else are dropped.
pub struct PushClient<S> {
    socket: WebSocketStream<S>,
    /// The gateway's first message: which connection this is, on which node.
    pub welcome: Value,
}

impl<S: AsyncRead + AsyncWrite + Unpin> PushClient<S> {
    /// The handshake over a stream that reaches a gateway, and its welcome.
    pub async fn connect(stream: S) -> Result<PushClient<S>> {
        PushClient::connect_as(stream, None).await
    }

    /// The same with a token.
    pub async fn connect_as(stream: S, token: Option<&str>) -> Result<PushClient<S>> {
        let mut request = "ws://gateway/ws".into_client_request()?;
        if let Some(token) = token {
            let bearer = format!("Bearer {token}").parse()?;
            request.headers_mut().insert("authorization", bearer);
        }
        request
            .headers_mut()
            .insert("sec-websocket-protocol", "pushcluster.v1".parse()?);
        let (socket, _) = timeout(ANSWER, tokio_tungstenite::client_async(request, stream))
            .await
            .context("the WebSocket handshake did not end")?
            .context("the WebSocket handshake")?;
        let mut client = PushClient {
            socket,
            welcome: Value::Null,
        };
        client.welcome = client.receive("welcome", ANSWER).await?;
        Ok(client)
    }

    pub async fn send(&mut self, message: &Value) -> Result<()> {
        self.socket
            .send(Message::text(message.to_string()))
            .await
            .context("send to the gateway")
    }

    /// Returns when the gateway has acknowledged: what is published from now on arrives here.
    pub async fn subscribe(&mut self, channel: &str) -> Result<()> {
        self.send(&json!({"type": "subscribe", "channel": channel}))
            .await?;
        let answer = self.receive("subscribed", ANSWER).await?;
        ensure!(
            answer["channel"] == channel,
            "the gateway answered {answer}"
        );
        Ok(())
    }

    /// The next message of this `type`; an `error` from the gateway is one here.
    pub async fn receive(&mut self, kind: &str, limit: Duration) -> Result<Value> {
        let wanted = async {
            loop {
                let message = self.next().await?;
                if message["type"] == kind {
                    return Ok(message);
                }
                ensure!(
                    message["type"] != "error",
                    "waiting for {kind}, the gateway says {message}"
                );
            }
        };
        timeout(limit, wanted)
            .await
            .with_context(|| format!("no message of type {kind} within {} s", limit.as_secs()))?
    }

    /// The next message of any type. Pings are answered on the way.
    pub async fn next(&mut self) -> Result<Value> {
        loop {
            match self
                .socket
                .next()
                .await
                .context("the connection ended")?
                .context("read")?
            {
                Message::Text(text) => {
                    return serde_json::from_str(&text).context("the gateway sends JSON");
                }
                Message::Close(frame) => bail!("the gateway closed the connection: {frame:?}"),
                _ => {}
            }
        }
    }
}
