//! What is shipped: the bytes of each image, and what the operator holds while there is nothing to do, on the API server of
//! a cluster that is started for it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::{Rig, rows_of, say};
use crate::report::Row;

const MEBIBYTE: f64 = 1_048_576.0;
/// Of an image. It is one program and nothing else.
const IMAGE_BUDGET: f64 = 20.0 * MEBIBYTE;
/// Of an idle operator: all of it that is in memory, its program's text included.
const MEMORY_BUDGET: f64 = 30.0 * MEBIBYTE;
/// The most that it holds from its start until so long after it leads; by then all its watches have begun.
const WATCHED: Duration = Duration::from_secs(20);
/// Starts of the operator. They differ by little.
const ROUNDS: usize = 3;
const CLUSTER: &str = "bench";

pub fn run(rig: &Rig) -> anyhow::Result<Vec<Row>> {
    if rig.effort.tiny {
        // Static programs and a cluster take minutes.
        let (gateway, _) = rig.build(&[])?;
        let size = image_bytes(&gateway.path)?;
        let pairs = vec![(size, IMAGE_BUDGET)];
        return rows_of(&[("shipped/gateway-image", "budget", "bytes", pairs)]);
    }
    rig.cores.use_all()?;
    say("building the gateway and the operator as static programs")?;
    let build = script(rig, "build-binaries.sh");
    let folder = PathBuf::from(output(build().arg("--where"))?.trim());
    output(&mut build())?;
    let mut sizes = Vec::new();
    for program in ["gateway", "operator"] {
        sizes.push(vec![(image_bytes(&folder.join(program))?, IMAGE_BUDGET)]);
    }
    say("starting a cluster")?;
    let cluster = Cluster::start(rig)?;
    let mut idle = Vec::new();
    for _ in 0..rig.effort.rounds.min(ROUNDS) {
        let bytes = cluster.idle_operator(&folder.join("operator"))?;
        idle.push((bytes, MEMORY_BUDGET));
    }
    let mut sizes = sizes.into_iter();
    let mut next = || sizes.next().unwrap_or_default();
    rows_of(&[
        ("shipped/gateway-image", "budget", "bytes", next()),
        ("shipped/operator-image", "budget", "bytes", next()),
        ("shipped/operator-idle", "budget", "bytes", idle),
    ])
}

/// As `make images` copies it: without debug information.
fn image_bytes(program: &Path) -> anyhow::Result<f64> {
    let folder = tempfile::tempdir()?;
    let stripped = folder.path().join("program");
    output(
        Command::new("strip")
            .args(["--strip-debug", "-o"])
            .arg(&stripped)
            .arg(program),
    )?;
    Ok(f64_of(stripped.metadata()?.len()))
}

/// A real control plane with two nodes; `e2e/cluster` needs root for it.
struct Cluster<'a> {
    rig: &'a Rig,
    kubeconfig: String,
}

impl<'a> Cluster<'a> {
    fn start(rig: &'a Rig) -> anyhow::Result<Cluster<'a>> {
        let paths = ". e2e/cluster/lib.sh && echo \"$KUBECONFIG_ADMIN\" && echo \"$BIN/kubectl\"";
        let paths = output(in_root(rig, "bash").args(["-c", paths]))?;
        let mut paths = paths.lines();
        let kubeconfig = paths.next().context("a kubeconfig")?.to_owned();
        let kubectl = paths.next().context("a kubectl")?;
        let cluster = Cluster { rig, kubeconfig };
        output(script(rig, "up.sh")().arg(CLUSTER))?;
        let definition = "charts/pushcluster-operator/templates/crds/pushclusters.yaml";
        output(in_root(rig, kubectl).args([
            "--kubeconfig",
            &cluster.kubeconfig,
            "apply",
            "--server-side",
            "-f",
            definition,
        ]))?;
        Ok(cluster)
    }

    /// The most that an operator with nothing to do holds, in bytes.
    fn idle_operator(&self, program: &Path) -> anyhow::Result<f64> {
        let mut operator = Operator(
            Command::new(program)
                .env("KUBECONFIG", &self.kubeconfig)
                .env("ADMIN_LISTEN", "127.0.0.1:0")
                .env("LOG_FORMAT", "json")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .with_context(|| format!("start {}", program.display()))?,
        );
        operator.until_it_leads()?;
        let began = Instant::now();
        let mut most = 0;
        while began.elapsed() < WATCHED {
            most = most.max(operator.resident_bytes()?);
            std::thread::sleep(Duration::from_millis(100));
        }
        say(&format!("  an idle operator: {most} bytes"))?;
        Ok(f64_of(most))
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        if let Err(error) = output(script(self.rig, "down.sh")().arg(CLUSTER)) {
            let _ = say(&format!("the cluster {CLUSTER} is still there: {error}"));
        }
    }
}

/// Killed when dropped; its lease then stands for a quarter of a minute, which the next one waits.
struct Operator(Child);

impl Operator {
    fn until_it_leads(&mut self) -> anyhow::Result<()> {
        let said = self.0.stderr.take().context("its log")?;
        let mut lines = BufReader::new(said).lines();
        while let Some(Ok(line)) = lines.next() {
            if line.contains("\"leading\"") {
                // Read on: a full pipe would stop it.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(());
            }
        }
        bail!("the operator ended before it led")
    }

    /// What is in memory of it, files that it maps included.
    fn resident_bytes(&self) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/status", self.0.id());
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let kilobytes = text
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
            .with_context(|| format!("{path} has no VmRSS: the operator has ended"))?;
        Ok(kilobytes.parse::<u64>()? * 1_024)
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A script of `e2e/cluster`, as often as it is needed.
fn script<'a>(rig: &'a Rig, name: &'a str) -> impl Fn() -> Command + 'a {
    let path = rig.places.root.join("e2e/cluster").join(name);
    move || in_root(rig, &path)
}

fn in_root(rig: &Rig, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(&rig.places.root)
        .env("CLUSTER", CLUSTER)
        .env("PUSHCLUSTER_CACHE", &rig.places.cache);
    command
}

/// Standard output, once it has succeeded.
fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {command:?}"))?;
    let (said, wrong) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(output.status.success(), "{command:?}: {said}{wrong}");
    Ok(said.into_owned())
}

#[expect(clippy::cast_precision_loss, reason = "bytes are far below 2^52")]
fn f64_of(bytes: u64) -> f64 {
    bytes as f64
}
