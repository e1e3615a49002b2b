//! Real Redis servers and gateways, killed when the test ends.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::namespace;

/// Longest wait for a fact about processes of ours. A Sentinel that a busy machine forgets for 2 s does nothing for 30 s
/// (TILT), so a failover takes its time there.
const SOON: Duration = Duration::from_secs(150);
/// Between two looks: also how exact the moment is known at which something came back.
const LOOK: Duration = Duration::from_millis(10);
/// Longest wait for an answer of a Redis, which may be frozen.
const ANSWER: Duration = Duration::from_secs(1);
/// Gateways run as this group, so that the packet filter knows their connections from all others.
pub const GATEWAYS: u32 = 7_777;

/// Looks until there is what is wanted (`Ok`); the error says what is there instead.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + SOON;
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        match look().await {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("{what}: not within {} s", SOON.as_secs())));
            }
            Err(_) => {}
        }
    }
}

/// One that nothing else takes while its server is down. In a namespace of our own these are below those that the kernel
/// gives to connections.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(7_001);
    if namespace::is_inside() {
        return Ok(NEXT.fetch_add(1, Ordering::Relaxed));
    }
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A program that is killed when this is dropped.
pub struct Running(Child);

impl Running {
    pub fn start(command: &mut Command) -> Result<Running> {
        let started = command.spawn();
        Ok(Running(started.with_context(|| format!("{command:?}"))?))
    }

    /// `STOP` freezes it with its sockets open, `CONT` goes on.
    fn signal(&self, name: &str) -> Result<()> {
        let id = self.0.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &id])
            .status()?;
        ensure!(sent.success(), "kill -{name} {id}");
        Ok(())
    }
}

impl Drop for Running {
    /// As `kill -9` does.
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A `redis-server`.
pub struct Server {
    pub port: u16,
    /// Those of a Cluster talk to each other here.
    pub bus: u16,
    starts: usize,
    process: Option<Running>,
}

impl Server {
    pub fn new() -> Result<Server> {
        Ok(Server {
            port: free_port()?,
            bus: free_port()?,
            starts: 0,
            process: None,
        })
    }

    /// With nothing in it.
    pub async fn run(&mut self, folder: &Path, arguments: &[String]) -> Result<()> {
        self.starts += 1;
        let mut command = Command::new("redis-server");
        // Where a replica keeps what its master sends it at first; whoever finds it at the start is not empty.
        command.current_dir(folder);
        command.args(["--rdb-del-sync-files", "yes", "--dbfilename"]);
        command.arg(format!("{}-{}.rdb", self.port, self.starts));
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no"]);
        command.args(["--repl-diskless-sync-delay", "0"]);
        command.args(arguments).stdout(Stdio::null());
        self.process = Some(Running::start(&mut command)?);
        until("redis-server answers", async || {
            let answer = self.look("PING").await?;
            ensure!(answer.starts_with("+PONG"), "{answer}");
            Ok(())
        })
        .await
    }

    pub fn kill(&mut self) {
        self.process = None;
    }

    pub fn signal(&self, name: &str) -> Result<()> {
        self.process.as_ref().context("it runs")?.signal(name)
    }

    /// Of one that runs.
    pub async fn ask(&self, command: &str) -> Result<String> {
        within(SOON, self.port, command).await
    }

    /// Of one that may be frozen.
    pub async fn look(&self, command: &str) -> Result<String> {
        within(ANSWER, self.port, command).await
    }
}

/// The answer to an inline command, as Redis writes it.
async fn within(limit: Duration, port: u16, command: &str) -> Result<String> {
    let asking = async {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
        let line = format!("{command}\r\nQUIT\r\n");
        socket.write_all(line.as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    match timeout(limit, asking).await {
        Ok(answer) => answer,
        Err(_) => bail!("{command}: Redis at port {port} is silent"),
    }
}

pub struct Gateway {
    pub clients: SocketAddr,
    /// Its clock.
    pub ahead_seconds: i64,
    _process: Running,
}

impl Gateway {
    /// `set`: `key=value` settings. `ahead_seconds`: of its clock, which is another one only where the program asks for
    /// the time of day.
    pub async fn start(config: &Path, set: Vec<String>, ahead_seconds: i64) -> Result<Gateway> {
        let mut command = Command::new(program()?);
        command.arg("--config").arg(config);
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        for pair in set {
            command.args(["--set", &pair]);
        }
        if namespace::is_inside() {
            command.gid(GATEWAYS);
        }
        if ahead_seconds != 0 {
            // As Debian's `faketime` does, which is a process more to kill.
            command.env("LD_PRELOAD", "/usr/$LIB/faketime/libfaketimeMT.so.1");
            command.env("FAKETIME", format!("{ahead_seconds:+}"));
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        // Reading its log blocks.
        tokio::task::spawn_blocking(move || Gateway::serving(command, ahead_seconds)).await?
    }

    /// What it takes for the time of day, in milliseconds since the Unix epoch.
    pub async fn time_ms(&self, api_key: &str) -> Result<i64> {
        let stream = TokioIo::new(TcpStream::connect(self.clients).await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        // Ends with the sender.
        tokio::spawn(connection);
        let body = r#"{"channel": "time", "data": 0}"#;
        let request = Request::post("/api/publish").header("host", "gateway");
        let request = request.header("x-api-key", api_key);
        let request = request.header("content-type", "application/json");
        let answer = sender
            .send_request(request.body(Full::new(Bytes::from(body)))?)
            .await?;
        let body = answer.into_body().collect().await?.to_bytes();
        let body: Value = serde_json::from_slice(&body)?;
        let time = body["timestamp"].as_i64();
        time.with_context(|| body.to_string())
    }

    fn serving(mut command: Command, ahead_seconds: i64) -> Result<Gateway> {
        let mut process = Running::start(command.stderr(Stdio::piped()))?;
        let mut log = BufReader::new(process.0.stderr.take().context("its log")?).lines();
        let mut said = Vec::new();
        let serving = loop {
            let line = log.next().transpose()?;
            let line = line.with_context(|| format!("it ended, and said {said:#?}"))?;
            let value: Value = serde_json::from_str(&line).unwrap_or_default();
            if value["message"] == "serving" {
                break value;
            }
            said.push(line);
        };
        let address = serving["clients"].as_str().context("an address")?;
        // Read on, or it blocks when the pipe is full.
        std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));
        Ok(Gateway {
            clients: address.parse()?,
            ahead_seconds,
            _process: process,
        })
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
