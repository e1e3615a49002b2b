use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use sha1::{Digest, Sha1};

use super::{Component, metadata};
use crate::push_cluster::validate::ValidatedCluster;

pub const FILE: &str = "gateway.yaml";

pub fn config_map(cluster: &ValidatedCluster) -> ConfigMap {
    ConfigMap {
        metadata: metadata(cluster, &cluster.names.config, Component::Gateway),
        data: Some(BTreeMap::from([(
            FILE.to_owned(),
            cluster.config.to_yaml(),
        )])),
        ..ConfigMap::default()
    }
}

/// Stands in the pod template: gateways with another config are other pods.
pub fn hash(config: &ConfigMap) -> String {
    let text = config
        .data
        .iter()
        .flatten()
        .map(|(_, text)| text.as_str())
        .collect::<String>();
    Sha1::digest(text)
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
