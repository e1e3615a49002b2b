//! Redis in its three forms, as processes: one; a master with two replicas and three Sentinels; a Cluster of three
//! masters and three replicas.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::programs::{Running, Server, free_port, until};

/// What the Sentinels call the master.
const MASTER: &str = "pushes";
/// A master that was not heard of for so long is replaced; longer than the shortest freeze.
const DOWN_AFTER_MS: u32 = 2_000;
const SLOTS: [(u16, u16); 3] = [(0, 5_460), (5_461, 10_922), (10_923, 16_383)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Standalone,
    Sentinel,
    Cluster,
}

pub struct Redis {
    pub form: Form,
    pub servers: Vec<Server>,
    sentinels: Vec<(u16, Running)>,
    /// Long while the Cluster is formed, or a busy machine's nodes replace each other meanwhile.
    node_timeout_ms: u32,
    /// Configurations, which Redis rewrites.
    folder: TempDir,
}

impl Redis {
    pub async fn start(form: Form) -> Result<Redis> {
        let mut redis = Redis {
            form,
            servers: Vec::new(),
            sentinels: Vec::new(),
            node_timeout_ms: 30_000,
            folder: tempfile::tempdir()?,
        };
        let count = match form {
            Form::Standalone => 1,
            Form::Sentinel => 3,
            Form::Cluster => 6,
        };
        for index in 0..count {
            redis.servers.push(Server::new()?);
            redis.run(index, 0).await?;
        }
        match form {
            Form::Standalone => {}
            Form::Sentinel => redis.begin_sentinels()?,
            Form::Cluster => redis.form_cluster().await?,
        }
        redis.whole().await?;
        redis.node_timeout_ms = DOWN_AFTER_MS;
        if form == Form::Cluster {
            for server in &redis.servers {
                let set = format!("CONFIG SET cluster-node-timeout {DOWN_AFTER_MS}");
                server.ask(&set).await?;
            }
        }
        Ok(redis)
    }

    /// Starts one with nothing in it, where there is a choice as a replica of `master`.
    pub async fn run(&mut self, index: usize, master: usize) -> Result<()> {
        let file = self.folder.path().join(format!("{index}.conf"));
        let arguments = match self.form {
            Form::Sentinel if index != master => {
                let master = self.servers[master].port;
                vec!["--replicaof".into(), format!("127.0.0.1 {master}")]
            }
            Form::Standalone | Form::Sentinel => Vec::new(),
            Form::Cluster => vec![
                "--cluster-enabled".into(),
                "yes".into(),
                "--cluster-config-file".into(),
                file.to_string_lossy().into_owned(),
                "--cluster-port".into(),
                self.servers[index].bus.to_string(),
                "--cluster-node-timeout".into(),
                self.node_timeout_ms.to_string(),
            ],
        };
        let folder = self.folder.path();
        self.servers[index].run(folder, &arguments).await
    }

    fn begin_sentinels(&mut self) -> Result<()> {
        let master = self.servers[0].port;
        for index in 0..3 {
            let port = free_port()?;
            let file = self.folder.path().join(format!("sentinel-{index}.conf"));
            let text = format!(
                "port {port}\nbind 127.0.0.1\nsentinel monitor {MASTER} 127.0.0.1 {master} 2\n\
                 sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}\nsentinel failover-timeout {MASTER} 2000\n\
                 sentinel parallel-syncs {MASTER} 2\n"
            );
            std::fs::write(&file, text)?;
            let mut command = Command::new("redis-server");
            command.arg(&file).arg("--sentinel").stdout(Stdio::null());
            command.current_dir(self.folder.path());
            self.sentinels.push((port, Running::start(&mut command)?));
        }
        Ok(())
    }

    async fn form_cluster(&self) -> Result<()> {
        for (index, server) in self.servers.iter().enumerate() {
            server
                .ask(&format!("CLUSTER SET-CONFIG-EPOCH {}", index + 1))
                .await?;
            if let Some((first, last)) = SLOTS.get(index) {
                let add = format!("CLUSTER ADDSLOTSRANGE {first} {last}");
                server.ask(&add).await?;
            }
        }
        for server in &self.servers[1..] {
            let meet = format!("CLUSTER MEET 127.0.0.1 {} {}", server.port, server.bus);
            self.servers[0].ask(&meet).await?;
        }
        for (index, server) in self.servers.iter().enumerate().skip(3) {
            let master = self.id(index - 3).await?;
            until("a replica has met its master", async || {
                let answer = server.ask(&format!("CLUSTER REPLICATE {master}")).await?;
                ensure!(answer.starts_with("+OK"), "{index}: {answer}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    async fn id(&self, index: usize) -> Result<String> {
        let id = self.servers[index].ask("CLUSTER MYID").await?;
        Ok(id.split("\r\n").nth(1).context("an id")?.to_owned())
    }

    /// Settings of a gateway.
    pub fn settings(&self) -> Vec<String> {
        let (mode, ports) = match self.form {
            Form::Standalone => ("standalone", vec![self.servers[0].port]),
            Form::Sentinel => {
                let ports = self.sentinels.iter().map(|(port, _)| *port);
                ("sentinel", ports.collect())
            }
            Form::Cluster => {
                let ports = self.servers.iter().map(|server| server.port);
                ("cluster", ports.collect())
            }
        };
        let hosts: Vec<String> = ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let mut settings = vec![
            "broker.kind=redis".to_owned(),
            format!("broker.redis.mode={mode}"),
            format!("broker.redis.url=redis://{}", hosts.join(",")),
        ];
        if self.form == Form::Sentinel {
            settings.push(format!("broker.redis.masterName={MASTER}"));
        }
        settings
    }

    /// All that gateways talk to.
    pub fn ports(&self) -> Vec<u16> {
        let sentinels = self.sentinels.iter().map(|(port, _)| *port);
        let servers = self.servers.iter().map(|server| server.port);
        servers.chain(sentinels).collect()
    }

    /// Which server has the channel, and answers.
    pub async fn master(&self, channel: &str) -> Result<usize> {
        match self.form {
            Form::Standalone => {
                self.servers[0].look("PING").await?;
                Ok(0)
            }
            Form::Sentinel => {
                let said = self.sentinel("GET-MASTER-ADDR-BY-NAME")?;
                let port = said.lines().nth(1).context("an address")?.to_owned();
                let mut ports = self.servers.iter().map(|server| server.port.to_string());
                let index = ports.position(|p| p == port).context(port)?;
                let role = self.servers[index].look("ROLE").await?;
                ensure!(role.contains("master"), "{role}");
                Ok(index)
            }
            Form::Cluster => {
                let slot = self.slot(channel).await?;
                let asked = self
                    .servers
                    .iter()
                    .enumerate()
                    .map(async |(index, server)| {
                        let nodes = server.look("CLUSTER NODES").await.ok()?;
                        let info = server.look("CLUSTER INFO").await.ok()?;
                        (has_slot(&nodes, slot) && info.contains("cluster_state:ok"))
                            .then_some(index)
                    });
                let found = futures::future::join_all(asked).await;
                found
                    .into_iter()
                    .flatten()
                    .next()
                    .context("no master has it")
            }
        }
    }

    /// Waits until some server has the channel.
    pub async fn answers(&self, channel: &str) -> Result<usize> {
        until("a master", async || self.master(channel).await).await
    }

    /// Waits until the channel is on another server than this one, which is gone or frozen.
    pub async fn other_than(&self, gone: usize, channel: &str) -> Result<usize> {
        until("another master", async || {
            let now = self.master(channel).await?;
            ensure!(now != gone, "it is {now}");
            Ok(now)
        })
        .await
    }

    /// What a Sentinel says of the master, a word a line. Sentinels know no `QUIT`, so `redis-cli` asks.
    fn sentinel(&self, command: &str) -> Result<String> {
        let (port, _) = self.sentinels.first().context("a Sentinel")?;
        let asked = Command::new("redis-cli")
            .args(["-p", &port.to_string(), "SENTINEL", command, MASTER])
            .output()?;
        Ok(String::from_utf8_lossy(&asked.stdout).into_owned())
    }

    /// Waits until every server has its part, and every replica is in step.
    pub async fn whole(&self) -> Result<()> {
        if self.form == Form::Sentinel {
            until(
                "the Sentinels know each other and the replicas",
                async || {
                    let state = self.sentinel("MASTER")?;
                    let words: Vec<&str> = state.lines().collect();
                    let has = |key: &str, value: &str| words.windows(2).any(|w| w == [key, value]);
                    ensure!(
                        has("num-other-sentinels", "2") && has("num-slaves", "2"),
                        "{state}"
                    );
                    ensure!(has("flags", "master"), "{state}");
                    Ok(())
                },
            )
            .await?;
        }
        let expected = if self.form == Form::Cluster { 3 } else { 1 };
        until("Redis is whole", async || {
            let mut masters = 0;
            for server in &self.servers {
                masters += usize::from(self.in_step(server).await?);
            }
            ensure!(masters == expected, "{masters} masters");
            Ok(())
        })
        .await
    }

    /// Whether it is a master.
    async fn in_step(&self, server: &Server) -> Result<bool> {
        let replication = server.look("INFO replication").await?;
        let is_master = replication.contains("role:master");
        if is_master && self.form != Form::Standalone {
            ensure!(replication.contains("state=online"), "{replication}");
        }
        if !is_master {
            ensure!(
                replication.contains("master_link_status:up"),
                "{replication}"
            );
        }
        if self.form == Form::Cluster {
            let info = server.look("CLUSTER INFO").await?;
            ensure!(info.contains("cluster_state:ok"), "{info}");
            ensure!(info.contains("cluster_known_nodes:6"), "{info}");
            let nodes = server.look("CLUSTER NODES").await?;
            ensure!(!nodes.contains("fail"), "{nodes}");
        }
        Ok(is_master)
    }

    /// Of a channel, as any server that answers has it.
    async fn slot(&self, channel: &str) -> Result<u16> {
        let command = format!("CLUSTER KEYSLOT {{channel:{channel}}}");
        let asked = self
            .servers
            .iter()
            .map(|server| Box::pin(server.look(&command)));
        let (answer, _) = futures::future::select_ok(asked).await?;
        let number = answer
            .strip_prefix(':')
            .and_then(|rest| rest.lines().next());
        Ok(number.with_context(|| answer.clone())?.parse()?)
    }

    /// Moves the channel's slot to another master, as `redis-cli --cluster reshard` does.
    pub async fn move_slot(&self, channel: &str) -> Result<()> {
        let from = self.answers(channel).await?;
        let slot = self.slot(channel).await?;
        let mut to = None;
        for (index, server) in self.servers.iter().enumerate() {
            let role = server.ask("ROLE").await?;
            if index != from && role.contains("master") {
                to = Some(index);
            }
        }
        let to = to.context("another master")?;
        let ids = (self.id(from).await?, self.id(to).await?);
        let (source, target) = (&self.servers[from], &self.servers[to]);
        let set = |what: &str, id: &str| format!("CLUSTER SETSLOT {slot} {what} {id}");
        target.ask(&set("IMPORTING", &ids.0)).await?;
        source.ask(&set("MIGRATING", &ids.1)).await?;
        loop {
            let keys = source
                .ask(&format!("CLUSTER GETKEYSINSLOT {slot} 100"))
                .await?;
            let keys: Vec<&str> = keys
                .split("\r\n")
                .filter(|line| line.contains('{'))
                .collect();
            if keys.is_empty() {
                break;
            }
            for key in keys {
                let migrate = format!("MIGRATE 127.0.0.1 {} {key} 0 5000", target.port);
                let moved = source.ask(&migrate).await?;
                ensure!(
                    moved.starts_with("+OK") || moved.starts_with("+NOKEY"),
                    "{moved}"
                );
            }
        }
        target.ask(&set("NODE", &ids.1)).await?;
        source.ask(&set("NODE", &ids.1)).await?;
        Ok(())
    }
}

/// Whether the server that says so is the master of the slot.
fn has_slot(nodes: &str, slot: u16) -> bool {
    let Some(own) = nodes.lines().find(|line| line.contains("myself,master")) else {
        return false;
    };
    own.split_whitespace().skip(8).any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let inside = |first: u16, last: u16| (first..=last).contains(&slot);
        matches!((first.parse(), last.parse()), (Ok(first), Ok(last)) if inside(first, last))
    })
}
