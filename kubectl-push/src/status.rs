//! A PushCluster on one screen. Pure: what was read goes in, text comes out.

use std::fmt::Write;

use crds::PushCluster;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use operator::push_cluster::name;

use crate::table::{age, table};

/// What was read. What a pod did not answer is the reason, in a few words.
pub struct Seen {
    pub cluster: PushCluster,
    pub gateways: Vec<(Pod, Result<Gateway, String>)>,
    pub redis: Vec<(Pod, Result<Redis, String>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    pub clients: u64,
    pub version: String,
    pub draining: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    pub version: String,
    /// `master`, `replica`, or a replica `without a master`.
    pub role: &'static str,
    /// As Redis writes it, as in `1.50M`.
    pub memory: String,
}

pub fn text(seen: &Seen, now: Timestamp) -> String {
    let mut text = String::new();
    let spec = &seen.cluster.spec;
    let _ = writeln!(
        text,
        "PushCluster {}: {} gateways wanted, Redis {:?}{}\n",
        name(&seen.cluster),
        spec.replicas,
        spec.redis.mode,
        if spec.paused { ", paused" } else { "" }
    );
    text.push_str(&table(&conditions(&seen.cluster, now)));
    let clients: u64 = seen
        .gateways
        .iter()
        .filter_map(|(_, gateway)| gateway.as_ref().ok())
        .map(|gateway| gateway.clients)
        .sum();
    let _ = writeln!(
        text,
        "\n{clients} clients on {} gateways; one takes {} at most",
        seen.gateways.len(),
        spec.gateway.limits.max_connections
    );
    text.push_str(&table(&gateways(seen, now)));
    if !seen.redis.is_empty() {
        let _ = write!(text, "\n{}", table(&redis(seen, now)));
    }
    text
}

fn gateways(seen: &Seen, now: Timestamp) -> Vec<Vec<String>> {
    let row = |(pod, gateway): &(Pod, Result<Gateway, String>)| {
        let (clients, version) = match gateway {
            Ok(gateway) => (gateway.clients.to_string(), gateway.version.clone()),
            Err(why) => ("?".into(), why.clone()),
        };
        let draining = gateway.as_ref().is_ok_and(|gateway| gateway.draining);
        let state = if draining {
            "draining".into()
        } else {
            state(pod)
        };
        let (node, age) = (node(pod), age_of(pod, now));
        vec![pod.name_any(), state, clients, version, node, age]
    };
    let first = heading(["POD", "STATE", "CLIENTS", "VERSION", "NODE", "AGE"]);
    let rows = seen.gateways.iter().map(row);
    [first].into_iter().chain(rows).collect()
}

fn redis(seen: &Seen, now: Timestamp) -> Vec<Vec<String>> {
    let row = |(pod, redis): &(Pod, Result<Redis, String>)| {
        let [role, version, memory] = match redis {
            Ok(redis) => [redis.role, &redis.version, &redis.memory],
            Err(why) => ["?", why, ""],
        }
        .map(str::to_owned);
        let (node, age) = (node(pod), age_of(pod, now));
        vec![pod.name_any(), state(pod), role, version, memory, node, age]
    };
    let first = heading(["POD", "STATE", "ROLE", "VERSION", "MEMORY", "NODE", "AGE"]);
    let rows = seen.redis.iter().map(row);
    [first].into_iter().chain(rows).collect()
}

fn heading<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

fn conditions(cluster: &PushCluster, now: Timestamp) -> Vec<Vec<String>> {
    let Some(status) = &cluster.status else {
        return vec![vec!["no operator has looked at it yet".into()]];
    };
    let stale = |generation| generation != cluster.metadata.generation;
    let conditions = status.conditions.iter().map(|condition| {
        let since = now.as_second() - condition.last_transition_time.0.as_second();
        let mut message = condition.message.clone();
        if stale(condition.observed_generation) {
            message.push_str(" (of an older manifest)");
        }
        vec![
            condition.type_.clone(),
            condition.status.clone(),
            condition.reason.clone(),
            age(since),
            message,
        ]
    });
    let mut rows = vec![heading(["CONDITION", "IS", "REASON", "FOR", "MESSAGE"])];
    rows.extend(conditions);
    rows
}

/// In one word.
fn state(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    if pod.metadata.deletion_timestamp.is_some() {
        return "ending".into();
    }
    let containers = status.container_statuses.iter().flatten();
    let waiting = containers
        .filter_map(|container| container.state.as_ref()?.waiting.as_ref()?.reason.clone())
        .next();
    let is = |kind: &str| {
        let mut conditions = status.conditions.iter().flatten();
        conditions.any(|condition| condition.type_ == kind && condition.status == "True")
    };
    match waiting {
        Some(reason) => reason,
        None if is("Ready") => "ready".into(),
        None if !is("PodScheduled") => "unscheduled".into(),
        None => "not ready".into(),
    }
}

fn node(pod: &Pod) -> String {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    node.unwrap_or_default()
}

fn age_of(pod: &Pod, now: Timestamp) -> String {
    let created = pod.metadata.creation_timestamp.as_ref();
    created.map_or_else(String::new, |created| {
        age(now.as_second() - created.0.as_second())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, ready: &str, state: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [], "nodeName": "node-1"},
            "status": {
                "conditions": [
                    {"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": ready},
                ],
                "containerStatuses": [{
                    "name": "gateway", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state,
                }],
            },
        }))
        .unwrap()
    }

    #[test]
    fn one_screen() {
        let mut manifest = crate::testing::manifest(&json!({}));
        manifest["metadata"]["generation"] = json!(2);
        let condition = |kind: &str, is: &str, generation: i64| {
            json!({
                "type": kind, "status": is, "reason": "Why", "message": "because",
                "observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z",
            })
        };
        manifest["status"] = json!({"conditions": [
            condition("Ready", "True", 2), condition("ConfigValid", "False", 1),
        ]});
        let running = json!({"running": {}});
        let gateway = Gateway {
            clients: 40,
            version: "0.1.0".into(),
            draining: false,
        };
        let redis = Redis {
            version: "7.2.5".into(),
            role: "master",
            memory: "1.50M".into(),
        };
        let leaving = Gateway {
            clients: 2,
            draining: true,
            ..gateway.clone()
        };
        let broken = json!({"waiting": {"reason": "ImagePullBackOff"}});
        let seen = Seen {
            cluster: serde_json::from_value(manifest).unwrap(),
            gateways: vec![
                (pod("gw-a", "True", &running), Ok(gateway)),
                (pod("gw-b", "False", &running), Ok(leaving)),
                (pod("gw-c", "False", &broken), Err("not running".into())),
            ],
            redis: vec![(pod("redis-0", "True", &running), Ok(redis))],
        };
        let expected = "\
PushCluster shop/demo: 2 gateways wanted, Redis Standalone

CONDITION    IS     REASON  FOR  MESSAGE
Ready        True   Why     5m   because
ConfigValid  False  Why     5m   because (of an older manifest)

42 clients on 3 gateways; one takes 10000 at most
POD   STATE             CLIENTS  VERSION      NODE    AGE
gw-a  ready             40       0.1.0        node-1  5m
gw-b  draining          2        0.1.0        node-1  5m
gw-c  ImagePullBackOff  ?        not running  node-1  5m

POD      STATE  ROLE    VERSION  MEMORY  NODE    AGE
redis-0  ready  master  7.2.5    1.50M   node-1  5m
";
        let now: Timestamp = "2026-01-01T00:05:00Z".parse().unwrap();
        assert_eq!(text(&seen, now), expected);
    }
}
