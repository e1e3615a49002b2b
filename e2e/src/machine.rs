//! The processes that a cluster of `e2e/cluster` is made of: only there a test can stop them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cluster::AUDIT_LOG;

/// Where the cluster under test keeps what it knows of itself.
pub struct Machine {
    state: PathBuf,
}

impl Machine {
    pub fn under_test() -> Result<Machine> {
        let log = std::env::var_os(AUDIT_LOG);
        let log = log.with_context(|| format!("{AUDIT_LOG} is not set"))?;
        let state = Path::new(&log).parent().and_then(Path::parent);
        let state = state.context("the log lies in a folder")?.to_owned();
        Ok(Machine { state })
    }

    /// Freezes a process of the cluster, as `kube-apiserver`, with its sockets open, until this value goes.
    pub fn stop(&self, process: &str) -> Result<Stopped> {
        let record = self.state.join("processes").join(process);
        let record = std::fs::read_to_string(&record)
            .with_context(|| format!("read {}", record.display()))?;
        let id = record.split_whitespace().next().context("a process id")?;
        signal("STOP", id)?;
        Ok(Stopped {
            ids: vec![id.to_owned()],
        })
    }

    /// A volume with so much room (as in `8m`) on a node, in memory, until this value goes.
    pub fn mount(&self, node: &str, name: &str, size: &str) -> Result<Mounted> {
        let record = self.state.join("processes").join(node);
        let record = std::fs::read_to_string(&record)
            .with_context(|| format!("read {}", record.display()))?;
        let process = record.split_whitespace().next().context("a process id")?;
        let path = self.state.join("mounted").join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        let mounted = Mounted {
            process: process.to_owned(),
            path: path.display().to_string(),
        };
        let options = format!("size={size},mode=1777");
        mounted.run(&[
            "mount",
            "-t",
            "tmpfs",
            "-o",
            &options,
            "none",
            &mounted.path,
        ])?;
        Ok(mounted)
    }

    /// The file of a node's network.
    pub fn network_namespace(&self, node: &str) -> Result<String> {
        let cluster = self.state.file_name().and_then(|name| name.to_str());
        let cluster = cluster.context("the cluster has a name")?;
        Ok(format!("/run/netns/pushcluster-{cluster}-{node}"))
    }
}

/// A volume that only its node sees.
pub struct Mounted {
    /// Which holds the node's mounts.
    process: String,
    path: String,
}

impl Mounted {
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// No room is left.
    pub fn fill(&self) -> Result<()> {
        let script = format!("! cat /dev/zero 2>&1 >{}/ballast", self.path);
        self.run(&["sh", "-c", &script])
    }

    /// What `fill` took is free again.
    pub fn empty(&self) -> Result<()> {
        self.run(&["rm", &format!("{}/ballast", self.path)])
    }

    fn run(&self, command: &[&str]) -> Result<()> {
        let in_node = ["--target", &self.process, "--mount", "--"];
        let ran = Command::new("nsenter")
            .args(in_node)
            .args(command)
            .status()
            .context("start nsenter")?;
        ensure!(ran.success(), "{}: {ran}", command.join(" "));
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Pods may still have it; the node's end takes it then.
        let _ = self.run(&["umount", "--lazy", &self.path]);
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// Processes that are frozen.
pub struct Stopped {
    ids: Vec<String>,
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for id in &self.ids {
            // It has ended, or the test's end removes the cluster.
            let _ = signal("CONT", id);
        }
    }
}

/// Kills the processes of this program in a pod, as the kernel would that is short of memory.
pub fn kill_in_pod(pod_uid: &str, program: &str) -> Result<()> {
    for id in in_pod(pod_uid, program)? {
        signal("KILL", &id)?;
    }
    Ok(())
}

/// Freezes the processes of this program in a pod, with their sockets open, until this value goes.
pub fn stop_in_pod(pod_uid: &str, program: &str) -> Result<Stopped> {
    let ids = in_pod(pod_uid, program)?;
    for id in &ids {
        signal("STOP", id)?;
    }
    Ok(Stopped { ids })
}

/// The processes of this program in a pod; at least one.
fn in_pod(pod_uid: &str, program: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").context("read /proc")? {
        let path = entry?.path();
        let Some(id) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if !id.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        // Gone meanwhile: then it is not the one.
        let text = |file: &str| std::fs::read_to_string(path.join(file)).unwrap_or_default();
        if text("comm").trim() == program && text("cgroup").contains(pod_uid) {
            found.push(id.to_owned());
        }
    }
    ensure!(!found.is_empty(), "no {program} runs in pod {pod_uid}");
    Ok(found)
}

fn signal(name: &str, id: &str) -> Result<()> {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), id])
        .status()
        .context("start kill")?;
    ensure!(sent.success(), "kill -{name} {id}");
    Ok(())
}
