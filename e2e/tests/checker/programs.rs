//! A real redis-server and real gateways, on ports of their own, killed when the test ends.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::wait::eventually;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(30);

pub struct Redis {
    pub port: u16,
    process: Option<Child>,
}

impl Redis {
    pub async fn start() -> Result<Redis> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut redis = Redis {
            port,
            process: None,
        };
        redis.run().await?;
        Ok(redis)
    }

    /// With nothing in it.
    pub async fn run(&mut self) -> Result<()> {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no"]);
        let process = command.stdout(Stdio::null()).spawn();
        self.process = Some(process.context("redis-server is installed")?);
        eventually("redis-server answers", SOON, async || {
            let answer = self.ask("PING").await?;
            ensure!(answer.starts_with("+PONG"), "{answer}");
            Ok(())
        })
        .await
    }

    pub fn kill(&mut self) {
        end(self.process.take());
    }

    /// `STOP` freezes it with its sockets open, `CONT` goes on.
    pub fn signal(&self, name: &str) -> Result<()> {
        let id = self.process.as_ref().context("it runs")?.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &id])
            .status()?;
        ensure!(sent.success(), "kill -{name} {id}");
        Ok(())
    }

    /// The answer to an inline command, as Redis writes it.
    pub async fn ask(&self, command: &str) -> Result<String> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let line = format!("{command}\r\nQUIT\r\n");
        socket.write_all(line.as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

pub struct Gateway {
    pub clients: SocketAddr,
    process: Option<Child>,
}

impl Gateway {
    pub fn start(config: &Path, redis: u16) -> Result<Gateway> {
        let mut command = Command::new(program()?);
        command.arg("--config").arg(config);
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        let url = format!("broker.redis.url=redis://127.0.0.1:{redis}");
        for pair in ["log.format=json", "broker.kind=redis", &url] {
            command.args(["--set", pair]);
        }
        let mut process = command.stderr(Stdio::piped()).spawn()?;
        let mut log = BufReader::new(process.stderr.take().context("its log")?).lines();
        let mut gateway = Gateway {
            clients: ([127, 0, 0, 1], 0).into(),
            process: Some(process),
        };
        let serving = log
            .by_ref()
            .map_while(Result::ok)
            .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
            .find(|line| line["message"] == "serving")
            .context("the gateway ended before it served")?;
        let address = serving["clients"].as_str().context("an address")?;
        gateway.clients = address.parse()?;
        // Read on, or it blocks when the pipe is full.
        std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));
        Ok(gateway)
    }
}

impl Drop for Gateway {
    /// As `kill -9` does.
    fn drop(&mut self) {
        end(self.process.take());
    }
}

fn end(process: Option<Child>) {
    if let Some(mut process) = process {
        // It may have ended by itself.
        let _ = process.kill();
        let _ = process.wait();
    }
}

/// The gateway that was built beside this test; built now if the test is run alone.
fn program() -> Result<PathBuf> {
    let profile = Path::new(env!("CARGO_BIN_EXE_push-demo"))
        .parent()
        .context("a program lies in a folder")?;
    let program = profile.join("gateway");
    if !program.exists() {
        let cargo = Command::new(std::env::var_os("CARGO").context("cargo runs this")?)
            .args(["build", "--locked", "--package", "gateway", "--target-dir"])
            .arg(profile.parent().context("a folder")?)
            .status()?;
        ensure!(cargo.success(), "build the gateway");
    }
    Ok(program)
}
