//! A push that goes on beside a fault: nothing lost, doubled or late beyond a limit, and nobody's connection ended.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::gateway::CLIENTS_PORT;
use crate::namespace::Namespace;
use crate::push_client::PushClient;
use crate::push_cluster::gateway_pods;

/// Between two messages.
const PACE: Duration = Duration::from_millis(20);
/// Until a message is everywhere. On an idle machine it takes a millisecond.
const ARRIVAL: Duration = Duration::from_secs(20);
const CHANNEL: &str = "steady";

/// Clients on every gateway, by the addresses of the pods: a port-forward would end with the API server.
pub struct Steady {
    publishers: Vec<PushClient<TcpStream>>,
    subscribers: Vec<PushClient<TcpStream>>,
    next: u64,
}

/// What was pushed beside a fault.
#[derive(Debug, Clone, Copy)]
pub struct Pushed {
    pub messages: u64,
    /// From a publish to the last of the arrivals.
    pub slowest: Duration,
}

impl Steady {
    /// On each gateway of the PushCluster, which are all ready.
    pub async fn begin(namespace: &Namespace, name: &str) -> Result<Steady> {
        let pods = gateway_pods(&namespace.cluster, &namespace.name, name).await?;
        let mut steady = Steady {
            publishers: Vec::new(),
            subscribers: Vec::new(),
            next: 0,
        };
        for pod in pods {
            let address = pod.status.and_then(|status| status.pod_ip);
            let address: IpAddr = address.context("a gateway has no address")?.parse()?;
            let address = SocketAddr::new(address, CLIENTS_PORT);
            let mut subscriber = PushClient::connect(TcpStream::connect(address).await?).await?;
            subscriber.subscribe(CHANNEL).await?;
            steady.subscribers.push(subscriber);
            let publisher = PushClient::connect(TcpStream::connect(address).await?).await?;
            steady.publishers.push(publisher);
        }
        ensure!(steady.publishers.len() > 1, "no message crosses pods");
        steady.push().await?;
        Ok(steady)
    }

    /// Pushes until `fault` has come and gone; the first message that does not arrive ends both.
    pub async fn during<T>(
        &mut self,
        fault: impl Future<Output = Result<T>>,
    ) -> Result<(T, Pushed)> {
        let over = Cell::new(false);
        let fault = async {
            let result = fault.await;
            over.set(true);
            result
        };
        let first = self.next;
        let pushing = async {
            let mut slowest = Duration::ZERO;
            let mut pace = interval(PACE);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while !over.get() {
                pace.tick().await;
                slowest = slowest.max(self.push().await?);
            }
            Ok(Pushed {
                messages: self.next - first,
                slowest,
            })
        };
        tokio::try_join!(fault, pushing)
    }

    /// One message, through each gateway in turn: acknowledged, and the next that every subscriber hears.
    async fn push(&mut self) -> Result<Duration> {
        let number = self.next;
        self.next += 1;
        let turn = usize::try_from(number)? % self.publishers.len();
        let publisher = &mut self.publishers[turn];
        let begun = Instant::now();
        let message = json!({"type": "chat", "channel": CHANNEL, "message": number, "id": number});
        publisher.send(&message).await?;
        let answer = publisher.receive("published", ARRIVAL).await;
        answer.with_context(|| format!("message {number} is not acknowledged"))?;
        for (place, subscriber) in self.subscribers.iter_mut().enumerate() {
            let heard = subscriber.receive("chat", ARRIVAL).await;
            let heard = heard.with_context(|| format!("gateway {place}, message {number}"))?;
            ensure!(
                heard["message"] == number,
                "gateway {place} delivers {heard} instead of {number}"
            );
        }
        Ok(begun.elapsed())
    }
}

/// Lets the clients go on for a while.
pub async fn pass(time: Duration) {
    let mut ticks = interval(time);
    ticks.tick().await;
    ticks.tick().await;
}
