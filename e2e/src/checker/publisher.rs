//! One that publishes numbered messages through any gateway, and writes down what was said to each.

use anyhow::Result;
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rand::rngs::StdRng;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::run::{Fleet, PACE, PATIENCE, connect, position};
use super::{End, Number, Outcome, Published};
use crate::push_client::PushClient;

#[derive(Debug, Clone, Copy)]
pub(super) enum By {
    WebSocket,
    Http,
}

pub(super) struct Publisher {
    number: Number,
    channel: String,
    fleet: Fleet,
    by: By,
    client: Option<PushClient<TcpStream>>,
    random: StdRng,
    pub(super) published: Vec<Published>,
}

impl Publisher {
    pub(super) fn new(channel: &str, fleet: Fleet, by: By, random: StdRng) -> Publisher {
        Publisher {
            number: Number {
                publisher: fleet.new_publisher(),
                sequence: 0,
            },
            channel: channel.to_owned(),
            fleet,
            by,
            client: None,
            random,
            published: Vec::new(),
        }
    }

    pub(super) async fn run(mut self, stopped: watch::Receiver<bool>) -> Vec<Published> {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*stopped.borrow() {
            pace.tick().await;
            self.publish().await;
        }
        self.published
    }

    pub(super) async fn until_accepted(&mut self) -> End {
        let mut pace = interval(PACE);
        loop {
            pace.tick().await;
            let number = self.number;
            if let Outcome::Accepted(Some(position)) = self.publish().await {
                return End { number, position };
            }
        }
    }

    /// One message, each with a new number: what was not answered is not sent again.
    async fn publish(&mut self) -> Outcome {
        let number = self.number;
        let outcome = match self.by {
            By::WebSocket => timeout(PATIENCE, self.chat()).await,
            By::Http => timeout(PATIENCE, self.post()).await,
        };
        let outcome = match outcome {
            Ok(Ok(outcome)) => outcome,
            _ => Outcome::Unknown,
        };
        self.published.push(Published { number, outcome });
        self.number.sequence += 1;
        if outcome == Outcome::Unknown {
            self.client = None;
            self.number = Number {
                publisher: self.fleet.new_publisher(),
                sequence: 0,
            };
        }
        outcome
    }

    async fn chat(&mut self) -> Result<Outcome> {
        let Number {
            publisher,
            sequence,
        } = self.number;
        let mut gateway = match self.client.take() {
            Some(client) => client,
            None => match self.fleet.any(&mut self.random) {
                Some(address) => connect(address).await?,
                None => return Ok(Outcome::Refused),
            },
        };
        let message = json!({"type": "chat", "channel": self.channel, "id": sequence,
            "message": [publisher, sequence]});
        gateway.send(&message).await?;
        loop {
            let answer = gateway.next().await?;
            if answer["id"] != sequence {
                continue;
            }
            self.client = Some(gateway);
            return Ok(match (answer["type"].as_str(), answer["code"].as_str()) {
                (Some("published"), _) => Outcome::Accepted(Some(position(&answer)?)),
                (_, Some("unavailable")) => Outcome::Refused,
                _ => Outcome::Unknown,
            });
        }
    }

    async fn post(&mut self) -> Result<Outcome> {
        let Some(address) = self.fleet.any(&mut self.random) else {
            return Ok(Outcome::Refused);
        };
        let Number {
            publisher,
            sequence,
        } = self.number;
        let body = json!({"channel": self.channel, "data": [publisher, sequence]}).to_string();
        let request = Request::post("/api/publish")
            .header("host", "gateway")
            .header("x-api-key", self.fleet.api_key())
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let stream = TokioIo::new(TcpStream::connect(address).await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        // Ends with the sender.
        tokio::spawn(connection);
        let answer = sender.send_request(request).await?;
        Ok(match answer.status() {
            StatusCode::OK => Outcome::Accepted(None),
            StatusCode::SERVICE_UNAVAILABLE => Outcome::Refused,
            _ => Outcome::Unknown,
        })
    }
}
