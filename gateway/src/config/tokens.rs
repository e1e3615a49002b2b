//! `auth`: where keys come from, and what the key files hold.

use std::fs;
use std::time::Duration;

use axum::http::Uri;
use bytes::Bytes;
use gateway_config::Auth;

use super::ConfigError;
use crate::auth::Policy;
use crate::auth::signature::{Algorithm, Key};
use crate::keys::files::{Files, KeyFile};
use crate::keys::{Server, Sources, fetch};

/// Who is let in with a token.
pub struct Tokens {
    pub policy: Policy,
    /// What the key files hold now.
    pub keys: Vec<Key>,
    pub sources: Sources,
}

/// Reads the key files; the server is asked later.
pub(super) fn prepare(auth: &Auth) -> Result<Tokens, ConfigError> {
    let files = files(auth);
    let keys = files.read().map_err(|(key, error)| ConfigError::Setting {
        key,
        what: error.to_string(),
    })?;
    let server = match auth.jwks_url.as_str() {
        "" => None,
        url => Some(server(auth, url)?),
    };
    let policy = Policy {
        anonymous: auth.anonymous,
        issuers: auth.issuers.clone(),
        audiences: auth.audiences.clone(),
        leeway_seconds: auth.leeway_seconds.into(),
    };
    Ok(Tokens {
        policy,
        keys,
        sources: Sources { files, server },
    })
}

/// Says what is allowed and rarely meant; once for each time that it begins to count.
pub fn warn(auth: &Auth) {
    if auth.jwks_url.is_empty() {
        return;
    }
    if auth.jwks_url.starts_with("http:") {
        tracing::warn!(
            "auth.jwksUrl is http://: who can change traffic on the way chooses the keys"
        );
    }
    if auth.audiences.is_empty() {
        tracing::warn!(
            "auth.audiences is empty: tokens that were made for other services count here"
        );
    }
}

fn files(auth: &Auth) -> Files {
    let secrets = [
        ("auth.hs256KeyFile", &auth.hs256_key_file, Algorithm::Hs256),
        ("auth.hs384KeyFile", &auth.hs384_key_file, Algorithm::Hs384),
        ("auth.hs512KeyFile", &auth.hs512_key_file, Algorithm::Hs512),
    ];
    let secrets = secrets
        .into_iter()
        .filter(|(_, path, _)| !path.is_empty())
        .map(|(setting, path, algorithm)| (setting, path, Some(algorithm)));
    let others = auth
        .key_files
        .iter()
        .map(|path| ("auth.keyFiles", path, None));
    let file = |(setting, path, secret): (&'static str, &String, _)| KeyFile {
        setting,
        path: path.clone(),
        secret,
    };
    Files(secrets.chain(others).map(file).collect())
}

fn server(auth: &Auth, url: &str) -> Result<Server, ConfigError> {
    let bad = |key, what| ConfigError::Setting { key, what };
    // Without the URL in the message: it may hold what should not stand in a log.
    let uri: Uri = url
        .parse()
        .map_err(|e| bad("auth.jwksUrl", format!("is no URL: {e}")))?;
    let setting = "auth.jwksCaFile";
    let pem = match auth.jwks_ca_file.as_str() {
        "" => None,
        file => Some(fs::read(file).map_err(|e| bad(setting, format!("read {file}: {e}")))?),
    };
    let tls = fetch::roots(pem.as_deref())
        .map_err(|e| bad(setting, format!("{}: {e}", auth.jwks_ca_file)))?;
    Ok(Server {
        uri,
        refresh: Duration::from_secs(auth.jwks_refresh_seconds.into()),
        timeout: Duration::from_secs(auth.jwks_timeout_seconds.into()),
        tls,
        known: Bytes::new(),
    })
}
