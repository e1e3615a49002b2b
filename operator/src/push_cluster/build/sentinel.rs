//! Three pods of one Redis and one Sentinel each. Only Sentinels make a master (docs/decisions/0012).

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy};
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, EnvVar, PodDNSConfig, PodDNSConfigOption, PodSpec, Probe,
    Secret, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::parts::{apart_from, field_of_pod, mount, port, secret_volume, spread, variable};
use super::pods::template;
use super::{
    Component, Names, container_security, labels, metadata, persistence, pod_security, redis,
    selector,
};
use crate::push_cluster::observe::Keys;
use crate::push_cluster::validate::{SentinelRedis, ValidatedCluster};

pub(super) mod files;

/// A master and two replicas: one of them may go, and two Sentinels are still a majority.
pub const PODS: usize = 3;
pub const REDIS_PORT: u16 = 6379;
pub const SENTINEL_PORT: u16 = 26379;
/// The ACL user of gateways, at Redis and at Sentinels.
pub const GATEWAY_USER: &str = "gateway";
/// The ACL user of replicas, Sentinels and probes.
pub const ADMIN_USER: &str = "admin";

const CONFIG: &str = "/etc/redis";
const STATE: &str = "/sentinel";

/// The names that Redis and Sentinel go by, also in what Sentinels tell gateways: those of the headless Service, which
/// outlive every pod's address. All who use them are in its namespace, and there this is one lookup; with the
/// namespace in it, it would be three, one after the other.
pub fn hosts(names: &Names) -> [String; PODS] {
    pods(names).map(|pod| format!("{pod}.{}", names.redis))
}

fn pods(names: &Names) -> [String; PODS] {
    std::array::from_fn(|ordinal| format!("{}-{ordinal}", names.redis))
}

/// What the Sentinels call the master. Another for each PushCluster: Sentinels that meet, because a pod got an address
/// that was another's before, take each other for their own by this name alone.
pub fn master_name(names: &Names, namespace: &str) -> String {
    // No namespace has a dot in its name.
    format!("{namespace}.{}", names.instance)
}

/// What the pods begin with; passwords are in nothing else of theirs.
pub fn secret(cluster: &ValidatedCluster, sentinel: &SentinelRedis, keys: &Keys) -> Secret {
    let mut data = BTreeMap::from([("redis.conf".to_owned(), files::redis(cluster, keys))]);
    for (ordinal, pod) in pods(&cluster.names).into_iter().enumerate() {
        let text = files::sentinel(cluster, sentinel, keys, ordinal);
        data.insert(format!("{pod}.conf"), text);
    }
    let data = data.into_iter();
    Secret {
        metadata: metadata(cluster, &cluster.names.redis, Component::Redis),
        type_: Some("Opaque".into()),
        data: Some(
            data.map(|(name, text)| (name, ByteString(text.into_bytes())))
                .collect(),
        ),
        ..Secret::default()
    }
}

/// `files_hash`: of what the pods read at their start.
pub fn stateful_set(
    cluster: &ValidatedCluster,
    sentinel: &SentinelRedis,
    files_hash: &str,
) -> StatefulSet {
    StatefulSet {
        metadata: metadata(cluster, &cluster.names.redis, Component::Redis),
        spec: Some(persistence::claim(
            cluster,
            StatefulSetSpec {
                replicas: i32::try_from(PODS).ok(),
                service_name: Some(cluster.names.redis.clone()),
                // One after the other, the first would wait to be ready for Sentinels that are still to come.
                pod_management_policy: Some("Parallel".into()),
                // By number, the master would be replaced at some time, and another one that is still to be replaced elected.
                update_strategy: Some(StatefulSetUpdateStrategy {
                    type_: Some("OnDelete".into()),
                    ..StatefulSetUpdateStrategy::default()
                }),
                selector: selector(cluster, Component::Redis),
                template: template(
                    &cluster.redis_pods,
                    labels(cluster, Component::Redis),
                    (redis::KEYS_HASH, files_hash),
                    persistence::keeping(cluster, pod(cluster, sentinel)),
                ),
                ..StatefulSetSpec::default()
            },
        )),
        ..StatefulSet::default()
    }
}

fn pod(cluster: &ValidatedCluster, sentinel: &SentinelRedis) -> PodSpec {
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(pod_security()),
        // A master that ends waits up to ten seconds for its replicas to have everything.
        termination_grace_period_seconds: Some(30),
        affinity: Some(apart_from(vec![(100, selector(cluster, Component::Redis))])),
        topology_spread_constraints: Some(vec![spread(
            "topology.kubernetes.io/zone",
            selector(cluster, Component::Redis),
        )]),
        dns_config: Some(impatient_names()),
        init_containers: Some(vec![copy(sentinel)]),
        containers: vec![
            redis_container(cluster, sentinel),
            sentinel_container(cluster, sentinel),
        ],
        volumes: Some(Vec::from_iter(
            [
                Some(secret_volume("config", &cluster.names.redis)),
                persistence::volume(cluster),
                Some(Volume {
                    name: "sentinel".into(),
                    // Passwords are in it, so it is on no disk.
                    empty_dir: Some(EmptyDirVolumeSource {
                        medium: Some("Memory".into()),
                        size_limit: Some(Quantity("1Mi".into())),
                    }),
                    ..Volume::default()
                }),
            ]
            .into_iter()
            .flatten(),
        )),
        ..PodSpec::default()
    }
}

/// A Sentinel does nothing else while it looks a name up, and trusts itself with no failover for half a minute when
/// that took two seconds (its tilt mode). The resolver's default is five seconds, and five again, when the node that
/// answers is the one that was lost.
fn impatient_names() -> PodDNSConfig {
    let option = |name: &str| PodDNSConfigOption {
        name: Some(name.into()),
        value: Some("1".into()),
    };
    PodDNSConfig {
        options: Some(vec![option("timeout"), option("attempts")]),
        ..PodDNSConfig::default()
    }
}

/// The flags of `redis-cli` for TLS; not set without.
pub(super) const SECURELY: &str = "SECURELY";

/// Stays away as long as a Sentinel takes this pod for the master. One that is back, with nothing or with what is old, is a
/// replica in the master's place: it takes the Sentinels half a minute to act on that, and by then the others may have
/// been without a master for too long to be made one (ten times `down-after-milliseconds` before it was down, in
/// `sentinelSelectSlave`), which nothing changes any more. While nobody answers there it is down, and another is elected.
/// How it asks them with TLS is in the variable [`SECURELY`].
const UNTIL_REPLACED: &str = r#"said=
while
  taken=
  for sentinel in $SENTINELS; do
    answer=$(timeout 2 redis-cli -h "$sentinel" -p "$SENTINEL_PORT" --user "$ADMIN" $SECURELY \
      SENTINEL GET-MASTER-ADDR-BY-NAME "$MASTER" 2>&1)
    case $answer in "$OWN_NAME"*) taken=$sentinel ;; esac
  done
  [ -n "$taken" ]
do
  [ -n "$said" ] || echo "waiting until another Redis is master: $taken still takes this one for it"
  said=yes
  sleep 1
done
"#;

/// A Sentinel writes what it learns into its configuration, so each pod needs one of its own that can be written.
fn copy(sentinel: &SentinelRedis) -> Container {
    let from = format!("{CONFIG}/$(POD_NAME).conf");
    let to = format!("{STATE}/sentinel.conf");
    Container {
        name: "sentinel-config".into(),
        command: Some(vec!["cp".into(), from, to]),
        env: Some(vec![pod_name()]),
        volume_mounts: Some(vec![
            mount("config", CONFIG, true),
            mount("sentinel", STATE, false),
        ]),
        ..init_container(sentinel)
    }
}

fn init_container(sentinel: &SentinelRedis) -> Container {
    Container {
        image: Some(sentinel.image.clone()),
        resources: Some(sentinel.sentinel_resources.clone()),
        security_context: Some(container_security()),
        ..Container::default()
    }
}

fn redis_container(cluster: &ValidatedCluster, sentinel: &SentinelRedis) -> Container {
    let names = &cluster.names;
    let own_name = format!("$(POD_NAME).{}", names.redis);
    let arguments = [
        format!("{CONFIG}/redis.conf"),
        "--replica-announce-ip".into(),
        own_name.clone(),
    ];
    let container = Container {
        name: "redis".into(),
        image: Some(sentinel.image.clone()),
        args: Some(arguments.into()),
        env: Some(vec![
            pod_name(),
            redis::password(cluster, "redis-admin-password"),
            variable("OWN_NAME", own_name),
            variable("SENTINELS", hosts(names).join(" ")),
            variable("SENTINEL_PORT", SENTINEL_PORT.to_string()),
            variable("MASTER", master_name(names, &cluster.namespace)),
            variable("ADMIN", ADMIN_USER.into()),
        ]),
        ports: Some(vec![port("redis", REDIS_PORT)]),
        readiness_probe: Some(redis::probe(
            &ask(REDIS_PORT, &["-e", "EVAL", IN_STEP, "0"]),
            2,
            3,
        )),
        liveness_probe: Some(patient(&ask(REDIS_PORT, &["PING"]))),
        resources: Some(sentinel.resources.clone()),
        security_context: Some(container_security()),
        // Redis must not write its configuration: a Sentinel tells a new master to remember that it is one, and it
        // would be one again, and empty, after a restart.
        volume_mounts: Some(vec![
            mount("config", CONFIG, true),
            mount("data", files::DATA, false),
        ]),
        ..Container::default()
    };
    redis::after(UNTIL_REPLACED, container)
}

fn sentinel_container(cluster: &ValidatedCluster, sentinel: &SentinelRedis) -> Container {
    Container {
        name: "sentinel".into(),
        image: Some(sentinel.image.clone()),
        command: Some(vec!["redis-server".into()]),
        args: Some(vec![format!("{STATE}/sentinel.conf"), "--sentinel".into()]),
        env: Some(vec![redis::password(cluster, "redis-admin-password")]),
        ports: Some(vec![port("sentinel", SENTINEL_PORT)]),
        readiness_probe: Some(redis::probe(&ask(SENTINEL_PORT, &["-e", "PING"]), 2, 3)),
        liveness_probe: Some(patient(&ask(SENTINEL_PORT, &["PING"]))),
        resources: Some(sentinel.sentinel_resources.clone()),
        security_context: Some(container_security()),
        volume_mounts: Some(vec![mount("sentinel", STATE, false)]),
        ..Container::default()
    }
}

/// A master that hangs is replaced by the Sentinels; to restart a Redis that was only slow throws away what it holds.
/// So two minutes. Without `-e`: one that takes over a large log answers with an error for a while, and is alive.
pub(super) fn patient(command: &[String]) -> Probe {
    Probe {
        timeout_seconds: Some(15),
        ..redis::probe(command, 30, 4)
    }
}

/// Ready is a master, and a replica that has what its master has: a rollout waits until the pod that was replaced could
/// itself become master, and so does a drain of nodes.
const IN_STEP: &str = "\
    local is = redis.call('INFO', 'replication') \
    if is:find('role:master', 1, true) or is:find('master_link_status:up', 1, true) then return 'ready' end \
    return redis.error_reply('a replica that has no master yet')";

pub(super) fn ask(port: u16, command: &[&str]) -> Vec<String> {
    let port = port.to_string();
    let begin = ["redis-cli", "-p", &port, "--user", ADMIN_USER];
    begin
        .iter()
        .chain(command)
        .map(ToString::to_string)
        .collect()
}

fn pod_name() -> EnvVar {
    field_of_pod("POD_NAME", "metadata.name")
}

#[cfg(test)]
mod started;
#[cfg(test)]
mod tests;
