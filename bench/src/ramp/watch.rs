//! What the cluster looks like, once a second: who is there, who is wished, who has how many clients.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context, bail};
use serde::Serialize;
use serde_json::{Value, json};

use super::NAME;
use super::kube::Kube;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(1_000);
/// So many looks in a row must see it before something counts as done.
const STEADY: usize = 6;

/// One look. All pods are gateways.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Look {
    /// Since 1970.
    pub unix: u64,
    /// Those that end included.
    pub pods: usize,
    /// Those that are, by name; one that gives clients away is not.
    pub ready: BTreeSet<String>,
    /// They get clients from the Service.
    pub serving: usize,
    /// Some are being moved.
    pub moving: usize,
    /// Of pods' templates: during a rollout there are two.
    pub templates: BTreeSet<String>,
    /// What the HorizontalPodAutoscaler wishes.
    pub wished: Option<u64>,
    /// What `.spec.replicas` of the PushCluster says.
    pub replicas: Option<u64>,
    /// By pod, from `custom.metrics.k8s.io`.
    pub clients: BTreeMap<String, u64>,
    /// Conditions of the PushCluster that say something is not as it should be, and that clients are moved.
    pub conditions: Vec<String>,
}

impl Look {
    /// As many as are wished, all of one template and taking clients, and none gives any away.
    pub fn is_at_rest(&self) -> bool {
        let wished = self
            .replicas
            .and_then(|wished| usize::try_from(wished).ok());
        wished == Some(self.pods)
            && self.ready.len() == self.pods
            && self.serving == self.pods
            && self.moving == 0
            && self.templates.len() == 1
    }

    /// No gateway has more than `docs/moving-clients.md` lets it have.
    pub fn is_even(&self) -> bool {
        let sum: u64 = self.clients.values().sum();
        let mean = sum / (self.clients.len() as u64).max(1);
        let most = self.clients.values().max().copied().unwrap_or(0);
        self.clients.len() == self.pods && most <= mean + (mean / 10).max(50)
    }
}

pub struct Watch {
    looks: Arc<Mutex<Vec<Look>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Writes each look into a file, and for Prometheus whom to scrape.
    pub fn start(kube: Arc<Kube>, out: &Path, system: String) -> anyhow::Result<Watch> {
        let looks = Arc::new(Mutex::new(Vec::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let mut file = std::fs::File::create(out.join("looks.jsonl"))?;
        let targets = out.join("targets.json");
        let (kept, ends) = (looks.clone(), is_over.clone());
        let thread = std::thread::spawn(move || {
            let mut watching = Watching {
                kube,
                system,
                targets,
                said: Value::Null,
            };
            while !ends.load(Ordering::Relaxed) {
                match watching.look() {
                    Ok(look) => {
                        let line = serde_json::to_string(&look).unwrap_or_default();
                        let _ = writeln!(file, "{line}");
                        kept.lock().expect("nobody panics with it").push(look);
                    }
                    Err(error) => eprintln!("ramp: a look at the cluster failed: {error:#}"),
                }
                std::thread::park_timeout(PAUSE);
            }
        });
        Ok(Watch {
            looks,
            is_over,
            thread: Some(thread),
        })
    }

    pub fn looks(&self) -> Vec<Look> {
        self.looks.lock().expect("nobody panics with it").clone()
    }

    /// Until several looks in a row are like that.
    pub fn until(
        &self,
        what: &str,
        seconds: u64,
        is_so: impl Fn(&Look) -> bool,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        let first = self.looks().len();
        loop {
            let looks = self.looks();
            let new = &looks[first.min(looks.len())..];
            if new.len() >= STEADY && new[new.len() - STEADY..].iter().all(&is_so) {
                return Ok(());
            }
            if began.elapsed() > Duration::from_secs(seconds) {
                bail!(
                    "after {seconds} s still not: {what}; the last look: {:?}",
                    new.last()
                );
            }
            std::thread::park_timeout(PAUSE);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

struct Watching {
    kube: Arc<Kube>,
    /// The operator's namespace.
    system: String,
    targets: PathBuf,
    /// The targets that were written last.
    said: Value,
}

impl Watching {
    fn look(&mut self) -> anyhow::Result<Look> {
        let namespace = &self.kube.namespace;
        let unix = UNIX_EPOCH.elapsed().context("the clock")?.as_secs();
        let of = "app.kubernetes.io%2Fcomponent%3Dgateway";
        let pods = self.kube.get(&format!(
            "/api/v1/namespaces/{namespace}/pods?labelSelector={of}"
        ))?;
        let cluster = self.kube.get(&format!(
            "/apis/pushcluster.io/v1alpha1/namespaces/{namespace}/pushclusters/{NAME}"
        ))?;
        let autoscaler = self.kube.get(&format!(
            "/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers/{NAME}"
        ));
        // They answer 503 when a gateway did not tell: then nobody knows.
        let clients = self.kube.get(&format!(
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/{namespace}/pods/%2A/websocket_connected_clients"
        ));
        let operators = self
            .kube
            .get(&format!("/api/v1/namespaces/{}/pods", self.system))?;
        self.tell_prometheus(&pods, &operators)?;
        Ok(look(
            unix,
            &pods,
            &cluster,
            &autoscaler.unwrap_or_default(),
            &clients.unwrap_or_default(),
        ))
    }

    /// With the labels that the chart's ServiceMonitors make.
    fn tell_prometheus(&mut self, gateways: &Value, operators: &Value) -> anyhow::Result<()> {
        let target = |pod: &Value, labels: Value| {
            let address = pod["status"]["podIP"].as_str()?;
            Some(json!({"targets": [format!("{address}:9090")], "labels": labels}))
        };
        let namespace = &self.kube.namespace;
        let gateways = items(gateways).filter_map(|pod| {
            let pod_name = &pod["metadata"]["name"];
            target(pod, json!({"job": "gateways", "namespace": namespace, "pushcluster": NAME, "pod": pod_name}))
        });
        let operators = items(operators).filter_map(|pod| {
            let pod_name = &pod["metadata"]["name"];
            target(
                pod,
                json!({"job": "operator", "namespace": self.system, "pod": pod_name}),
            )
        });
        let said: Value = gateways.chain(operators).collect();
        if said != self.said {
            // Whoever reads it sees all of it or what was before.
            let aside = self.targets.with_extension("new");
            std::fs::write(&aside, said.to_string())?;
            std::fs::rename(&aside, &self.targets)?;
            self.said = said;
        }
        Ok(())
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn look(unix: u64, pods: &Value, cluster: &Value, autoscaler: &Value, clients: &Value) -> Look {
    let mut look = Look {
        unix,
        wished: autoscaler["status"]["desiredReplicas"].as_u64(),
        replicas: cluster["spec"]["replicas"].as_u64(),
        ..Look::default()
    };
    for pod in items(pods) {
        let (metadata, conditions) = (&pod["metadata"], &pod["status"]["conditions"]);
        let conditions = conditions.as_array().into_iter().flatten();
        let is_ready = conditions
            .filter(|condition| condition["type"] == "Ready")
            .any(|condition| condition["status"] == "True");
        let is_ending = metadata["deletionTimestamp"].is_string();
        let serves = metadata["labels"]["pushcluster.io/serving"] != "false";
        look.pods += 1;
        let name = metadata["name"].as_str().filter(|_| is_ready);
        look.ready.extend(name.map(str::to_owned));
        look.serving += usize::from(is_ready && serves && !is_ending);
        look.moving +=
            usize::from(metadata["annotations"]["pushcluster.io/moves-clients"].is_string());
        let template = metadata["labels"]["pod-template-hash"].as_str();
        look.templates.extend(template.map(str::to_owned));
    }
    for one in items(clients) {
        if let (Some(pod), Some(value)) = (
            one["describedObject"]["name"].as_str(),
            one["value"].as_str(),
        ) && let Ok(value) = value.parse()
        {
            look.clients.insert(pod.to_owned(), value);
        }
    }
    let conditions = cluster["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten();
    look.conditions = conditions
        .filter(|condition| {
            let is_true = condition["status"] == "True";
            let means_trouble = [
                "Draining",
                "UpgradePending",
                "PasswordRotating",
                "ReconciliationPaused",
            ];
            let kind = condition["type"].as_str().unwrap_or_default();
            means_trouble.contains(&kind) == is_true
        })
        .map(|condition| {
            let text = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
            format!("{} {}: {}", text("type"), text("reason"), text("message"))
        })
        .collect();
    look
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, is_ready: bool, serving: &str, is_moving: bool) -> Value {
        let annotations = if is_moving {
            json!({"pushcluster.io/moves-clients": "x"})
        } else {
            json!({})
        };
        json!({
            "metadata": {
                "name": name,
                "labels": {"pod-template-hash": "a", "pushcluster.io/serving": serving},
                "annotations": annotations,
            },
            "status": {"conditions": [{"type": "Ready", "status": if is_ready { "True" } else { "False" }}]},
        })
    }

    #[test]
    fn at_rest_all_serve_and_nobody_moves() {
        let clients = |of: &[u64]| {
            let items: Vec<_> = of
                .iter()
                .enumerate()
                .map(|(n, value)| json!({"describedObject": {"name": n.to_string()}, "value": value.to_string()}))
                .collect();
            json!({"items": items})
        };
        let two = |second| json!({"items": [pod("0", true, "true", false), second]});
        for (second, replicas, of, is_at_rest, is_even) in [
            (pod("1", true, "true", false), 2, [500, 600], true, true),
            (pod("1", true, "true", false), 2, [500, 700], true, false),
            (pod("1", true, "true", false), 2, [0, 100], true, true),
            (pod("1", true, "true", false), 3, [1, 1], false, true),
            (pod("1", false, "true", false), 2, [1, 1], false, true),
            (pod("1", true, "false", false), 2, [1, 1], false, true),
            (pod("1", true, "true", true), 2, [1, 1], false, true),
        ] {
            let cluster = json!({"spec": {"replicas": replicas}, "status": {"conditions": [
                {"type": "Ready", "status": "False", "reason": "R", "message": "m"},
                {"type": "Draining", "status": "False", "reason": "R", "message": "m"},
            ]}});
            let look = look(
                7,
                &two(second),
                &cluster,
                &json!({"status": {"desiredReplicas": 2}}),
                &clients(&of),
            );
            assert_eq!(
                (look.is_at_rest(), look.is_even()),
                (is_at_rest, is_even),
                "{look:?}"
            );
            assert_eq!((look.wished, look.unix, look.pods), (Some(2), 7, 2));
            assert_eq!(look.conditions, ["Ready R: m"]);
        }
    }
}
