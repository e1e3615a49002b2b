//! A Redis that is there already.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CertificateSecret, SecretKey, TrustedCertificates};

/// A Redis that is there already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.host) != (has(self.hosts) && size(self.hosts) > 0)", "message": "spec.redis.external: one Redis is named by host, Sentinels and nodes of a Cluster by hosts: set one of the two"},
    {"rule": "has(self.host) == (self.topology == 'Standalone')", "message": "spec.redis.external.topology: Standalone goes with host, Sentinel and Cluster with hosts: change the topology, or name it the other way"},
    {"rule": "has(self.masterName) == (self.topology == 'Sentinel')", "message": "spec.redis.external.masterName is what Sentinels call the master, and topology Sentinel needs it: add it there, or remove it elsewhere"},
    {"rule": "self.topology == 'Sentinel' || (!has(self.sentinelUsername) && !has(self.sentinelPasswordSecret))", "message": "spec.redis.external.sentinelUsername and sentinelPasswordSecret are for topology Sentinel: remove them, or set topology: Sentinel"},
    {"rule": "self.topology != 'Cluster' || self.database == 0", "message": "spec.redis.external.database: a Redis Cluster has only database 0: remove database"},
]))]
pub struct ExternalRedis {
    /// How it runs: one Redis (or one name that always leads to the master), Sentinels with their master, or a Cluster.
    pub topology: ExternalTopology,
    /// Topology Standalone: name or address, as the gateway pods see it.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9.:_-]+$"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Topology Standalone: its TCP port.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
    /// Topology Sentinel: the Sentinels; topology Cluster: some nodes, the others are found. Each `host:port`, as in
    /// `sentinel-0.redis:26379`; one that answers is enough to begin with.
    #[schemars(
        length(max = 32),
        inner(
            length(max = 262),
            regex(pattern = r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[1-9][0-9]{0,4}$")
        )
    )]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Topology Sentinel: what the Sentinels call the master, as in `mymaster`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9._-]+$"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_name: Option<String>,
    /// The number of its database. PushClusters share one without seeing each other: all names begin with the name of
    /// theirs.
    #[schemars(range(min = 0, max = 255))]
    pub database: i32,
    /// The ACL user. Default: `default`.
    #[schemars(length(min = 1, max = 253))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<SecretKey>,
    /// The ACL user of the Sentinels. Default: `default`.
    #[schemars(length(min = 1, max = 253))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentinel_username: Option<String>,
    /// The password of the Sentinels. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentinel_password_secret: Option<SecretKey>,
    /// TLS to it, and to Sentinels; `tls: {}` trusts whom browsers trust. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ExternalTls>,
}

/// How a Redis that is there already runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum ExternalTopology {
    #[default]
    Standalone,
    Sentinel,
    Cluster,
}

/// TLS to a Redis.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ExternalTls {
    /// Whom its certificate may be signed by. Default: those that browsers trust.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<TrustedCertificates>,
    /// What gateways show, where Redis asks for a certificate (`tls-auth-clients`). Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<CertificateSecret>,
}

impl ExternalRedis {
    /// What is asked for an answer, each `host:port`, with an IPv6 address in brackets (RFC 3986 section 3.2.2).
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        match &self.host {
            Some(host) if host.contains(':') => vec![format!("[{host}]:{}", self.port)],
            Some(host) => vec![format!("{host}:{}", self.port)],
            None => self.hosts.clone(),
        }
    }
}

impl Default for ExternalRedis {
    fn default() -> Self {
        ExternalRedis {
            topology: ExternalTopology::Standalone,
            host: None,
            port: 6379,
            hosts: Vec::new(),
            master_name: None,
            database: 0,
            username: None,
            password_secret: None,
            sentinel_username: None,
            sentinel_password_secret: None,
            tls: None,
        }
    }
}
