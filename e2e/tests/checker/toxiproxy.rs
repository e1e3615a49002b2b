//! toxiproxy between gateways and Redis, for what the packet filter of many kernels cannot do: delay.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use http::Request;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::programs::{Running, free_port, until};

/// Each packet waits so long, in each direction.
const DELAY_MS: u32 = 100;
const JITTER_MS: u32 = 50;

pub struct Toxiproxy {
    api: u16,
    /// Of a server, and where the way to it begins that can be delayed.
    pub ways: Vec<(u16, u16)>,
    _process: Running,
}

/// Builds it, if it is not there, and says where it is.
pub fn built() -> Result<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checker/toxiproxy/build.sh");
    let built = Command::new(&script)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("{}", script.display()))?;
    ensure!(built.status.success(), "build toxiproxy");
    Ok(String::from_utf8(built.stdout)?.trim().to_owned())
}

impl Toxiproxy {
    pub async fn start(program: &str, servers: &[u16]) -> Result<Toxiproxy> {
        let api = free_port()?;
        let mut command = Command::new(program);
        command.args(["-host", "127.0.0.1", "-port", &api.to_string()]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut proxy = Toxiproxy {
            api,
            ways: Vec::new(),
            _process: Running::start(&mut command)?,
        };
        until("toxiproxy answers", async || {
            proxy.ask(Request::get("/version"), Value::Null).await
        })
        .await?;
        for server in servers {
            let way = free_port()?;
            let new = json!({"name": server.to_string(), "listen": format!("127.0.0.1:{way}"),
                "upstream": format!("127.0.0.1:{server}")});
            proxy.ask(Request::post("/proxies"), new).await?;
            proxy.ways.push((*server, way));
        }
        Ok(proxy)
    }

    pub async fn delay(&self) -> Result<()> {
        for (server, _) in &self.ways {
            for stream in ["upstream", "downstream"] {
                let toxic = json!({"name": stream, "type": "latency", "stream": stream,
                    "attributes": {"latency": DELAY_MS, "jitter": JITTER_MS}});
                let add = Request::post(format!("/proxies/{server}/toxics"));
                self.ask(add, toxic).await?;
            }
        }
        Ok(())
    }

    /// Without any delay again.
    pub async fn heal(&self) -> Result<()> {
        self.ask(Request::post("/reset"), Value::Null).await
    }

    async fn ask(&self, request: http::request::Builder, body: Value) -> Result<()> {
        let stream = TokioIo::new(TcpStream::connect(("127.0.0.1", self.api)).await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        // Ends with the sender.
        tokio::spawn(connection);
        let request = request.header("host", "toxiproxy");
        let request = request.body(Full::new(Bytes::from(body.to_string())))?;
        let what = request.uri().clone();
        let answer = sender.send_request(request).await?;
        ensure!(answer.status().is_success(), "{what}: {}", answer.status());
        Ok(())
    }
}
