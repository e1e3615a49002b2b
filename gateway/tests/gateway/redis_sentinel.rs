//! A master with two replicas, and three Sentinels that watch them: real processes, for one test.

use std::fs;
use std::process::{Child, Command, Stdio};

use gateway::broker::redis::{Endpoint, Login, Mode, Settings};
use tempfile::TempDir;

use crate::redis_server::{RedisServer, free_port};
use crate::wait::until;

/// What the Sentinels call the master.
pub const MASTER: &str = "pushes";

pub struct Sentinels {
    pub servers: Vec<RedisServer>,
    pub ports: Vec<u16>,
    processes: Vec<Child>,
    folder: TempDir,
}

impl Sentinels {
    /// The first server is the master. A failover begins so long after it was last heard of.
    pub async fn start(down_after_ms: u32) -> Sentinels {
        let master = RedisServer::start().await;
        let port = master.port.to_string();
        let replica = [
            "--replicaof",
            "127.0.0.1",
            &port,
            "--repl-diskless-sync-delay",
            "0",
        ];
        let (a, b) = tokio::join!(
            RedisServer::start_as(&replica),
            RedisServer::start_as(&replica)
        );
        let mut whole = Sentinels {
            servers: vec![master, a, b],
            ports: (0..3).map(|_| free_port()).collect(),
            processes: Vec::new(),
            folder: tempfile::tempdir().unwrap(),
        };
        for i in 0..3 {
            whole.begin(i, down_after_ms);
        }
        for port in &whole.ports {
            until(
                "each Sentinel knows the others and the replicas",
                || async {
                    let state = ask(*port, "MASTER");
                    let words: Vec<&str> = state.lines().collect();
                    let has = |key: &str, value: &str| words.windows(2).any(|w| w == [key, value]);
                    if has("num-slaves", "2") && has("num-other-sentinels", "2") {
                        Ok(())
                    } else {
                        Err(state)
                    }
                },
            )
            .await;
        }
        whole
    }

    fn begin(&mut self, number: usize, down_after_ms: u32) {
        let (port, master) = (self.ports[number], self.servers[0].port);
        let file = self.folder.path().join(format!("{number}.conf"));
        let text = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor {MASTER} 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds {MASTER} {down_after_ms}\nsentinel failover-timeout {MASTER} 2000\n\
             sentinel parallel-syncs {MASTER} 2\n"
        );
        fs::write(&file, text).unwrap();
        let process = Command::new("redis-server")
            .arg(&file)
            .arg("--sentinel")
            .current_dir(self.folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        self.processes.push(process);
    }

    /// `host:port,…`, as `broker.redis.url` names them.
    pub fn hosts(&self) -> String {
        let hosts: Vec<_> = self
            .ports
            .iter()
            .map(|p| format!("127.0.0.1:{p}"))
            .collect();
        hosts.join(",")
    }

    pub fn settings(&self) -> Settings {
        let seeds = self.ports.iter().map(|port| Endpoint {
            host: "127.0.0.1".into(),
            port: *port,
        });
        Settings {
            mode: Mode::Sentinel,
            seeds: seeds.collect(),
            master_name: MASTER.into(),
            ..crate::redis_server::settings(0, Login::default())
        }
    }

    /// Has a replica take over from a master that is well; what the Sentinel says to that.
    pub fn fail_over(&self) -> String {
        ask(self.ports[0], "FAILOVER").trim().to_owned()
    }

    /// The position in `servers` of the one that the Sentinels name, when it is another than this.
    pub async fn other_than(&self, before: usize) -> usize {
        until("another master", || async {
            let answer = ask(self.ports[0], "GET-MASTER-ADDR-BY-NAME");
            let now = self
                .servers
                .iter()
                .position(|server| answer.contains(&server.port.to_string()));
            now.filter(|now| *now != before).ok_or(answer)
        })
        .await
    }
}

/// What a Sentinel says of the master, a word a line. Sentinels know no `QUIT`, so `redis-cli` asks.
fn ask(port: u16, command: &str) -> String {
    let asked = Command::new("redis-cli")
        .args(["-p", &port.to_string(), "SENTINEL", command, MASTER])
        .output()
        .expect("redis-cli is installed");
    String::from_utf8_lossy(&asked.stdout).into_owned()
}

impl Drop for Sentinels {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
