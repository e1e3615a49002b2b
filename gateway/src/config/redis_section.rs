//! `broker.redis`: its files read, its address taken apart.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use gateway_config::{Redis, RedisMode};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::{ConfigError, secret};
use crate::broker::redis::{Endpoint, Listen, Login, Mode, Password, Settings, Source};

/// `max_message_bytes`: of what backends publish by themselves.
pub(super) fn prepare(redis: &Redis, max_message_bytes: u32) -> Result<Settings, ConfigError> {
    // The rules of gateway-config have seen it.
    let address = redis.address().map_err(|what| ConfigError::Setting {
        key: "broker.redis.url",
        what: what.to_owned(),
    })?;
    let endpoint = |(host, port)| Endpoint { host, port };
    let tls = address.tls.then(|| tls(redis)).transpose()?;
    Ok(Settings {
        mode: match redis.mode {
            RedisMode::Standalone => Mode::Standalone,
            RedisMode::Sentinel => Mode::Sentinel,
            RedisMode::Cluster => Mode::Cluster,
        },
        seeds: address.hosts.into_iter().map(endpoint).collect(),
        master_name: redis.master_name.clone(),
        database: address.database,
        login: login(
            &redis.username,
            "broker.redis.passwordFile",
            &redis.password_file,
        )?,
        sentinel_login: login(
            &redis.sentinel_username,
            "broker.redis.sentinelPasswordFile",
            &redis.sentinel_password_file,
        )?,
        tls: tls.map(Arc::new),
        prefix: redis.key_prefix.clone(),
        timeout: Duration::from_secs(redis.timeout_seconds.into()),
        probe_period: Duration::from_secs(redis.probe_seconds.into()),
        listen: Listen {
            sources: sources(&redis.listen),
            prefix: redis.listen_prefix.clone(),
            max_message_bytes: Arc::new(AtomicUsize::new(max_message_bytes as usize)),
        },
    })
}

/// Each once; the rules of gateway-config have refused other names.
fn sources(names: &[String]) -> Vec<Source> {
    let all = Source::ALL.into_iter();
    all.filter(|source| names.iter().any(|name| name == source.name()))
        .collect()
}

fn login(username: &str, key: &'static str, file: &str) -> Result<Login, ConfigError> {
    let username = Some(username.to_owned()).filter(|name| !name.is_empty());
    let password = match file {
        "" => None,
        file => {
            let text = String::from_utf8(secret(key, file)?);
            let text = text.map_err(|_| ConfigError::Setting {
                key,
                what: format!("{file} is not UTF-8"),
            })?;
            Some(Password::new(text))
        }
    };
    Ok(Login { username, password })
}

fn tls(redis: &Redis) -> Result<ClientConfig, ConfigError> {
    let mut roots = RootCertStore::empty();
    if redis.ca_file.is_empty() {
        // An image made of one binary has no folder of them.
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let key = "broker.redis.caFile";
    for certificate in certificates(key, &redis.ca_file)? {
        roots
            .add(certificate)
            .map_err(|e| bad(key, &redis.ca_file, &e))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| bad("broker.redis.url", "TLS", &e))?
        .with_root_certificates(roots);
    if redis.certificate_file.is_empty() {
        return Ok(builder.with_no_client_auth());
    }
    let key = "broker.redis.keyFile";
    let private = PrivateKeyDer::from_pem_slice(&read(key, &redis.key_file)?)
        .map_err(|e| bad(key, &redis.key_file, &e))?;
    let key = "broker.redis.certificateFile";
    let chain = certificates(key, &redis.certificate_file)?;
    builder
        .with_client_auth_cert(chain, private)
        .map_err(|e| bad(key, &redis.certificate_file, &e))
}

/// None for no file; otherwise at least one.
fn certificates(
    key: &'static str,
    file: &str,
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    if file.is_empty() {
        return Ok(Vec::new());
    }
    let found: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(key, file)?)
        .collect::<Result<_, _>>()
        .map_err(|e| bad(key, file, &e))?;
    if found.is_empty() {
        return Err(bad(key, file, &"holds no certificate in PEM"));
    }
    Ok(found)
}

fn read(key: &'static str, file: &str) -> Result<Vec<u8>, ConfigError> {
    fs::read(file).map_err(|e| bad(key, file, &e))
}

fn bad(key: &'static str, file: &str, what: &dyn std::fmt::Display) -> ConfigError {
    ConfigError::Setting {
        key,
        what: format!("{file}: {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_may_be_listened_to_is_known() {
        let listen = gateway_config::LISTEN.map(str::to_owned);
        assert_eq!(sources(&listen), Source::ALL);
        assert_eq!(
            sources(&[listen[1].clone(), listen[1].clone()]),
            [Source::Broadcast]
        );
    }
}
