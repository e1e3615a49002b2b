//! The TCP path between gateways and Redis, in the namespace of the test. The packet filter knows these connections by
//! the group that gateways run as; what Redis servers and Sentinels say to each other passes.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::programs::GATEWAYS;

/// Of connections from gateways to Redis.
const MARK: &str = "0x7";

#[derive(Debug, Clone, Copy)]
pub enum Loss {
    /// Nothing passes.
    All,
    /// What Redis says is lost, what it is told is not.
    Answers,
    /// One packet of ten.
    Some,
}

pub struct Path {
    ports: Vec<u16>,
}

impl Path {
    /// To these ports, at most 15 of them.
    pub fn new(ports: Vec<u16>) -> Result<Path> {
        let group = GATEWAYS.to_string();
        let path = Path { ports };
        let to = path.listed();
        let owner = ["-m", "owner", "--gid-owner", &group];
        let rule = ["-t", "mangle", "-A", "OUTPUT", "-p", "tcp"];
        let ports = ["-m", "multiport", "--dports", &to];
        let mark = ["-j", "CONNMARK", "--set-mark", MARK];
        iptables(&[&rule[..], &owner[..], &ports[..], &mark[..]].concat())?;
        Ok(path)
    }

    fn listed(&self) -> String {
        let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
        ports.join(",")
    }

    pub fn lose(&self, loss: Loss) -> Result<()> {
        let from = self.listed();
        let which: &[&str] = match loss {
            Loss::All => &[],
            Loss::Answers => &["-p", "tcp", "-m", "multiport", "--sports", &from],
            Loss::Some => &[
                "-m",
                "statistic",
                "--mode",
                "random",
                "--probability",
                "0.1",
            ],
        };
        let ours = ["-A", "INPUT", "-m", "connmark", "--mark", MARK];
        iptables(&[&ours[..], which, &["-j", "DROP"]].concat())
    }

    pub fn heal(&self) -> Result<()> {
        seen("filter", "INPUT")?;
        iptables(&["-F", "INPUT"])
    }

    /// Connections that gateways begin now go this way instead: `(server, way)`.
    pub fn divert(&self, ways: &[(u16, u16)]) -> Result<()> {
        for (server, way) in ways {
            let (server, way, group) = (server.to_string(), way.to_string(), GATEWAYS.to_string());
            let rule = ["-t", "nat", "-A", "OUTPUT", "-p", "tcp", "--dport", &server];
            let owner = ["-m", "owner", "--gid-owner", &group];
            let target = ["-j", "REDIRECT", "--to-ports", &way];
            iptables(&[&rule[..], &owner[..], &target[..]].concat())?;
        }
        Ok(())
    }

    /// New connections go directly.
    pub fn straighten(&self) -> Result<()> {
        seen("nat", "OUTPUT")?;
        iptables(&["-t", "nat", "-F", "OUTPUT"])
    }

    /// The ends at Redis are gone, as after a crash of its machine; gateways are told when a packet gets through.
    pub fn forget(&self) -> Result<()> {
        for port in &self.ports {
            // It says `Invalid argument` of the families that this kernel has not, and kills the others.
            let killed = Command::new("ss")
                .args(["--kill", "--tcp", "--no-header", "state", "established"])
                .arg(format!("( sport = :{port} )"))
                .output()?;
            ensure!(killed.status.success(), "ss --kill: {killed:?}");
        }
        Ok(())
    }
}

/// A rule that nothing came by was no fault.
fn seen(table: &str, chain: &str) -> Result<()> {
    let list = ["-w", "-t", table, "-L", chain, "-v", "-n", "-x"];
    let listed = Command::new("iptables").args(list).output()?;
    let text = String::from_utf8_lossy(&listed.stdout);
    // Two lines of heading; each rule begins with how many packets it took.
    let mut counts = text.lines().skip(2).filter_map(|line| {
        let count = line.split_whitespace().next()?;
        count.parse::<u64>().ok()
    });
    ensure!(counts.any(|count| count > 0), "no packet came by: {text}");
    Ok(())
}

fn iptables(arguments: &[&str]) -> Result<()> {
    let done = Command::new("iptables")
        .arg("-w")
        .args(arguments)
        .output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(
        done.status.success(),
        "iptables {}: {said}",
        arguments.join(" ")
    );
    Ok(())
}
