use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

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
    } = keys;
    let values = [
        ("api-key", api_key.clone()),
        ("api-keys", rotation.file(api_key)),
        ("redis-password", redis_password.clone()),
        ("redis-admin-password", redis_admin_password.clone()),
        ("salt", salt.clone()),
        // A file, so that the password is on no command line.
        ("redis.conf", format!("requirepass {redis_password}\n")),
    ];
    Secret {
        metadata: metadata(cluster, &cluster.names.keys, Component::Gateway),
        type_: Some("Opaque".into()),
        data: Some(
            values
                .into_iter()
                .chain(rotation.entries())
                .map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())))
                .collect(),
        ),
        ..Secret::default()
    }
}
