//! Redis on volumes, which outlive its pods (docs/decisions/0015).

use std::collections::BTreeMap;
use std::fmt::Write;

use crds::{PersistenceSpec, RedisMode, WhenDeleted};
use k8s_openapi::api::apps::v1::{
    StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
};
use k8s_openapi::api::core::v1::{
    Container, PersistentVolumeClaim, PersistentVolumeClaimSpec, PodSpec, Volume,
    VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::ObjectMeta;

use super::parts::empty_volume;
use super::sentinel::PODS;
use super::{Component, Names, redis, selector_labels};
use crate::push_cluster::validate::ValidatedCluster;

/// The volume with Redis's directory, in every pod of it.
pub(super) const VOLUME: &str = "data";
/// A Redis that is ended writes a snapshot first, and answers nobody meanwhile.
const TIME_TO_SAVE_SECONDS: i64 = 60;

/// The volume where nothing is kept; where something is, the StatefulSet adds one.
pub(super) fn volume(cluster: &ValidatedCluster) -> Option<Volume> {
    (cluster.redis_persistence.is_none()).then(|| empty_volume(VOLUME))
}

/// What Redis is told about its disk, as lines of its configuration.
///
/// Snapshots, and no append-only file: it holds up every message while a disk is slow, a replica that begins from it does
/// not know how far it had come, and Redis refuses all writes while it cannot be written. For the same reason a
/// snapshot that fails stops nobody (`stop-writes-on-bgsave-error`), and no pod from ending (`shutdown-on-sigterm`).
pub(super) fn directives(persistence: Option<&PersistenceSpec>) -> String {
    let mut text = String::new();
    match persistence {
        None => text.push_str("save \"\"\n"),
        Some(PersistenceSpec {
            snapshot_seconds, ..
        }) => {
            let _ = write!(
                text,
                "save {snapshot_seconds} 1\n\
                 # Messages go on while the disk is full.\n\
                 stop-writes-on-bgsave-error no\n\
                 shutdown-on-sigterm default force\n"
            );
        }
    }
    text.push_str("appendonly no\n");
    text
}

/// The same as arguments of `redis-server`.
pub(super) fn arguments(persistence: Option<&PersistenceSpec>) -> Vec<String> {
    let directives = directives(persistence);
    let lines = directives.lines().filter(|line| !line.starts_with('#'));
    let mut arguments = Vec::new();
    for line in lines {
        let mut words = line.split(' ');
        arguments.extend(words.next().map(|name| format!("--{name}")));
        arguments.extend(words.map(|word| word.trim_matches('"').to_owned()));
    }
    arguments
}

/// Claims for these pods.
pub(super) fn claim(cluster: &ValidatedCluster, spec: StatefulSetSpec) -> StatefulSetSpec {
    let Some(persistence) = &cluster.redis_persistence else {
        return spec;
    };
    let when_deleted = match persistence.when_deleted {
        WhenDeleted::Retain => "Retain",
        WhenDeleted::Delete => "Delete",
    };
    StatefulSetSpec {
        volume_claim_templates: Some(vec![template(cluster, persistence)]),
        persistent_volume_claim_retention_policy: Some(
            StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some(when_deleted.into()),
                when_scaled: Some("Retain".into()),
            },
        ),
        ..spec
    }
}

fn template(cluster: &ValidatedCluster, persistence: &PersistenceSpec) -> PersistentVolumeClaim {
    let size = Quantity(persistence.size.clone());
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(VOLUME.into()),
            labels: Some(selector_labels(cluster, Component::Redis)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), size)])),
                ..VolumeResourceRequirements::default()
            }),
            storage_class_name: persistence.storage_class_name.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}

/// What a StatefulSet calls the claims of its pods.
pub fn claims(names: &Names, mode: RedisMode) -> Vec<String> {
    let pods = match mode {
        RedisMode::Standalone => 1,
        RedisMode::Sentinel => PODS,
        RedisMode::Cluster | RedisMode::External => 0,
    };
    let pods = 0..pods;
    pods.map(|pod| format!("{VOLUME}-{}-{pod}", names.redis))
        .collect()
}

/// A pod whose Redis reads a snapshot when it begins, and writes one before it ends.
pub(super) fn keeping(cluster: &ValidatedCluster, pod: PodSpec) -> PodSpec {
    if cluster.redis_persistence.is_none() {
        return pod;
    }
    let containers = pod.containers.into_iter();
    PodSpec {
        termination_grace_period_seconds: Some(TIME_TO_SAVE_SECONDS),
        containers: containers
            .map(|container| match container.name.as_str() {
                "redis" => tidy(container),
                _ => container,
            })
            .collect(),
        ..pod
    }
}

/// What a Redis that was killed had not finished would take up the volume for ever. There need be no `rm` in the image:
/// an empty file takes no room.
fn tidy(container: Container) -> Container {
    let files = format!("{}/temp-*.rdb", super::sentinel::files::DATA);
    let empty = "if [ -e \"$f\" ]; then : >\"$f\"; fi";
    redis::after(&format!("for f in {files}; do {empty}; done; "), container)
}

#[cfg(test)]
mod tests;
