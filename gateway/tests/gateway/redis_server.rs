//! A real `redis-server` for one test, on a port of its own.

use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway::broker::redis::{Endpoint, Listen, Login, Mode, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::wait::{until, within};

pub struct RedisServer {
    pub port: u16,
    password: Option<&'static str>,
    /// More of its command line.
    arguments: Vec<String>,
    process: Option<Child>,
}

impl RedisServer {
    pub async fn start() -> RedisServer {
        Self::start_with(None).await
    }

    pub async fn start_with(password: Option<&'static str>) -> RedisServer {
        let mut server = RedisServer {
            port: free_port(),
            password,
            arguments: Vec::new(),
            process: None,
        };
        server.run().await;
        server
    }

    /// With these on its command line; the port is free, and so is the one of the Cluster's bus.
    pub async fn start_as(arguments: &[&str]) -> RedisServer {
        let mut server = Self::absent();
        server.arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        server.run().await;
        server
    }

    /// A port on which nothing listens yet; `run` brings Redis there.
    pub fn absent() -> RedisServer {
        RedisServer {
            port: free_port(),
            password: None,
            arguments: Vec::new(),
            process: None,
        }
    }

    pub async fn run(&mut self) {
        self.begin(&[]);
        until("redis-server answers", || async {
            let answer = self.try_ask("PING").await.map_err(|e| e.to_string())?;
            if answer.starts_with("+PONG") {
                Ok(())
            } else {
                Err(answer)
            }
        })
        .await;
    }

    /// Starts the process, with more on its command line, and waits for nothing.
    pub fn begin(&mut self, more: &[&str]) {
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        // Where a replica keeps what its master sends it at first. Whoever finds such a file at the start is not empty.
        command.current_dir(std::env::temp_dir());
        command.args(["--rdb-del-sync-files", "yes", "--dbfilename"]);
        command.arg(format!(
            "pushcluster-test-{}-{port}.rdb",
            std::process::id()
        ));
        command.args([
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        if let Some(password) = self.password {
            command.args(["--requirepass", password]);
        }
        command.args(&self.arguments).args(more);
        let process = command
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        self.process = Some(process);
    }

    /// Kills the process as a crash does, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("the process is ours");
            process.wait().expect("the process is ours");
        }
    }

    /// Whether it was killed and not run again.
    pub fn is_dead(&self) -> bool {
        self.process.is_none()
    }

    /// Sends a signal by name: `STOP` freezes Redis with its sockets open, `CONT` goes on.
    pub fn signal(&self, name: &str) {
        let id = self.process.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &id])
            .status()
            .unwrap();
        assert!(sent.success(), "kill -{name} {id}");
    }

    /// The answer to an inline command, as Redis writes it.
    pub async fn ask(&self, command: &str) -> String {
        within(command, self.try_ask(command)).await.unwrap()
    }

    /// Of the Cluster's bus, as the command line has it.
    pub fn cluster_port(&self) -> &str {
        let mut words = self.arguments.iter();
        words.find(|word| *word == "--cluster-port");
        words.next().expect("it is a node of a Cluster")
    }

    async fn try_ask(&self, command: &str) -> std::io::Result<String> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let login = self
            .password
            .map(|p| format!("AUTH {p}\r\n"))
            .unwrap_or_default();
        socket
            .write_all(format!("{login}{command}\r\nQUIT\r\n").as_bytes())
            .await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        Ok(answer
            .strip_prefix("+OK\r\n")
            .filter(|_| self.password.is_some())
            .unwrap_or(&answer)
            .to_owned())
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Stands between a node and Redis, and can swallow what Redis sends to subscribers.
pub struct Proxy {
    pub port: u16,
    /// Connections on which a `SUBSCRIBE` was seen, and that are to be silent from now on.
    silent: Arc<Mutex<Vec<Arc<AtomicBool>>>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub async fn start(redis: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let subscribers: Arc<Mutex<Vec<Arc<AtomicBool>>>> = Arc::default();
        let seen = subscribers.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, redis, seen.clone()));
            }
        });
        Proxy {
            port,
            silent: subscribers,
            accepting,
        }
    }

    /// Connections that subscribed until now hear nothing any more; later ones do.
    pub fn swallow_subscriptions(&self) {
        let subscribers = std::mem::take(&mut *self.silent.lock().unwrap());
        assert!(
            !subscribers.is_empty(),
            "nobody subscribed through the proxy"
        );
        for silent in subscribers {
            silent.store(true, Ordering::SeqCst);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn relay(client: TcpStream, redis: u16, subscribers: Arc<Mutex<Vec<Arc<AtomicBool>>>>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", redis)).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let silent = Arc::new(AtomicBool::new(false));
    let up = async {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from_client.read(&mut bytes).await {
            if bytes[..n].windows(9).any(|word| word == b"SUBSCRIBE") {
                subscribers.lock().unwrap().push(silent.clone());
            }
            to_server.write_all(&bytes[..n]).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    let down = async {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from_server.read(&mut bytes).await {
            if !silent.load(Ordering::SeqCst) {
                to_client.write_all(&bytes[..n]).await?;
            }
        }
        Ok::<_, std::io::Error>(())
    };
    // Either end closed: the other is closed by dropping it.
    tokio::select! {
        _ = up => {}
        _ = down => {}
    }
}

/// The answer of who listens on this port, without a password.
pub async fn ask(port: u16, command: &str) -> Result<String, String> {
    let mut server = RedisServer::absent();
    server.port = port;
    server.try_ask(command).await.map_err(|e| e.to_string())
}

/// For a Redis on this machine.
pub fn settings(port: u16, login: Login) -> Settings {
    Settings {
        mode: Mode::Standalone,
        seeds: vec![Endpoint {
            host: "127.0.0.1".into(),
            port,
        }],
        master_name: String::new(),
        database: 0,
        login,
        sentinel_login: Login::default(),
        tls: None,
        prefix: "test:".into(),
        timeout: Duration::from_secs(2),
        probe_period: Duration::from_millis(200),
        listen: Listen::default(),
    }
}

/// A port that is free, below those that the kernel gives to connections: one of them may take another before a server
/// listens on it. Nobody else who asks here gets it while this process lives, in whatever process: a UDP socket of the
/// same number stands for the reservation, and goes with its process however that ends.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    static RESERVED: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    let offset = u16::try_from(std::process::id() % 200).unwrap() * 100;
    loop {
        let port = 11_000 + (offset + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let Ok(reservation) = UdpSocket::bind(("127.0.0.1", port)) else {
            continue;
        };
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            RESERVED.lock().unwrap().push(reservation);
            return port;
        }
    }
}
