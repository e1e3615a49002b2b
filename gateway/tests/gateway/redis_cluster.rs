//! A Redis Cluster of three masters and three replicas: real processes, for one test.

use gateway::broker::redis::{Endpoint, Login, Mode, Settings};
use tempfile::TempDir;

use crate::redis_server::{RedisServer, ask};
use crate::wait::until;

pub struct RedisCluster {
    /// Three masters, then three replicas; a replica may be the master of what its own had, later.
    pub servers: Vec<RedisServer>,
    pub ids: Vec<String>,
    _folder: TempDir,
}

/// The slots of each master at the start.
pub const RANGES: [(u16, u16); 3] = [(0, 5_460), (5_461, 10_922), (10_923, 16_383)];

impl RedisCluster {
    /// A master that is not heard of for so long is replaced.
    pub async fn start(node_timeout_ms: u32) -> RedisCluster {
        let folder = tempfile::tempdir().unwrap();
        let starting = (0..6).map(|i| {
            let file = folder.path().join(format!("{i}.conf"));
            async move {
                let file = file.to_str().unwrap().to_owned();
                let cluster = ["--cluster-enabled", "yes", "--cluster-config-file", &file];
                let quick = [
                    "--cluster-node-timeout",
                    "30000",
                    "--repl-diskless-sync-delay",
                    "0",
                ];
                let port = crate::redis_server::free_port().to_string();
                let bus = ["--cluster-port", &port];
                RedisServer::start_as(&[&cluster[..], &quick[..], &bus[..]].concat()).await
            }
        });
        let servers: Vec<RedisServer> = futures::future::join_all(starting).await;
        let mut cluster = RedisCluster {
            servers,
            ids: Vec::new(),
            _folder: folder,
        };
        cluster.form().await;
        for server in &cluster.servers {
            let timeout = format!("CONFIG SET cluster-node-timeout {node_timeout_ms}");
            server.ask(&timeout).await;
        }
        cluster
    }

    async fn form(&mut self) {
        for (i, server) in self.servers.iter().enumerate() {
            let id = server.ask("CLUSTER MYID").await;
            self.ids.push(id.split("\r\n").nth(1).unwrap().to_owned());
            server
                .ask(&format!("CLUSTER SET-CONFIG-EPOCH {}", i + 1))
                .await;
            if let Some((first, last)) = RANGES.get(i) {
                server
                    .ask(&format!("CLUSTER ADDSLOTSRANGE {first} {last}"))
                    .await;
            }
            let nodes = self.servers[0].ask("INFO server").await;
            assert!(nodes.contains("redis_mode:cluster"), "{nodes}");
        }
        for server in &self.servers[1..] {
            let bus = server.cluster_port();
            let meet = format!("CLUSTER MEET 127.0.0.1 {} {bus}", server.port);
            self.servers[0].ask(&meet).await;
        }
        for (i, server) in self.servers.iter().enumerate().skip(3) {
            let replicate = format!("CLUSTER REPLICATE {}", self.ids[i - 3]);
            until("a replica has met its master", || async {
                let answer = server.ask(&replicate).await;
                if answer.starts_with("+OK") {
                    Ok(())
                } else {
                    Err(answer)
                }
            })
            .await;
        }
        self.whole().await;
    }

    /// Waits until every node sees three masters with all slots, and their replicas in step.
    pub async fn whole(&self) {
        for server in &self.servers {
            until("the Cluster is whole", || async {
                let info = ask(server.port, "CLUSTER INFO").await?;
                let nodes = ask(server.port, "CLUSTER NODES").await?;
                let replication = ask(server.port, "INFO replication").await?;
                let in_step = replication.contains("master_link_status:up")
                    || replication.contains("state=online");
                let replicas = nodes.lines().filter(|line| line.contains("slave")).count();
                if info.contains("cluster_state:ok") && replicas == 3 && in_step {
                    Ok(())
                } else {
                    Err(format!("{info}{nodes}{replication}"))
                }
            })
            .await;
        }
    }

    /// Of a key.
    pub async fn slot(&self, key: &str) -> u16 {
        let ask = format!("CLUSTER KEYSLOT \"{key}\"");
        let answer = self.servers[0].ask(&ask).await;
        let number = answer.lines().next().unwrap().trim_start_matches(':');
        number.trim().parse().unwrap()
    }

    pub fn settings(&self) -> Settings {
        // One is enough to find the others.
        let seed = Endpoint {
            host: "127.0.0.1".into(),
            port: self.servers[1].port,
        };
        Settings {
            mode: Mode::Cluster,
            seeds: vec![seed],
            ..crate::redis_server::settings(0, Login::default())
        }
    }

    /// Moves a slot without keys, or with keys when asked, as `redis-cli --cluster reshard` does.
    pub async fn move_slot(&self, slot: u16, from: usize, to: usize) {
        let (source, target) = (&self.servers[from], &self.servers[to]);
        let set = |what: &str, id: &str| format!("CLUSTER SETSLOT {slot} {what} {id}");
        target.ask(&set("IMPORTING", &self.ids[from])).await;
        source.ask(&set("MIGRATING", &self.ids[to])).await;
        let keys = source
            .ask(&format!("CLUSTER GETKEYSINSLOT {slot} 1000"))
            .await;
        for key in keys.split("\r\n").filter(|line| line.contains('{')) {
            let migrate = format!("MIGRATE 127.0.0.1 {} {key} 0 5000", target.port);
            let moved = source.ask(&migrate).await;
            assert!(
                moved.starts_with("+OK") || moved.starts_with("+NOKEY"),
                "{moved}"
            );
        }
        target.ask(&set("NODE", &self.ids[to])).await;
        source.ask(&set("NODE", &self.ids[to])).await;
    }
}
