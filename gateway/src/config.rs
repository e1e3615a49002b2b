//! From file, environment and flags to settings that are ready to use.
//!
//! [`Sources`] is what was typed, [`gateway_config::Config`] what it says, [`Settings`] what the program
//! runs with: files are read and addresses resolved, so nothing after this step can be misconfigured.

use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gateway_config::{
    BrokerKind, Config, LogFormat, Override, Problem, overrides_from_environment, parse,
};

use crate::broker::redis;
use crate::tls;

mod redis_section;
mod tokens;
pub use tokens::{Tokens, warn};

/// What a person typed.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Sources {
    /// The configuration file; without one, the defaults
    #[arg(long, value_name = "FILE", env = "PUSHCLUSTER_CONFIG")]
    pub config: Option<PathBuf>,
    /// Address for clients; short for --set listen.clients=ADDRESS
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Address for metrics and probes; short for --set listen.admin=ADDRESS
    #[arg(long, value_name = "HOST:PORT")]
    pub admin: Option<String>,
    /// One setting; wins over the environment and the file
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// Why there is no configuration. Every line of the message says where and what.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("read the configuration {file}: {cause}")]
    Read { file: String, cause: io::Error },
    #[error("{}", .0.iter().map(|mistake| &*mistake.line).collect::<Vec<_>>().join("\n"))]
    Mistakes(Vec<Mistake>),
    #[error("{key}: {what}")]
    Setting { key: &'static str, what: String },
}

/// One thing that is wrong with what was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Empty: no key in particular.
    pub key: String,
    /// Where it is, which key, and what is wrong.
    pub line: String,
}

impl ConfigError {
    /// The first key that is wrong, if it is one.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        let key = match self {
            ConfigError::Read { .. } => return None,
            ConfigError::Mistakes(mistakes) => &mistakes.first()?.key,
            ConfigError::Setting { key, .. } => *key,
        };
        Some(key).filter(|key| !key.is_empty())
    }
}

/// Reads what `sources` name, below `environment` and the flags.
pub fn load(
    sources: &Sources,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let (mut overrides, mut problems) = overrides_from_environment(environment);
    for (flag, path, value) in [
        ("--listen", "listen.clients", &sources.listen),
        ("--admin", "listen.admin", &sources.admin),
    ] {
        if let Some(value) = value {
            let source = format!("flag {flag}");
            overrides.push(Override {
                path: path.into(),
                value: value.clone(),
                source,
            });
        }
    }
    for set in &sources.set {
        let source = format!("flag --set {set}");
        match set.split_once('=') {
            Some((path, value)) => {
                let path = path.trim().to_owned();
                // Only the key: a value may be what should not stand in a log.
                let source = format!("flag --set {path}");
                overrides.push(Override {
                    path,
                    value: value.to_owned(),
                    source,
                });
            }
            None => problems.push(Problem {
                path: String::new(),
                place: gateway_config::Place::Override(source),
                message: "is not KEY=VALUE".to_owned(),
            }),
        }
    }
    let (file, text) = match &sources.config {
        Some(file) => (file.display().to_string(), read(file)?),
        None => (String::new(), String::new()),
    };
    match parse(&text, &overrides) {
        Ok(config) if problems.is_empty() => Ok(config),
        Ok(_) => Err(mistakes(&file, &problems)),
        Err(mut found) => {
            found.append(&mut problems);
            Err(mistakes(&file, &found))
        }
    }
}

/// One file by itself, for `gateway check`.
pub fn check(file: &Path) -> Result<Config, ConfigError> {
    parse(&read(file)?, &[]).map_err(|problems| mistakes(&file.display().to_string(), &problems))
}

fn read(file: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(file).map_err(|cause| ConfigError::Read {
        file: file.display().to_string(),
        cause,
    })
}

pub(crate) fn mistakes(file: &str, problems: &[Problem]) -> ConfigError {
    let mistake = |problem: &Problem| Mistake {
        key: problem.path.clone(),
        line: problem.in_file(file).to_string(),
    };
    ConfigError::Mistakes(problems.iter().map(mistake).collect())
}

/// How log lines are written.
#[must_use]
pub fn log_format(config: &Config) -> daemon::logs::Format {
    match config.log.format {
        LogFormat::Text => daemon::logs::Format::Text,
        LogFormat::Json => daemon::logs::Format::Json,
    }
}

/// Who may use the HTTP API.
#[derive(Clone, PartialEq, Eq)]
pub enum ApiAccess {
    /// Whoever knows one of these.
    Keys(Vec<Vec<u8>>),
    /// Everyone on this machine: there are no keys, and the gateway listens on loopback only.
    Loopback,
    /// Nobody: there are no keys, and strangers could reach it.
    Off,
}

/// What the program runs with.
pub struct Settings {
    pub config: Config,
    pub clients: SocketAddr,
    pub admin: SocketAddr,
    pub tokens: Tokens,
    pub api: ApiAccess,
    /// None: the memory broker.
    pub redis: Option<redis::Settings>,
    pub node: Arc<str>,
    /// Whether `/` serves the page.
    pub page: bool,
    pub shards: u16,
    /// [`crate::engine::Settings::echo`]; never set from a configuration.
    pub echo: bool,
    /// None: clients come without TLS, or something before this gateway ends it.
    pub tls: Option<tls::Prepared>,
    /// Where to read the configuration again. None: it stays as it is.
    pub origin: Option<Origin>,
}

/// Where a configuration comes from, and what else it governs.
pub struct Origin {
    pub sources: Sources,
    /// As it was at the start: nobody changes it later.
    pub environment: Vec<(String, String)>,
    pub logs: daemon::logs::Logs,
}

impl Settings {
    /// Reads the files that `config` names and resolves its addresses.
    pub fn prepare(config: Config) -> Result<Settings, ConfigError> {
        let clients = resolve("listen.clients", &config.listen.clients)?;
        let admin = resolve("listen.admin", &config.listen.admin)?;
        let tokens = tokens::prepare(&config.auth)?;
        let api = access(&config)?;
        let memory = config.broker.kind == BrokerKind::Memory;
        let redis = if memory {
            None
        } else {
            Some(redis_section::prepare(
                &config.broker.redis,
                config.limits.max_message_bytes,
            )?)
        };
        let node = match config.node.name.as_str() {
            "" => format!("node-{:08x}", rand::random::<u32>()),
            name => name.to_owned(),
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shards = match config.engine.shards {
            0 => u16::try_from(cores).unwrap_or(u16::MAX),
            // The rules of gateway-config keep it far below.
            wanted => u16::try_from(wanted).unwrap_or(u16::MAX),
        };
        Ok(Settings {
            clients,
            admin,
            tokens,
            api,
            redis,
            node: node.into(),
            page: config.listen.page.unwrap_or(memory),
            shards,
            echo: false,
            tls: prepare_tls(&config.listen.tls)?,
            origin: None,
            config,
        })
    }
}

/// Reads the keys of the API.
pub(crate) fn access(config: &Config) -> Result<ApiAccess, ConfigError> {
    Ok(match config.api.key_file.as_str() {
        "" if resolve("listen.clients", &config.listen.clients)?
            .ip()
            .is_loopback() =>
        {
            ApiAccess::Loopback
        }
        "" => ApiAccess::Off,
        file => ApiAccess::Keys(api_keys(file)?),
    })
}

fn prepare_tls(section: &gateway_config::Tls) -> Result<Option<tls::Prepared>, ConfigError> {
    let prepared = tls::Files::of(section).map(tls::Files::prepare).transpose();
    prepared.map_err(|error| ConfigError::Setting {
        key: "listen.tls",
        what: error.to_string(),
    })
}

fn resolve(key: &'static str, address: &str) -> Result<SocketAddr, ConfigError> {
    let found = address.to_socket_addrs().and_then(|mut found| {
        found
            .next()
            .ok_or_else(|| io::Error::other("the name has no address"))
    });
    found.map_err(|e| ConfigError::Setting {
        key,
        what: format!("resolve {address}: {e}"),
    })
}

/// The bytes of a file, without the line end that editors and `echo` add.
fn secret(key: &'static str, file: &str) -> Result<Vec<u8>, ConfigError> {
    let mut bytes = fs::read(file).map_err(|e| ConfigError::Setting {
        key,
        what: format!("read {file}: {e}"),
    })?;
    for end in [b'\n', b'\r'] {
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
    }
    if bytes.is_empty() {
        return Err(ConfigError::Setting {
            key,
            what: format!("{file} is empty"),
        });
    }
    Ok(bytes)
}

/// Shortest API key, in bytes: 16 random hexadecimal digits are already 64 bits.
const MIN_API_KEY_BYTES: usize = 16;

fn api_keys(file: &str) -> Result<Vec<Vec<u8>>, ConfigError> {
    let key = "api.keyFile";
    let bytes = secret(key, file)?;
    let keys: Vec<Vec<u8>> = bytes
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && line[0] != b'#')
        .map(<[u8]>::to_vec)
        .collect();
    if keys.is_empty() {
        return Err(ConfigError::Setting {
            key,
            what: format!("{file} holds no key"),
        });
    }
    if let Some(short) = keys.iter().position(|line| line.len() < MIN_API_KEY_BYTES) {
        let number = short + 1;
        let what = format!("key {number} in {file} has fewer than {MIN_API_KEY_BYTES} bytes");
        return Err(ConfigError::Setting { key, what });
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, text).unwrap();
        file
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_that_over_the_file() {
        let file = file("limits: {maxConnections: 1, maxHandshakes: 1, maxMessageBytes: 1}\n");
        let sources = Sources {
            config: Some(file.path().into()),
            listen: Some("127.0.0.1:1".into()),
            set: vec!["limits.maxConnections=3".into()],
            ..Sources::default()
        };
        let environment = [
            ("PUSHCLUSTER__LIMITS__MAX_CONNECTIONS", "2"),
            ("PUSHCLUSTER__LIMITS__MAX_HANDSHAKES", "2"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = load(&sources, environment).unwrap();
        let limits = config.limits;
        assert_eq!(
            (
                limits.max_connections,
                limits.max_handshakes,
                limits.max_message_bytes
            ),
            (3, 2, 1)
        );
        assert_eq!(config.listen.clients, "127.0.0.1:1");
    }

    #[test]
    fn every_mistake_of_every_source_is_a_line() {
        let file = file("limits: {maxConnections: 0}\n");
        let sources = Sources {
            config: Some(file.path().into()),
            admin: Some("nowhere".into()),
            set: vec!["drain".into()],
            ..Sources::default()
        };
        let environment = [("PUSHCLUSTER__LOG__FORMAT".to_owned(), "xml".to_owned())];
        let name = file.path().display();
        assert_eq!(
            load(&sources, environment).unwrap_err().to_string(),
            format!(
                "{name}:1:26: limits.maxConnections: must be at least 1\n\
                 environment PUSHCLUSTER__LOG__FORMAT: log.format: expected text or json, found xml\n\
                 flag --admin: listen.admin: \"nowhere\" is not host:port, as in 0.0.0.0:8080\n\
                 flag --set drain: is not KEY=VALUE"
            )
        );
    }

    #[test]
    fn files_that_a_setting_names() {
        let long = file("0123456789abcdef0123456789abcdef\r\n");
        let short = file("short\n");
        let keys = file("# two keys\n\n0123456789abcdef\n  fedcba9876543210  \n");
        let empty = file("# none\n");
        let prepare = |path: &str, value: &str| {
            let set = Override {
                path: path.into(),
                value: value.into(),
                source: "test".into(),
            };
            match Settings::prepare(parse("", &[set]).unwrap()) {
                Ok(settings) => match settings.api {
                    ApiAccess::Keys(keys) => format!("{} keys", keys.len()),
                    ApiAccess::Loopback => "loopback".to_owned(),
                    ApiAccess::Off => "off".to_owned(),
                },
                Err(e) => e.to_string(),
            }
        };
        let at = |file: &tempfile::NamedTempFile| file.path().display().to_string();
        for (path, value, expected) in [
            ("auth.hs256KeyFile", at(&long), "loopback".to_owned()),
            (
                "auth.hs256KeyFile",
                at(&short),
                format!(
                    "auth.hs256KeyFile: {}: the key has 5 bytes, fewer than 32",
                    at(&short)
                ),
            ),
            (
                "auth.hs256KeyFile",
                "/nowhere".into(),
                "auth.hs256KeyFile: read /nowhere: No such file or directory (os error 2)".into(),
            ),
            ("api.keyFile", at(&keys), "2 keys".into()),
            (
                "api.keyFile",
                at(&empty),
                format!("api.keyFile: {} holds no key", at(&empty)),
            ),
            (
                "api.keyFile",
                at(&short),
                format!(
                    "api.keyFile: key 1 in {} has fewer than 16 bytes",
                    at(&short)
                ),
            ),
            ("listen.clients", "0.0.0.0:8080".into(), "off".into()),
        ] {
            assert_eq!(prepare(path, &value), expected, "{path} = {value}");
        }
    }
}
