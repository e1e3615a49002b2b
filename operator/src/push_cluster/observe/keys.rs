//! What is in the Secret that the operator generates.

use k8s_openapi::api::core::v1::Secret;

use crate::certificate::Held;
use crate::push_cluster::passwords::Passwords;
use crate::push_cluster::rotation::Rotation;

/// The generated Secret's values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredKeys {
    pub api_key: Option<String>,
    pub redis_password: Option<String>,
    pub redis_admin_password: Option<String>,
    pub salt: Option<String>,
    pub rotation: Rotation,
    pub passwords: Passwords,
    /// The certificate of Redis, from a Secret of its own.
    pub redis_tls: Option<Held>,
}

/// The same, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    pub api_key: String,
    /// The gateways'.
    pub redis_password: String,
    /// What replicas, Sentinels and probes of mode Sentinel have.
    pub redis_admin_password: String,
    /// What hashes of the others are made with.
    pub salt: String,
    /// Other keys of the API that count.
    pub rotation: Rotation,
    /// Other passwords of gateways that count.
    pub passwords: Passwords,
    /// The certificate of Redis; None without TLS.
    pub redis_tls: Option<Held>,
}

impl Keys {
    /// As they were at first, for the hashes by which pods are made anew.
    pub fn at_first(&self) -> Keys {
        let first = self.passwords.first.as_ref();
        Keys {
            redis_password: first.unwrap_or(&self.redis_password).clone(),
            passwords: Passwords::default(),
            ..self.clone()
        }
    }
}

impl StoredKeys {
    /// `certificate`: the Secret of Redis's.
    pub(super) fn of(secret: Option<&Secret>, certificate: Option<&Secret>) -> Self {
        let value = |key: &str| {
            let bytes = secret?.data.as_ref()?.get(key)?;
            String::from_utf8(bytes.0.clone())
                .ok()
                .filter(|text| !text.trim().is_empty())
        };
        StoredKeys {
            api_key: value("api-key"),
            redis_password: value("redis-password"),
            redis_admin_password: value("redis-admin-password"),
            salt: value("salt"),
            rotation: Rotation::of(secret.and_then(|secret| secret.data.as_ref())),
            passwords: Passwords::of(secret.and_then(|secret| secret.data.as_ref())),
            redis_tls: certificate.and_then(Held::of),
        }
    }

    /// What is there is kept for ever: clients and Redis know it.
    pub fn or_generate(&self, mut generate: impl FnMut() -> String) -> Keys {
        let mut kept = |key: &Option<String>| key.clone().unwrap_or_else(&mut generate);
        Keys {
            api_key: kept(&self.api_key),
            redis_password: kept(&self.redis_password),
            redis_admin_password: kept(&self.redis_admin_password),
            salt: kept(&self.salt),
            rotation: self.rotation.clone(),
            passwords: self.passwords.clone(),
            redis_tls: self.redis_tls.clone(),
        }
    }
}
