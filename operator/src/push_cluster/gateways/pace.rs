//! The drain of one gateway: how fast it goes, begun, paced anew or taken back (docs/admin-port.md).

use std::collections::BTreeMap;

use futures::future::join_all;
use http::{Method, Request};
use http_body_util::Full;
use hyper::body::Bytes;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::ask::{AskError, Asker};
use super::clients::Node;

/// What is wanted of where a drain stands.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stands {
    #[serde(default)]
    connections_per_second: Option<u32>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Wish {
    pub connections_per_second: u32,
    /// None: everybody goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down_to: Option<u64>,
}

impl Asker {
    /// Clients each second of every pod that drains and tells.
    pub(super) async fn paces(
        self,
        pods: &[Pod],
        nodes: &[(String, Option<Node>)],
    ) -> BTreeMap<String, u32> {
        let drains = |pod: &&Pod| {
            let name = pod.name_any();
            let mut nodes = nodes.iter();
            nodes.any(|(pod, node)| *pod == name && node.as_ref().is_some_and(|n| n.draining))
        };
        let asked = pods.iter().filter(drains).map(async |pod| {
            let answer = self.drain(pod, "", Method::GET, Bytes::new()).await.ok()?;
            let stands: Stands = serde_json::from_slice(&answer).ok()?;
            Some((pod.name_any(), stands.connections_per_second?))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Begins a drain, or sets the pace of the one under way.
    pub async fn shed(self, pod: &Pod, key: &str, wish: Wish) -> Result<(), AskError> {
        let body = serde_json::to_vec(&wish).map_err(AskError::NotUnderstood)?;
        let shed = self.drain(pod, key, Method::POST, body.into()).await;
        shed.map(drop)
    }

    /// Takes it back; one that does not drain is left as it is.
    pub async fn take_back(self, pod: &Pod, key: &str) -> Result<(), AskError> {
        let back = self.drain(pod, key, Method::DELETE, Bytes::new()).await;
        back.map(drop)
    }

    async fn drain(
        self,
        pod: &Pod,
        key: &str,
        method: Method,
        body: Bytes,
    ) -> Result<Bytes, AskError> {
        let address = self.address(pod).ok_or(AskError::NoAddress)?;
        let request = Request::builder()
            .method(method)
            .uri("/drain")
            .header("host", address.to_string())
            .header("x-api-key", key)
            .body(Full::new(body))
            .map_err(|error| AskError::Http(error.into()))?;
        let talk = self.talk(address, request);
        let answer = timeout(self.deadline, talk).await;
        answer.unwrap_or(Err(AskError::Late(self.deadline)))
    }
}
