//! `broker.redis`: which Redis, and its address taken apart.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::split_address;

/// Which Redis, and how long to wait for it. Redis 7.0 or later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Redis {
    /// `standalone`, `sentinel` or `cluster`.
    pub mode: RedisMode,
    /// `redis://host:port/database`, or `rediss://` for TLS. With `mode` `sentinel` the host is a Sentinel, with
    /// `cluster` any node; several are separated by commas, and one that answers is enough. A Cluster has no databases.
    /// A password in the URL is refused: it would end up in logs and `ps`.
    pub url: String,
    /// What the Sentinels call the master. Read when `mode` is `sentinel`.
    pub master_name: String,
    /// The ACL user. It needs `+@connection +info +eval +publish +subscribe +unsubscribe` (in a Cluster `+spublish
    /// +ssubscribe +sunsubscribe +cluster|nodes`), what scripts of ours do (`+@hash +@set +@sortedset +@stream
    /// +@keyspace +time`), and the keys and channels of `keyPrefix` (`~pushcluster:* &pushcluster:*`). Empty: `default`.
    pub username: String,
    /// File with the password. Empty: none.
    pub password_file: String,
    /// The ACL user of the Sentinels. Empty: `default`.
    pub sentinel_username: String,
    /// File with the password of the Sentinels. Empty: none.
    pub sentinel_password_file: String,
    /// File with the certificates (PEM) that Redis may be signed by. Empty: those that browsers trust.
    pub ca_file: String,
    /// Our own certificate (PEM), where Redis asks for one (`tls-auth-clients`). Empty: none.
    pub certificate_file: String,
    /// Its private key (PEM).
    pub key_file: String,
    /// Begins every key and Pub/Sub channel, so that several clusters can share one Redis.
    pub key_prefix: String,
    /// Channels in which backends publish straight into Redis, and which the gateways pass on: `system:notifications`,
    /// `ws:broadcast`, `ws:room:*`, `ws:private` (docs/redis-backends.md). An ACL user needs the right to subscribe to them
    /// (`&ws:*`).
    pub listen: Vec<String>,
    /// Begins the names of these channels, as in `app:ws:broadcast`. `keyPrefix` does not.
    pub listen_prefix: String,
    /// Longest wait for one answer, and for the machine of Redis to acknowledge what it is sent, before the connection counts
    /// as lost.
    pub timeout_seconds: u32,
    /// How often a message is sent through every Pub/Sub connection to see whether it still delivers, and how long one is
    /// quiet before the machine of Redis is asked whether it still knows it.
    pub probe_seconds: u32,
    /// So long after a node was last heard of, by the clock of Redis, the others take it for dead: its connections and
    /// subscriptions are removed from Redis. It is heard of three times as often.
    pub lease_seconds: u32,
    /// Connections and subscriptions that have changed and wait for Redis. With more of them none is kept, and all that
    /// the node holds is written again when Redis is back.
    pub max_pending_facts: u32,
}

/// What [`Redis::listen`] may name.
pub const LISTEN: [&str; 4] = [
    "system:notifications",
    "ws:broadcast",
    "ws:room:*",
    "ws:private",
];

/// How Redis runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RedisMode {
    /// One Redis at a fixed address.
    #[default]
    Standalone,
    /// A master and replicas; the Sentinels say which is which.
    Sentinel,
    /// Slots over several masters, with sharded Pub/Sub.
    Cluster,
}

/// [`Redis::url`] in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisAddress {
    pub tls: bool,
    /// At least one; an IPv6 address without its brackets.
    pub hosts: Vec<(String, u16)>,
    pub database: u8,
}

impl Redis {
    /// The error completes the sentence "broker.redis.url …". It never repeats the URL: that may hold a password.
    pub fn address(&self) -> Result<RedisAddress, &'static str> {
        let (tls, rest) = match self.url.split_once("://") {
            Some(("redis", rest)) => (false, rest),
            Some(("rediss", rest)) => (true, rest),
            _ => return Err("is not redis://host:port/database"),
        };
        if rest.contains('@') {
            return Err("has a user or password in it, which would end up in logs; \
                        use broker.redis.username and broker.redis.passwordFile");
        }
        let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
        let mut found = Vec::new();
        for host in hosts.split(',') {
            let (name, port) = split_address(host)
                .filter(|(_, port)| *port != 0)
                .ok_or("is not redis://host:port/database")?;
            found.push((name.trim_matches(['[', ']']).to_owned(), port));
        }
        let database = match database {
            "" => 0,
            number => number
                .parse()
                .map_err(|_| "must end in a database number, as in redis://redis:6379/0")?,
        };
        match self.mode {
            RedisMode::Standalone if found.len() > 1 => {
                Err("has several hosts, which is for broker.redis.mode sentinel or cluster")
            }
            RedisMode::Cluster if database != 0 => Err("names a database; a Cluster has only 0"),
            _ => Ok(RedisAddress {
                tls,
                hosts: found,
                database,
            }),
        }
    }
}

impl Default for Redis {
    fn default() -> Self {
        Redis {
            mode: RedisMode::Standalone,
            url: "redis://127.0.0.1:6379/0".into(),
            master_name: String::new(),
            username: String::new(),
            password_file: String::new(),
            sentinel_username: String::new(),
            sentinel_password_file: String::new(),
            ca_file: String::new(),
            certificate_file: String::new(),
            key_file: String::new(),
            key_prefix: "pushcluster:".into(),
            listen: Vec::new(),
            listen_prefix: String::new(),
            timeout_seconds: 5,
            probe_seconds: 1,
            lease_seconds: 10,
            max_pending_facts: 100_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        use RedisMode::{Cluster, Sentinel, Standalone};
        for (mode, url, expected) in [
            (Standalone, "redis://redis:6379", "redis:6379 0"),
            (Standalone, "redis://10.0.0.1:7000/3", "10.0.0.1:7000 3"),
            (Standalone, "redis://[::1]:6379/15", "::1:6379 15"),
            (Standalone, "rediss://h:1/0", "tls h:1 0"),
            (Sentinel, "redis://a:1,b:2/4", "a:1 b:2 4"),
            (Cluster, "redis://a:1,b:2,c:3", "a:1 b:2 c:3 0"),
            (
                Cluster,
                "redis://a:1/1",
                "names a database; a Cluster has only 0",
            ),
            (
                Standalone,
                "redis://a:1,b:2",
                "has several hosts, which is for broker.redis.mode sentinel or cluster",
            ),
            (
                Sentinel,
                "redis://a:1,,b:2",
                "is not redis://host:port/database",
            ),
            (
                Sentinel,
                "redis://a:1,b",
                "is not redis://host:port/database",
            ),
            (
                Standalone,
                "http://a:1",
                "is not redis://host:port/database",
            ),
            (
                Standalone,
                "redis://a:0",
                "is not redis://host:port/database",
            ),
        ] {
            let redis = Redis {
                mode,
                url: url.into(),
                ..Redis::default()
            };
            let said = match redis.address() {
                Ok(address) => {
                    let tls = if address.tls { "tls " } else { "" };
                    let hosts: String = address
                        .hosts
                        .iter()
                        .map(|(host, port)| format!("{host}:{port} "))
                        .collect();
                    format!("{tls}{hosts}{}", address.database)
                }
                Err(message) => message.to_owned(),
            };
            assert_eq!(said, expected, "{url}");
        }
    }
}
