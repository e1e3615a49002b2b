//! The real programs, on free ports, ended with their values.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const API_KEY: &str = "an-api-key-for-tests";
const HS256_KEY: &str = "0123456789abcdef0123456789abcdef";
/// For any single thing to happen; generous, since the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(120);
const CHANNELS: &str =
    "channels:\n  - {prefix: \"kept:\", historyMessages: 5000, historySeconds: 600}\n";

/// Ended with the value.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Until `look` gives something.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::yield_now();
    }
}

/// Of this machine. Somebody else may take it first, as with every port that is not asked for.
pub fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().port()
}

pub fn redis() -> (Process, u16) {
    let port = free_port();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
    command.args(["--save", "", "--appendonly", "no"]);
    let process = command.stdout(Stdio::null()).spawn().unwrap();
    until("redis-server answers", || {
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    (Process(process), port)
}

/// A request with the key of the API, and its answer with its head.
pub fn ask(address: SocketAddr, request: &str, body: &str) -> io::Result<String> {
    let mut socket = TcpStream::connect(address)?;
    let length = body.len();
    write!(
        socket,
        "{request} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nX-API-Key: {API_KEY}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}

pub struct Gateway {
    pub clients: SocketAddr,
    pub admin: SocketAddr,
    _process: Process,
}

impl Gateway {
    pub fn start(name: &str, redis: u16, folder: &Path) -> Gateway {
        let write = |file: &str, text: &str| {
            let path = folder.join(file);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let mut command = Command::new(crate::gateway());
        command.args(["--config", &write("gateway.yaml", CHANNELS)]);
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        for setting in [
            "log.format=json".to_owned(),
            format!("auth.hs256KeyFile={}", write("jwt", HS256_KEY)),
            format!("api.keyFile={}", write("api", API_KEY)),
            "auth.anonymous=false".to_owned(),
            format!("node.name={name}"),
            "broker.kind=redis".to_owned(),
            format!("broker.redis.url=redis://127.0.0.1:{redis}"),
            "limits.handshakesPerSecond=1000".to_owned(),
        ] {
            command.args(["--set", &setting]);
        }
        let mut process = Process(command.stderr(Stdio::piped()).spawn().unwrap());
        let mut log = BufReader::new(process.0.stderr.take().unwrap()).lines();
        let serving = log
            .by_ref()
            .map_while(Result::ok)
            .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
            .find(|line| line["message"] == "serving")
            .expect("the gateway serves");
        // A full pipe would stop it.
        std::thread::spawn(move || log.for_each(drop));
        let address = |key: &str| serving[key].as_str().unwrap().parse().unwrap();
        let gateway = Gateway {
            clients: address("clients"),
            admin: address("admin"),
            _process: process,
        };
        until("the gateway is ready", || {
            gateway
                .ask("GET /ready", "")
                .starts_with("HTTP/1.1 200")
                .then_some(())
        });
        gateway
    }

    /// An answer of the admin port, with its head.
    pub fn ask(&self, request: &str, body: &str) -> String {
        ask(self.admin, request, body).unwrap()
    }

    pub fn connections(&self) -> u64 {
        let answer = self.ask("GET /node", "");
        let body = answer.split("\r\n\r\n").nth(1).unwrap();
        let node: Value = serde_json::from_str(body).unwrap();
        node["connections"].as_u64().unwrap()
    }
}
