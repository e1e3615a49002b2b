//! A connection to one Redis: TCP or TLS, logged in, and the node behind it is what it should be.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use futures::FutureExt;
use redis_protocol::resp2::types::BytesFrame;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::advice::{advice, evicts};
use super::topology::Endpoint;
use super::wire::{self, NotResp, field, text};
use super::{Login, Mode, Password, Settings};

/// The oldest Redis that works: sharded Pub/Sub, and commands in scripts that are refused before they begin.
const OLDEST: (u32, u32) = (7, 0);

/// How TCP looks after a connection (tcp(7)).
pub(super) struct Liveness {
    /// Without anything from Redis's machine until it is asked whether it is there, and between two such questions. The
    /// kernel counts whole seconds.
    pub(super) ask_after: Duration,
    /// Longest time in which that machine acknowledges nothing.
    pub(super) unacknowledged: Duration,
}

impl Liveness {
    pub(super) fn of(settings: &Settings) -> Liveness {
        Liveness {
            ask_after: settings.probe_period.max(Duration::from_secs(1)),
            // Not less: what waits on a path that is cut for a moment arrives when it is there again, and shorter would make
            // of it publishes of which nobody knows what became.
            unacknowledged: settings.timeout,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    /// The system's own words ("Connection refused (os error 111)").
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no answer within {:.1} s", .0.as_secs_f32())]
    Timeout(Duration),
    #[error("refused {command}: {reason}{}", advice(reason))]
    Refused {
        command: &'static str,
        reason: String,
    },
    #[error("closed the connection")]
    Closed,
    #[error(transparent)]
    Protocol(#[from] NotResp),
    #[error("no probe came back; replacing the connection")]
    Silent,
    #[error("is version {0}, and 7.0 is the oldest that works; name a newer one")]
    Version(String),
    #[error(
        "is a replica, which takes no writes; another Redis is the master now, or should be named instead"
    )]
    Replica,
    #[error("is of mode {found}, and broker.redis.mode says {wanted}; change one of them")]
    Mode { found: String, wanted: Mode },
    #[error("{0:?} is no name that a certificate can have")]
    Name(String),
}

/// What a node should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The one that takes writes.
    Master,
    /// Any node of a Cluster, which is asked for the others.
    Member,
    Sentinel,
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An open connection, logged in.
pub(super) struct Connection {
    pub(super) socket: Box<dyn Stream>,
    /// Read and not yet decoded.
    pub(super) input: BytesMut,
}

impl Connection {
    /// Connects, logs in and selects the database, within `settings.timeout` altogether. `name`: what `CLIENT LIST` shows.
    pub(super) async fn open(
        settings: &Settings,
        endpoint: &Endpoint,
        wanted: Wanted,
        name: &str,
    ) -> Result<Connection, ConnectionError> {
        let opening = async {
            let mut connection = Self::dial(settings, endpoint).await?;
            let login = match wanted {
                Wanted::Sentinel => &settings.sentinel_login,
                Wanted::Master | Wanted::Member => &settings.login,
            };
            let hello = connection.hello(login, name).await?;
            check(&hello, wanted, settings.mode)?;
            if settings.database != 0 && settings.mode != Mode::Cluster && wanted == Wanted::Master
            {
                let database = settings.database.to_string();
                connection.ask("SELECT", &[&database]).await?;
            }
            Ok(connection)
        };
        match tokio::time::timeout(settings.timeout, opening).await {
            Ok(result) => result,
            Err(_) => Err(ConnectionError::Timeout(settings.timeout)),
        }
    }

    async fn dial(settings: &Settings, endpoint: &Endpoint) -> Result<Connection, ConnectionError> {
        let socket = tcp(endpoint, &Liveness::of(settings)).await?;
        let socket: Box<dyn Stream> = match &settings.tls {
            None => Box::new(socket),
            Some(tls) => {
                let name = ServerName::try_from(endpoint.host.clone())
                    .map_err(|_| ConnectionError::Name(endpoint.host.clone()))?;
                Box::new(
                    TlsConnector::from(tls.clone())
                        .connect(name, socket)
                        .await?,
                )
            }
        };
        Ok(Connection {
            socket,
            input: BytesMut::with_capacity(16 << 10),
        })
    }

    /// One command for the login, the name, and what the node says about itself (redis.io/docs/latest/commands/hello).
    async fn hello(&mut self, login: &Login, name: &str) -> Result<BytesFrame, ConnectionError> {
        let user = login.username.as_deref().unwrap_or("default");
        let mut arguments = vec!["2"];
        let password = login.password.as_ref().map(Password::now);
        if let Some(password) = &password {
            arguments.extend(["AUTH", user, password]);
        }
        arguments.extend(["SETNAME", name]);
        match self.ask("HELLO", &arguments).await {
            // Redis 6.0 brought it.
            Err(ConnectionError::Refused { reason, .. }) if reason.contains("unknown command") => {
                Err(ConnectionError::Version("5 or older".to_owned()))
            }
            answered => answered,
        }
    }

    /// One command and its answer.
    pub(super) async fn ask(
        &mut self,
        command: &'static str,
        arguments: &[&str],
    ) -> Result<BytesFrame, ConnectionError> {
        let arguments: Vec<&[u8]> = arguments.iter().map(|text| text.as_bytes()).collect();
        self.socket
            .write_all(&wire::command(command, &arguments))
            .await?;
        self.socket.flush().await?;
        match self.frame().await? {
            BytesFrame::Error(reason) => Err(ConnectionError::Refused {
                command,
                reason: reason.to_string(),
            }),
            answer => Ok(answer),
        }
    }

    /// The policy by which this Redis deletes keys when it is full. None: it does not, or does not say. Within `timeout`.
    pub(super) async fn evicts(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<String>, ConnectionError> {
        match tokio::time::timeout(timeout, self.ask("INFO", &["memory"])).await {
            Ok(Ok(memory)) => Ok(text(&memory).and_then(evicts).map(str::to_owned)),
            // What it takes to publish is found by probes.
            Ok(Err(ConnectionError::Refused { .. })) => Ok(None),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ConnectionError::Timeout(timeout)),
        }
    }

    /// The next frame that Redis sends.
    pub(super) async fn frame(&mut self) -> Result<BytesFrame, ConnectionError> {
        loop {
            if let Some(frame) = wire::next_frame(&mut self.input)? {
                return Ok(frame);
            }
            if self.socket.read_buf(&mut self.input).await? == 0 {
                return Err(ConnectionError::Closed);
            }
        }
    }

    /// Whether the other side has closed a connection on which nothing is under way. What is written into such a one
    /// may have arrived or not; what is not written has not.
    pub(super) fn is_closed(&mut self) -> bool {
        let read = self.socket.read_buf(&mut self.input).now_or_never();
        matches!(read, Some(Ok(0) | Err(_)))
    }
}

/// A connection that ends when Redis's machine acknowledges nothing any more, or knows nothing of it (`SO_KEEPALIVE` and
/// `TCP_USER_TIMEOUT`). A Redis that hangs is not meant: its machine acknowledges.
///
/// Where only Redis or a Sentinel speaks, a connection that it has forgotten would stay otherwise, as good as any.
async fn tcp(endpoint: &Endpoint, liveness: &Liveness) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    let keepalive = TcpKeepalive::new().with_time(liveness.ask_after);
    socket.set_tcp_keepalive(&keepalive.with_interval(liveness.ask_after))?;
    socket.set_tcp_user_timeout(Some(liveness.unacknowledged))?;
    Ok(stream)
}

fn check(hello: &BytesFrame, wanted: Wanted, mode: Mode) -> Result<(), ConnectionError> {
    let get = |key| field(hello, key).and_then(text).unwrap_or_default();
    let version = get("version");
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let version_number = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version_number < OLDEST {
        return Err(ConnectionError::Version(version.to_owned()));
    }
    let expected = match (wanted, mode) {
        (Wanted::Sentinel, _) => "sentinel",
        (_, Mode::Cluster) => "cluster",
        (_, Mode::Standalone | Mode::Sentinel) => "standalone",
    };
    if get("mode") != expected {
        return Err(ConnectionError::Mode {
            found: get("mode").to_owned(),
            wanted: mode,
        });
    }
    if wanted == Wanted::Master && get("role") != "master" {
        return Err(ConnectionError::Replica);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[tokio::test]
    async fn a_connection_has_what_tcp_ends_it_by() {
        let liveness = Liveness {
            ask_after: Duration::from_secs(3),
            unacknowledged: Duration::from_secs(6),
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint {
            host: "127.0.0.1".into(),
            port: listener.local_addr().unwrap().port(),
        };
        let stream = tcp(&endpoint, &liveness).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        let [time, interval] = [socket.tcp_keepalive_time(), socket.tcp_keepalive_interval()];
        let [time, interval] = [time, interval].map(|set| set.unwrap().as_secs());
        let longest = socket.tcp_user_timeout().unwrap();
        let longest = longest.map(|longest| longest.as_secs());
        assert_eq!((time, interval, longest), (3, 3, Some(6)));
    }

    #[test]
    fn what_a_node_says_about_itself() {
        let bulk = |text: &str| BytesFrame::BulkString(Bytes::copy_from_slice(text.as_bytes()));
        for (version, found, role, wanted, mode, expected) in [
            (
                "7.0.15",
                "standalone",
                "master",
                Wanted::Master,
                Mode::Standalone,
                "",
            ),
            (
                "7.2.4",
                "cluster",
                "replica",
                Wanted::Member,
                Mode::Cluster,
                "",
            ),
            ("8.0", "sentinel", "", Wanted::Sentinel, Mode::Sentinel, ""),
            (
                "6.2.14",
                "standalone",
                "master",
                Wanted::Master,
                Mode::Standalone,
                "is version 6.2.14, and 7.0 is the oldest that works; name a newer one",
            ),
            (
                "7.0.0",
                "cluster",
                "master",
                Wanted::Master,
                Mode::Standalone,
                "is of mode cluster, and broker.redis.mode says standalone; change one of them",
            ),
            (
                "7.0.0",
                "standalone",
                "master",
                Wanted::Sentinel,
                Mode::Sentinel,
                "is of mode standalone, and broker.redis.mode says sentinel; change one of them",
            ),
            (
                "7.0.0",
                "standalone",
                "replica",
                Wanted::Master,
                Mode::Sentinel,
                "is a replica, which takes no writes; another Redis is the master now, or should be named instead",
            ),
        ] {
            let hello = BytesFrame::Array(
                ["version", version, "mode", found, "role", role]
                    .map(bulk)
                    .to_vec(),
            );
            let said =
                check(&hello, wanted, mode).map_or_else(|e| e.to_string(), |()| String::new());
            assert_eq!(said, expected);
        }
    }
}
