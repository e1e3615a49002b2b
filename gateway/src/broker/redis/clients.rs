//! Commands whose order among each other does not matter, as reading logs: on fred, a client for each master of the
//! topology. The topology is ours, so that what is read comes from the same Redis that is published to and subscribed
//! at (decision 9).

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::ClientLike;
use fred::types::Builder;
use fred::types::config::{
    Config, ConnectionConfig, CredentialProvider, ReconnectPolicy, ServerConfig, TcpConfig,
    TlsConfig, TlsConnector, UnresponsiveConfig,
};
use socket2_of_fred::TcpKeepalive;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::connect::Liveness;
use super::discover::Map;
use super::topology::Endpoint;
use super::{Mode, Settings};

/// Commands that wait for one client. More are refused.
const CAPACITY: usize = 16_384;
/// Until a command that another node should have is tried there, and until a client that gave up connects again.
const RETRY: Duration = Duration::from_millis(50);
const RECONNECT: Duration = Duration::from_secs(1);

type Table = HashMap<Endpoint, Client>;

/// Cloning shares them. When the last clone is dropped they close their connections.
#[derive(Clone)]
pub(super) struct Clients {
    map: Map,
    table: watch::Receiver<Arc<Table>>,
    timeout: Duration,
}

impl Clients {
    pub(super) fn start(settings: Arc<Settings>, map: Map) -> Clients {
        let (publish, table) = watch::channel(Arc::default());
        let timeout = settings.timeout;
        tokio::spawn(follow(settings, map.clone(), publish));
        Clients {
            map,
            table,
            timeout,
        }
    }

    /// Asks the master that has the slot, and again where it has moved to, within the timeout. Only what was not carried
    /// out is asked again. The error is for the log.
    pub(super) async fn ask<T, F>(
        &self,
        slot: u16,
        mut command: impl FnMut(Client) -> F,
    ) -> Result<T, String>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let until = Instant::now() + self.timeout;
        let mut last = "Redis did not answer".to_owned();
        let asking = async {
            loop {
                let (endpoint, client) = self.at(slot).await?;
                let error = match command(client).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                };
                self.map.look_again(Some(&endpoint));
                let cause = format!("Redis at {endpoint}: {error}");
                if !is_elsewhere(&error) {
                    return Err(cause);
                }
                last = cause;
                sleep(RETRY).await;
            }
        };
        let answer = timeout_at(until, asking).await;
        answer.unwrap_or(Err(last))
    }

    /// What this master answered says that it is not the right one.
    pub(super) fn look_again(&self, endpoint: &Endpoint) {
        self.map.look_again(Some(endpoint));
    }

    /// The connection for what has this slot.
    pub(super) async fn at(&self, slot: u16) -> Result<(Endpoint, Client), String> {
        let mut table = self.table.clone();
        loop {
            let topology = self.map.now();
            let owner = topology.owner(slot).ok_or("no master is known for it")?;
            if let Some(client) = table.borrow_and_update().get(owner) {
                return Ok((owner.clone(), client.clone()));
            }
            // A master of this moment, whose client is about to be made.
            if table.changed().await.is_err() {
                return Err("the broker has ended".to_owned());
            }
        }
    }
}

/// Whether Redis did not carry it out, because another node has the slot or is the master now.
pub(super) fn is_elsewhere(error: &Error) -> bool {
    let word = error.details().split(' ').next();
    matches!(
        word,
        Some("MOVED" | "ASK" | "TRYAGAIN" | "READONLY" | "CLUSTERDOWN" | "MASTERDOWN")
    ) && !matches!(error.kind(), ErrorKind::IO | ErrorKind::Timeout)
}

/// One client for each master, until nobody holds the table.
async fn follow(settings: Arc<Settings>, mut map: Map, publish: watch::Sender<Arc<Table>>) {
    let mut open: HashMap<Endpoint, (Client, JoinHandle<()>)> = HashMap::new();
    loop {
        let topology = map.now();
        let masters = topology.masters();
        let gone: Vec<_> = open
            .extract_if(|endpoint, _| !masters.contains(endpoint))
            .collect();
        for endpoint in masters {
            open.entry(endpoint.clone()).or_insert_with(|| {
                let client = client(&settings, endpoint);
                let connecting = tokio::spawn(keep_connected(client.clone()));
                (client, connecting)
            });
        }
        let clients = open.iter();
        let table = clients.map(|(endpoint, (client, _))| (endpoint.clone(), client.clone()));
        publish.send_replace(Arc::new(table.collect()));
        gone.into_iter().for_each(|(_, line)| close(line));
        tokio::select! {
            () = map.changed() => {}
            () = publish.closed() => break,
        }
    }
    open.into_values().for_each(close);
}

fn close((client, connecting): (Client, JoinHandle<()>)) {
    connecting.abort();
    // Otherwise fred's own tasks live on, and keep a connection to Redis.
    tokio::spawn(async move { client.quit().await });
}

/// fred reconnects by its policy; some refusals (a wrong password) end it, and may be put right later.
async fn keep_connected(client: Client) {
    loop {
        if let Ok(Err(e)) = client.connect().await {
            tracing::debug!("connection to Redis ended: {e}");
        }
        sleep(RECONNECT).await;
    }
}

fn client(settings: &Settings, endpoint: &Endpoint) -> Client {
    let login = &settings.login;
    let config = Config {
        server: ServerConfig::new_centralized(&endpoint.host, endpoint.port),
        credential_provider: login
            .password
            .is_some()
            .then(|| Arc::new(login.clone()) as Arc<dyn CredentialProvider>),
        database: (settings.database != 0 && settings.mode != Mode::Cluster)
            .then_some(settings.database),
        tls: settings
            .tls
            .clone()
            .map(|tls| TlsConfig::from(TlsConnector::Rustls(tls.into()))),
        // A Redis that is not there yet is tried again, like one that went away.
        fail_fast: false,
        ..Config::default()
    };
    let Liveness {
        ask_after,
        unacknowledged,
    } = Liveness::of(settings);
    let keepalive = TcpKeepalive::new().with_time(ask_after);
    let connection = ConnectionConfig {
        connection_timeout: settings.timeout,
        internal_command_timeout: settings.timeout,
        max_command_buffer_len: CAPACITY,
        // Whoever asks decides whether to ask again.
        max_command_attempts: 1,
        reconnect_on_auth_error: true,
        // As our own connections.
        tcp: TcpConfig {
            nodelay: Some(true),
            keepalive: Some(keepalive.with_interval(ask_after)),
            user_timeout: Some(unacknowledged),
            ..TcpConfig::default()
        },
        unresponsive: UnresponsiveConfig {
            max_timeout: Some(settings.timeout),
            interval: Duration::from_secs(1),
        },
        ..ConnectionConfig::default()
    };
    let policy = ReconnectPolicy::Constant {
        attempts: 0,
        max_attempts: 0,
        delay: 250,
        jitter: 250,
    };
    Builder::from_config(config)
        .set_connection_config(connection)
        .set_policy(policy)
        .build()
        .expect("a centralized server with these options is a valid configuration")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_carried_out_is_asked_again() {
        for (kind, details, expected) in [
            (ErrorKind::Cluster, "MOVED 12 10.0.0.1:6379", true),
            (ErrorKind::Cluster, "ASK 12 10.0.0.1:6379", true),
            (ErrorKind::Unknown, "TRYAGAIN Multiple keys request", true),
            (ErrorKind::Unknown, "READONLY You can't write", true),
            (ErrorKind::Unknown, "OOM command not allowed", false),
            (ErrorKind::Unknown, "NOPERM this user has no", false),
            (ErrorKind::IO, "Connection reset by peer", false),
            (ErrorKind::Timeout, "Request timed out.", false),
        ] {
            assert_eq!(
                is_elsewhere(&Error::new(kind, details)),
                expected,
                "{details}"
            );
        }
    }
}
