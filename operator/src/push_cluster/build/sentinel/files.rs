//! What Redis and Sentinel read at their start (redis.io/docs/latest/operate/oss_and_stack/management/sentinel).

use std::fmt::Write;

use sha1::{Digest, Sha1};

use super::{ADMIN_USER, GATEWAY_USER, PODS, REDIS_PORT, SENTINEL_PORT, hosts, master_name, pods};
use crate::push_cluster::build::persistence;
use crate::push_cluster::build::redis_tls;
use crate::push_cluster::build::secret::shown;
use crate::push_cluster::observe::Keys;
use crate::push_cluster::validate::{SentinelRedis, ValidatedCluster};

pub const DATA: &str = "/data";

/// Where nobody listens, in no pod: the master of a Redis and of a Sentinel that have just started. Sentinels find it
/// dead and elect one of the three, the one that has most.
const NOBODY: &str = "127.0.0.1 1";

/// As `broker.redis.username` says in docs/gateway-config.md.
const GATEWAY_RIGHTS: &str = "-@all +@connection +@hash +@set +@sortedset +@stream +@keyspace -@dangerous +info +eval \
                              +publish +subscribe +unsubscribe +time";
/// What gateways ask a Sentinel.
const GATEWAY_RIGHTS_AT_SENTINELS: &str = "-@all +@connection -@dangerous +subscribe +sentinel|master \
                                           +sentinel|get-master-addr-by-name";

/// The same for all pods. Nothing in it makes a master.
pub fn redis(cluster: &ValidatedCluster, keys: &Keys) -> String {
    let common = common(cluster, keys, "");
    format!("{common}masteruser {ADMIN_USER}\nreplicaof {NOBODY}\n")
}

/// What every Redis of several pods has: what it keeps on its disk, and users. `rights`: more of the gateways'. As whom a replica
/// comes to its master is not in it.
pub fn common(cluster: &ValidatedCluster, keys: &Keys, rights: &str) -> String {
    let prefix = &cluster.config.broker.redis.key_prefix;
    let Keys {
        redis_password,
        redis_admin_password,
        passwords,
        ..
    } = keys;
    let accepted = shown(&passwords.accepted(redis_password));
    format!(
        "bind * -::*\n\
         port {REDIS_PORT}\n\
         protected-mode no\n\
         dir {DATA}\n\
         {saves}\
         # What a sync left on the disk would be there again, and old, after a restart.\n\
         rdb-del-sync-files yes\n\
         # No waiting for further replicas: until the first has everything, one lost pod is all that there is.\n\
         repl-diskless-sync-delay 0\n\
         # What a replica may miss and still go on from there, instead of taking everything again.\n\
         repl-backlog-size 16mb\n\
         masterauth {redis_admin_password}\n\
         user default off\n\
         user {ADMIN_USER} on >{redis_admin_password} ~* &* +@all\n\
         user {GATEWAY_USER} on {accepted} ~{prefix}* resetchannels &{prefix}*{listen} {GATEWAY_RIGHTS}{rights}\n",
        saves = persistence::directives(cluster.redis_persistence.as_ref()),
        listen = listen(cluster),
    )
}

/// The right to the channels of backends.
fn listen(cluster: &ValidatedCluster) -> String {
    let redis = &cluster.config.broker.redis;
    let channels = redis.listen.iter();
    channels
        .map(|name| format!(" &{}{name}", redis.listen_prefix))
        .collect()
}

/// For the pod with this ordinal. Everybody knows everybody from the start: a Sentinel that knows of no others would
/// be a majority by itself.
pub fn sentinel(
    cluster: &ValidatedCluster,
    sentinel: &SentinelRedis,
    keys: &Keys,
    ordinal: usize,
) -> String {
    let Keys {
        redis_password,
        redis_admin_password,
        passwords,
        ..
    } = keys;
    let accepted = shown(&passwords.accepted(redis_password));
    let SentinelRedis {
        down_after_seconds, ..
    } = sentinel;
    let hosts = hosts(&cluster.names);
    let name = master_name(&cluster.names, &cluster.namespace);
    let majority = PODS / 2 + 1;
    let mut text = redis_tls::listening(cluster, SENTINEL_PORT);
    let _ = write!(
        text,
        "protected-mode no\n\
         dir {state}\n\
         sentinel resolve-hostnames yes\n\
         sentinel announce-hostnames yes\n\
         sentinel announce-ip {own}\n\
         sentinel announce-port {SENTINEL_PORT}\n\
         sentinel myid {id}\n\
         sentinel deny-scripts-reconfig yes\n\
         sentinel sentinel-user {ADMIN_USER}\n\
         sentinel sentinel-pass {redis_admin_password}\n\
         sentinel monitor {name} {NOBODY} {majority}\n\
         sentinel auth-user {name} {ADMIN_USER}\n\
         sentinel auth-pass {name} {redis_admin_password}\n\
         sentinel down-after-milliseconds {name} {down_after_seconds}000\n\
         # Also how long a pod that came back waits to be told its master.\n\
         sentinel failover-timeout {name} {failover_timeout}000\n\
         sentinel parallel-syncs {name} {replicas}\n\
         # A master that was away for less than that has lost everything all the same.\n\
         sentinel master-reboot-down-after-period {name} 1\n",
        state = super::STATE,
        own = hosts[ordinal],
        id = id(cluster, ordinal),
        failover_timeout = 2 * down_after_seconds,
        replicas = PODS - 1,
    );
    for (other, host) in hosts.iter().enumerate() {
        let _ = writeln!(text, "sentinel known-replica {name} {host} {REDIS_PORT}");
        if other != ordinal {
            let id = id(cluster, other);
            let _ = writeln!(
                text,
                "sentinel known-sentinel {name} {host} {SENTINEL_PORT} {id}"
            );
        }
    }
    let _ = write!(
        text,
        "user default off\n\
         user {ADMIN_USER} on >{redis_admin_password} ~* &* +@all\n\
         user {GATEWAY_USER} on {accepted} resetchannels &+switch-master {GATEWAY_RIGHTS_AT_SENTINELS}\n"
    );
    text
}

/// A Sentinel that came back under another id would count as a fourth, and with a fifth there is no majority of three.
fn id(cluster: &ValidatedCluster, ordinal: usize) -> String {
    let pod = &pods(&cluster.names)[ordinal];
    let digest = Sha1::digest(format!("{}/{pod}", cluster.uid));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
