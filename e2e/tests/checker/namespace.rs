//! A network of our own: the test runs itself again in new namespaces, where it may cut the loopback and nobody else
//! notices. All that it starts, and every rule, ends with it, also when it is killed. That needs root.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Tells the second run from the first, and where toxiproxy is: inside, nothing can be built.
const INSIDE: &str = "CHECKER_INSIDE";

pub fn is_inside() -> bool {
    toxiproxy().is_some()
}

/// The program.
pub fn toxiproxy() -> Option<String> {
    std::env::var(INSIDE).ok()
}

/// Runs this test inside; false: it cannot, and goes on where it is.
pub fn entered(test: &str) -> Result<bool> {
    let id = Command::new("id").arg("-u").output()?.stdout;
    if id.trim_ascii() != b"0" {
        return Ok(false);
    }
    let program = std::env::current_exe().context("this test is a program")?;
    // The kernel ends `unshare` with us, its child with it, and all in the namespace with that.
    let ended = Command::new("setpriv")
        .args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--net",
            "--pid",
            "--mount-proc",
        ])
        .args(["--fork", "--kill-child", "sh", "-c"])
        .arg("ip link set lo up && exec \"$@\"")
        .arg("sh")
        .arg(program)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, crate::toxiproxy::built()?)
        .stdin(Stdio::null())
        .status()
        .context("util-linux is installed")?;
    ensure!(ended.success(), "{test} failed; its reasons are above");
    Ok(true)
}
