//! Ten thousand clients on a real cluster: nobody, all of them, everything that moves clients, nobody. And the same rollout
//! without the operator. What the clients saw is `pushbench`'s record; what the cluster did is looked at once a second; what
//! the dashboards show is asked of a Prometheus that scraped it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context, ensure};
use clap::Parser;
use serde_json::json;

mod kube;
mod load;
mod plain;
mod prometheus;
mod report;
mod watch;

use kube::Kube;
use load::Load;
use prometheus::Prometheus;
use report::{Act, Ours, Report};
use watch::Watch;

/// Of the PushCluster, and of the namespace that is made for it.
const NAME: &str = "ramp";
/// Of nothing being done, before each act and at the end.
const QUIET: Duration = Duration::from_secs(20);
/// Gateways that all clients are to need: one goes and comes again, one is a third of the others' clients.
const GATEWAYS: usize = 4;
/// Longest wait for one act, beside what its clients need at the budget's rate.
const PATIENCE: u64 = 300;

/// Moves thousands of clients on a real cluster in every way that there is, and says what they saw of it. Ends with 1 if
/// something that is promised was not kept.
#[derive(Debug, Parser)]
#[command(name = "ramp")]
pub struct Arguments {
    #[arg(long, default_value = "kubectl")]
    kubectl: PathBuf,
    #[arg(long)]
    kubeconfig: PathBuf,
    /// The clients run in it, as in that of a node. Default: in ours.
    #[arg(long)]
    network_namespace: Option<PathBuf>,
    /// Where the operator runs.
    #[arg(long, default_value = "pushcluster-system")]
    system: String,
    /// The chart, of which dashboards and alerts are taken.
    #[arg(long)]
    chart: PathBuf,
    /// Of the comparison without the operator.
    #[arg(long)]
    gateway_image: String,
    #[arg(long)]
    redis_image: String,
    /// How many there are at most, at least 100.
    #[arg(long, default_value_t = 10_000)]
    clients: usize,
    /// Processes that share them.
    #[arg(long, default_value_t = 2)]
    parts: usize,
    /// Clients that come a second, and that go.
    #[arg(long, default_value_t = 80)]
    rate: usize,
    /// `spec.drain.reconnectsPerSecond`.
    #[arg(long, default_value_t = 100)]
    budget: u32,
    /// Only this half.
    #[arg(long)]
    only: Option<Half>,
    /// For records, figures and charts.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Half {
    Operator,
    Plain,
}

/// The program.
pub fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    ensure!(arguments.clients >= 100, "--clients: at least 100");
    std::fs::create_dir_all(&arguments.out)?;
    let mut report = Report::new(&arguments);
    if arguments.only != Some(Half::Plain) {
        report.ours(ours(&arguments)?)?;
    }
    if arguments.only != Some(Half::Operator) {
        report.plain(&plain::run(&arguments)?)?;
    }
    Ok(if report.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// An empty namespace of that name.
fn fresh(arguments: &Arguments, name: &str) -> anyhow::Result<Kube> {
    let kube = Kube::open(&arguments.kubectl, &arguments.kubeconfig, name)?;
    kube.run(&[
        "delete",
        "namespace",
        name,
        "--ignore-not-found",
        "--timeout=5m",
    ])?;
    kube.run(&["create", "namespace", name])?;
    Ok(kube)
}

fn say(what: &str) {
    eprintln!("ramp: {what} (load {})", load_average());
}

/// Processes that ran or waited for a core, over the last minute.
fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn unix() -> u64 {
    UNIX_EPOCH.elapsed().unwrap_or_default().as_secs()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts and seconds, far below 2^53"
)]
fn float(count: u64) -> f64 {
    count as f64
}

/// Clients for each gateway that the autoscaler aims at, so that all need that many, and not by a hair.
fn target(clients: usize, gateways: usize) -> usize {
    clients * 40 / (gateways * 40 - 4)
}

fn ours(arguments: &Arguments) -> anyhow::Result<Ours> {
    let kube = Arc::new(fresh(arguments, NAME)?);
    let target = target(arguments.clients, GATEWAYS);
    let apply_to_ready = make(arguments, &kube, target)?;
    let watch = Watch::start(kube.clone(), &arguments.out, arguments.system.clone())?;
    let prometheus = Prometheus::start(&arguments.out, &arguments.chart.join("alerts.yaml"))?;
    watch.until("one gateway, which is the least", PATIENCE, |look| {
        look.pods == 1 && look.is_at_rest()
    })?;
    let first = unix();
    let mut acting = Acting {
        arguments,
        kube,
        watch,
        acts: Vec::new(),
        problems: Vec::new(),
    };
    let load = acting.start_load()?;
    acting.all(&load, target)?;
    say("the clients go");
    load.stage("")?;
    std::thread::park_timeout(Duration::from_secs(5));
    load.stage("ramp down")?;
    let folder = load.folder();
    let (run, is_good) = load.finish(&folder)?;
    if !is_good {
        acting
            .problems
            .push("pushbench ended with an error".to_owned());
    }
    let least = acting.watch.until("one gateway again", PATIENCE, |look| {
        look.pods == 1 && look.is_at_rest()
    });
    acting
        .problems
        .extend(least.err().map(|error| error.to_string()));
    let Acting {
        kube,
        watch,
        acts,
        problems,
        ..
    } = acting;
    let last = unix();
    let (panels, alerts) = (
        dashboards(arguments, &prometheus, first, last)?,
        prometheus.alerts(first, last)?,
    );
    kube.run(&["delete", "namespace", NAME, "--wait=false"])?;
    Ok(Ours {
        target,
        apply_to_ready,
        run,
        looks: watch.looks(),
        acts,
        problems,
        panels,
        alerts,
    })
}

/// The PushCluster. How long it took to be Ready.
fn make(arguments: &Arguments, kube: &Kube, target: usize) -> anyhow::Result<Duration> {
    let manifest = include_str!("ramp/ours.yaml")
        .replace("TARGET", &target.to_string())
        .replace("BUDGET", &arguments.budget.to_string());
    let began = Instant::now();
    kube.apply(&manifest)?;
    kube.run(&[
        "wait",
        "--for=condition=Ready",
        &format!("pushcluster/{NAME}"),
        "--timeout=5m",
    ])?;
    let apply_to_ready = began.elapsed();
    say(&format!(
        "Ready {:.1} s after kubectl apply",
        apply_to_ready.as_secs_f64()
    ));
    Ok(apply_to_ready)
}

/// Every panel of every dashboard that the chart ships, with the series of each of its queries.
fn dashboards(
    arguments: &Arguments,
    prometheus: &Prometheus,
    first: u64,
    last: u64,
) -> anyhow::Result<Vec<report::Asked>> {
    let mut all = Vec::new();
    for dashboard in ["gateways", "operator"] {
        let path = arguments
            .chart
            .join("dashboards")
            .join(dashboard)
            .with_extension("json");
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        for panel in prometheus::panels(&text, NAME)? {
            let series = prometheus.series(&panel, first, last)?;
            all.push(report::Asked {
                dashboard,
                panel,
                series,
            });
        }
    }
    Ok(all)
}

struct Acting<'a> {
    arguments: &'a Arguments,
    kube: Arc<Kube>,
    watch: Watch,
    acts: Vec<Act>,
    /// What did not come about, in words.
    problems: Vec<String>,
}

impl Acting<'_> {
    fn start_load(&self) -> anyhow::Result<Load> {
        let service = "jsonpath={.spec.clusterIP}:{.spec.ports[0].port}";
        let to = self.kube.run(&["get", "service", NAME, "-o", service])?;
        let key = "go-template={{index .data \"api-key\" | base64decode}}";
        let key = self
            .kube
            .run(&["get", "secret", &format!("{NAME}-keys"), "-o", key])?;
        say(&format!(
            "{} clients come, {} a second",
            self.arguments.clients, self.arguments.rate
        ));
        Load::start(self.arguments, "operator", &to, &key)
    }

    /// Seconds that one act may take.
    fn patience(&self) -> u64 {
        PATIENCE + 2 * self.arguments.clients as u64 / u64::from(self.arguments.budget)
    }

    fn all(&mut self, load: &Load, target: usize) -> anyhow::Result<()> {
        let coming = (self.arguments.clients / self.arguments.rate) as u64;
        load.until_all_are_there(self.arguments.clients, coming * 2 + PATIENCE)?;
        load.stage("settling")?;
        say("all are there");
        self.at_rest("all gateways that they need", GATEWAYS)?;
        let fewer = self::target(self.arguments.clients, GATEWAYS - 1);
        let wish =
            |target: usize| json!({"spec": {"autoscaling": {"targetConnectionsPerPod": target}}});
        self.act(load, "scale-in", |acting| {
            acting.kube.patch(&wish(fewer))?;
            acting.at_rest("one gateway less", GATEWAYS - 1)
        })?;
        self.act(load, "scale-out and rebalance", |acting| {
            acting.kube.patch(&wish(target))?;
            acting.at_rest("one gateway more, with its share", GATEWAYS)
        })?;
        self.act(load, "rollout", Acting::roll_out)?;
        self.act(load, "node drain", Acting::drain_a_node)?;
        self.quiet(load)
    }

    fn quiet(&mut self, load: &Load) -> anyhow::Result<()> {
        load.stage(&format!("quiet {}", self.acts.len() + 1))?;
        std::thread::park_timeout(QUIET);
        Ok(())
    }

    /// One that does not come about is a problem, and the next one is tried.
    fn act(
        &mut self,
        load: &Load,
        name: &str,
        act: impl FnOnce(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.quiet(load)?;
        load.stage(name)?;
        say(name);
        let load_before = load_average();
        if let Err(error) = act(self) {
            say(&format!("{name}: {error:#}"));
            self.problems.push(format!("{name}: {error:#}"));
        }
        load.until_all_are_there(self.arguments.clients, PATIENCE)?;
        self.acts.push(Act {
            name: name.to_owned(),
            load_before,
            load_after: load_average(),
        });
        Ok(())
    }

    /// So many gateways, none of which gives clients away, or should.
    fn at_rest(&self, what: &str, gateways: usize) -> anyhow::Result<()> {
        let is_so =
            |look: &watch::Look| look.pods == gateways && look.is_at_rest() && look.is_even();
        self.watch.until(what, self.patience(), is_so)
    }

    fn roll_out(&mut self) -> anyhow::Result<()> {
        let looks = self.watch.looks();
        let before = looks.last().context("no look")?.templates.clone();
        let annotation = json!({"ramp": "rolled"});
        self.kube
            .patch(&json!({"spec": {"gateway": {"pods": {"annotations": annotation}}}}))?;
        let is_so =
            |look: &watch::Look| look.is_at_rest() && look.is_even() && look.templates != before;
        self.watch
            .until("all gateways of the new template", self.patience(), is_so)
    }

    /// Not that of Redis: without it nobody hears anything for a while, whoever moves clients.
    fn drain_a_node(&mut self) -> anyhow::Result<()> {
        let redis = self.kube.run(&[
            "get",
            "pod",
            &format!("{NAME}-redis-0"),
            "-o",
            "jsonpath={.spec.nodeName}",
        ])?;
        let nodes = self
            .kube
            .run(&["get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"])?;
        let node = nodes
            .split(' ')
            .find(|node| *node != redis)
            .context("one node only")?;
        let timeout = format!("--timeout={}s", self.patience());
        let drained = self.kube.run(&[
            "drain",
            node,
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--force",
            &timeout,
        ]);
        let rest = drained.and_then(|_| self.at_rest("all gateways on the other nodes", GATEWAYS));
        self.kube.run(&["uncordon", node])?;
        rest
    }
}

/// A folder for charts.
fn charts(out: &Path) -> anyhow::Result<PathBuf> {
    let folder = out.join("charts");
    std::fs::create_dir_all(&folder)?;
    ensure!(folder.is_dir(), "{} is no folder", folder.display());
    Ok(folder)
}
