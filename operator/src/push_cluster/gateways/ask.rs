//! The questions, over HTTP.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crds::RedisMode;
use futures::StreamExt;
use gateway_config::{Config, password_print};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::clients::Node;
use super::delivery::{Delivery, Heard, Round};
use super::{Answer, Answers, Print, Runs, delivery, in_order, with_clients, written};
use crate::push_cluster::observe::Observed;

/// The admin port of a gateway pod, as `build` writes it into its configuration.
const PORT: u16 = 9090;
/// Inside a cluster a connection takes milliseconds; a pod that cannot be reached must not hold up the others' turn.
const CONNECT: Duration = Duration::from_secs(1);
/// For a whole answer: longer than a round.
const DEADLINE: Duration = Duration::from_secs(4);
/// Pods that are asked at once: as many as there may be, for what one publishes is heard by those that are asked with it.
const AT_ONCE: usize = 1_000;
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
    #[error("answered what this version does not understand: {0}")]
    NotUnderstood(serde_json::Error),
}

/// How gateways are asked: all of them at once, which takes no longer than the slowest of them may.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    pub port: u16,
    pub connect: Duration,
    pub deadline: Duration,
}

impl Default for Asker {
    fn default() -> Self {
        Asker {
            port: PORT,
            connect: CONNECT,
            deadline: DEADLINE,
        }
    }
}

/// What is wanted of `/config`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    #[serde(default)]
    refused: Option<String>,
    /// None: this version of the gateway does not tell.
    #[serde(default)]
    api_keys: Option<usize>,
    #[serde(default)]
    redis_password: Option<String>,
    config: Box<Config>,
}

impl Asker {
    /// What each runs with.
    pub(super) async fn configs(self, observed: &Observed) -> Answers {
        let (Some(wanted), Some(key)) = (
            written(observed.live.config.as_ref()),
            &observed.keys.api_key,
        ) else {
            return Answers::default();
        };
        let rotation = &observed.keys.rotation;
        let pods = in_order(&observed.pods);
        let answers = self
            .all(&pods, rotation.newest(key), &("/config", None))
            .await;
        Answers {
            wanted: Some(wanted),
            api_keys: rotation.count(),
            redis_password: print(observed),
            pods: answers
                .into_iter()
                .map(|(pod, answer)| Answer {
                    runs: runs(&pod, answer),
                    pod,
                })
                .collect(),
        }
    }

    /// What each hears of the others. `turn`: another number each time.
    pub(super) async fn round(self, observed: &Observed, turn: usize) -> Delivery {
        let Some(key) = &observed.keys.api_key else {
            return Delivery::default();
        };
        let pods = delivery::asked(&observed.pods);
        let round = Round {
            round: format!("{:016x}", rand::random::<u64>()),
            from: delivery::publishers(&pods, turn),
            seconds: delivery::ROUND_SECONDS,
        };
        let body = serde_json::to_vec(&round).expect("texts and a number are JSON");
        let answers = self.all(&pods, key, &("/probe", Some(body.into()))).await;
        let pods = answers.into_iter().map(|(pod, answer)| {
            let heard = answer.and_then(|body| understood::<Heard>(&body));
            if let Err(why) = &heard {
                tracing::debug!(pod, "not known what it hears: it {why}");
            }
            (pod, heard.ok())
        });
        Delivery {
            pods: pods.collect(),
            from: round.from,
        }
    }

    /// What each says of itself; None where nothing is known. Pods that end are asked, too: they have clients.
    pub async fn nodes(self, pods: &[Pod]) -> Vec<(String, Option<Node>)> {
        let pods: Vec<&Pod> = with_clients(pods).collect();
        let answers = self.all(&pods, "", &("/node", None)).await;
        answers
            .into_iter()
            .map(|(pod, answer)| {
                let node = answer.and_then(|body| understood::<Node>(&body));
                if let Err(why) = &node {
                    tracing::debug!(pod, "not known how many clients it has: it {why}");
                }
                (pod, node.ok())
            })
            .collect()
    }

    /// What each counts, in the text format of Prometheus; None where nothing is known.
    pub async fn counters(self, pods: &[Pod]) -> Vec<(String, Option<String>)> {
        let pods: Vec<&Pod> = with_clients(pods).collect();
        let answers = self.all(&pods, "", &("/metrics", None)).await;
        answers
            .into_iter()
            .map(|(pod, answer)| {
                let text = answer.ok().and_then(|b| String::from_utf8(b.to_vec()).ok());
                (pod, text)
            })
            .collect()
    }

    /// The same question to all, with their names.
    async fn all(
        self,
        pods: &[&Pod],
        key: &str,
        question: &(&'static str, Option<Bytes>),
    ) -> Vec<(String, Result<Bytes, AskError>)> {
        // Nothing in here is borrowed: the future goes to another thread.
        let questions: Vec<_> = pods
            .iter()
            .map(|pod| {
                let (name, address) = (pod.name_any(), self.address(pod));
                let (key, (path, body)) = (key.to_owned(), question.clone());
                async move { (name, self.request(address, &key, path, body).await) }
            })
            .collect();
        futures::stream::iter(questions)
            .buffered(AT_ONCE)
            .collect()
            .await
    }

    /// The body of a good answer. Without a body of its own it is a GET.
    async fn request(
        self,
        address: Option<SocketAddr>,
        key: &str,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Bytes, AskError> {
        let address = address.ok_or(AskError::NoAddress)?;
        let method = if body.is_some() {
            Method::POST
        } else {
            Method::GET
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", address.to_string())
            .header("x-api-key", key)
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|error| AskError::Http(error.into()))?;
        let talk = self.talk(address, request);
        let answer = timeout(self.deadline, talk).await;
        answer.unwrap_or(Err(AskError::Late(self.deadline)))
    }

    pub(super) async fn talk(
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
                status if status.is_success() => Ok(body),
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

    pub(super) fn address(self, pod: &Pod) -> Option<SocketAddr> {
        let ip: IpAddr = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
        Some(SocketAddr::new(ip, self.port))
    }
}

fn understood<T: DeserializeOwned>(body: &Bytes) -> Result<T, AskError> {
    serde_json::from_slice(body).map_err(AskError::NotUnderstood)
}

fn print(observed: &Observed) -> Option<Print> {
    let password = observed.keys.redis_password.as_ref()?;
    let own = observed.cluster.spec.redis.mode != RedisMode::External;
    own.then(|| Print {
        text: password_print(password),
        must_be_told: observed.keys.passwords.before.is_some(),
    })
}

fn runs(pod: &str, answer: Result<Bytes, AskError>) -> Runs {
    match answer.and_then(|body| understood::<Shown>(&body)) {
        Ok(Shown {
            refused,
            api_keys,
            redis_password,
            config,
        }) => Runs::With {
            config,
            api_keys,
            redis_password,
            refused,
        },
        Err(AskError::Status(StatusCode::UNAUTHORIZED)) => Runs::WithAnOldKey,
        Err(why) => {
            tracing::debug!(pod, "not known what it runs with: it {why}");
            Runs::Unknown
        }
    }
}
