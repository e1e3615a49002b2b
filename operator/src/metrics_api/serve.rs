//! The port: TLS, one request after another on each connection, and nothing that the API server has not asked for.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::answer::{self, Refusal};
use super::discovery;
use super::fleets::Fleets;
use super::kept::{Serving, State};
use super::request::{Asked, asked};

/// API servers have a few connections each; more than this many at once are somebody else's, and end at once.
const MAX_CONNECTIONS: usize = 256;
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Between two requests of a connection, too.
const NEXT_REQUEST: Duration = Duration::from_secs(90);
/// The API server's headers tell a user's groups and extras, which may be many.
const MAX_HEADERS: usize = 64 * 1024;

type Answer = Response<Full<Bytes>>;

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, state: watch::Receiver<State>, fleets: Arc<Fleets>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                // No more files, most often: the next try comes when another connection may have ended.
                tracing::warn!(%error, "accepting a connection of the metrics API failed");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::warn!(
                "the metrics API has {MAX_CONNECTIONS} connections; one more is refused"
            );
            continue;
        };
        let (state, fleets) = (state.clone(), fleets.clone());
        tokio::spawn(async move {
            connection(socket, state, fleets).await;
            drop(place);
        });
    }
}

async fn connection(socket: TcpStream, mut state: watch::Receiver<State>, fleets: Arc<Fleets>) {
    let serving = state.borrow_and_update().clone();
    let Ok(serving) = serving else {
        return;
    };
    let shaking = TlsAcceptor::from(serving.tls.clone()).accept(socket);
    let socket = match timeout(HANDSHAKE, shaking).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => {
            return tracing::debug!(%error, "a TLS handshake of the metrics API failed");
        }
        Err(_) => return,
    };
    let certificates = socket.get_ref().1.peer_certificates();
    let certificate = certificates.and_then(|chain| chain.first()).cloned();
    let certificate = certificate.map(CertificateDer::into_owned).map(Arc::new);
    let service = service_fn(|request: Request<Incoming>| {
        let (serving, fleets, certificate) = (serving.clone(), fleets.clone(), certificate.clone());
        async move {
            let certificate = certificate.as_deref();
            Ok::<_, Infallible>(respond(&request, certificate, &serving, &fleets).await)
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(NEXT_REQUEST)
        .max_buf_size(MAX_HEADERS);
    let connection = builder.serve_connection(TokioIo::new(socket), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        // Whoever was trusted when it began may be so no more.
        _ = state.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of the metrics API ended");
    }
}

async fn respond<B>(
    request: &Request<B>,
    certificate: Option<&CertificateDer<'static>>,
    serving: &Serving,
    fleets: &Fleets,
) -> Answer {
    let user = serving.trust.user(certificate, request.headers());
    let answer = match &user {
        Ok(_) => body(request, fleets).await,
        Err(refusal) => Err(refusal.clone()),
    };
    let code = answer
        .as_ref()
        .map_or_else(Refusal::code, |_| StatusCode::OK);
    let user = user.unwrap_or_default();
    let path = request.uri().path();
    tracing::debug!(user, path, code = code.as_u16(), "metrics API");
    let known = !matches!(code, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    let value = answer.unwrap_or_else(|refusal| refusal.status());
    response(code, &value, known)
}

/// A stranger's connection ends with its answer: the places are few.
fn response(code: StatusCode, value: &Value, known: bool) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    if !known {
        headers.insert(CONNECTION, http::HeaderValue::from_static("close"));
    }
    response
}

async fn body<B>(request: &Request<B>, fleets: &Fleets) -> Result<Value, Refusal> {
    if request.method() != Method::GET {
        return Err(Refusal::MethodNotAllowed);
    }
    let accept = request.headers().get(ACCEPT);
    // Headers that are no text are no media types either.
    let accept = accept.map(|accept| accept.to_str().unwrap_or("?"));
    Ok(match asked(request.uri(), accept)? {
        Asked::Groups => discovery::groups(),
        Asked::Group => discovery::group(),
        Asked::Resources(version) => discovery::resources(version),
        Asked::OpenApiV2 => discovery::open_api_v2(),
        Asked::OpenApiV3 => discovery::open_api_v3(),
        Asked::OpenApiV3Of(version) => discovery::open_api_v3_of(version),
        Asked::Value(question) => {
            let readings = fleets.readings(&question).await?;
            answer::values(question.version, question.metric, &readings)
        }
    })
}

#[cfg(test)]
mod tests;
