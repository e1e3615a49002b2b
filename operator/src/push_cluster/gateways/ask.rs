//! The questions, over HTTP.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::StreamExt;
use gateway_config::Config;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Answer, Answers, Runs, in_order, written};
use crate::push_cluster::observe::Observed;

/// The admin port of a gateway pod, as `build` writes it into its configuration.
const PORT: u16 = 9090;
/// Inside a cluster a connection takes milliseconds; a pod that cannot be reached must not hold up the others' turn.
const CONNECT: Duration = Duration::from_secs(1);
/// For a whole answer.
const DEADLINE: Duration = Duration::from_secs(3);
/// Pods that are asked at once.
const AT_ONCE: usize = 64;
/// Longest answer, in bytes: a configuration with its 100 channel policies is a tenth of it.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Why a gateway did not answer; completes a sentence that begins with the pod.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("has no address")]
    NoAddress,
    #[error("did not answer within {0:?}")]
    Late(Duration),
    #[error("is not reachable: {0}")]
    Connect(std::io::Error),
    #[error("broke off: {0}")]
    Http(Box<dyn std::error::Error + Send + Sync>),
    #[error("answered {0}")]
    Status(StatusCode),
    #[error("answered what is no configuration of this version: {0}")]
    NotUnderstood(serde_json::Error),
}

/// Asks every gateway at once. Takes no longer than the slowest of them may, for each 64 of them.
pub async fn ask(observed: &Observed) -> Answers {
    Asker {
        port: PORT,
        connect: CONNECT,
        deadline: DEADLINE,
    }
    .ask(observed)
    .await
}

/// How gateways are asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker {
    pub port: u16,
    pub connect: Duration,
    pub deadline: Duration,
}

/// What is wanted of `/config`.
#[derive(Deserialize)]
struct Shown {
    #[serde(default)]
    refused: Option<String>,
    config: Box<Config>,
}

impl Asker {
    pub async fn ask(self, observed: &Observed) -> Answers {
        let (Some(wanted), Some(key)) = (
            written(observed.live.config.as_ref()),
            &observed.keys.api_key,
        ) else {
            return Answers::default();
        };
        let pods = in_order(&observed.pods).into_iter().map(|pod| {
            let (name, address) = (pod.name_any(), self.address(pod));
            let runs = self.runs(address, key.clone());
            async move {
                let runs = runs.await;
                if let Runs::Unknown(why) = &runs {
                    tracing::debug!(pod = name, "not known what it runs with: it {why}");
                }
                Answer { pod: name, runs }
            }
        });
        // Not borrowed from what was observed: the future goes to another thread.
        let answers: Vec<_> = pods.collect();
        Answers {
            wanted: Some(wanted),
            pods: futures::stream::iter(answers)
                .buffered(AT_ONCE)
                .collect()
                .await,
        }
    }

    async fn runs(self, address: Option<SocketAddr>, key: String) -> Runs {
        let answer = self.request(address, &key, Method::GET, "/config").await;
        let shown = answer.and_then(|body| {
            serde_json::from_slice::<Shown>(&body).map_err(AskError::NotUnderstood)
        });
        match shown {
            Ok(Shown { refused, config }) => Runs::With { config, refused },
            Err(AskError::Status(StatusCode::UNAUTHORIZED)) => Runs::WithAnOldKey,
            Err(error) => Runs::Unknown(error.to_string()),
        }
    }

    /// The body of a good answer.
    async fn request(
        self,
        address: Option<SocketAddr>,
        key: &str,
        method: Method,
        path: &str,
    ) -> Result<Bytes, AskError> {
        let address = address.ok_or(AskError::NoAddress)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", address.to_string())
            .header("x-api-key", key)
            .body(Full::<Bytes>::default())
            .map_err(|error| AskError::Http(error.into()))?;
        let talk = self.talk(address, request);
        let answer = timeout(self.deadline, talk).await;
        answer.unwrap_or(Err(AskError::Late(self.deadline)))
    }

    async fn talk(
        self,
        address: SocketAddr,
        request: Request<Full<Bytes>>,
    ) -> Result<Bytes, AskError> {
        let socket = timeout(self.connect, TcpStream::connect(address)).await;
        let socket = socket.map_err(|_| AskError::Late(self.connect))?;
        let socket = TokioIo::new(socket.map_err(AskError::Connect)?);
        let http = |error: hyper::Error| AskError::Http(error.into());
        let (mut sender, connection) = handshake(socket).await.map_err(http)?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(http)?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES);
            let body = body.collect().await.map_err(AskError::Http)?.to_bytes();
            match status {
                StatusCode::OK => Ok(body),
                status => Err(AskError::Status(status)),
            }
        };
        tokio::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            // The answer may be whole when the connection ends.
            _ = connection => exchange.await,
        }
    }

    fn address(self, pod: &Pod) -> Option<SocketAddr> {
        let ip: IpAddr = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
        Some(SocketAddr::new(ip, self.port))
    }
}
