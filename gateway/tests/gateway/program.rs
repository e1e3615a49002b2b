//! The real program, started with free ports and killed when the test ends.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::wait::{until, within};

pub const HS256_KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
pub const API_KEY: &str = "an-api-key-for-tests";

pub struct Gateway {
    process: Child,
    pub clients: SocketAddr,
    pub admin: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    /// Holds the configuration and the key files as long as the program runs.
    folder: tempfile::TempDir,
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// As it came, lower case.
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

impl Gateway {
    /// On memory, with a key for tokens and one for the API; `set` are further `key=value`.
    pub async fn start(set: &[&str]) -> Gateway {
        Gateway::with_file("", set).await
    }

    /// The same with a configuration file.
    pub async fn with_file(file: &str, set: &[&str]) -> Gateway {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("gateway.yaml"), file).unwrap();
        std::fs::write(at("jwt"), HS256_KEY).unwrap();
        std::fs::write(at("api"), format!("# for tests\n{API_KEY}\n")).unwrap();
        let own = [
            "log.format=json".to_owned(),
            format!("auth.hs256KeyFile={}", at("jwt").display()),
            format!("api.keyFile={}", at("api").display()),
        ];
        let set: Vec<&str> = own
            .iter()
            .map(|s| &**s)
            .chain(set.iter().copied())
            .collect();
        Gateway::in_folder(folder, &set).await
    }

    /// With nothing but `gateway.yaml` in the folder, which must want logs in JSON, and `set`.
    pub async fn in_folder(folder: tempfile::TempDir, set: &[&str]) -> Gateway {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command
            .arg("--config")
            .arg(folder.path().join("gateway.yaml"));
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        for pair in set {
            command.args(["--set", pair]);
        }
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let lines = log.clone();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let serving = |log: &[String]| {
            log.iter().find_map(|line| {
                let line: Value = serde_json::from_str(line).ok()?;
                (line["message"] == "serving").then_some(line)
            })
        };
        let line = until("the gateway serves", || async {
            let log = log.lock().unwrap();
            serving(&log).ok_or_else(|| log.join("\n"))
        })
        .await;
        let address = |key: &str| line[key].as_str().unwrap().parse().unwrap();
        Gateway {
            clients: address("clients"),
            admin: address("admin"),
            process,
            log,
            folder,
        }
    }

    /// A file in the folder of the configuration.
    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Writes the configuration and has it read again at once.
    pub async fn reload(&self, file: &str) -> Answer {
        self.write("gateway.yaml", file);
        self.admin("POST", "/reload").await
    }

    /// A request to the admin port with the right key.
    pub async fn admin(&self, method: &str, path: &str) -> Answer {
        request(self.admin, method, path, &[("x-api-key", API_KEY)], "").await
    }

    pub async fn on_redis(port: u16, set: &[&str]) -> Gateway {
        Gateway::on_redis_with(port, "", set).await
    }

    /// The same with a configuration file.
    pub async fn on_redis_with(port: u16, file: &str, set: &[&str]) -> Gateway {
        let url = format!("broker.redis.url=redis://127.0.0.1:{port}");
        let redis = [
            "broker.kind=redis",
            url.as_str(),
            "broker.redis.timeoutSeconds=2",
        ];
        Gateway::with_file(file, &[&redis, set].concat()).await
    }

    /// A client that has said and heard hello, as nobody in particular.
    pub async fn client(&self) -> Client {
        Client::connect(self.clients, None).await
    }

    /// A client with a token for this user.
    pub async fn user(&self, name: &str) -> Client {
        Client::connect(self.clients, Some(&token(name, 3_600))).await
    }

    pub async fn ready(&self) {
        until("ready", || async {
            let answer = get(self.admin, "/ready").await;
            if answer.status == 200 {
                Ok(())
            } else {
                Err(answer.body)
            }
        })
        .await;
    }

    /// Waits until `/ready` is 503 and this gate says why.
    pub async fn not_ready(&self, gate: &str) -> String {
        until("not ready", || async {
            let answer = get(self.admin, "/ready").await;
            let why = answer.json()["gates"][gate]
                .as_str()
                .unwrap_or("")
                .to_owned();
            if answer.status == 503 && why != "open" {
                Ok(why)
            } else {
                Err(answer.body)
            }
        })
        .await
    }

    /// The value of one series, as `/metrics` writes it.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let text = get(self.admin, "/metrics").await.body;
        text.lines()
            .find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    /// Publishes over HTTP with the right key.
    pub async fn publish(&self, body: &str) -> Answer {
        self.post("/api/publish", &[("x-api-key", API_KEY)], body)
            .await
    }

    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let json = [("content-type", "application/json")];
        request(self.clients, "POST", path, &[&json, headers].concat(), body).await
    }

    /// A request about the drain.
    pub async fn drain(&self, method: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        request(self.admin, method, "/drain", headers, body).await
    }

    /// What it says of itself, to whoever counts a fleet.
    pub async fn node(&self) -> Value {
        let answer = request(self.admin, "GET", "/node", &[], "").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    pub fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        assert!(
            Command::new("kill")
                .args([&format!("-{name}"), &id])
                .status()
                .unwrap()
                .success()
        );
    }

    pub async fn exit(&mut self) -> ExitStatus {
        let log = self.log.clone();
        until("the gateway ends", || {
            let status = self.process.try_wait().unwrap();
            let log = log.lock().unwrap().join("\n");
            async move { status.ok_or(log) }
        })
        .await
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("log of the gateway:\n{}", self.log());
        }
    }
}

/// A token that ends so many seconds from now.
pub fn token(user: &str, seconds: i64) -> String {
    token_that_names(user, seconds, &Value::Null)
}

/// The same with the claim `pushcluster`.
pub fn token_that_names(user: &str, seconds: i64, channels: &Value) -> String {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let end = i64::try_from(now).unwrap() + seconds;
    jsonwebtoken::encode(
        &jsonwebtoken::Header::default(),
        &serde_json::json!({"sub": user, "exp": end, "pushcluster": channels}),
        &jsonwebtoken::EncodingKey::from_secret(HS256_KEY),
    )
    .unwrap()
}

pub async fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, "GET", path, &[], "").await
}

/// One request on a connection of its own.
pub async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("connection"))
    {
        text.push_str("connection: close\r\n");
    }
    text.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    within(path, async {
        let mut socket = TcpStream::connect(address).await.unwrap();
        // A server may answer and close before it has read all.
        let _ = socket.write_all(text.as_bytes()).await;
        read_answer(&mut socket).await
    })
    .await
}

/// Reads to the end of the stream.
pub async fn read_answer(socket: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // A reset after the answer is no concern here.
    let _ = socket.read_to_end(&mut bytes).await;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    Answer {
        status,
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}
