//! Clients who do nothing wrong: they get a stream of numbers, and would tell if one were missing, came twice or early,
//! or if they were sent away.

use std::net::SocketAddr;

use gateway::protocol::close::CloseCode;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::tally::{Count, closed, received};
use crate::client::Client;
use crate::event_source::EventSource;
use crate::program::{API_KEY, Gateway, request, token};

/// With history and without.
const CHANNELS: [&str; 2] = ["numbers", "kept.numbers"];

/// Ends when the channel says so; how many numbers came, in order from 1.
type Witness = JoinHandle<u64>;

pub struct Honest {
    witnesses: Vec<Witness>,
    goes_on: watch::Sender<bool>,
    /// How many numbers were sent on each channel.
    publisher: JoinHandle<u64>,
}

impl Honest {
    /// On every shard, and on an event stream.
    pub async fn begin(gateway: &Gateway, publisher: Publisher) -> Honest {
        let mut witnesses = Vec::new();
        for channel in CHANNELS {
            for name in ["ann", "bob", "cyd"] {
                let mut client = Client::connect(gateway.clients, Some(&token(name, 3_600))).await;
                client.subscribe(channel).await;
                witnesses.push(tokio::spawn(listen(client, channel)));
            }
            let source = EventSource::with(gateway.clients, &[channel]).await;
            witnesses.push(tokio::spawn(stream(source)));
        }
        let (goes_on, told) = watch::channel(true);
        let publisher = tokio::spawn(publisher.publish(told));
        Honest {
            witnesses,
            goes_on,
            publisher,
        }
    }

    /// Ends the stream; what the gateway counts of it.
    pub async fn end(self) -> Vec<Count> {
        self.goes_on.send_replace(false);
        let sent = self.publisher.await.unwrap();
        assert!(sent > 0, "nothing was sent");
        let mut counts = Vec::new();
        for witness in self.witnesses {
            assert_eq!(witness.await.unwrap(), sent);
            counts.push(closed(CloseCode::Abnormal));
        }
        for _ in 0..CHANNELS.len() * 3 {
            counts.extend([received("subscribe"), received("ping")]);
        }
        counts
    }
}

async fn listen(mut client: Client, channel: &str) -> u64 {
    let mut last = None;
    let mut count = 0;
    loop {
        let message = client.next().await;
        assert_eq!(message["channel"], channel, "{message}");
        if channel != "numbers" {
            let offset = message["offset"].as_u64().unwrap();
            assert!(last.is_none_or(|last| offset == last + 1), "{message}");
            last = Some(offset);
        }
        if !is_next(&message["message"], &mut count) {
            break;
        }
    }
    client.heard_nothing().await;
    count
}

async fn stream(mut source: EventSource) -> u64 {
    let mut count = 0;
    while is_next(&source.next().await["message"], &mut count) {}
    count
}

/// Whether it is a number, which must be the next one, and not the end.
fn is_next(message: &Value, count: &mut u64) -> bool {
    if *message == json!("end") {
        return false;
    }
    *count += 1;
    assert_eq!(*message, json!(*count));
    true
}

/// Who sends the numbers.
pub enum Publisher {
    /// A backend, with a connection for each message.
    Backend(SocketAddr),
    Client(Box<Client>),
}

impl Publisher {
    async fn send(&mut self, channel: &str, data: &Value) {
        match self {
            Publisher::Backend(address) => {
                let body = json!({"channel": channel, "data": data}).to_string();
                let headers = [("x-api-key", API_KEY), ("content-type", "application/json")];
                let answer = request(*address, "POST", "/api/publish", &headers, &body).await;
                assert_eq!(answer.status, 200, "{answer:?}");
            }
            Publisher::Client(client) => {
                let chat = json!({"type": "chat", "channel": channel, "message": data, "id": 1});
                client.send(chat).await;
                assert_eq!(client.next().await["type"], "published");
            }
        }
    }

    /// A number at a time on every channel, as long as it goes on.
    async fn publish(mut self, goes_on: watch::Receiver<bool>) -> u64 {
        let mut sent = 0;
        while *goes_on.borrow() {
            sent += 1;
            for channel in CHANNELS {
                self.send(channel, &json!(sent)).await;
            }
        }
        for channel in CHANNELS {
            self.send(channel, &json!("end")).await;
        }
        sent
    }
}
