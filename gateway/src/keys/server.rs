//! The key server: asked at the start, on a schedule, and when a token names a key that is not known.

use std::time::Duration;

use axum::http::Uri;
use bytes::Bytes;
use rustls::ClientConfig;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Keyring;
use super::counters::{Outcome, Source};
use super::fetch::Fetcher;
use crate::auth::read::{self, Origin};
use crate::auth::signature::Key;

/// Between two requests that tokens with unknown keys cause: whoever sends such tokens must not be able to make us
/// attack the key server.
const BETWEEN_ASKS: Duration = Duration::from_secs(10);

/// The first wait after a failure; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest wait after a failure, unless the schedule is faster.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// `auth.jwksUrl` and what belongs to it.
pub struct Server {
    pub uri: Uri,
    /// Between two successful requests.
    pub refresh: Duration,
    /// For one request, from the connection to the last byte.
    pub timeout: Duration,
    pub tls: ClientConfig,
    /// What it has answered already. Empty: nothing.
    pub known: Bytes,
}

impl Server {
    /// Its keys, before anybody depends on them.
    pub async fn first(&mut self) -> Result<Vec<Key>, String> {
        let fetcher = Fetcher::new(self.uri.clone(), self.timeout, self.tls.clone());
        let body = fetcher.fetch().await.map_err(|error| error.to_string())?;
        let read = read::keys(&body, Origin::Server).map_err(|error| error.to_string())?;
        self.known = body;
        Ok(read.keys)
    }
}

struct Watch {
    keyring: Keyring,
    /// Which of the servers it is.
    number: u32,
    fetcher: Fetcher,
    uri: Uri,
    refresh: Duration,
    /// The last good answer.
    known: Bytes,
    /// Since the last good answer.
    failures: u32,
}

/// Puts what the server says into force. Ends with the process.
pub(super) async fn watch(
    keyring: Keyring,
    (server, number): (Server, u32),
    mut asks: mpsc::Receiver<oneshot::Sender<()>>,
) {
    let mut watch = Watch {
        keyring,
        number,
        fetcher: Fetcher::new(server.uri.clone(), server.timeout, server.tls),
        uri: server.uri,
        refresh: server.refresh,
        known: server.known,
        failures: 0,
    };
    let mut next = Instant::now();
    if !watch.known.is_empty() {
        next += watch.wait();
    }
    let mut asked: Option<Instant> = None;
    loop {
        let mut waiting = Vec::new();
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            Some(ask) = asks.recv() => {
                if asked.is_some_and(|at| at.elapsed() < BETWEEN_ASKS) {
                    // Dropping it is the answer.
                    continue;
                }
                asked = Some(Instant::now());
                waiting.push(ask);
            }
        }
        watch.ask().await;
        // Who came meanwhile has the same answer.
        while let Ok(ask) = asks.try_recv() {
            waiting.push(ask);
        }
        for ask in waiting {
            // It may have gone away.
            let _ = ask.send(());
        }
        next = Instant::now() + watch.wait();
    }
}

impl Watch {
    async fn ask(&mut self) {
        let result = match self.fetcher.fetch().await {
            Ok(body) => self.take(body),
            Err(error) => Err(error.to_string()),
        };
        let counters = &self.keyring.inner.counters;
        match result {
            Ok(()) => {
                self.failures = 0;
                counters.read(Source::Server, Outcome::Good);
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                counters.read(Source::Server, Outcome::Failed);
                tracing::warn!(
                    failures = self.failures,
                    "no keys from {}, what was known stays: {error}",
                    self.uri
                );
                let mut parts = self.keyring.parts();
                if parts.server_number == self.number {
                    parts.failure = error;
                }
            }
        }
    }

    fn take(&mut self, body: Bytes) -> Result<(), String> {
        if body == self.known {
            return Ok(());
        }
        let read = read::keys(&body, Origin::Server).map_err(|error| error.to_string())?;
        let names: Vec<_> = read.keys.iter().map(|key| key.id.clone()).collect();
        self.keyring
            .replace(|parts| {
                if parts.server_number == self.number {
                    parts.server = Some(read.keys);
                }
            })
            .map_err(|error| error.to_string())?;
        for skipped in read.skipped {
            tracing::warn!("{}: {skipped}", self.uri);
        }
        tracing::info!("keys from {}: {names:?}", self.uri);
        self.known = body;
        Ok(())
    }

    /// Until the schedule asks again. Never the same on two nodes that started together, or they would ask together.
    fn wait(&self) -> Duration {
        let wait = match self.failures {
            0 => self.refresh,
            failures => retry(failures).min(self.refresh),
        };
        wait.mul_f64(0.9 + 0.2 * rand::random::<f64>())
    }
}

fn retry(failures: u32) -> Duration {
    let doubled = 1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX);
    FIRST_RETRY.saturating_mul(doubled).min(LAST_RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute() {
        for (failures, seconds) in [
            (1, 1),
            (2, 2),
            (3, 4),
            (6, 32),
            (7, 60),
            (33, 60),
            (100, 60),
        ] {
            assert_eq!(retry(failures).as_secs(), seconds, "{failures}");
        }
    }
}
