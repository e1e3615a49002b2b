//! The operator's release, as whoever installs it changes it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::cluster::{Cluster, KUBECONFIG};

/// Environment variable with the path of the `helm` program; `make e2e` and `make chart` set it.
const HELM: &str = "HELM";
/// The release that `make up` and `make e2e` install.
pub const RELEASE: &str = "pushcluster";

/// `helm`, on the cluster under test and in the operator's namespace.
pub struct Helm {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Helm {
    pub fn under_test() -> Result<Helm> {
        let set = |name: &str| {
            let path = std::env::var_os(name);
            path.map(PathBuf::from)
                .with_context(|| format!("{name} is not set: `make e2e` sets it"))
        };
        Ok(Helm {
            program: set(HELM)?,
            kubeconfig: set(KUBECONFIG)?,
        })
    }

    /// What it prints; what it complains of is the error.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.program)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(["--namespace", &Cluster::operator_namespace()])
            .args(arguments)
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("start {}", self.program.display()))?;
        ensure!(
            output.status.success(),
            "helm {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).context("helm prints UTF-8")
    }
}

/// The chart of this commit, as the path of its folder.
///
/// # Panics
/// Outside of `cargo test`.
#[must_use]
pub fn chart() -> String {
    path("../charts/pushcluster-operator")
}

/// The chart before this one, as it was packed.
///
/// # Panics
/// Outside of `cargo test`.
#[must_use]
pub fn previous_chart() -> String {
    path("fixtures/pushcluster-operator-0.1.0.tgz")
}

fn path(of: &str) -> String {
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests");
    let path = Path::new(&folder).join(of);
    path.to_str().expect("a path in UTF-8").to_owned()
}
