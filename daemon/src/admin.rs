//! The admin port: `/live`, `/ready`, `/metrics` and `/version`, for Kubernetes and Prometheus.
//!
//! Readiness is a list of named gates. Each is asked at the moment of the request, so an answer is
//! never older than the probe that wanted it, and the body names the gate that is closed:
//!
//! ```text
//! GET /ready → 503 {"ready":false,"gates":{"broker":"no answer for 3 s","drain":"open"}}
//! ```

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus::{Encoder, Registry, TextEncoder};
use serde::Serialize;
use tokio::net::TcpListener;

use crate::signals::Shutdown;

type Ask = Arc<dyn Fn() -> Result<Option<String>, String> + Send + Sync>;

/// Named conditions, all of which must hold. Cloning shares them.
#[derive(Clone, Default)]
pub struct Gates(Vec<(&'static str, Ask)>);

/// What the gates said at one moment.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    pub ready: bool,
    /// `open`, `open, but …`, or why not.
    pub gates: BTreeMap<&'static str, String>,
}

impl Gates {
    /// Adds a condition. `ask` answers from what the process already knows and must not block: a probe
    /// that waits is a probe that times out.
    #[must_use]
    pub fn with(
        self,
        name: &'static str,
        ask: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Gates {
        self.with_note(name, move || ask().map(|()| None))
    }

    /// The same for one that may be open and have something to say: what an operator should know, and no new place
    /// for clients would mend.
    #[must_use]
    pub fn with_note(
        mut self,
        name: &'static str,
        ask: impl Fn() -> Result<Option<String>, String> + Send + Sync + 'static,
    ) -> Gates {
        self.0.push((name, Arc::new(ask)));
        self
    }

    #[must_use]
    pub fn ask(&self) -> Answer {
        let mut ready = true;
        let mut gates = BTreeMap::new();
        for (name, ask) in &self.0 {
            let said = ask();
            ready &= said.is_ok();
            let text = match said {
                Ok(None) => "open".to_owned(),
                Ok(Some(note)) => format!("open, but {note}"),
                Err(why) => why,
            };
            gates.insert(*name, text);
        }
        Answer { ready, gates }
    }
}

/// What the admin port serves.
#[derive(Clone)]
pub struct Admin {
    /// When one of these closes, the process is broken and only a restart helps.
    pub live: Gates,
    /// When one of these closes, the process wants no new work for now.
    pub ready: Gates,
    pub metrics: Registry,
}

/// The routes, for a program that adds its own.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route(
            "/live",
            get(|State(admin): State<Admin>| async move { gates(&admin.live) }),
        )
        .route(
            "/ready",
            get(|State(admin): State<Admin>| async move { gates(&admin.ready) }),
        )
        .route("/metrics", get(metrics))
        .route(
            "/version",
            get(|| async { Json(serde_json::json!({"version": crate::version()})) }),
        )
        .with_state(admin)
}

/// Serves until the end of the process; stops accepting when `ended` begins.
///
/// Pass a [`Shutdown`] that begins after the last work is done, not the one that signals begin:
/// `/ready` and `/metrics` matter most while the process drains.
pub async fn serve(listener: TcpListener, router: Router, ended: Shutdown) -> io::Result<()> {
    axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            ended.begun().await;
        })
        .await
}

fn gates(gates: &Gates) -> Response {
    let answer = gates.ask();
    let status = if answer.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(answer)).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let mut text = Vec::new();
    match TextEncoder::new().encode(&admin.metrics.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(e) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("encode metrics: {e}"),
        )
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn gates_and_metrics_over_a_socket() {
        let broker = Arc::new(AtomicBool::new(false));
        let metrics = Registry::new();
        let counter = prometheus::IntCounter::new("pushcluster_test_total", "A test.").unwrap();
        metrics.register(Box::new(counter.clone())).unwrap();
        counter.inc_by(3);
        let asked = broker.clone();
        let ready = Gates::default()
            .with("broker", move || match asked.load(Ordering::Relaxed) {
                true => Ok(()),
                false => Err("no answer for 3 s".into()),
            })
            .with("drain", || Ok(()));
        let admin = Admin {
            live: Gates::default(),
            ready,
            metrics,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ended = Shutdown::default();
        let server = tokio::spawn(serve(listener, router(admin), ended.clone()));

        let closed = get(address, "/ready").await;
        assert!(closed.starts_with("HTTP/1.1 503 "), "{closed}");
        assert!(
            closed.ends_with(
                r#"{"ready":false,"gates":{"broker":"no answer for 3 s","drain":"open"}}"#
            ),
            "{closed}"
        );
        broker.store(true, Ordering::Relaxed);
        let open = get(address, "/ready").await;
        assert!(open.starts_with("HTTP/1.1 200 "), "{open}");
        assert!(open.ends_with(r#"{"ready":true,"gates":{"broker":"open","drain":"open"}}"#));
        assert!(get(address, "/live").await.starts_with("HTTP/1.1 200 "));
        assert!(
            get(address, "/metrics")
                .await
                .contains("\npushcluster_test_total 3\n")
        );
        assert!(get(address, "/nothing").await.starts_with("HTTP/1.1 404 "));

        ended.begin("test");
        server.await.unwrap().unwrap();
    }
}
