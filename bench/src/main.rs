//! Measures the gateway against floors and peers: `bench` lists the benches, `bench fanout` runs one.
//!
//! Every figure is a ratio of two programs that were measured in turn, on the same core, within the same seconds.

mod benches;
mod client;
mod cores;
mod floor;
mod opening;
mod path;
mod poster;
mod programs;
mod redis;
mod relay;
mod returning;
mod server;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bench::{report, statistics, wire};
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use benches::{BENCHES, Effort, Rig};
use cores::Cores;
use programs::Places;

/// Measures the gateway against floors and peers. Without a name it lists the benches.
#[derive(Parser)]
struct Arguments {
    /// Bench to run, or `all`. `floor` is the bare epoll loop that others are compared with; `relay` hands bytes on.
    bench: Option<String>,
    /// Pairs of each row.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Milliseconds of one half of a pair.
    #[arg(long, default_value_t = 400)]
    slice_ms: u64,
    /// A few connections against the floor alone: shows that a bench works, and nothing else.
    #[arg(long)]
    tiny: bool,
    /// Of fanout and redis only the rows whose name contains this: to look at one while it runs.
    #[arg(long, default_value = "")]
    row: String,
    /// Folder that holds checkouts of uNetworking's uWebSockets and uSockets.
    #[arg(long)]
    peers: Option<PathBuf>,
    /// Measure this gateway and build none.
    #[arg(long)]
    gateway: Option<PathBuf>,
    /// Folder for figures and charts; target/bench if left out.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Where `relay` hands bytes on to.
    #[arg(long)]
    to: Option<SocketAddr>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.bench.as_deref() {
        None => list(),
        Some("floor") => Ok(floor::run()?),
        Some("relay") => Ok(relay::run(arguments.to.context("--to is missing")?)?),
        Some(name) => measure(name, &arguments),
    }
}

fn list() -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for (name, what, _) in BENCHES {
        writeln!(out, "{name:<12}{what}")?;
    }
    Ok(())
}

fn measure(name: &str, arguments: &Arguments) -> anyhow::Result<()> {
    let chosen: Vec<_> = BENCHES
        .iter()
        .filter(|(bench, ..)| name == "all" || name == *bench)
        .collect();
    if chosen.is_empty() {
        bail!("no bench is called {name}; `bench` lists them");
    }
    let root = root()?;
    let out = arguments
        .out
        .clone()
        .unwrap_or_else(|| benches::results(&root));
    let rig = Rig {
        effort: Effort {
            rounds: arguments.rounds.max(1),
            slice: Duration::from_millis(arguments.slice_ms),
            tiny: arguments.tiny,
            row: arguments.row.clone(),
        },
        places: Places {
            cache: cache(&root),
            root,
            checkouts: arguments.peers.clone(),
            gateway: arguments.gateway.clone(),
        },
        cores: Cores::find().context("find the cores of this process")?,
    };
    allow_many_files()?;
    for (name, _, run) in chosen {
        benches::say(&format!("bench {name}"))?;
        let rows = run(&rig)?;
        report::write(&out, name, &rows).with_context(|| format!("write {}", out.display()))?;
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "\n{}", report::table(&rows))?;
        writeln!(stdout, "{}/{name}.json and .svg", out.display())?;
    }
    Ok(())
}

/// The root of the repository. Cargo says where the crate is when it runs it.
fn root() -> anyhow::Result<PathBuf> {
    let start = match std::env::var_os("CARGO_MANIFEST_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => std::env::current_dir()?,
    };
    start
        .ancestors()
        .find(|folder| folder.join("bench/peers").is_dir())
        .map(Path::to_owned)
        .context("find the root of the repository: run it inside")
}

/// What the Makefile calls `CACHE`.
fn cache(root: &Path) -> PathBuf {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("PUSHCLUSTER_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|folder| folder.join("pushcluster")))
        .or_else(|| set("HOME").map(|folder| folder.join(".cache/pushcluster")))
        .unwrap_or_else(|| root.join("target/bench/cache"))
}

/// As many sockets as this user may have, here and in the servers.
fn allow_many_files() -> anyhow::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("raise the limit of open files")
}
