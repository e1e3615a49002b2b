//! The configuration read again while the gateway runs: when its file has changed, or when the admin port is asked.
//!
//! ```text
//! file, environment, flags ─▶ Config ─▶ diff (gateway-config) ─▶ prepared: every file read, every rule kept
//!                                                                   │ nothing has changed until here
//!            shards ◀── command ── router ◀──┬── running ◀──────────┘
//!                     keys, caps, logs, … ◀──┘
//! ```
//! A configuration with a mistake changes nothing, and says what is wrong as `gateway check` does.

use std::sync::{Arc, Weak};
use std::time::Duration;

use gateway_config::{Change, Config, diff, take};
use ring::digest::{SHA256, digest};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use crate::broker::Chosen;
use crate::config::{self, ApiAccess, ConfigError, Origin, Settings};
use crate::http::api::idempotency;
use crate::keys::{Keyring, Other};
use crate::limits::Places;
use crate::router::Router;
use crate::running::{self, Running};

mod counters;
mod watch;

pub use counters::Counters;

/// What a reload came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Keys that have other values since this reload.
    pub taken: Vec<String>,
    /// Keys of which the file wants other values than this process has.
    pub needs_restart: Vec<String>,
    /// 1 at the start; one more with every reload that took something.
    pub generation: u64,
    /// Of all values that count now: the same on gateways that run with the same, whatever their names.
    pub hash: String,
}

/// What the gateway runs with.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    generation: u64,
    hash: String,
    needs_restart: Vec<String>,
    /// Why the configuration that is there is not what it runs with. None: it could be used when it was last read.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    /// How many keys of the HTTP API it takes: a number tells which of several nodes has not read them again, and not what
    /// they are.
    api_keys: usize,
    /// Tells its password at Redis from the one before. None: it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    redis_password: Option<String>,
    config: Config,
}

/// Whoever has settings that may change.
pub struct Parts {
    pub running: running::Shared,
    pub router: Router<Chosen>,
    pub places: Places,
    pub keyring: Keyring,
    pub answers: Arc<idempotency::Keys>,
    /// The clients' listener, for what connections inherit from it. Whoever accepts from it closes it by dropping it.
    pub listener: Weak<TcpListener>,
    /// The number of shards and whether they echo, which stay.
    pub shards: (u16, bool),
}

/// Cloning shares it.
#[derive(Clone)]
pub struct Reloader {
    inner: Arc<Inner>,
}

struct Inner {
    /// None: the configuration is nowhere to be read again.
    origin: Option<Origin>,
    parts: Parts,
    counters: Counters,
    /// One reload at a time.
    state: Mutex<State>,
}

struct State {
    generation: u64,
    needs_restart: Vec<String>,
    /// What the last reload failed with; None: it did not.
    failure: Option<String>,
}

/// All of a configuration that could fail, done before anything is changed.
struct Ready {
    settings: Settings,
    change: Change,
    /// Another key server than before.
    other: Option<Other>,
}

impl Reloader {
    #[must_use]
    pub fn new(origin: Option<Origin>, parts: Parts, counters: Counters) -> Reloader {
        let state = State {
            generation: 1,
            needs_restart: Vec::new(),
            failure: None,
        };
        let hash = hash(&parts.running.load().config);
        counters.began(&hash);
        Reloader {
            inner: Arc::new(Inner {
                origin,
                parts,
                counters,
                state: Mutex::new(state),
            }),
        }
    }

    /// Reads the configuration again and takes what it can of it.
    pub async fn reload(&self) -> Result<Report, ConfigError> {
        let mut state = self.inner.state.lock().await;
        let done = match self.ready().await {
            Ok(ready) => self.inner.put_in_force(ready, &mut state).await,
            Err(error) => Err(error),
        };
        match &done {
            Ok(report) => {
                let failed = state.failure.take().is_some();
                self.inner.told(report, failed);
            }
            Err(error) => {
                self.inner.counters.failed();
                let failure = error.to_string();
                // It is tried again and again.
                if state.failure.as_ref() != Some(&failure) {
                    tracing::warn!("configuration not taken, the one from before stays: {failure}");
                }
                state.failure = Some(failure);
            }
        }
        done
    }

    /// Whether what is to be read is what it runs with; a mistake is not.
    async fn is_current(&self) -> bool {
        let inner = self.inner.clone();
        let current = tokio::task::spawn_blocking(move || {
            let running = inner.parts.running.load();
            let access = config::access(&running.config);
            // Reads what else is in files, as passwords.
            let settings = Settings::prepare(running.config.clone());
            inner.wanted().is_ok_and(|wanted| wanted == running.config)
                && access.is_ok_and(|access| access == running.access)
                && settings.is_ok_and(|settings| !inner.has_other_passwords(&settings))
        });
        current.await.unwrap_or(false)
    }

    /// What it runs with. Keys and passwords are in files, of which only the names are here.
    pub async fn shown(&self) -> Shown {
        let state = self.inner.state.lock().await;
        let running = self.inner.parts.running.load();
        let config = &running.config;
        Shown {
            generation: state.generation,
            hash: hash(config),
            needs_restart: state.needs_restart.clone(),
            refused: state.failure.clone(),
            api_keys: match &running.access {
                ApiAccess::Keys(keys) => keys.len(),
                ApiAccess::Loopback | ApiAccess::Off => 0,
            },
            redis_password: match self.inner.parts.router.broker() {
                Chosen::Redis(broker) => broker.password_print(),
                Chosen::Memory(_) => None,
            },
            config: config.shown(),
        }
    }

    /// Reads files, so beside the runtime's threads: a disk that hangs must not hang what runs there.
    async fn ready(&self) -> Result<Ready, ConfigError> {
        let inner = self.inner.clone();
        let ready = tokio::task::spawn_blocking(move || inner.ready()).await;
        let mut ready = ready.unwrap_or_else(|_| {
            Err(ConfigError::Setting {
                key: "",
                what: "reading the configuration failed inside the gateway".to_owned(),
            })
        })?;
        ready.ask_key_server().await?;
        Ok(ready)
    }
}

impl Ready {
    /// Another key server must answer before it counts: its keys replace those of the one before, and without any the
    /// node could let nobody in.
    async fn ask_key_server(&mut self) -> Result<(), ConfigError> {
        let changed = |keys: &[&str]| {
            let mut taken = self.change.taken.iter();
            taken.any(|key| keys.contains(&&**key))
        };
        let moved = changed(&["auth.jwksUrl", "auth.jwksCaFile"]);
        if !moved && !changed(&["auth.jwksRefreshSeconds", "auth.jwksTimeoutSeconds"]) {
            return Ok(());
        }
        let mut server = self.settings.tokens.sources.server.take();
        let keys = match &mut server {
            Some(server) if moved => {
                let asked = server.first().await;
                let keys = asked.map_err(|error| ConfigError::Setting {
                    key: "auth.jwksUrl",
                    what: format!("no keys from it: {error}"),
                })?;
                Some(keys)
            }
            _ => None,
        };
        self.other = Some(Other { server, keys });
        Ok(())
    }
}

impl Inner {
    fn wanted(&self) -> Result<Config, ConfigError> {
        match &self.origin {
            Some(origin) => config::load(&origin.sources, origin.environment.iter().cloned()),
            None => Ok(self.parts.running.load().config.clone()),
        }
    }

    fn ready(&self) -> Result<Ready, ConfigError> {
        let running = self.parts.running.load();
        let wanted = self.wanted()?;
        let mut change = diff(&running.config, &wanted);
        let taken = take(&running.config, &wanted).map_err(|p| config::mistakes("", &p))?;
        if taken != wanted {
            // What waits for a restart must not keep the gateway from starting then.
            check(Settings::prepare(wanted)?)?;
        }
        let settings = check(Settings::prepare(taken)?)?;
        // Files in the same place, with something else in them.
        let others = [
            ("api.keyFile", settings.api != running.access),
            (
                "broker.redis.passwordFile",
                self.has_other_passwords(&settings),
            ),
        ];
        for (key, _) in others.into_iter().filter(|(_, differs)| *differs) {
            if !change.taken.iter().any(|taken| taken == key) {
                change.taken.push(key.to_owned());
            }
        }
        change.taken.sort_unstable();
        Ok(Ready {
            settings,
            change,
            other: None,
        })
    }

    fn has_other_passwords(&self, settings: &Settings) -> bool {
        match (self.parts.router.broker(), &settings.redis) {
            (Chosen::Redis(broker), Some(redis)) => broker.has_other_passwords(redis),
            _ => false,
        }
    }

    async fn put_in_force(&self, ready: Ready, state: &mut State) -> Result<Report, ConfigError> {
        let Ready {
            settings,
            change,
            other,
        } = ready;
        let Settings {
            config,
            tokens,
            api,
            page,
            redis,
            ..
        } = settings;
        let parts = &self.parts;
        // The only one that can still fail, so it comes first.
        let keys = parts.keyring.take(tokens.sources.files, tokens.keys, other);
        keys.map_err(|error| ConfigError::Setting {
            key: "auth.keyFiles",
            what: error.to_string(),
        })?;
        if !change.taken.is_empty() {
            state.generation += 1;
            self.change_logs(&config);
            if change.taken.iter().any(|key| key.starts_with("auth.")) {
                config::warn(&config.auth);
            }
            let node = parts.running.load().rules.node.clone();
            let rules = running::rules(&config, tokens.policy, &parts.keyring, node);
            let engine = running::engine(&config, parts.shards, &parts.places);
            let running = Running::new(config.clone(), rules.clone(), api, page);
            // Who comes in first, so that nobody comes in under rules that those inside no longer have.
            parts.running.store(Arc::new(running));
            parts.set(&config);
            if let (Chosen::Redis(broker), Some(redis)) = (parts.router.broker(), &redis) {
                broker.take_passwords(redis);
            }
            parts.router.configure(engine, rules).await;
        }
        state.needs_restart.clone_from(&change.needs_restart);
        Ok(Report {
            taken: change.taken,
            needs_restart: change.needs_restart,
            generation: state.generation,
            hash: hash(&config),
        })
    }

    fn change_logs(&self, config: &Config) {
        let Some(origin) = &self.origin else { return };
        let changed = daemon::logs::parse_filter(&config.log.filter)
            .and_then(|filter| origin.logs.change(filter, config::log_format(config)));
        if let Err(error) = changed {
            tracing::error!("{error}");
        }
    }

    /// `failed`: the reload before did.
    fn told(&self, report: &Report, failed: bool) {
        let Report {
            taken,
            needs_restart,
            generation,
            hash,
        } = report;
        self.counters.taken(*generation, needs_restart.len(), hash);
        if taken.is_empty() && needs_restart.is_empty() && !failed {
            return tracing::debug!("configuration read again: nothing has changed");
        }
        let words = |keys: &[String]| match keys {
            [] => "nothing".to_owned(),
            keys => keys.join(", "),
        };
        tracing::info!(
            generation,
            hash,
            "configuration read again; taken: {}; needs a restart: {}",
            words(taken),
            words(needs_restart)
        );
    }
}

impl Parts {
    /// What is neither in `running` nor the shards'.
    fn set(&self, config: &Config) {
        let (limits, api) = (&config.limits, &config.api);
        self.places.set(limits);
        let window = Duration::from_secs(api.idempotency_seconds.into());
        self.answers.set(window, api.idempotency_bytes as usize);
        match self.router.broker() {
            Chosen::Memory(broker) => {
                broker.set_max_history_bytes(limits.max_history_bytes as usize);
            }
            Chosen::Redis(broker) => {
                broker.set_max_message_bytes(limits.max_message_bytes as usize);
            }
        }
        if let Some(listener) = self.listener.upgrade() {
            crate::app::notice_who_is_gone(&listener, config.heartbeat.ping_seconds);
        }
    }
}

/// What preparing does not look at.
fn check(settings: Settings) -> Result<Settings, ConfigError> {
    match daemon::logs::parse_filter(&settings.config.log.filter) {
        Ok(_) => Ok(settings),
        Err(error) => Err(ConfigError::Setting {
            key: "log.filter",
            what: error.to_string(),
        }),
    }
}

/// Twelve hexadecimal digits: 48 bits, which a Prometheus sample holds exactly.
fn hash(config: &Config) -> String {
    let mut config = config.clone();
    config.node.name.clear();
    let digest = digest(&SHA256, config.to_yaml().as_bytes());
    digest.as_ref()[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_tells_values_apart_and_not_names() {
        let of = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            hash(&config)
        };
        let default = of(|_| {});
        assert_eq!(default.len(), 12);
        assert_eq!(of(|config| config.node.name = "a".into()), default);
        assert_ne!(of(|config| config.limits.max_connections = 1), default);
    }
}
