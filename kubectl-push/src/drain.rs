//! Sending the clients of one gateway away, through its admin port.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use http::{Method, Request};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::Api;
use operator::failure::line;
use serde_json::{Value, json};
use tokio::time::interval;

use crate::cluster::Cluster;
use crate::forward::ADMIN_PORT;

/// Between two looks at how many are left.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

#[derive(Args)]
pub struct Drain {
    /// A gateway's pod.
    pod: String,
    /// Clients that are told to reconnect each second. Default: `spec.drain.reconnectsPerSecond`.
    #[arg(long, conflicts_with = "back")]
    per_second: Option<u32>,
    /// Go faster where that is needed to be done in so many seconds. Default: never.
    #[arg(long, conflicts_with = "back")]
    deadline_seconds: Option<u32>,
    /// Take it back: let clients in again. Those that went are gone.
    #[arg(long)]
    back: bool,
    /// Do not wait until nobody is left.
    #[arg(long)]
    no_wait: bool,
}

/// Says how many are left until nobody is.
pub async fn drain(cluster: &Cluster, asked: &Drain, out: &mut impl Write) -> Result<()> {
    let pod = &asked.pod;
    let key = cluster
        .key(&instance(cluster, pod).await?, "api-key")
        .await?;
    let mut stands = if asked.back {
        ask(cluster, pod, &key, (Method::DELETE, String::new())).await?
    } else {
        ask(cluster, pod, &key, (Method::POST, wish(asked).to_string())).await?
    };
    let mut looks = interval(BETWEEN_LOOKS);
    looks.tick().await;
    loop {
        writeln!(out, "{pod}: {}", told(&stands)).context("writing to the terminal failed")?;
        let done = stands["draining"] != true || stands["connections"] == 0;
        if done || asked.no_wait {
            return Ok(());
        }
        looks.tick().await;
        stands = ask(cluster, pod, &key, (Method::GET, String::new())).await?;
    }
}

/// A request about a gateway's drain; the answer is where it stands.
pub async fn ask(
    cluster: &Cluster,
    pod: &str,
    key: &str,
    (method, body): (Method, String),
) -> Result<Value> {
    let request = Request::builder()
        .method(method)
        .uri("/drain")
        .header("host", pod)
        .header("authorization", format!("Bearer {key}"))
        .body(body)?;
    let answer = cluster.request(pod, ADMIN_PORT, request).await?;
    let body: Value = serde_json::from_str(answer.body()).unwrap_or_default();
    if !answer.status().is_success() {
        let message = body["error"]["message"].as_str();
        let message = message.unwrap_or(answer.body());
        bail!("pod {pod}: {}: {message}", answer.status());
    }
    Ok(body)
}

fn wish(asked: &Drain) -> Value {
    let mut wish = json!({});
    if let Some(per_second) = asked.per_second {
        wish["connectionsPerSecond"] = json!(per_second);
    }
    if let Some(seconds) = asked.deadline_seconds {
        wish["deadlineSeconds"] = json!(seconds);
    }
    wish
}

/// Where a drain stands (docs/admin-port.md), in words.
pub fn told(stands: &Value) -> String {
    let clients = match stands["connections"].as_u64() {
        Some(1) => "1 client".to_owned(),
        Some(count) => format!("{count} clients"),
        None => "? clients".to_owned(),
    };
    if stands["draining"] != true {
        return format!("takes clients, and has {clients}");
    }
    let pace = stands["connectionsPerSecond"].as_u64();
    let pace = pace.map_or_else(String::new, |pace| format!(", {pace} a second"));
    let end = stands["secondsLeft"].as_u64();
    let end = end.map_or_else(String::new, |seconds| {
        format!(", done in {seconds} s at the latest")
    });
    format!("draining, {clients} left{pace}{end}")
}

/// The PushCluster that the pod belongs to.
async fn instance(cluster: &Cluster, pod: &str) -> Result<String> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let found = pods.get(pod).await;
    let found =
        found.map_err(|error| anyhow::anyhow!("reading pod {pod} failed: {}", line(&error)))?;
    let label = |key: &str| found.labels().get(key).cloned();
    match label("app.kubernetes.io/component").as_deref() {
        Some("gateway") => {
            let instance = label("app.kubernetes.io/instance");
            instance.with_context(|| format!("pod {pod} belongs to no PushCluster"))
        }
        _ => bail!("pod {pod} is no gateway"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_drain_stands_in_words() {
        for (stands, expected) in [
            (
                json!({"draining": false, "connections": 3}),
                "takes clients, and has 3 clients",
            ),
            (
                json!({"draining": true, "connections": 1, "connectionsPerSecond": 5}),
                "draining, 1 client left, 5 a second",
            ),
            (
                json!({"draining": true, "connections": 0, "connectionsPerSecond": 5, "secondsLeft": 9}),
                "draining, 0 clients left, 5 a second, done in 9 s at the latest",
            ),
        ] {
            assert_eq!(told(&stands), expected);
        }
    }
}
