//! One request for a key set over HTTP or HTTPS.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Request, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};

/// Longest key set. One with as many keys as we take, each with a chain of certificates, fits.
pub const MAX_BODY_BYTES: usize = 1 << 18;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("no whole answer within {0:?}")]
    Slow(Duration),
    #[error("{0}")]
    Connection(String),
    #[error("answered {0}, not 200")]
    Status(u16),
    #[error("answered with more than {MAX_BODY_BYTES} bytes")]
    Long,
}

/// Asks one server.
pub struct Fetcher {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    uri: Uri,
    timeout: Duration,
}

/// Roots that a PEM file names, or those that browsers trust: an image made of one binary has no folder of them.
pub fn roots(pem: Option<&[u8]>) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let Some(text) = pem else {
        return Ok(builder.with_webpki_roots().with_no_client_auth());
    };
    let mut roots = RootCertStore::empty();
    for section in pem::parse_many(text).map_err(|e| e.to_string())? {
        if section.tag() == "CERTIFICATE" {
            let certificate = section.into_contents().into();
            roots.add(certificate).map_err(|e| e.to_string())?;
        }
    }
    if roots.is_empty() {
        return Err("holds no certificate in PEM".to_owned());
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

impl Fetcher {
    pub fn new(uri: Uri, timeout: Duration, tls: ClientConfig) -> Fetcher {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new())
            // Minutes lie between two requests: a kept connection would mostly be a dead one.
            .pool_max_idle_per_host(0)
            .build(connector);
        Fetcher {
            client,
            uri,
            timeout,
        }
    }

    /// The body of the answer. All together takes at most the timeout.
    pub async fn fetch(&self) -> Result<Bytes, FetchError> {
        tokio::time::timeout(self.timeout, self.ask())
            .await
            .unwrap_or(Err(FetchError::Slow(self.timeout)))
    }

    async fn ask(&self) -> Result<Bytes, FetchError> {
        let version = daemon::version();
        let request = Request::get(&self.uri)
            .header(header::ACCEPT, "application/jwk-set+json, application/json")
            .header(header::USER_AGENT, format!("pushcluster-gateway/{version}"))
            .body(Empty::new())
            .map_err(|e| FetchError::Connection(e.to_string()))?;
        let response = self
            .client
            .request(request)
            .await
            .map_err(|e| FetchError::Connection(chain(&e)))?;
        // No redirects: the answer would come from a place that nobody configured.
        if response.status() != 200 {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let body = Limited::new(response.into_body(), MAX_BODY_BYTES);
        match body.collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(e) if e.is::<LengthLimitError>() => Err(FetchError::Long),
            Err(e) => Err(FetchError::Connection(chain(&*e))),
        }
    }
}

/// An error with its causes: the first alone says "client error (Connect)".
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
