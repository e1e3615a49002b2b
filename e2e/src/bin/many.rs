//! What one operator takes to look after many PushClusters. `e2e/cluster/many.sh` starts what it needs: an API server, and
//! nothing that acts. This program makes the PushClusters and says of their Deployments and StatefulSets that they are ready.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use crds::PushCluster;
use e2e::cluster::Cluster;
use e2e::push_cluster::condition;
use e2e::wait::eventually;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::interval;

const NAMESPACE: &str = "many";
const ADMIN: &str = "127.0.0.1:19190";
/// Requests of ours under way at once.
const AT_ONCE: usize = 16;
/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(1_800);
/// Long against the period in which the operator looks again at what is well.
const REST: Duration = Duration::from_secs(240);

#[derive(Parser)]
#[command(about = "Measures one operator with many PushClusters (run by e2e/cluster/many.sh)")]
struct Arguments {
    #[arg(long)]
    kubeconfig: PathBuf,
    /// The program.
    #[arg(long)]
    operator: PathBuf,
    /// What it reaches the API server with.
    #[arg(long)]
    operator_kubeconfig: PathBuf,
    #[arg(long)]
    audit_log: PathBuf,
    #[arg(long)]
    count: usize,
}

/// Killed when this goes.
struct Operator(Child);

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let cluster = Cluster::connect(Some(&arguments.kubeconfig), None).await?;
    let objects: Api<PushCluster> = Api::namespaced(cluster.client(), NAMESPACE);
    let mut says = JoinSet::new();
    says.spawn(says_ready::<Deployment>(cluster.client(), deployment));
    says.spawn(says_ready::<StatefulSet>(cluster.client(), stateful_set));

    let count = arguments.count;
    say(&format!(
        "{count} PushClusters, and two that cannot be made"
    ))?;
    let mut first = start(&arguments)?;
    let begun = Instant::now();
    make(&objects, count).await?;
    until_ready(&objects, count, &mut first, &arguments).await?;
    row("made and ready after", &seconds(begun))?;
    row("  requests for each", &share(requests(&arguments)?, count))?;
    row("  memory", &memory(&first)?)?;
    first.0.kill()?;
    drop(first);

    let before = requests(&arguments)?;
    // A lease that nobody gave back.
    let begun = Instant::now();
    let second = start(&arguments)?;
    until_leading().await?;
    row("start: leads after", &seconds(begun))?;
    let begun = Instant::now();
    until_looked_at(count + 2).await?;
    row("  has looked at all after", &seconds(begun))?;
    row(
        "  requests for each",
        &share(requests(&arguments)? - before, count),
    )?;
    row("  memory", &memory(&second)?)?;

    one_change(&objects, &cluster).await?;
    rest(&arguments).await?;
    row("  memory", &memory(&second)?)?;
    Ok(())
}

fn say(line: &str) -> Result<()> {
    writeln!(io::stdout(), "{line}").context("write to the terminal")
}

fn row(what: &str, value: &str) -> Result<()> {
    say(&format!("{what:<32}{value}"))
}

fn seconds(begun: Instant) -> String {
    format!("{:.1} s", begun.elapsed().as_secs_f64())
}

fn share(requests: usize, count: usize) -> String {
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    let share = requests as f64 / count.max(1) as f64;
    format!("{share:.1}")
}

fn start(arguments: &Arguments) -> Result<Operator> {
    let log = arguments.audit_log.with_file_name("operator.log");
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(log)?;
    let child = Command::new(&arguments.operator)
        .env("KUBECONFIG", &arguments.operator_kubeconfig)
        .args(["--admin-listen", ADMIN, "--pod-namespace", NAMESPACE])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {}", arguments.operator.display()))?;
    Ok(Operator(child))
}

async fn make(objects: &Api<PushCluster>, count: usize) -> Result<()> {
    let good = (0..count).map(|number| (format!("pc-{number}"), json!({})));
    let absent = json!({"gateway": {"auth": {"keySecrets": [{"name": "nowhere", "key": "pem"}]}}});
    // An address that swallows everything (RFC 5737): each look at it waits as long as it may.
    let silent = json!({"redis": {"mode": "External", "external": {"host": "192.0.2.1"}}});
    let bad = [
        ("bad-absent".to_owned(), absent),
        ("bad-silent".to_owned(), silent),
    ];
    let manifest = |(name, spec): (String, Value)| -> Result<PushCluster> {
        let object = json!({
            "apiVersion": "pushcluster.io/v1alpha1", "kind": "PushCluster",
            "metadata": {"name": name}, "spec": spec,
        });
        serde_json::from_value(object).context("a PushCluster")
    };
    let all: Vec<PushCluster> = bad
        .into_iter()
        .chain(good)
        .map(manifest)
        .collect::<Result<_>>()?;
    stream::iter(all.into_iter().map(Ok))
        .try_for_each_concurrent(AT_ONCE, |object| async move {
            let made = objects.create(&PostParams::default(), &object).await;
            made.map(drop)
        })
        .await
        .context("create PushClusters")
}

async fn until_ready(
    objects: &Api<PushCluster>,
    count: usize,
    operator: &mut Operator,
    arguments: &Arguments,
) -> Result<()> {
    let what = format!("{count} PushClusters are Ready");
    eventually(&what, LIMIT, async || {
        // One that could not renew its lease in time ends, and its kubelet would start it again.
        if operator.0.try_wait()?.is_some() {
            say("  the operator has ended, and is started again: is this machine busy?")?;
            *operator = start(arguments)?;
        }
        let all = objects.list(&ListParams::default()).await?;
        let ready = |object: &&PushCluster| {
            condition(object, "Ready").is_some_and(|ready| ready.status == "True")
        };
        let ready_count = all.iter().filter(ready).count();
        ensure!(ready_count >= count, "{ready_count} are");
        Ok::<_, anyhow::Error>(())
    })
    .await
}

/// A change of a good one is carried out in the time that it takes, whatever the bad ones do.
async fn one_change(objects: &Api<PushCluster>, cluster: &Cluster) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(cluster.client(), NAMESPACE);
    let begun = Instant::now();
    let more = Patch::Merge(json!({"spec": {"replicas": 3}}));
    objects
        .patch("pc-0", &PatchParams::default(), &more)
        .await?;
    eventually("the change is carried out", LIMIT, async || {
        let found = deployments.get("pc-0-gateway").await?;
        let replicas = found.spec.and_then(|spec| spec.replicas);
        ensure!(replicas == Some(3), "{replicas:?} replicas");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    row("a change is carried out after", &seconds(begun))
}

/// Requests while nothing happens.
async fn rest(arguments: &Arguments) -> Result<()> {
    let before = by_kind(arguments)?;
    let mut ticks = interval(REST);
    ticks.tick().await;
    ticks.tick().await;
    let after = by_kind(arguments)?;
    let minutes = REST.as_secs_f64() / 60.0;
    let mut total = 0.0;
    let mut parts = Vec::new();
    for (kind, count) in after {
        #[expect(clippy::cast_precision_loss, reason = "counts are small")]
        let rate = (count - before.get(&kind).copied().unwrap_or(0)) as f64 / minutes;
        total += rate;
        if rate >= 1.0 {
            parts.push((rate, kind));
        }
    }
    row("at rest: requests a minute", &format!("{total:.0}"))?;
    parts.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (rate, kind) in parts {
        row(&format!("  {kind}"), &format!("{rate:.0}"))?;
    }
    Ok(())
}

/// The operator's requests so far, by verb and resource.
fn by_kind(arguments: &Arguments) -> Result<BTreeMap<String, usize>> {
    let log = std::fs::read_to_string(&arguments.audit_log).context("read the audit log")?;
    let mut kinds = BTreeMap::new();
    for line in log.lines() {
        // The last line may be half written.
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let user = line["user"]["username"].as_str().unwrap_or_default();
        if line["stage"] == "ResponseComplete" && user.ends_with(":operator") {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let mut kind = format!(
                "{} {}",
                text(&line["verb"]),
                text(&line["objectRef"]["resource"])
            );
            if let Some(part) = line["objectRef"]["subresource"].as_str() {
                kind = format!("{kind}/{part}");
            }
            *kinds.entry(kind).or_default() += 1;
        }
    }
    Ok(kinds)
}

fn requests(arguments: &Arguments) -> Result<usize> {
    Ok(by_kind(arguments)?.values().sum())
}

/// Now, and at most.
fn memory(operator: &Operator) -> Result<String> {
    let path = Path::new("/proc").join(operator.0.id().to_string());
    let status = std::fs::read_to_string(path.join("status")).context("the operator has ended")?;
    let mib = |key: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        let kib: u64 = line
            .trim_start_matches(':')
            .split_whitespace()
            .next()?
            .parse()
            .ok()?;
        Some(kib / 1024)
    };
    let (now, most) = (mib("VmRSS"), mib("VmHWM"));
    let (now, most) = now.zip(most).context("no memory in its status")?;
    Ok(format!("{now} MiB, at most {most} MiB"))
}

async fn metric(name: &str) -> Result<f64> {
    let mut stream = TcpStream::connect(ADMIN).await?;
    let request = "GET /metrics HTTP/1.1\r\nhost: operator\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let value = e2e::gateway::metric_total(&text, name);
    value.with_context(|| format!("no metric {name}"))
}

async fn until_leading() -> Result<()> {
    eventually("it leads", LIMIT, async || {
        let leading = metric("pushcluster_operator_leading").await?;
        ensure!(leading > 0.0, "it waits for the lease");
        Ok::<_, anyhow::Error>(())
    })
    .await
}

async fn until_looked_at(count: usize) -> Result<()> {
    eventually("it has looked at all", LIMIT, async || {
        let done = metric("pushcluster_operator_reconciles_total").await?;
        #[expect(clippy::cast_precision_loss, reason = "counts are small")]
        let all = done >= count as f64;
        ensure!(all, "{done} reconciles have ended");
        Ok::<_, anyhow::Error>(())
    })
    .await
}

/// Writes the status that a controller would write once all pods are ready, as often as it is otherwise.
async fn says_ready<K>(client: Client, status: fn(&K) -> Option<Value>) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + 'static,
{
    let api: Api<K> = Api::namespaced(client, NAMESPACE);
    watcher(api.clone(), watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .for_each_concurrent(AT_ONCE, |object| {
            let api = api.clone();
            async move {
                let wanted = object
                    .ok()
                    .and_then(|object| Some((object.name_any(), status(&object)?)));
                if let Some((name, status)) = wanted {
                    let patch = Patch::Merge(json!({ "status": status }));
                    let said = api
                        .patch_status(&name, &PatchParams::default(), &patch)
                        .await;
                    // Changed or deleted meanwhile: the next event says so.
                    drop(said);
                }
            }
        })
        .await;
    Ok(())
}

fn deployment(object: &Deployment) -> Option<Value> {
    let replicas = object.spec.as_ref()?.replicas?;
    let status = object.status.clone().unwrap_or_default();
    let said = (status.observed_generation, status.ready_replicas);
    rolled_out(object.metadata.generation, replicas, said)
}

fn stateful_set(object: &StatefulSet) -> Option<Value> {
    let replicas = object.spec.as_ref()?.replicas?;
    let status = object.status.clone().unwrap_or_default();
    let said = (status.observed_generation, status.ready_replicas);
    let mut status = rolled_out(object.metadata.generation, replicas, said)?;
    status["currentRevision"] = "one".into();
    status["updateRevision"] = "one".into();
    Some(status)
}

/// The status of what runs as its spec says. None: it has that (observed generation, ready pods) already.
fn rolled_out(
    generation: Option<i64>,
    replicas: i32,
    said: (Option<i64>, Option<i32>),
) -> Option<Value> {
    (said != (generation, Some(replicas))).then(|| {
        json!({
            "observedGeneration": generation, "replicas": replicas,
            "updatedReplicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas,
        })
    })
}
