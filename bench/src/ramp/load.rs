//! The clients: processes of `pushbench` that share them, and the file that tells them what is done.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use super::Arguments;
use super::kube::Process;
use crate::pushbench::record::Run;
use crate::pushbench::records;

/// Channels over which the clients are spread.
const CHANNELS: u32 = 20;
/// Messages a second, over all of them.
const RATE: u32 = 5;

pub struct Load {
    parts: Vec<Process>,
    folder: PathBuf,
    stage: PathBuf,
}

impl Load {
    /// Clients come to that address, at the pace of the arguments, and stay while there is a stage.
    pub fn start(arguments: &Arguments, name: &str, to: &str, key: &str) -> anyhow::Result<Load> {
        let folder = arguments.out.join(name);
        std::fs::create_dir_all(&folder)?;
        let (stage, key_file) = (folder.join("stage"), folder.join("key"));
        std::fs::write(&key_file, key)?;
        std::fs::write(&stage, "ramp up")?;
        let most = arguments.clients;
        let seconds = most.div_ceil(arguments.rate);
        // Time to see the end of the last stage before the first client goes.
        let profile = format!(
            "0:0,{seconds}:{most},{}:{most},{}:0",
            seconds + 2,
            2 * seconds + 2
        );
        let pushbench = std::env::current_exe()?.with_file_name("pushbench");
        let parts = (1..=arguments.parts).map(|part| {
            let mut command = match &arguments.network_namespace {
                Some(namespace) => {
                    let mut command = Command::new("nsenter");
                    command
                        .arg(format!("--net={}", namespace.display()))
                        .arg(&pushbench);
                    command
                }
                None => Command::new(&pushbench),
            };
            command.args(["run", "--to", to, "--profile", &profile]);
            command.arg(format!("--part={part}/{}", arguments.parts));
            command
                .arg(format!("--channels={CHANNELS}"))
                .arg(format!("--rate={RATE}"));
            command.arg("--api-key-file").arg(&key_file);
            command.arg("--stage-file").arg(&stage);
            command.arg("--out").arg(&folder);
            command.args(["--every=10", "--settle=60"]);
            command.stdout(std::fs::File::create(folder.join(format!("{part}.log")))?);
            Ok(Process(command.spawn().context("start pushbench")?))
        });
        Ok(Load {
            parts: parts.collect::<anyhow::Result<_>>()?,
            folder,
            stage,
        })
    }

    /// What is done to the cluster from now on. Empty: nothing more, and the clients go.
    pub fn stage(&self, name: &str) -> anyhow::Result<()> {
        let aside = self.stage.with_extension("new");
        std::fs::write(&aside, name)?;
        std::fs::rename(&aside, &self.stage).context("name the stage")
    }

    /// Until all that are wanted are there, and no fewer than so many.
    pub fn until_all_are_there(&self, least: usize, seconds: u64) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let (wanted, connected) = self.connected()?;
            if connected == wanted && connected >= least as u64 {
                return Ok(());
            }
            if began.elapsed() > Duration::from_secs(seconds) {
                bail!("after {seconds} s {connected} clients of {wanted} are there");
            }
            std::thread::park_timeout(Duration::from_millis(500));
        }
    }

    /// Wanted and connected in the last second of each part.
    fn connected(&self) -> anyhow::Result<(u64, u64)> {
        let mut sums = (0, 0);
        for part in 1..=self.parts.len() {
            let path = self
                .folder
                .join(format!("{part}-of-{}.jsonl", self.parts.len()));
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let mut lines = text.lines().rev();
            let last = lines.find_map(|line| {
                let line: Value = serde_json::from_str(line).ok()?;
                let second = line.get("second")?;
                Some((second["wanted"].as_u64()?, second["connected"].as_u64()?))
            });
            // One that has written nothing yet keeps everybody waiting.
            let (wanted, connected) = last.unwrap_or((1, 0));
            sums = (sums.0 + wanted, sums.1 + connected);
        }
        Ok(sums)
    }

    /// Until the last client has gone. What was recorded, and whether every process says that it was good.
    pub fn finish(mut self, folder: &Path) -> anyhow::Result<(Run, bool)> {
        let ends: Vec<ExitStatus> = self
            .parts
            .iter_mut()
            .map(|part| part.0.wait())
            .collect::<Result<_, _>>()?;
        let run = records::read(&[folder.to_owned()])?;
        Ok((run, ends.iter().all(ExitStatus::success)))
    }

    pub fn folder(&self) -> PathBuf {
        self.folder.clone()
    }
}
