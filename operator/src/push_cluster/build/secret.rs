use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::sentinel::ADMIN_USER;
use super::{Component, metadata};
use crate::push_cluster::observe::Keys;
use crate::push_cluster::validate::ValidatedCluster;

/// The generated secrets: made once, kept for as long as the PushCluster lives. `api-key` is for backends, `api-keys` what
/// gateways read: it, and those that count beside it while it is exchanged.
pub fn keys(cluster: &ValidatedCluster, keys: &Keys) -> Secret {
    let Keys {
        api_key,
        redis_password,
        redis_admin_password,
        salt,
        rotation,
        passwords,
        redis_tls: _,
    } = keys;
    let values = [
        ("api-key", api_key.clone()),
        ("api-keys", rotation.file(api_key)),
        ("redis-password", redis_password.clone()),
        ("redis-admin-password", redis_admin_password.clone()),
        ("salt", salt.clone()),
        // Files, so that passwords are on no command line. The first for pods that an earlier version made.
        ("redis.conf", format!("requirepass {redis_password}\n")),
        (REDIS_FILE, redis_file(keys)),
    ];
    Secret {
        metadata: metadata(cluster, &cluster.names.keys, Component::Gateway),
        type_: Some("Opaque".into()),
        data: Some(
            values
                .into_iter()
                .chain(rotation.entries())
                .chain(passwords.entries())
                .map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())))
                .collect(),
        ),
        ..Secret::default()
    }
}

/// What one Redis by itself begins with.
pub const REDIS_FILE: &str = "redis-users.conf";

/// Gateways come without a name; the operator and probes as the admin, whose password stays.
fn redis_file(keys: &Keys) -> String {
    let Keys {
        redis_password,
        redis_admin_password,
        passwords,
        ..
    } = keys;
    let accepted = shown(&passwords.accepted(redis_password));
    format!(
        "user default on {accepted} ~* &* +@all\n\
         user {ADMIN_USER} on >{redis_admin_password} ~* &* +@all\n"
    )
}

/// As a rule of an ACL user.
pub fn shown(passwords: &[&str]) -> String {
    let rules: Vec<String> = passwords.iter().map(|text| format!(">{text}")).collect();
    rules.join(" ")
}
