//! The one composition root: settings in, a gateway that serves and ends politely out.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use daemon::admin::{self, Admin, Gates};
use daemon::signals::Shutdown;
use futures::FutureExt;
use gateway_config::{BrokerKind, Config};
use prometheus::{IntCounter, Registry};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::auth::keys::TooManyKeys;
use crate::auth::signature::Key;
use crate::broker::memory::Memory;
use crate::broker::redis::{Counters, Redis};
use crate::broker::{Broker, Chosen, Events, HistoryError, PublishError};
use crate::capacity;
use crate::config::{ApiAccess, Settings};
use crate::drain::Drain;
use crate::engine;
use crate::engine::census::{Page, Query};
use crate::health;
use crate::history;
use crate::http::accept::Acceptor;
use crate::http::answers::Answers;
use crate::http::api::idempotency::Keys;
use crate::http::door::Door;
use crate::http::refusals::Refusals;
use crate::http::{self, Front, Handshaken};
use crate::keys::{self, Keyring};
use crate::limits::Places;
use crate::memory::{self, Pressure};
use crate::message::{Message, Position};
use crate::message_path::MessagePath;
use crate::metrics::Metrics;
use crate::name::ChannelName;
use crate::protocol::native::Refusal;
use crate::registry::fact::Round;
use crate::registry::{self, Registry as Sessions};
use crate::reload::{self, Reloader};
use crate::router::{self, Cluster, Router};
use crate::running::{self, Running};
use crate::self_test::{Rounds, SelfTest};
use crate::sse::Opening;
use crate::sse::outbox::Stream;
use crate::tls::{self, Tls};

/// Connections that wait to be accepted. A storm of reconnects after a failover must not see refusals.
const BACKLOG: u32 = 4_096;

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{key}: listen on {address}: {cause}")]
    Listen {
        key: &'static str,
        address: SocketAddr,
        cause: io::Error,
    },
    #[error("start of the message path's thread: {0}")]
    MessagePath(io::Error),
    #[error("register metrics")]
    Metrics(#[from] prometheus::Error),
    #[error("start of token verification: {0}")]
    Keys(#[from] TooManyKeys),
    #[error(transparent)]
    Tls(#[from] tls::StartError),
    #[error(transparent)]
    Router(#[from] router::StartError),
}

/// A gateway that has its sockets and has not begun to serve.
pub struct App {
    acceptor: Acceptor,
    admin_listener: TcpListener,
    admin: axum::Router,
    router: Router<Chosen>,
    drain: Drain<Chosen>,
    self_test: Option<SelfTest>,
    shutdown: Shutdown,
    running: running::Shared,
    reloader: Reloader,
    message_path: MessagePath,
}

impl App {
    /// Binds both addresses and starts the node behind them. A broker that is not there yet is no error:
    /// the gateway is not ready until it is.
    pub async fn build(mut settings: Settings, shutdown: Shutdown) -> Result<App, StartError> {
        let listener = Arc::new(bind("listen.clients", settings.clients)?);
        notice_who_is_gone(&listener, settings.config.heartbeat.ping_seconds);
        let admin_listener = bind("listen.admin", settings.admin)?;
        let registry = Registry::new();
        let metrics = Arc::new(Metrics::register(&registry)?);
        let (origin, tls) = (settings.origin.take(), settings.tls.take());
        let message_path = MessagePath::start().map_err(StartError::MessagePath)?;
        let behind = Arc::downgrade(&listener);
        let parts = start_node(settings, behind, (&registry, &metrics), &message_path)?;
        let tls = tls.map(|tls| Tls::start(tls, &registry)).transpose()?;
        let draining = Arc::new(AtomicBool::new(false));
        let (running, router) = (parts.running.clone(), parts.router.clone());
        let (places, keys) = (parts.places.clone(), parts.answers.clone());
        announce(&running.load(), [&listener, &admin_listener]);

        let answers = Answers::register(&registry)?;
        let self_test = SelfTest::register(&registry, running.load().rules.node.clone())?;
        let pressure = guard_memory(&router, &registry, running.clone())?;
        let refusals = Refusals::register(&registry)?;
        let drain = Drain::new(router.clone(), draining.clone());
        capacity::register(&registry, &running, &drain)?;
        // An echo does not understand it.
        let (secret, self_test) = (self_test.secret(), (!parts.shards.1).then_some(self_test));
        let gates = (pressure.clone(), drain.clone(), self_test.clone());
        let ready = health::ready(router.clone(), running.clone(), gates);
        let reloads = reload::Counters::register(&registry)?;
        let probes = probes(&router, ready, parts.keyring.clone(), registry);
        let reloader = Reloader::new(origin, parts, reloads);
        let admin = http::admin::Admin {
            drain: drain.clone(),
            running: running.clone(),
            reloader: reloader.clone(),
            rounds: Rounds::at(&listener, self_test.clone(), tls.clone()),
        };
        let admin = admin::router(probes).merge(http::admin::routes(admin));
        let front = Front {
            node: Behind(router.clone()),
            running: running.clone(),
            door: Door::new(places.clone(), pressure, metrics.clone(), router.registry()),
            secret,
            draining,
            keys,
            answers,
            present: present(&router),
            users: users(&router),
            refusals: refusals.clone(),
            began: std::time::Instant::now(),
        };
        let acceptor = Acceptor {
            listener,
            tls,
            routes: http::routes(front),
            handshakes: places.handshakes,
            metrics,
            refusals,
            running: running.clone(),
            shutdown: Shutdown::default(),
        };
        Ok(App {
            acceptor,
            admin_listener,
            admin,
            router,
            drain,
            self_test,
            shutdown,
            running,
            reloader,
            message_path,
        })
    }

    /// Serves until the shutdown begins, then sends everybody away and returns: at the drain's deadline
    /// at the latest.
    pub async fn run(self) {
        let App {
            acceptor,
            admin_listener,
            admin,
            router,
            drain,
            self_test,
            shutdown,
            running,
            reloader,
            message_path,
        } = self;
        let ended = Shutdown::default();
        let admin = tokio::spawn(admin::serve(admin_listener, admin, ended.clone()));
        let watching = tokio::spawn(reloader.watch());
        let (address, tls) = (acceptor.listener.local_addr(), acceptor.tls.clone());
        let closed = acceptor.shutdown.clone();
        let accepting = tokio::spawn(acceptor.run());
        let why = match (self_test, address) {
            (Some(test), Ok(address)) => tokio::select! {
                why = shutdown.begun() => why,
                () = test.run(address, tls) => unreachable!("it tests for ever"),
            },
            // Without an address nobody could have connected either; the gate stays closed and says so.
            _ => shutdown.begun().await,
        };
        tracing::info!(connections = router.connections(), "ending: {why}");
        watching.abort();
        let ending = running.load().config.drain.clone();
        let end = Instant::now() + Duration::from_secs(ending.deadline_seconds.into());
        drain.announce(end).await;
        closed.begin(why);
        let (requests, ()) = tokio::join!(
            tokio::time::timeout_at(end, accepting),
            drain.end(ending.connections_per_second, end),
        );
        if requests.is_err() {
            tracing::warn!("HTTP requests were still under way at the deadline");
        }
        if let Some(sessions) = router.registry() {
            sessions.end().await;
        }
        ended.begin("drained");
        match admin.await {
            Ok(Ok(())) => tracing::info!("ended"),
            Ok(Err(e)) => tracing::warn!("admin port: {e}"),
            Err(e) => tracing::error!("admin port ended badly: {e}"),
        }
        drop(message_path);
    }
}

/// All behind the ports that a reload can change. Here it is decided what runs on the message path's thread: the tasks of
/// the broker, of the hub and of each shard's events. All other tasks, event streams among them, stay with the caller's
/// runtime.
fn start_node(
    settings: Settings,
    listener: Weak<TcpListener>,
    (registry, metrics): (&Registry, &Arc<Metrics>),
    message_path: &MessagePath,
) -> Result<reload::Parts, StartError> {
    let (config, shards) = (settings.config, (settings.shards, settings.echo));
    let limits = &config.limits;
    let (broker, events) = {
        let _spawns_there = message_path.enter();
        start_broker(settings.redis, limits.max_history_bytes, registry)?
    };
    let sessions = start_registry(
        &broker,
        (&config, settings.shards),
        &settings.node,
        registry,
    )?;
    let keyring = start_keys(settings.tokens.sources, settings.tokens.keys, registry)?;
    let rules = running::rules(&config, settings.tokens.policy, &keyring, settings.node);
    let places = Places::new(limits);
    let cluster = Cluster {
        broker: Arc::new(broker),
        events,
        registry: sessions,
    };
    let engine = running::engine(&config, shards, &places);
    let streams = Handle::current();
    let router = {
        let _spawns_there = message_path.enter();
        Router::start(cluster, &engine, &rules, metrics.clone(), &streams)?
    };
    let answers = Arc::new(keys(&config.api, registry)?);
    let running = Running::new(config, rules, settings.api, settings.page);
    Ok(reload::Parts {
        running: Arc::new(ArcSwap::from_pointee(running)),
        router,
        places,
        keyring,
        answers,
        listener,
        shards,
    })
}

fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let open = || {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }?;
        // A restart must not wait for the connections of the process before.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|cause| StartError::Listen {
        key,
        address,
        cause,
    })
}

/// Who takes no bytes for two pings is gone. The threads find that out by themselves; an event stream has no pongs, and
/// would hold the place of a client that lost its network until TCP gives up, a quarter of an hour later. Connections
/// inherit it from their listener (tcp(7), `TCP_USER_TIMEOUT`).
pub(crate) fn notice_who_is_gone(listener: &TcpListener, ping_seconds: u32) {
    let patience = Duration::from_secs(u64::from(ping_seconds) * 2);
    let socket = socket2::SockRef::from(listener);
    if let Err(e) = socket.set_tcp_user_timeout(Some(patience)) {
        tracing::warn!("event streams of clients that are gone are found late: {e}");
    }
}

fn start_broker(
    redis: Option<crate::broker::redis::Settings>,
    max_history_bytes: u32,
    registry: &Registry,
) -> Result<(Chosen, Events), prometheus::Error> {
    Ok(match redis {
        None => {
            let (broker, events) = Memory::start(max_history_bytes as usize);
            (Chosen::Memory(broker), events)
        }
        Some(settings) => {
            let (broker, events) = Redis::start(settings, Counters::register(registry)?);
            (Chosen::Redis(broker), events)
        }
    })
}

/// Nothing of it where there is one node.
fn start_registry(
    broker: &Chosen,
    (config, shards): (&Config, u16),
    node: &Arc<str>,
    metrics: &Registry,
) -> Result<Option<(Sessions, mpsc::Receiver<Round>)>, prometheus::Error> {
    let Chosen::Redis(redis) = broker else {
        return Ok(None);
    };
    let settings = registry::Settings {
        node: node.clone(),
        lease: Duration::from_secs(config.broker.redis.lease_seconds.into()),
        max_pending: config.broker.redis.max_pending_facts as usize,
        // And the one of event streams.
        shards: usize::from(shards) + 1,
    };
    let counters = registry::Counters::register(metrics)?;
    Ok(Some(Sessions::start(redis.store(), settings, counters)))
}

fn probes(router: &Router<Chosen>, ready: Gates, keyring: Keyring, metrics: Registry) -> Admin {
    Admin {
        live: health::live(router.clone()),
        ready: ready.with("keys", move || keyring.ready()),
        metrics,
    }
}

fn present(router: &Router<Chosen>) -> http::Present {
    let router = router.clone();
    Arc::new(move |channel: ChannelName| router.members(channel).boxed())
}

fn users(router: &Router<Chosen>) -> http::Users {
    let router = router.clone();
    Arc::new(move |user: String| {
        let router = router.clone();
        async move { router.connections_of(&user).await }.boxed()
    })
}

/// Ends with the runtime.
fn guard_memory(
    router: &Router<Chosen>,
    registry: &Registry,
    running: running::Shared,
) -> Result<Pressure, prometheus::Error> {
    let pressure = Pressure::default();
    let gauges = memory::Gauges::register(registry)?;
    tokio::spawn(memory::watch(
        router.clone(),
        pressure.clone(),
        gauges,
        move || running.load().config.limits.max_memory_bytes,
    ));
    Ok(pressure)
}

fn keys(api: &gateway_config::Api, registry: &Registry) -> Result<Keys, prometheus::Error> {
    let evicted = IntCounter::new(
        "pushcluster_idempotency_evictions_total",
        "Answers to requests with an Idempotency-Key that had to make room before their time.",
    )?;
    registry.register(Box::new(evicted.clone()))?;
    Ok(Keys::new(
        Duration::from_secs(api.idempotency_seconds.into()),
        api.idempotency_bytes as usize,
        evicted,
    ))
}

fn start_keys(
    sources: keys::Sources,
    first: Vec<Key>,
    registry: &Registry,
) -> Result<Keyring, StartError> {
    let counters = keys::counters::Counters::register(registry)?;
    Ok(Keyring::start(sources, first, counters)?)
}

/// What a person who has just started it wants to know.
fn announce(running: &Running, [clients, admin]: [&TcpListener; 2]) {
    let Running { config, rules, .. } = running;
    crate::config::warn(&config.auth);
    let shown = |listener: &TcpListener| {
        listener
            .local_addr()
            .map_or_else(|e| e.to_string(), |address| address.to_string())
    };
    let (clients, admin) = (shown(clients), shown(admin));
    let s = if config.listen.tls.certificate_file.is_empty() {
        ""
    } else {
        "s"
    };
    tracing::info!(
        version = daemon::version(),
        node = &*rules.node,
        clients,
        admin,
        broker = broker_in_words(config),
        "serving"
    );
    if running.page {
        tracing::info!("page       http{s}://{clients}/");
    }
    tracing::info!("WebSocket  ws{s}://{clients}/ws");
    match &running.access {
        ApiAccess::Keys(_) => {
            tracing::info!("API        http{s}://{clients}/api/publish (with a key)");
        }
        ApiAccess::Loopback => {
            tracing::info!("API        http{s}://{clients}/api/publish (this machine)");
        }
        ApiAccess::Off => tracing::warn!("API        off: set api.keyFile to publish over HTTP"),
    }
    tracing::info!("metrics    http://{admin}/metrics, also /ready and /live");
}

fn broker_in_words(config: &Config) -> String {
    match config.broker.kind {
        BrokerKind::Memory => "memory: this process alone".to_owned(),
        BrokerKind::Redis => config.broker.redis.url.clone(),
    }
}

/// The node as HTTP sees it.
#[derive(Clone)]
struct Behind(Router<Chosen>);

impl http::Node for Behind {
    fn publish(
        &self,
        channel: ChannelName,
        message: Message,
    ) -> impl Future<Output = Result<Option<Position>, PublishError>> + Send + 'static {
        self.0.publish(channel, message)
    }

    fn adopt(&self, connection: Handshaken) -> impl Future<Output = ()> + Send + 'static {
        let router = self.0.clone();
        async move {
            let Handshaken { arrival, place } = connection;
            if let Err(e) = router.adopt(arrival, place).await {
                tracing::debug!("connection dropped: {e}");
            }
        }
    }

    fn open_stream(
        &self,
        opening: Opening,
    ) -> impl Future<Output = Result<Result<Stream, Refusal>, engine::ShardEnded>> + Send + 'static
    {
        let router = self.0.clone();
        async move { router.open_stream(opening).await }
    }

    fn channels(
        &self,
        query: Query,
    ) -> impl Future<Output = Result<Page, engine::ShardEnded>> + Send + 'static {
        let router = self.0.clone();
        async move { router.channels(query).await }
    }

    fn history(
        &self,
        channel: ChannelName,
        range: history::Range,
    ) -> impl Future<Output = Result<history::Page, HistoryError>> + Send + 'static {
        self.0.broker().history(channel, range)
    }

    fn connections(&self) -> u64 {
        self.0.connections()
    }
}
