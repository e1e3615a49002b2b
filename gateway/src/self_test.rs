//! The gateway as its own client: a WebSocket to its own port, a subscription, a message, the same message back.
//!
//! Everything that a client needs is on that way: the listener, HTTP, a shard, the router, the broker and the way
//! back. A probe that only asks a process whether it is well finds a process that says yes.
//!
//! The connection says who it is with a secret of this process, and then counts for nothing: no cap and no pace
//! refuses it, for a node that is full still works, and no metric has it, for dashboards and the autoscaler ask
//! how many clients there are. It is told apart from clients by the secret and not by its address, because a proxy
//! beside the gateway has the same address. Only `limits.maxHandshakes` stops it, as it stops everybody then.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use prometheus::{IntCounterVec, Opts, Registry};
use subtle::ConstantTimeEq;
use tokio::net::TcpStream;

use crate::name::ChannelName;
use crate::tls::Tls;
use client::{Client, Stream};

mod client;
mod round;

pub use round::{Heard, NoRound, Round, Rounds};

/// Between the end of one test and the next.
const EVERY: Duration = Duration::from_secs(5);
/// The same after a failure: to be ready soon when the cause is gone.
const AGAIN: Duration = Duration::from_millis(500);
/// For one test from its connect to its message. A node that needs longer is no good to clients either.
const PATIENCE: Duration = Duration::from_secs(5);
/// A success counts for so long: two tests and their waits. Later, the task that tests has ended.
const COUNTS_FOR: Duration = Duration::from_secs(25);

/// The header with the secret.
const HEADER: &str = "x-pushcluster-self-test";

/// What only this process knows. Cloning shares it.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    fn new() -> Secret {
        Secret(format!("{:032x}", rand::random::<u128>()).into())
    }

    /// Whether a handshake is the self-test's.
    #[must_use]
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(HEADER).map(|value| value.as_bytes());
        given.is_some_and(|given| bool::from(given.ct_eq(self.0.as_bytes())))
    }
}

/// How the last test ended.
enum Last {
    None,
    Passed(Instant),
    Failed(String),
}

/// The test and its results. Cloning shares them.
#[derive(Clone)]
pub struct SelfTest {
    secret: Secret,
    /// This node's name.
    node: Arc<str>,
    last: Arc<Mutex<Last>>,
    done: IntCounterVec,
}

/// Why a test failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("connect to {0}: {1}")]
    Connect(SocketAddr, std::io::Error),
    #[error("{0}: {1}")]
    Socket(&'static str, std::io::Error),
    #[error("{0}: answered {1}")]
    Refused(&'static str, String),
    #[error("{0}: no answer within {PATIENCE:?}")]
    Late(&'static str),
}

impl SelfTest {
    pub fn register(registry: &Registry, node: Arc<str>) -> prometheus::Result<SelfTest> {
        let done = IntCounterVec::new(
            Opts::new(
                "pushcluster_self_tests_total",
                "Messages that the gateway sent to itself through a socket, by result.",
            ),
            &["result"],
        )?;
        registry.register(Box::new(done.clone()))?;
        for result in ["passed", "failed"] {
            done.with_label_values(&[result]);
        }
        Ok(SelfTest {
            secret: Secret::new(),
            node,
            last: Arc::new(Mutex::new(Last::None)),
            done,
        })
    }

    #[must_use]
    pub fn secret(&self) -> Secret {
        self.secret.clone()
    }

    /// The gate of `/ready`.
    pub fn gate(&self) -> Result<(), String> {
        match &*self.last.lock().unwrap_or_else(PoisonError::into_inner) {
            Last::None => Err("the first one is under way".to_owned()),
            Last::Failed(why) => Err(why.clone()),
            Last::Passed(at) if at.elapsed() < COUNTS_FOR => Ok(()),
            Last::Passed(at) => Err(format!("the last one was {} s ago", at.elapsed().as_secs())),
        }
    }

    /// Tests for ever. `listening` is where clients connect, with this TLS.
    pub async fn run(self, listening: SocketAddr, tls: Option<Tls>) {
        let address = reachable(listening);
        let mut number = 0u64;
        loop {
            number += 1;
            let result = self.test(address, tls.as_ref(), number).await;
            let wait = if result.is_ok() { EVERY } else { AGAIN };
            self.note(result);
            tokio::time::sleep(wait).await;
        }
    }

    fn note(&self, result: Result<(), Failure>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let label = if result.is_ok() { "passed" } else { "failed" };
        self.done.with_label_values(&[label]).inc();
        match result {
            Ok(()) => {
                if let Last::Failed(why) = &*last {
                    tracing::info!("self-test passed; before: {why}");
                }
                *last = Last::Passed(Instant::now());
            }
            Err(failure) => {
                // Once for each outage, not twice a second.
                if !matches!(&*last, Last::Failed(_)) {
                    tracing::warn!("self-test failed: {failure}");
                }
                *last = Last::Failed(failure.to_string());
            }
        }
    }

    async fn test(
        &self,
        address: SocketAddr,
        tls: Option<&Tls>,
        number: u64,
    ) -> Result<(), Failure> {
        let mut step = "connect and handshake";
        let test = async {
            let mut client = self.open(address, tls).await?;
            // It was a name when the node began.
            let channel = ChannelName::self_test(&self.node)
                .map_err(|e| Failure::Refused("subscribe", format!("the channel's name {e}")))?;
            step = "subscribe";
            client.subscribe(&channel).await?;
            step = "publish and receive";
            client
                .say(&serde_json::json!({"type": "chat", "channel": channel.as_str(), "message": number}))
                .await?;
            // The message of an earlier test that came too late is not this one's.
            client
                .hear(step, |answer| {
                    answer["type"] == "chat" && answer["message"] == number
                })
                .await?;
            client.close().await;
            Ok(())
        };
        let ended = tokio::time::timeout(PATIENCE, test).await;
        ended.unwrap_or(Err(Failure::Late(step)))
    }

    /// A connection that counts for nothing.
    async fn open(&self, address: SocketAddr, tls: Option<&Tls>) -> Result<Client, Failure> {
        let socket = TcpStream::connect(address)
            .await
            .map_err(|e| Failure::Connect(address, e))?;
        let socket: Box<dyn Stream> = match tls {
            None => Box::new(socket),
            Some(tls) => {
                let connected = tls.connect_to_ourselves(socket).await;
                Box::new(connected.map_err(|e| Failure::Socket("TLS handshake", e))?)
            }
        };
        Client::open(socket, address, (HEADER, &self.secret.0)).await
    }
}

/// "Any address" is no address to connect to.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secret_opens() {
        let secret = Secret::new();
        for (value, expected) in [
            (secret.0.to_string(), true),
            (Secret::new().0.to_string(), false),
            (secret.0[1..].to_owned(), false),
            (String::new(), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, value.parse().unwrap());
            assert_eq!(secret.is_in(&headers), expected, "{value}");
        }
        assert!(!secret.is_in(&HeaderMap::new()));
    }

    #[test]
    fn the_gate_says_how_the_last_one_ended() {
        let test = SelfTest::register(&Registry::new(), "a".into()).unwrap();
        assert_eq!(test.gate(), Err("the first one is under way".to_owned()));
        test.note(Err(Failure::Late("subscribe")));
        assert_eq!(
            test.gate(),
            Err("subscribe: no answer within 5s".to_owned())
        );
        test.note(Ok(()));
        assert_eq!(test.gate(), Ok(()));
    }

    #[test]
    fn addresses() {
        for (listening, expected) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("10.0.0.1:80", "10.0.0.1:80"),
        ] {
            let found = reachable(listening.parse().unwrap());
            assert_eq!(found, expected.parse().unwrap(), "{listening}");
        }
    }
}
