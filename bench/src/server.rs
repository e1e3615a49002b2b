//! A program under measurement: started on its core, asked what it used, ended with the value.

use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::programs::{Peer, Program};

const HS256_KEY: &[u8] = b"a key of thirty-two bytes, known";
/// Also with a shared key, an API is what a backend uses.
pub const API_KEY: &str = "a-key-for-the-api";
/// Longer than any bench.
const TOKEN_SECONDS: u64 = 24 * 3_600;

/// Why a server does not serve, or cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("{peer}: start {path}: {cause}")]
    Start {
        peer: Peer,
        path: String,
        cause: io::Error,
    },
    #[error("{peer}: it ended before it served; it said:\n{log}")]
    Ended { peer: Peer, log: String },
    #[error("{peer}: read {what} of process {process}: {cause}")]
    Ask {
        peer: Peer,
        what: &'static str,
        process: u32,
        cause: io::Error,
    },
}

/// Killed when dropped.
pub struct Server {
    pub peer: Peer,
    pub address: SocketAddr,
    process: Child,
    /// The key files, as long as the program runs.
    _keys: tempfile::TempDir,
}

impl Server {
    /// Starts it on a free port and this core; the gateway with `settings`, each a `key=value`, beyond those that all
    /// benches use.
    pub fn start(program: &Program, core: usize, settings: &[&str]) -> Result<Server, ServerError> {
        let peer = program.peer;
        let failed = |cause| ServerError::Start {
            peer,
            path: program.path.display().to_string(),
            cause,
        };
        let keys = tempfile::tempdir().map_err(failed)?;
        let (jwt, api) = (keys.path().join("jwt"), keys.path().join("api"));
        std::fs::write(&jwt, HS256_KEY).map_err(failed)?;
        std::fs::write(&api, API_KEY).map_err(failed)?;
        // It becomes the program and keeps the process id.
        let mut command = Command::new("taskset");
        command
            .args(["--cpu-list", &core.to_string()])
            .arg(&program.path)
            .args(&program.args)
            .env("JWT_KEY_FILE", &jwt)
            .stdin(Stdio::null());
        if peer == Peer::Gateway {
            command.args(gateway_arguments(&jwt, &api, settings));
            command.stderr(Stdio::piped()).stdout(Stdio::null());
        } else {
            command.stdout(Stdio::piped()).stderr(Stdio::inherit());
        }
        let mut process = command.spawn().map_err(failed)?;
        match read_address(&mut process) {
            Ok(address) => Ok(Server {
                peer,
                address,
                process,
                _keys: keys,
            }),
            Err(log) => {
                let _ = process.kill();
                let _ = process.wait();
                Err(ServerError::Ended { peer, log })
            }
        }
    }

    /// CPU time of all its threads so far, the kernel's work for it included.
    pub fn cpu(&self) -> Result<Duration, ServerError> {
        let id = i32::try_from(self.process.id()).expect("process ids are i32");
        let now = clock_getcpuclockid(Pid::from_raw(id)).and_then(|clock| clock.now());
        now.map(Duration::from)
            .map_err(|errno| self.cannot("the CPU clock", errno.into()))
    }

    /// Memory that is its own and would be free without it, in bytes: what it wrote to, not the files it maps.
    pub fn private_bytes(&self) -> Result<u64, ServerError> {
        let path = format!("/proc/{}/smaps_rollup", self.process.id());
        let text = std::fs::read_to_string(path).map_err(|e| self.cannot("the memory", e))?;
        text.lines()
            .find_map(|line| line.strip_prefix("Anonymous:")?.trim().strip_suffix(" kB"))
            .and_then(|kilobytes| kilobytes.parse::<u64>().ok())
            .map(|kilobytes| kilobytes * 1_024)
            .ok_or_else(|| self.cannot("Anonymous", io::ErrorKind::InvalidData.into()))
    }

    fn cannot(&self, what: &'static str, cause: io::Error) -> ServerError {
        ServerError::Ask {
            peer: self.peer,
            what,
            process: self.process.id(),
            cause,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Everything on: tokens, the API with a key, limits that count, metrics.
fn gateway_arguments(jwt: &Path, api: &Path, settings: &[&str]) -> Vec<String> {
    let own = [
        "log.format=json".to_owned(),
        "log.filter=gateway=info".to_owned(),
        "auth.anonymous=false".to_owned(),
        format!("auth.hs256KeyFile={}", jwt.display()),
        format!("api.keyFile={}", api.display()),
        // Of a length that leaves room for a message in 128 bytes.
        "node.name=n".to_owned(),
        // The client attends to one crowd at a time; the other one's pings would go unanswered for too long.
        "heartbeat.pingSeconds=600".to_owned(),
        "heartbeat.idleSeconds=600".to_owned(),
        // Limits that count and are not reached.
        "limits.maxConnections=20000".to_owned(),
        "limits.maxConnectionsPerUser=20000".to_owned(),
        "limits.maxConnectionsPerAddress=20000".to_owned(),
        "limits.handshakesPerSecond=1000000".to_owned(),
        "limits.messagesPerSecond=1000000".to_owned(),
        "limits.messageBurst=1000000".to_owned(),
    ];
    let listen = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"].map(str::to_owned);
    let given = settings.iter().map(|pair| (*pair).to_owned());
    let settings = own.into_iter().chain(given);
    listen
        .into_iter()
        .chain(settings.flat_map(|pair| ["--set".to_owned(), pair]))
        .collect()
}

/// The address that the program says it serves on. What it says after that is read and dropped: a full pipe
/// would stop it. An error is what it said instead.
fn read_address(process: &mut Child) -> Result<SocketAddr, String> {
    let mut said = String::new();
    let output: Box<dyn io::Read + Send> = match (process.stdout.take(), process.stderr.take()) {
        (Some(stdout), _) => Box::new(stdout),
        (None, Some(stderr)) => Box::new(stderr),
        (None, None) => return Err("nothing to read from".to_owned()),
    };
    let mut lines = BufReader::new(output).lines();
    while let Some(Ok(line)) = lines.next() {
        if let Some(address) = address_in(&line) {
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(address);
        }
        said.push_str(&line);
        said.push('\n');
    }
    Err(said)
}

/// `READY <port>` of a peer, or the gateway's log line.
fn address_in(line: &str) -> Option<SocketAddr> {
    if let Some(port) = line.strip_prefix("READY ") {
        return Some((Ipv4Addr::LOCALHOST, port.trim().parse().ok()?).into());
    }
    let line: Value = serde_json::from_str(line).ok()?;
    (line["message"] == "serving").then(|| line["clients"].as_str()?.parse().ok())?
}

/// A token that every server of a bench accepts.
pub fn token(user: &str) -> String {
    let now = std::time::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_secs());
    jsonwebtoken::encode(
        &Header::default(),
        &json!({"sub": user, "exp": now + TOKEN_SECONDS}),
        &EncodingKey::from_secret(HS256_KEY),
    )
    .expect("claims of text and numbers can be encoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_where_it_serves() {
        let here = Some("127.0.0.1:81".parse().unwrap());
        for (line, expected) in [
            ("READY 81", here),
            (r#"{"message":"serving","clients":"127.0.0.1:81"}"#, here),
            (r#"{"message":"page       http://127.0.0.1:81/"}"#, None),
            ("READY no", None),
            ("", None),
        ] {
            assert_eq!(address_in(line), expected, "{line}");
        }
    }
}
