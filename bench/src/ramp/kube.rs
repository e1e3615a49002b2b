//! The cluster's API: kubectl for what is done, and plain reads through its proxy, which cost no process each.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Ended with the value.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Kube {
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    /// Where everything of ours is.
    pub namespace: String,
    proxy: SocketAddr,
    _process: Process,
    /// A proxy that cannot write ends.
    _output: BufReader<ChildStdout>,
}

impl Kube {
    pub fn open(kubectl: &Path, kubeconfig: &Path, namespace: &str) -> anyhow::Result<Kube> {
        let mut command = Command::new(kubectl);
        command.arg("--kubeconfig").arg(kubeconfig);
        command.args(["proxy", "--port=0"]).stdout(Stdio::piped());
        let mut process = Process(command.spawn().context("start kubectl proxy")?);
        let output = process.0.stdout.take().context("kubectl's output")?;
        let mut output = BufReader::new(output);
        let mut said = String::new();
        output.read_line(&mut said)?;
        let address = said.trim().rsplit(' ').next().unwrap_or_default();
        let proxy = address.parse();
        let proxy = proxy.with_context(|| format!("kubectl proxy said no address: {said:?}"))?;
        Ok(Kube {
            kubectl: kubectl.to_owned(),
            kubeconfig: kubeconfig.to_owned(),
            namespace: namespace.to_owned(),
            proxy,
            _process: process,
            _output: output,
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        command.args(["--namespace", &self.namespace]);
        command.args(arguments);
        command
    }

    /// What kubectl prints.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command(arguments).stdin(Stdio::null()).output();
        printed(arguments, &output.context("start kubectl")?)
    }

    pub fn apply(&self, manifest: &str) -> anyhow::Result<()> {
        let mut command = self.command(&["apply", "-f", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        let mut input = child.stdin.take().context("kubectl's input")?;
        input.write_all(manifest.as_bytes())?;
        drop(input);
        printed(&["apply"], &child.wait_with_output()?).map(drop)
    }

    /// A change of the PushCluster.
    pub fn patch(&self, change: &Value) -> anyhow::Result<()> {
        let change = change.to_string();
        self.run(&[
            "patch",
            "pushcluster",
            super::NAME,
            "--type=merge",
            "-p",
            &change,
        ])
        .map(drop)
    }

    /// An object or a list, of a path of the API.
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        get(self.proxy, path)
    }
}

fn printed(arguments: &[&str], output: &Output) -> anyhow::Result<String> {
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("kubectl {}: {why}", arguments.join(" "));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// JSON from a server on this machine.
pub fn get(server: SocketAddr, path: &str) -> anyhow::Result<Value> {
    let mut socket = TcpStream::connect_timeout(&server, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // Of 1.0, so that the answer ends with the connection and is in one piece.
    write!(
        socket,
        "GET {path} HTTP/1.0\r\nHost: {server}\r\nAccept: application/json\r\n\r\n"
    )?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("half an answer")?;
    if !head
        .split(' ')
        .nth(1)
        .is_some_and(|status| status.starts_with('2'))
    {
        bail!("GET {path}: {}", head.lines().next().unwrap_or_default());
    }
    serde_json::from_str(body).with_context(|| format!("GET {path}"))
}
