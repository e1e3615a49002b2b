use std::collections::BTreeMap;

use gateway_config::{Config, read_at_start};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use sha1::{Digest, Sha1};

use super::{Component, metadata};
use crate::push_cluster::observe::Keys;
use crate::push_cluster::validate::ValidatedCluster;

pub const FILE: &str = "gateway.yaml";

/// Without what is as by default: an upgrade may wait for somebody to agree (`consent`), and until then gateways of the
/// version before start with what this one writes. A key that they do not know would be an error to them.
pub fn config_map(cluster: &ValidatedCluster) -> ConfigMap {
    ConfigMap {
        metadata: metadata(cluster, &cluster.names.config, Component::Gateway),
        data: Some(BTreeMap::from([(
            FILE.to_owned(),
            cluster.config.to_short_yaml(),
        )])),
        ..ConfigMap::default()
    }
}

/// Stands in the pod template: what a gateway reads at its start only, so that other ones are other pods. What it reads
/// again while it runs is not in it, and reaches the pods that there are. The secret values are hashed together with a
/// secret of their own, which makes the hash worth nothing to whoever reads the pod and would try passwords until one
/// fits; it is never rotated, for then every pod would be another one.
pub fn hash(config: &Config, keys: &Keys, referenced: &[ByteString]) -> String {
    let mut digest = keyed(keys);
    for (key, value) in read_at_start(config) {
        part(&mut digest, key.as_bytes());
        part(&mut digest, value.as_bytes());
    }
    for value in referenced {
        part(&mut digest, &value.0);
    }
    text(digest)
}

/// The same of the secrets alone.
pub fn secrets_hash(keys: &Keys, referenced: &[ByteString]) -> String {
    let mut digest = keyed(keys);
    for value in referenced {
        part(&mut digest, &value.0);
    }
    // Other pods are asked for by whom they trust, not by which certificate of these is shown.
    if let Some(held) = &keys.redis_tls {
        part(&mut digest, held.bundle.as_bytes());
    }
    text(digest)
}

/// The same for one Redis by itself, which reads passwords at its start.
pub fn keys_hash(keys: &Keys) -> String {
    let mut digest = keyed(keys);
    part(&mut digest, keys.redis_admin_password.as_bytes());
    text(digest)
}

/// The same for whoever reads files of this Secret at its start.
pub fn files_hash(files: &Secret, keys: &Keys) -> String {
    let mut digest = keyed(keys);
    for (name, content) in files.data.iter().flatten() {
        part(&mut digest, name.as_bytes());
        part(&mut digest, &content.0);
    }
    text(digest)
}

fn keyed(keys: &Keys) -> Sha1 {
    // Gateways take another one while they run, and Redis is told it.
    let keys = keys.at_first();
    let Keys {
        // Gateways read it again when it changes.
        api_key: _,
        rotation: _,
        passwords: _,
        redis_password,
        // No gateway has it, and Redis has it in its files.
        redis_admin_password: _,
        // Has an annotation of its own.
        redis_tls: _,
        salt,
    } = &keys;
    let mut digest = Sha1::new();
    part(&mut digest, salt.as_bytes());
    part(&mut digest, redis_password.as_bytes());
    digest
}

/// With its length, so that no two lists of parts run together into the same bytes.
fn part(digest: &mut Sha1, bytes: &[u8]) {
    digest.update(bytes.len().to_le_bytes());
    digest.update(bytes);
}

fn text(digest: Sha1) -> String {
    digest
        .finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
