//! Shows one message crossing pods: a client on each of two gateway pods, one publish over HTTP.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use e2e::cluster::Cluster;
use e2e::fan_out::{publish_and_receive, subscribe_through};
use e2e::push_cluster;
use serde_json::json;

#[derive(Parser)]
#[command(about = "Publishes one message and shows it arrive through two gateway pods")]
struct Arguments {
    /// The PushCluster.
    #[arg(long, default_value = "demo")]
    name: String,
    /// Where it is.
    #[arg(long, short, default_value = "default")]
    namespace: String,
    /// A file; without it, the one that kubectl uses.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// A context in it; without it, the current one.
    #[arg(long)]
    context: Option<String>,
    #[arg(long, default_value = "hello")]
    channel: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    match show(&Arguments::parse(), &mut io::stdout()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not println: a closed pipe is no reason to panic.
            let _ = writeln!(io::stderr(), "push-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn show(arguments: &Arguments, out: &mut impl Write) -> Result<()> {
    let Arguments {
        name,
        namespace,
        channel,
        ..
    } = arguments;
    let cluster = Cluster::connect(
        arguments.kubeconfig.as_deref(),
        arguments.context.as_deref(),
    )
    .await?;
    let pods = push_cluster::ready_gateways(&cluster, namespace, name).await?;
    let [one, other, ..] = pods.as_slice() else {
        bail!(
            "PushCluster {namespace}/{name} has {} ready gateway pods, and a message that crosses pods needs two",
            pods.len()
        );
    };
    let key = push_cluster::api_key(&cluster, namespace, name).await?;

    let pods = [one.clone(), other.clone()];
    let mut subscribers = subscribe_through(&pods, channel).await?;
    for subscriber in &subscribers {
        writeln!(
            out,
            "  {:<28} client subscribed to \"{channel}\"",
            subscriber.pod
        )?;
    }
    let data = json!({"text": "Hello from one pod to all"});
    writeln!(out, "  {:<28} POST /api/publish  {data}", one.pod)?;
    let arrivals = publish_and_receive(one, &key, (channel, &data), &mut subscribers).await?;
    for arrival in &arrivals {
        let milliseconds = arrival.after.as_secs_f64() * 1e3;
        writeln!(
            out,
            "  {:<28} received after {milliseconds:.1} ms  {}",
            arrival.pod, arrival.message["message"]
        )?;
    }
    out.flush().context("write to the terminal")
}
