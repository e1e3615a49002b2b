//! What a manifest refers to in Secrets and ConfigMaps of its namespace: one list, from which they are read, checked,
//! mounted and hashed. Pure.

use crds::{
    CertificateSecret, ConfigMapKey, ExternalRedis, PushClusterSpec, SecretKey, TrustedCertificates,
};

use super::build::token_key_file;
use crate::certificate::{BUNDLE, LEAF, LEAF_KEY};

/// Shortest HS256 key (RFC 7518 section 3.2).
const MIN_HS256_KEY_BYTES: usize = 32;

/// One key of an object of the user's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Secret(SecretKey),
    ConfigMap(ConfigMapKey),
}

/// A value that gateways find as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Where the manifest names it.
    pub field: &'static str,
    pub source: Source,
    /// The file's name in [`super::build::FILES`].
    pub path: String,
    pub wants: Wants,
    /// Whether gateways read it again when it changes. What they read at their start only must be other pods when it is
    /// another value.
    pub read_again: bool,
}

/// What the value must be for a gateway to start with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// At least so many.
    Bytes(usize),
    /// Certificates in PEM (RFC 7468).
    Certificates,
    /// A private key in PEM.
    PrivateKey,
}

impl Source {
    pub fn secret(name: &str, key: &str) -> Self {
        Source::Secret(SecretKey {
            name: name.into(),
            key: key.into(),
        })
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Secret(SecretKey { name, key }) => write!(out, "key {key} of Secret {name}"),
            Source::ConfigMap(ConfigMapKey { name, key }) => {
                write!(out, "key {key} of ConfigMap {name}")
            }
        }
    }
}

impl Wants {
    /// Why a gateway would not start with this value; completes a sentence about it.
    pub fn fault(self, value: &[u8]) -> Option<String> {
        let has = |text: &str| {
            value
                .windows(text.len())
                .any(|window| window == text.as_bytes())
        };
        match self {
            Wants::Bytes(min) => (value.len() < min).then(|| {
                let found = value.len();
                format!("has {found} bytes: at least {min} are needed")
            }),
            Wants::Certificates => (!has("-----BEGIN CERTIFICATE-----"))
                .then(|| "has no certificate in PEM (BEGIN CERTIFICATE)".into()),
            Wants::PrivateKey => (!has("PRIVATE KEY-----"))
                .then(|| "has no private key in PEM (BEGIN PRIVATE KEY)".into()),
        }
    }
}

/// All that the operator reads: what gateways find as files, and what it makes of other things.
pub fn read_from(spec: &PushClusterSpec) -> Vec<Named> {
    let mut all = named(spec);
    let tls = spec.redis.tls.as_ref();
    if let Some(name) = tls.and_then(|tls| tls.secret_name.as_deref()) {
        all.extend(REDIS_TLS.map(|(key, wants)| Named {
            field: "spec.redis.tls.secretName",
            source: Source::secret(name, key),
            path: String::new(),
            wants,
            read_again: true,
        }));
    }
    all
}

/// Keys of a Secret with a certificate for Redis.
const REDIS_TLS: [(&str, Wants); 3] = [
    (LEAF, Wants::Certificates),
    (LEAF_KEY, Wants::PrivateKey),
    (BUNDLE, Wants::Certificates),
];

/// What gateways find as files.
pub fn named(spec: &PushClusterSpec) -> Vec<Named> {
    let mut all = Vec::new();
    if let Some(external) = &spec.redis.external {
        of_redis(external, &mut all);
    }
    let auth = &spec.gateway.auth;
    let key = |field, source: &SecretKey, path: String, min| Named {
        field,
        source: Source::Secret(source.clone()),
        path,
        wants: Wants::Bytes(min),
        read_again: true,
    };
    all.extend(auth.hs256_key_secret.iter().map(|source| {
        let field = "spec.gateway.auth.hs256KeySecret";
        key(field, source, "hs256-key".into(), MIN_HS256_KEY_BYTES)
    }));
    let keys = auth.key_secrets.iter().enumerate();
    all.extend(keys.map(|(place, source)| {
        key(
            "spec.gateway.auth.keySecrets",
            source,
            token_key_file(place),
            1,
        )
    }));
    if let Some(ca) = &auth.jwks_ca {
        all.extend(trusted("spec.gateway.auth.jwksCa", ca, "jwks-ca.crt"));
    }
    if let Some(tls) = &spec.gateway.tls {
        all.extend(certificate("spec.gateway.tls", tls, "tls", true));
    }
    all
}

fn of_redis(external: &ExternalRedis, all: &mut Vec<Named>) {
    let passwords = [
        (
            "spec.redis.external.passwordSecret",
            &external.password_secret,
            "redis-password",
        ),
        (
            "spec.redis.external.sentinelPasswordSecret",
            &external.sentinel_password_secret,
            "sentinel-password",
        ),
    ];
    for (field, source, path) in passwords {
        all.extend(source.iter().map(|source| Named {
            field,
            source: Source::Secret(source.clone()),
            path: path.into(),
            wants: Wants::Bytes(1),
            read_again: false,
        }));
    }
    let tls = external.tls.clone().unwrap_or_default();
    if let Some(ca) = &tls.ca {
        all.extend(trusted("spec.redis.external.tls.ca", ca, "redis-ca.crt"));
    }
    if let Some(own) = &tls.client_certificate {
        let field = "spec.redis.external.tls.clientCertificate";
        all.extend(certificate(field, own, "redis-tls", false));
    }
}

/// None where the manifest names no place, which the schema refuses.
fn trusted(field: &'static str, from: &TrustedCertificates, path: &str) -> Option<Named> {
    let source = match (&from.secret, &from.config_map) {
        (Some(secret), _) => Source::Secret(secret.clone()),
        (None, Some(map)) => Source::ConfigMap(map.clone()),
        (None, None) => return None,
    };
    Some(Named {
        field,
        source,
        path: path.into(),
        wants: Wants::Certificates,
        read_again: false,
    })
}

fn certificate(
    field: &'static str,
    from: &CertificateSecret,
    path: &str,
    read_again: bool,
) -> [Named; 2] {
    [
        ("tls.crt", "crt", Wants::Certificates),
        ("tls.key", "key", Wants::PrivateKey),
    ]
    .map(|(key, ending, wants)| Named {
        field,
        source: Source::secret(&from.secret_name, key),
        path: format!("{path}.{ending}"),
        wants,
        read_again,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_no_gateway_starts_with_is_told_from_a_good_one() {
        let pem = |what: &str| format!("-----BEGIN {what}-----\nMA==\n-----END {what}-----\n");
        for (wants, value, expected) in [
            (
                Wants::Bytes(1),
                String::new(),
                Some("has 0 bytes: at least 1 are needed"),
            ),
            (Wants::Bytes(3), "abc".into(), None),
            (Wants::Certificates, pem("CERTIFICATE"), None),
            (
                Wants::Certificates,
                pem("PRIVATE KEY"),
                Some("has no certificate in PEM (BEGIN CERTIFICATE)"),
            ),
            (Wants::PrivateKey, pem("EC PRIVATE KEY"), None),
            (
                Wants::PrivateKey,
                pem("CERTIFICATE"),
                Some("has no private key in PEM (BEGIN PRIVATE KEY)"),
            ),
        ] {
            assert_eq!(
                wants.fault(value.as_bytes()).as_deref(),
                expected,
                "{value}"
            );
        }
    }
}
