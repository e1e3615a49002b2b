//! `kubectl push`: what a manifest would change, and PushClusters at work. kubectl runs the program of this name.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use crds::PushCluster;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use operator::push_cluster::apply::plan::Act;
use operator::push_cluster::preview::{assumed, preview};
use operator::push_cluster::{Images, admin_url, name};
use serde_json::Value;

use cluster::Cluster;
use drain::Drain;
use manifest::Problem;
use plan::Planned;
use rebalance::Rebalance;
use tap::Tap;

/// Where the chart's README installs the operator.
const OPERATOR_NAMESPACE: &str = "pushcluster-system";

mod cluster;
mod drain;
mod forward;
mod lines;
mod look;
mod manifest;
mod merge;
mod owned;
mod plan;
mod rebalance;
mod render;
mod schema;
mod status;
mod table;
mod tap;
#[cfg(test)]
mod testing;

#[derive(Parser)]
#[command(
    name = "kubectl push",
    version,
    disable_help_subcommand = true,
    about = "What a manifest would change, and PushClusters at work"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
struct Target {
    /// Default: the context's namespace.
    #[arg(long, short, global = true)]
    namespace: Option<String>,
    /// A context of the kubeconfig. Default: the current one.
    #[arg(long, global = true)]
    context: Option<String>,
    /// A file. Default: what kubectl takes.
    #[arg(long, global = true)]
    kubeconfig: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// What the operator would create, change and delete, and which pods that restarts. Writes nothing.
    Plan(Plan),
    /// The objects that the operator would make in an empty namespace, as YAML. Needs no cluster.
    Render(Render),
    /// Conditions, gateways with their clients, and what each Redis is.
    Status {
        /// The PushCluster. Default: the only one.
        name: Option<String>,
    },
    /// Send the clients of one gateway away at a pace, as before its node goes.
    Drain(Drain),
    /// Send clients of the fullest gateways to the others at a pace.
    Rebalance(Rebalance),
    /// Subscribe to a channel and print its messages, one line of JSON each.
    Tap(Tap),
}

#[derive(Args)]
struct Plan {
    /// A manifest; `-`: standard input.
    #[arg(long, short)]
    filename: Option<PathBuf>,
    /// Without a manifest: the PushCluster as it is stored. Default: the only one.
    #[arg(conflicts_with = "filename")]
    name: Option<String>,
    /// The image of gateways whose PushCluster names none. Default: what the operator in the cluster would take.
    #[arg(long, requires = "redis_image")]
    gateway_image: Option<String>,
    /// The same of Redis.
    #[arg(long, requires = "gateway_image")]
    redis_image: Option<String>,
    /// With images: the namespace of the operator's pods.
    #[arg(long, default_value = OPERATOR_NAMESPACE)]
    operator_namespace: String,
}

#[derive(Args)]
struct Render {
    /// A manifest; `-`: standard input.
    #[arg(long, short)]
    filename: PathBuf,
    /// The image of gateways whose PushCluster names none.
    #[arg(long, default_value = "pushcluster/gateway:dev")]
    gateway_image: String,
    /// The same of Redis.
    #[arg(long, default_value = "redis:7.2")]
    redis_image: String,
    /// The namespace of the operator's pods.
    #[arg(long, default_value = OPERATOR_NAMESPACE)]
    operator_namespace: String,
}

/// What a command could not do.
enum Failure {
    /// The user's manifest.
    Manifest(Vec<Problem>),
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Other(error)
    }
}

impl From<Vec<Problem>> for Failure {
    fn from(problems: Vec<Problem>) -> Self {
        Failure::Manifest(problems)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.command {
        Command::Plan(asked) => plan_all(&arguments.target, asked).await,
        Command::Render(asked) => render_all(&arguments.target, asked),
        Command::Status { name } => status_of(&arguments.target, name.as_deref()).await,
        Command::Drain(asked) => drain_one(&arguments.target, asked).await,
        Command::Rebalance(asked) => rebalance_one(&arguments.target, asked).await,
        Command::Tap(asked) => tap_one(&arguments.target, asked).await,
    };
    // Not eprintln: a closed pipe is no reason to panic.
    let mut err = io::stderr();
    match done {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Manifest(problems)) => {
            for problem in problems {
                let _ = writeln!(err, "{problem}");
            }
        }
        Err(Failure::Other(error)) => {
            let _ = writeln!(err, "kubectl push: {error:#}");
        }
    }
    ExitCode::FAILURE
}

impl Target {
    async fn connect(&self) -> Result<Cluster> {
        let kubeconfig = self.kubeconfig.as_deref();
        Cluster::connect(kubeconfig, self.context.clone(), self.namespace.clone()).await
    }
}

fn print(text: &str) -> Result<()> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("writing to the terminal failed")
}

fn read(file: &PathBuf) -> Result<Vec<Value>, Failure> {
    let mut text = String::new();
    if file.as_os_str() == "-" {
        io::stdin()
            .read_to_string(&mut text)
            .context("reading standard input failed")?;
    } else {
        text = std::fs::read_to_string(file)
            .with_context(|| format!("reading {} failed", file.display()))?;
    }
    Ok(manifest::documents(&text)?)
}

fn render_all(target: &Target, asked: &Render) -> Result<(), Failure> {
    let images = Images {
        gateway: asked.gateway_image.clone(),
        redis: asked.redis_image.clone(),
        operator_namespace: asked.operator_namespace.clone(),
        admin_url: admin_url(&asked.operator_namespace),
    };
    for document in read(&asked.filename)? {
        let mut cluster = manifest::understood(&document)?;
        if cluster.metadata.namespace.is_none() {
            let namespace = target.namespace.clone();
            cluster.metadata.namespace = namespace.or_else(|| Some("default".into()));
        }
        let made = preview(&assumed(cluster), &images).map_err(of_operator)?;
        print(&render::documents(&made.built))?;
    }
    Ok(())
}

async fn plan_all(target: &Target, asked: &Plan) -> Result<(), Failure> {
    let documents = match &asked.filename {
        Some(file) => {
            let documents = read(file)?;
            // What is wrong by itself is told before anything is asked.
            for document in &documents {
                manifest::understood(document)?;
            }
            documents
        }
        None => Vec::new(),
    };
    let cluster = target.connect().await?;
    let images = match (&asked.gateway_image, &asked.redis_image) {
        (Some(gateway), Some(redis)) => Images {
            gateway: gateway.clone(),
            redis: redis.clone(),
            operator_namespace: asked.operator_namespace.clone(),
            admin_url: admin_url(&asked.operator_namespace),
        },
        _ => cluster.images().await?,
    };
    if asked.filename.is_none() {
        let stored = cluster.one(asked.name.as_deref()).await?;
        return plan_one(&cluster, stored, &images).await;
    }
    for document in documents {
        let namespace = document["metadata"]["namespace"].as_str();
        let cluster = Cluster {
            namespace: namespace.map_or_else(|| cluster.namespace.clone(), str::to_owned),
            ..cluster.clone()
        };
        let wanted = after_apply(&cluster, &document).await?;
        plan_one(&cluster, wanted, &images).await?;
    }
    Ok(())
}

/// The PushCluster that there would be.
async fn after_apply(cluster: &Cluster, document: &Value) -> Result<PushCluster, Failure> {
    let name = document["metadata"]["name"].as_str().unwrap_or_default();
    let Some(before) = cluster.find(name).await? else {
        let mut new = manifest::understood(document)?;
        new.metadata.namespace = Some(cluster.namespace.clone());
        return Ok(new);
    };
    let mut after = merge::applied(document, &cluster::to_json(&before)?);
    if let Some(fields) = after.as_object_mut() {
        fields.remove("status");
    }
    let after = manifest::understood(&after)?;
    manifest::may_follow(&after, &before)?;
    Ok(after)
}

async fn plan_one(cluster: &Cluster, wanted: PushCluster, images: &Images) -> Result<(), Failure> {
    let (title, paused) = (name(&wanted), wanted.spec.paused);
    debug_assert_eq!(
        wanted.namespace().as_deref(),
        Some(cluster.namespace.as_str())
    );
    let observed = cluster.observe(wanted).await?;
    let made = preview(&observed, images).map_err(of_operator)?;
    let changed: Vec<_> = made
        .writes
        .iter()
        .filter(|write| matches!(write.act, Act::Apply { .. }))
        .cloned()
        .collect();
    let live = cluster.live(&changed).await?;
    let mut text = plan::text(&Planned {
        name: &title,
        paused,
        built: &made.built,
        writes: &made.writes,
        live: &live,
    });
    text.extend(made.pending.as_ref().map(plan::waiting));
    Ok(print(&text)?)
}

fn of_operator(problems: Vec<operator::push_cluster::validate::Problem>) -> Vec<Problem> {
    let problem = |problem: operator::push_cluster::validate::Problem| Problem {
        field: problem.field.to_string(),
        message: problem.message,
    };
    problems.into_iter().map(problem).collect()
}

async fn status_of(target: &Target, name: Option<&str>) -> Result<(), Failure> {
    let cluster = target.connect().await?;
    let found = cluster.one(name).await?;
    let seen = cluster.seen(found).await?;
    Ok(print(&status::text(&seen, Timestamp::now()))?)
}

async fn drain_one(target: &Target, asked: &Drain) -> Result<(), Failure> {
    let cluster = target.connect().await?;
    Ok(drain::drain(&cluster, asked, &mut io::stdout()).await?)
}

async fn rebalance_one(target: &Target, asked: &Rebalance) -> Result<(), Failure> {
    let cluster = target.connect().await?;
    Ok(rebalance::rebalance(&cluster, asked, &mut io::stdout()).await?)
}

async fn tap_one(target: &Target, asked: &Tap) -> Result<(), Failure> {
    let cluster = target.connect().await?;
    Ok(tap::tap(&cluster, asked, &mut io::stdout(), &mut io::stderr()).await?)
}
