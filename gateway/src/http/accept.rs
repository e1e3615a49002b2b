//! Accepts TCP connections and speaks HTTP/1 on them, until the handshake takes them away.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use daemon::signals::Shutdown;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::Peer;
use super::refusals::Refusals;
use crate::limits::{Cap, Limit};
use crate::metrics::Metrics;
use crate::running;
use crate::sse::Line;
use crate::tls::Tls;

/// Largest request head, in bytes: a token of 8 KiB and the headers of a proxy fit.
const MAX_HEAD_BYTES: usize = 32 << 10;

/// Written without reading the request: a machine that is full must spend nothing on one more.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
    content-type: application/json\r\ncontent-length: 81\r\n\r\n\
    {\"error\":{\"code\":\"unavailable\",\"message\":\"too many HTTP connections: try later\"}}";

/// How connections are accepted.
pub struct Acceptor {
    pub listener: Arc<TcpListener>,
    /// None: HTTP without TLS.
    pub tls: Option<Tls>,
    pub routes: Router,
    /// Connections that speak HTTP at once.
    pub handshakes: Cap,
    pub metrics: Arc<Metrics>,
    pub refusals: Refusals,
    /// `limits.handshakeTimeoutSeconds`: from the accept to the end of the request head, and between two requests.
    pub running: running::Shared,
    pub shutdown: Shutdown,
}

impl Acceptor {
    fn patience(&self) -> Duration {
        let seconds = self.running.load().config.limits.handshake_timeout_seconds;
        Duration::from_secs(seconds.into())
    }

    /// Until the shutdown begins and the requests that were under way then are answered.
    pub async fn run(self) {
        let mut patience = self.patience();
        let mut server = Arc::new(server(patience));
        let mut serving = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                // Only to forget it.
                Some(_) = serving.join_next() => continue,
                _ = self.shutdown.begun() => break,
            };
            let (socket, peer) = match accepted {
                Ok((socket, peer)) => (socket, Peer(peer.ip())),
                Err(e) => {
                    // Out of file descriptors, mostly: the listener is fine, and waiting lets some close.
                    tracing::warn!("accept a connection: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Some(place) = self.handshakes.take() else {
                self.metrics.refused(Limit::Handshakes);
                if self.tls.is_none() {
                    // With TLS an answer costs the handshake that there is no room for.
                    tokio::spawn(refuse(socket));
                }
                continue;
            };
            if patience != self.patience() {
                patience = self.patience();
                server = Arc::new(self::server(patience));
            }
            let (server, routes, tls) = (server.clone(), self.routes.clone(), self.tls.clone());
            let (shutdown, refusals) = (self.shutdown.clone(), self.refusals.clone());
            serving.spawn(async move {
                let line = Arc::new(Line::new(place));
                // Small messages must not wait for the acknowledgement of earlier ones.
                let _ = socket.set_nodelay(true);
                let ends = (line, &shutdown);
                let ended = match tls {
                    None => serve(&server, (socket, peer), routes, ends).await,
                    Some(tls) => match tls.accept(socket, patience).await {
                        Ok(socket) => serve(&server, (socket, peer), routes, ends).await,
                        Err(e) => return tracing::debug!("TLS handshake with {}: {e}", peer.0),
                    },
                };
                if let Err((e, asked)) = ended {
                    refusals.ended(&e, asked);
                    tracing::debug!("HTTP connection ended: {e}");
                }
            });
        }
        drop(self.listener);
        while serving.join_next().await.is_some() {}
    }
}

pub(crate) fn server(patience: Duration) -> http1::Builder {
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        // Without it a client that sends its head a byte a minute holds a place for ever.
        .header_read_timeout(patience)
        .max_buf_size(MAX_HEAD_BYTES);
    server
}

/// An error comes with whether there has been a request before.
pub(crate) async fn serve(
    server: &http1::Builder,
    (socket, peer): (impl AsyncRead + AsyncWrite + Unpin + Send + 'static, Peer),
    routes: Router,
    (line, shutdown): (Arc<Line>, &Shutdown),
) -> Result<(), (hyper::Error, bool)> {
    let asked = Arc::new(AtomicBool::new(false));
    let routes = TowerToHyperService::new(routes);
    let handle = line.clone();
    let was_asked = asked.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        was_asked.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(handle.clone());
        let chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
        let answer = routes.call(request);
        async move {
            let mut response = answer.await?;
            if chunked && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                // A Content-Length beside it is ignored, and hyper does not tell us. A proxy that went by that length
                // takes what follows for another client's request, so nothing may follow (RFC 9112 section 6.1).
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = server
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    tokio::pin!(connection);
    let mut ending = false;
    loop {
        tokio::select! {
            ended = &mut connection => return ended.map_err(|e| (e, asked.load(Ordering::Relaxed))),
            () = line.is_cut() => return Ok(()),
            _ = shutdown.begun(), if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn refuse(mut socket: TcpStream) {
    // A client that does not even read this is not waited for.
    let _ = tokio::time::timeout(Duration::from_secs(1), async {
        let _ = socket.write_all(FULL).await;
        let _ = socket.shutdown().await;
    })
    .await;
}
