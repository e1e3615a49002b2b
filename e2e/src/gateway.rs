//! Streams to single gateway pods, and requests over them. They go through the API server's port-forward,
//! which reaches a pod in any cluster that kubectl reaches.

use anyhow::{Context, Result, ensure};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use tokio::io::DuplexStream;

use crate::cluster::Cluster;

/// Where clients and the HTTP API are served.
pub const CLIENTS_PORT: u16 = 8080;
/// Where `/metrics`, `/live` and `/ready` are served, by gateways and by the operator.
pub const ADMIN_PORT: u16 = 9090;

/// One pod, reached through the API server.
#[derive(Clone)]
pub struct PodAddress {
    pub cluster: Cluster,
    pub namespace: String,
    pub pod: String,
}

impl PodAddress {
    /// A byte stream to `port` of the pod.
    pub async fn stream(&self, port: u16) -> Result<DuplexStream> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client(), &self.namespace);
        let mut forwarder = pods
            .portforward(&self.pod, &[port])
            .await
            .with_context(|| {
                format!("forward port {port} of pod {}/{}", self.namespace, self.pod)
            })?;
        forwarder
            .take_stream(port)
            .context("a forwarded port has a stream")
    }

    /// One HTTP request; the answer with its whole body as text.
    pub async fn request(&self, port: u16, request: Request<String>) -> Result<Response<String>> {
        let what = format!("{} {} of pod {}", request.method(), request.uri(), self.pod);
        let stream = TokioIo::new(self.stream(port).await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
            .await
            .with_context(|| what.clone())?;
        let request = request.map(|body| Full::new(Bytes::from(body)));
        let driver = tokio::spawn(connection);
        let answer = async {
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            anyhow::Ok(Response::from_parts(
                head,
                String::from_utf8(body.to_vec())?,
            ))
        }
        .await
        .with_context(|| what);
        driver.abort();
        answer
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> Result<String> {
        let request = Request::get("/metrics")
            .header("host", &self.pod)
            .body(String::new())?;
        let answer = self.request(ADMIN_PORT, request).await?;
        ensure!(
            answer.status() == StatusCode::OK,
            "/metrics of {}: {}",
            self.pod,
            answer.status()
        );
        Ok(answer.into_body())
    }
}

/// The sum of all series of a metric, in the Prometheus text format. `None`: there is no such series.
pub fn metric_total(text: &str, name: &str) -> Option<f64> {
    let values: Vec<f64> = text
        .lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with(['{', ' ']))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse().ok())
        .collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_a_metric_are_summed_and_others_are_not() {
        let text = "# TYPE sent counter\nsent{type=\"a b\"} 2\nsent{type=\"c\"} 3\nsent_bytes 9\nplain 1\n";
        assert_eq!(metric_total(text, "sent"), Some(5.0));
        assert_eq!(metric_total(text, "plain"), Some(1.0));
        assert_eq!(metric_total(text, "sen"), None);
    }
}
