//! The settings of the moment, as a value that a reload replaces as a whole: who has begun with one goes on with it.
//! The shards have theirs, which come to them by a command.

use std::sync::Arc;

use arc_swap::ArcSwap;
use gateway_config::{BrokerKind, Config, Network};

use crate::auth::{Policy, Verifier};
use crate::config::ApiAccess;
use crate::engine;
use crate::keys::Keyring;
use crate::limits::Places;
use crate::limits::bucket::Pace;
use crate::policy::Policies;
use crate::presence::{Covers, Scope};
use crate::session::Rules;

/// Where everybody finds the settings of the moment. Readers wait for nobody.
pub type Shared = Arc<ArcSwap<Running>>;

/// What this gateway runs with.
pub struct Running {
    pub config: Config,
    pub rules: Arc<Rules>,
    pub access: ApiAccess,
    /// Whether `/` serves the page.
    pub page: bool,
    pub trusted_proxies: Vec<Network>,
}

impl Running {
    #[must_use]
    pub fn new(config: Config, rules: Arc<Rules>, access: ApiAccess, page: bool) -> Running {
        let networks = config.listen.trusted_proxies.iter();
        Running {
            // The rules of gateway-config have seen them.
            trusted_proxies: networks.filter_map(|text| Network::parse(text)).collect(),
            config,
            rules,
            access,
            page,
        }
    }
}

/// What sessions are told.
#[must_use]
pub fn rules(config: &Config, policy: Policy, keys: &Keyring, node: Arc<str>) -> Arc<Rules> {
    let limits = &config.limits;
    Arc::new(Rules {
        verifier: Verifier::new(policy, keys.current()),
        keys: Arc::new(keys.clone()),
        node,
        max_channels: limits.max_channels_per_connection as usize,
        auth_deadline_ms: u64::from(limits.handshake_timeout_seconds) * 1_000,
        ping_seconds: config.heartbeat.ping_seconds,
        message_pace: Pace::new(limits.messages_per_second, limits.message_burst),
        policies: Policies::new(&config.channels),
        max_history_bytes: limits.max_outbox_bytes as usize / 2,
        presence: Scope {
            covers: Covers::Cluster,
            members: limits.max_presence_members as usize,
            bytes: limits.max_outbox_bytes as usize / 2,
        },
        registers: config.broker.kind == BrokerKind::Redis,
    })
}

/// What shards are told; their number and `echo` count at the start only.
#[must_use]
pub fn engine(config: &Config, (shards, echo): (u16, bool), places: &Places) -> engine::Settings {
    engine::Settings {
        shards,
        echo,
        min_deflate_bytes: config.compression.min_message_bytes as usize,
        max_message_bytes: config.limits.max_message_bytes,
        max_outbox_bytes: config.limits.max_outbox_bytes as usize,
        ping_ms: u64::from(config.heartbeat.ping_seconds) * 1_000,
        idle_ms: u64::from(config.heartbeat.idle_seconds) * 1_000,
        users: Some(places.users.clone()),
    }
}
