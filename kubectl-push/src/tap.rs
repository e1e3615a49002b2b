//! A subscriber on the terminal: one line of JSON for each message of a channel.

use std::io::Write;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use futures::{SinkExt, StreamExt};
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::cluster::Cluster;
use crate::forward::{ANSWER, CLIENTS_PORT};
use crate::look::is_running;

#[derive(Args)]
pub struct Tap {
    /// As clients name it, as in `news` or `room:lobby`.
    channel: String,
    /// The PushCluster. Default: the only one.
    #[arg(long)]
    cluster: Option<String>,
    /// The gateway's pod. Default: any that is running.
    #[arg(long)]
    pod: Option<String>,
    /// A token, where clients without one are refused or may not hear the channel.
    #[arg(long, env = "PUSH_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// End after so many messages. Default: never.
    #[arg(long)]
    count: Option<u64>,
}

type Socket = WebSocketStream<DuplexStream>;

/// Messages go to `out`, and what else there is to say to `notes`. Ends with an error when the gateway ends the
/// connection: what came meanwhile would be missing without a word.
pub async fn tap(
    cluster: &Cluster,
    asked: &Tap,
    out: &mut impl Write,
    notes: &mut impl Write,
) -> Result<()> {
    let pod = match &asked.pod {
        Some(pod) => pod.clone(),
        None => {
            let instance = cluster.one(asked.cluster.as_deref()).await?.name_any();
            let pods = cluster.pods(&instance, "gateway").await?;
            let running = pods.iter().find(|pod| is_running(pod));
            running.context("no gateway is running")?.name_any()
        }
    };
    let mut socket = connect(cluster, &pod, asked.token.as_deref()).await?;
    let subscribe = json!({"type": "subscribe", "channel": asked.channel, "id": "tap"});
    socket.send(Message::text(subscribe.to_string())).await?;
    let mut left = asked.count;
    while left != Some(0) {
        let message = next(&mut socket, &pod).await?;
        match message["type"].as_str() {
            Some("subscribed") if message["id"] == "tap" => {
                writeln!(notes, "subscribed to {} through {pod}", asked.channel)?;
            }
            Some("error") => {
                bail!(
                    "the gateway refuses: {}: {}",
                    text(&message["code"]),
                    text(&message["message"])
                );
            }
            Some("welcome" | "reconnect") => {}
            // A connection hears of more channels than this one: its user's, and notifications.
            _ if !is_of(&message, &asked.channel) => {}
            _ => {
                writeln!(out, "{message}").and_then(|()| out.flush())?;
                left = left.map(|left| left - 1);
            }
        }
    }
    Ok(())
}

async fn connect(cluster: &Cluster, pod: &str, token: Option<&str>) -> Result<Socket> {
    let stream = cluster.stream(pod, CLIENTS_PORT).await?;
    let mut request = format!("ws://{pod}/ws").into_client_request()?;
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", "pushcluster.v1".parse()?);
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse();
        headers.insert("authorization", value.context("the token is none")?);
    }
    let shaken = timeout(ANSWER, tokio_tungstenite::client_async(request, stream)).await;
    let shaken = shaken.with_context(|| format!("pod {pod} does not answer"))?;
    let (socket, _) = shaken.with_context(|| format!("connecting to pod {pod} failed"))?;
    Ok(socket)
}

/// The next message; pings are answered on the way.
async fn next(socket: &mut Socket, pod: &str) -> Result<Value> {
    loop {
        let frame = socket.next().await;
        match frame.with_context(|| format!("pod {pod} ended the connection"))?? {
            Message::Text(text) => {
                return serde_json::from_str(&text).context("the gateway sends no JSON");
            }
            Message::Close(Some(frame)) => {
                bail!(
                    "pod {pod} closed the connection: {} {}",
                    u16::from(frame.code),
                    frame.reason
                )
            }
            Message::Close(None) => bail!("pod {pod} closed the connection"),
            other => ensure!(!other.is_binary(), "the gateway sends no text"),
        }
    }
}

/// Messages of rooms name the room alone.
fn is_of(message: &Value, channel: &str) -> bool {
    let room = channel.strip_prefix("room:");
    message["channel"] == channel || room.is_some_and(|room| message["room"] == room)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_channels_own_messages_are_told() {
        for (message, channel, expected) in [
            (json!({"type": "chat", "channel": "news"}), "news", true),
            (json!({"type": "chat", "channel": "other"}), "news", false),
            (json!({"type": "room", "room": "lobby"}), "room:lobby", true),
            (json!({"type": "room", "room": "lobby"}), "lobby", false),
            (json!({"type": "pong"}), "news", false),
        ] {
            assert_eq!(is_of(&message, channel), expected, "{message}");
        }
    }
}
