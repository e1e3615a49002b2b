//! What `status` reads: the pods of a PushCluster, and what each says of itself.

use anyhow::{Context, Result, bail, ensure};
use crds::{PushCluster, RedisMode};
use futures::future::join_all;
use http::{Request, StatusCode};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use operator::failure::line;
use operator::push_cluster::build::Names;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::cluster::Cluster;
use crate::forward::{ADMIN_PORT, ANSWER, REDIS_PORT};
use crate::status::{Gateway, Redis, Seen};

impl Cluster {
    /// Everything that there is to see, from all pods at once.
    pub async fn seen(&self, cluster: PushCluster) -> Result<Seen> {
        let instance = cluster.name_any();
        let gateways = self.pods(&instance, "gateway").await?;
        let gateways = join_all(gateways.into_iter().map(|pod| async {
            let said = self.gateway(&pod).await;
            (pod, said.map_err(|error| in_a_word(&error)))
        }));
        let login = self.redis_login(&cluster).await;
        let redis = self.pods(&instance, "redis").await?;
        let redis = join_all(redis.into_iter().map(|pod| async {
            let said = match &login {
                Ok(login) => self.redis(&pod, login).await,
                Err(error) => Err(anyhow::anyhow!("{error:#}")),
            };
            (pod, said.map_err(|error| in_a_word(&error)))
        }));
        let (gateways, redis) = tokio::join!(gateways, redis);
        Ok(Seen {
            cluster,
            gateways,
            redis,
        })
    }

    /// `component`: `gateway` or `redis`.
    pub async fn pods(&self, instance: &str, component: &str) -> Result<Vec<Pod>> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let labels = format!(
            "app.kubernetes.io/name=pushcluster,app.kubernetes.io/instance={instance},app.kubernetes.io/component={component}"
        );
        let listed = api.list(&ListParams::default().labels(&labels)).await;
        let listed =
            listed.map_err(|error| anyhow::anyhow!("listing pods failed: {}", line(&error)))?;
        Ok(listed.items)
    }

    async fn gateway(&self, pod: &Pod) -> Result<Gateway> {
        ensure!(is_running(pod), "not running");
        let name = pod.name_any();
        let get = async |path: &str| {
            let request = Request::get(path)
                .header("host", &name)
                .body(String::new())?;
            let answer = self.request(&name, ADMIN_PORT, request).await?;
            ensure!(
                answer.status() == StatusCode::OK,
                "{path}: {}",
                answer.status()
            );
            Ok(answer.into_body())
        };
        let (metrics, version, drain) =
            tokio::try_join!(get("/metrics"), get("/version"), get("/drain"))?;
        let version: Value = serde_json::from_str(&version).context("/version is no JSON")?;
        let drain: Value = serde_json::from_str(&drain).context("/drain is no JSON")?;
        Ok(Gateway {
            clients: clients_in(&metrics).context("/metrics counts no clients")?,
            version: version["version"].as_str().unwrap_or("?").to_owned(),
            draining: drain["draining"] == true,
        })
    }

    /// A value that the operator generated.
    pub async fn key(&self, instance: &str, key: &str) -> Result<String> {
        let name = Names::of(instance).keys;
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let secret = secrets.get(&name).await;
        let secret = secret
            .map_err(|error| anyhow::anyhow!("reading Secret {name} failed: {}", line(&error)))?;
        let value = secret.data.unwrap_or_default().remove(key);
        let value = value.with_context(|| format!("Secret {name} has no {key}"))?;
        let text = String::from_utf8(value.0).with_context(|| format!("{key} of Secret {name}"))?;
        Ok(text.trim().to_owned())
    }

    /// User and password of who may ask a Redis of ours about itself.
    async fn redis_login(&self, cluster: &PushCluster) -> Result<(&'static str, String)> {
        let (user, key) = match cluster.spec.redis.mode {
            RedisMode::Standalone => ("default", "redis-password"),
            _ => ("admin", "redis-admin-password"),
        };
        Ok((user, self.key(&cluster.name_any(), key).await?))
    }

    async fn redis(&self, pod: &Pod, (user, password): &(&str, String)) -> Result<Redis> {
        ensure!(is_running(pod), "not running");
        let asked = async {
            let mut stream = self.stream(&pod.name_any(), REDIS_PORT).await?;
            let commands = format!("AUTH {user} {password}\r\nINFO\r\nQUIT\r\n");
            stream.write_all(commands.as_bytes()).await?;
            let mut said = Vec::new();
            // QUIT makes Redis close after the last answer.
            stream.read_to_end(&mut said).await?;
            redis_in(&String::from_utf8_lossy(&said))
        };
        timeout(ANSWER, asked).await.context("no answer")?
    }
}

pub fn is_running(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    phase == Some("Running")
}

/// The first cause, which fits into a column.
fn in_a_word(error: &anyhow::Error) -> String {
    let text = error.root_cause().to_string();
    text.lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(60)
        .collect()
}

/// In the Prometheus text format.
fn clients_in(metrics: &str) -> Option<u64> {
    let mut lines = metrics.lines();
    lines.find_map(|line| {
        line.strip_prefix("websocket_connected_clients ")?
            .parse()
            .ok()
    })
}

/// From the answers to AUTH and INFO (redis.io/docs/latest/commands/info).
fn redis_in(said: &str) -> Result<Redis> {
    let value = |key: &str| {
        let mut lines = said.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
    };
    let Some(role) = value("role") else {
        bail!(
            "{}",
            said.lines()
                .next()
                .unwrap_or("no answer")
                .trim_start_matches('-')
        );
    };
    Ok(Redis {
        version: value("redis_version").unwrap_or("?").to_owned(),
        role: match (role, value("master_link_status")) {
            ("master", _) => "master",
            (_, Some("up")) => "replica",
            _ => "without a master",
        },
        memory: value("used_memory_human").unwrap_or("?").to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_says_what_it_is() {
        for (said, expected) in [
            (
                "+OK\r\n$9\r\nredis_version:7.2.5\r\nused_memory_human:1.50M\r\nrole:master\r\n",
                Ok("master 7.2.5 1.50M"),
            ),
            ("role:slave\r\nmaster_link_status:up\r\n", Ok("replica ? ?")),
            (
                "role:slave\r\nmaster_link_status:down\r\n",
                Ok("without a master ? ?"),
            ),
            (
                "-WRONGPASS invalid\r\n-NOAUTH\r\n",
                Err("WRONGPASS invalid"),
            ),
            ("", Err("no answer")),
        ] {
            let redis = redis_in(said);
            let told = redis
                .map(|redis| format!("{} {} {}", redis.role, redis.version, redis.memory))
                .map_err(|error| error.to_string());
            assert_eq!(told.as_deref().map_err(String::as_str), expected, "{said}");
        }
    }

    #[test]
    fn clients_are_counted() {
        let text = "# HELP websocket_connected_clients Clients\nwebsocket_connected_clients 42\n";
        assert_eq!(clients_in(text), Some(42));
        assert_eq!(clients_in(""), None);
    }
}
