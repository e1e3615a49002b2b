//! The gateway's configuration file: one YAML document that the operator writes and the gateway reads.
//!
//! Both programs link this crate, so they cannot disagree about a key. Every key has a default, so an
//! empty file is a working single-node gateway. Units are part of the key (`…Seconds`, `…Bytes`).
//! The crate reads no file, no environment and no clock: text in, [`Config`] or a list of [`Problem`]s out.
//!
//! ```text
//! text ─▶ tree (places) ─▶ parse: each key against keys (from the types' schema) ─▶ Config ─▶ rules
//!                             ▲ overrides: environment, flags                        every step: Problems
//! ```

mod channels;
mod config;
mod environment;
mod keys;
mod network;
mod parse;
mod print;
mod problem;
mod redis;
mod reference;
mod reload;
mod rules;
mod short;
mod shown;
mod tree;

pub use channels::*;
pub use config::*;
pub use environment::overrides_from_environment;
pub use keys::{Key, Kind, keys};
pub use network::Network;
pub use parse::parse;
pub use print::password_print;
pub use problem::{Override, Place, Problem};
pub use redis::{LISTEN, Redis, RedisAddress, RedisMode};
pub use reference::reference;
pub use reload::{Change, Reload, diff, read_at_start, reload, take};

impl Config {
    /// The whole configuration as the YAML that [`parse`] reads back.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        serde_yaml::to_string(self).expect("a configuration is maps, lists, texts and numbers")
    }

    /// Only what is not as by default, as the YAML that [`parse`] reads back. A gateway of an earlier version reads it too,
    /// as long as nothing is used that only a later one has.
    #[must_use]
    pub fn to_short_yaml(&self) -> String {
        let tree = short::without_defaults(self);
        serde_yaml::to_string(&tree).expect("a configuration is maps, lists, texts and numbers")
    }

    /// The keys in which `self` is not the default, with their values, in the order of the file.
    #[must_use]
    pub fn differences(&self) -> Vec<(String, String)> {
        let (own, default) = (keys::values(self), keys::values(&Config::default()));
        own.into_iter()
            .filter(|(path, value)| !default.contains(&(path.clone(), value.clone())))
            .map(|(path, value)| (path, value.to_string()))
            .collect()
    }
}
