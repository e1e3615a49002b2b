//! Streams to single pods through the API server's port-forward, which reaches a pod wherever kubectl reaches one.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use operator::failure::line;
use tokio::io::DuplexStream;
use tokio::time::timeout;

use crate::cluster::Cluster;

/// Where a gateway has clients and its HTTP API.
pub const CLIENTS_PORT: u16 = 8080;
/// Where it has metrics and what changes it.
pub const ADMIN_PORT: u16 = 9090;
pub const REDIS_PORT: u16 = 6379;

/// A pod that does not answer holds up the screen no longer.
pub const ANSWER: Duration = Duration::from_secs(10);

impl Cluster {
    pub async fn stream(&self, pod: &str, port: u16) -> Result<DuplexStream> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let what = format!("reaching port {port} of pod {pod} failed");
        let opened = timeout(ANSWER, pods.portforward(pod, &[port])).await;
        let mut opened = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => bail!("{what}: {}", line(&error)),
            Err(_) => bail!("{what}: no answer within {} s", ANSWER.as_secs()),
        };
        opened.take_stream(port).context(what)
    }

    /// One HTTP request; the answer with its whole body.
    pub async fn request(
        &self,
        pod: &str,
        port: u16,
        request: Request<String>,
    ) -> Result<Response<String>> {
        let what = format!("{} {} of pod {pod} failed", request.method(), request.uri());
        let asked = async {
            let stream = TokioIo::new(self.stream(pod, port).await?);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
            let driver = tokio::spawn(connection);
            let request = request.map(|body| Full::new(Bytes::from(body)));
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            driver.abort();
            let body = String::from_utf8_lossy(&body).into_owned();
            anyhow::Ok(Response::from_parts(head, body))
        };
        let answer = timeout(ANSWER, asked).await;
        answer
            .with_context(|| format!("{what}: no answer within {} s", ANSWER.as_secs()))?
            .context(what)
    }
}
