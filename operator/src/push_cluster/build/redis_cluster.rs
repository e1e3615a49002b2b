//! A Redis Cluster: a StatefulSet for each shard (docs/decisions/0014).

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy};
use k8s_openapi::api::core::v1::{Container, PodSpec, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::parts::{apart_from, empty_volume, field_of_pod, mount, port, secret_volume, spread};
use super::pods::template;
use super::sentinel::{REDIS_PORT, ask, files, patient};
use super::{Component, container_security, labels, metadata, pod_security, redis, selector};
use crate::push_cluster::observe::Keys;
use crate::push_cluster::validate::{ClusterRedis, ValidatedCluster};

/// The container of Redis in its pods.
pub const CONTAINER: &str = "redis";
/// On every pod: the number of its shard.
pub const SHARD_LABEL: &str = "pushcluster.io/redis-shard";

/// As whom replicas come to their master. It is let in by who has been given a part in the Cluster, and by nobody before
/// that: a replica finds its master by address alone, and would copy the nothing of a Redis that has just begun there.
pub const REPLICA_USER: &str = "replica";

const CONFIG: &str = "/etc/redis";
/// The port of the Redis among themselves.
const BUS_PORT: u16 = REDIS_PORT + 10_000;

/// What the pods begin with; passwords are in nothing else of theirs.
pub fn secret(cluster: &ValidatedCluster, redis: &ClusterRedis, keys: &Keys) -> Secret {
    let text = redis_conf(cluster, redis, keys).into_bytes();
    Secret {
        metadata: metadata(cluster, &cluster.names.redis, Component::Redis),
        type_: Some("Opaque".into()),
        data: Some(BTreeMap::from([(
            "redis.conf".to_owned(),
            ByteString(text),
        )])),
        ..Secret::default()
    }
}

/// Addresses, not names, are announced: a name outlives its pod and leads to the next one, which is another node.
fn redis_conf(cluster: &ValidatedCluster, redis: &ClusterRedis, keys: &Keys) -> String {
    let rights = " +spublish +ssubscribe +sunsubscribe +cluster|nodes";
    let common = files::common(cluster, keys, rights);
    let (down_after, password) = (redis.down_after_seconds, &keys.redis_admin_password);
    format!(
        "{common}\
         masteruser {REPLICA_USER}\n\
         user {REPLICA_USER} off >{password} -@all +ping +replconf +psync\n\
         cluster-enabled yes\n\
         cluster-config-file {NODES}\n\
         cluster-node-timeout {down_after}000\n\
         # Of a shard without a master only its own channels wait.\n\
         cluster-require-full-coverage no\n\
         # A replica that has missed much is better than none: clients are told by the epoch.\n\
         cluster-replica-validity-factor 0\n\
         # Replicas stay in the shard whose StatefulSet they are of, which keeps them on other nodes than its master.\n\
         cluster-allow-replica-migration no\n"
    )
}

/// What a Redis writes about its Cluster, in its directory.
const NODES: &str = "nodes.conf";

/// `files_hash`: of what the pods read at their start.
pub fn stateful_set(
    cluster: &ValidatedCluster,
    redis: &ClusterRedis,
    shard: usize,
    files_hash: &str,
) -> StatefulSet {
    let mut meta = metadata(cluster, &cluster.names.shard(shard), Component::Redis);
    if let Some(labels) = meta.labels.as_mut() {
        labels.extend([of_shard(shard)]);
    }
    let mut pod_labels = labels(cluster, Component::Redis);
    pod_labels.extend([of_shard(shard)]);
    StatefulSet {
        metadata: meta,
        spec: Some(StatefulSetSpec {
            replicas: Some(1 + redis.replicas),
            service_name: Some(cluster.names.redis.clone()),
            pod_management_policy: Some("Parallel".into()),
            // Else every shard would replace a pod at the same time, and with half of the masters away none is elected.
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".into()),
                ..StatefulSetUpdateStrategy::default()
            }),
            selector: shard_selector(cluster, shard),
            template: template(
                &cluster.redis_pods,
                pod_labels,
                (redis::KEYS_HASH, files_hash),
                pod(cluster, redis, shard),
            ),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

/// Of a pod or a StatefulSet.
pub fn shard_number(labels: &BTreeMap<String, String>) -> Option<usize> {
    labels.get(SHARD_LABEL)?.parse().ok()
}

fn of_shard(shard: usize) -> (String, String) {
    (SHARD_LABEL.to_owned(), shard.to_string())
}

fn shard_selector(cluster: &ValidatedCluster, shard: usize) -> LabelSelector {
    let mut selector = selector(cluster, Component::Redis);
    selector
        .match_labels
        .get_or_insert_default()
        .extend([of_shard(shard)]);
    selector
}

fn pod(cluster: &ValidatedCluster, redis: &ClusterRedis, shard: usize) -> PodSpec {
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(pod_security()),
        // A master that ends waits up to ten seconds for its replicas to have everything.
        termination_grace_period_seconds: Some(30),
        // Above all not beside another of its shard, and then not beside other shards: with most masters on one node, its
        // loss would leave too few to elect.
        affinity: Some(apart_from(vec![
            (100, shard_selector(cluster, shard)),
            (10, selector(cluster, Component::Redis)),
        ])),
        topology_spread_constraints: Some(vec![spread(
            "topology.kubernetes.io/zone",
            shard_selector(cluster, shard),
        )]),
        containers: vec![container(cluster, redis)],
        volumes: Some(vec![
            secret_volume("config", &cluster.names.redis),
            empty_volume("data"),
        ]),
        ..PodSpec::default()
    }
}

/// Whatever starts is a new node without slots. One that remembered having been master would be master again, without
/// anything in it, before anybody missed it, and its replicas would copy that. A container that is started again in its
/// pod has an address that is known: it first waits until it was missed there, since nobody misses, and replaces, a
/// master where another answers.
fn container(cluster: &ValidatedCluster, redis: &ClusterRedis) -> Container {
    let (nodes, missed) = (
        format!("{}/{NODES}", files::DATA),
        2 * redis.down_after_seconds + 2,
    );
    let script =
        format!("if [ -s {nodes} ]; then sleep {missed}; : >{nodes}; fi; exec redis-server \"$@\"");
    let arguments = [
        "redis".to_owned(),
        format!("{CONFIG}/redis.conf"),
        "--cluster-announce-ip".to_owned(),
        "$(POD_IP)".to_owned(),
    ];
    Container {
        name: CONTAINER.into(),
        image: Some(redis.image.clone()),
        command: Some(vec!["sh".into(), "-c".into(), script]),
        args: Some(arguments.into()),
        env: Some(vec![
            field_of_pod("POD_IP", "status.podIP"),
            redis::password(cluster, "redis-admin-password"),
        ]),
        ports: Some(vec![port("redis", REDIS_PORT), port("bus", BUS_PORT)]),
        readiness_probe: Some(redis::probe(
            &ask(REDIS_PORT, &["-e", "EVAL", HAS_ITS_PART, "0"]),
            2,
            3,
        )),
        liveness_probe: Some(patient(&ask(REDIS_PORT, &["PING"]))),
        resources: Some(redis.resources.clone()),
        security_context: Some(container_security()),
        volume_mounts: Some(vec![
            mount("config", CONFIG, true),
            mount("data", files::DATA, false),
        ]),
        ..Container::default()
    }
}

/// Ready is a master with slots, and a replica that has what its master has: a drain of nodes waits until the pod that
/// was replaced could itself become master.
pub const HAS_ITS_PART: &str = "\
    if redis.call('INFO', 'replication'):find('master_link_status:up', 1, true) then return 'ready' end \
    if redis.call('CLUSTER', 'NODES'):find('myself,master %- %d+ %d+ %d+ %a+ %d') then return 'ready' end \
    return redis.error_reply('a node that has no part in the Cluster yet')";

#[cfg(test)]
mod tests;
