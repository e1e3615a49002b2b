use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    Container, EnvVar, EnvVarSource, ExecAction, KeyToPath, PodSpec, Probe, ResourceRequirements,
    SecretKeySelector, SecretVolumeSource, Volume,
};

use super::parts::{mount, port};
use super::pods::template;
use super::secret::REDIS_FILE;
use super::sentinel::{ADMIN_USER, REDIS_PORT, ask, patient};
use super::{Component, container_security, labels, metadata, persistence, pod_security, selector};
use crate::push_cluster::validate::ValidatedCluster;

/// On pods of Redis: what they read at their start.
pub(super) const KEYS_HASH: &str = "pushcluster.io/keys-hash";

/// One Redis. Without a volume it keeps nothing: it carries messages, and what it forgets in a restart clients are told.
pub fn stateful_set(
    cluster: &ValidatedCluster,
    image: &str,
    resources: &ResourceRequirements,
    keys_hash: &str,
) -> StatefulSet {
    StatefulSet {
        metadata: metadata(cluster, &cluster.names.redis, Component::Redis),
        spec: Some(persistence::claim(
            cluster,
            StatefulSetSpec {
                replicas: Some(1),
                service_name: Some(cluster.names.redis.clone()),
                selector: selector(cluster, Component::Redis),
                template: template(
                    &cluster.redis_pods,
                    labels(cluster, Component::Redis),
                    (KEYS_HASH, keys_hash),
                    persistence::keeping(cluster, pod(cluster, image, resources)),
                ),
                ..StatefulSetSpec::default()
            },
        )),
        ..StatefulSet::default()
    }
}

fn pod(cluster: &ValidatedCluster, image: &str, resources: &ResourceRequirements) -> PodSpec {
    let kept = cluster.redis_persistence.as_ref();
    let mut arguments = ["/etc/redis/redis.conf", "--dir", "/data"]
        .map(String::from)
        .to_vec();
    arguments.extend(persistence::arguments(kept));
    arguments.extend(["--bind", "*"].map(String::from));
    let alive = match kept {
        // While it reads its snapshot it answers everything with an error, and would begin anew with every restart.
        Some(_) => patient(&ask(REDIS_PORT, &["PING"])),
        None => ping(10, 6),
    };
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(pod_security()),
        termination_grace_period_seconds: Some(10),
        containers: vec![Container {
            name: "redis".into(),
            image: Some(image.into()),
            command: Some(vec!["redis-server".into()]),
            args: Some(arguments),
            // Not the gateways', which may be another one before the container starts again.
            env: Some(vec![password(cluster, "redis-admin-password")]),
            ports: Some(vec![port("redis", 6379)]),
            readiness_probe: Some(ping(2, 3)),
            liveness_probe: Some(alive),
            resources: Some(resources.clone()),
            security_context: Some(container_security()),
            volume_mounts: Some(vec![
                mount("config", "/etc/redis", true),
                mount("data", "/data", false),
            ]),
            ..Container::default()
        }],
        volumes: Some(Vec::from_iter(
            [
                Some(Volume {
                    name: "config".into(),
                    secret: Some(SecretVolumeSource {
                        secret_name: Some(cluster.names.keys.clone()),
                        items: Some(vec![KeyToPath {
                            key: REDIS_FILE.into(),
                            path: "redis.conf".into(),
                            ..KeyToPath::default()
                        }]),
                        ..SecretVolumeSource::default()
                    }),
                    ..Volume::default()
                }),
                persistence::volume(cluster),
            ]
            .into_iter()
            .flatten(),
        )),
        ..PodSpec::default()
    }
}

/// redis-cli reads its password from here; `key` of the generated Secret.
pub(super) fn password(cluster: &ValidatedCluster, key: &str) -> EnvVar {
    EnvVar {
        name: "REDISCLI_AUTH".into(),
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: cluster.names.keys.clone(),
                key: key.into(),
                ..SecretKeySelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

/// `-e`: an answer that is an error, as while loading, is a failure.
fn ping(period_seconds: i32, failures: i32) -> Probe {
    let command = ["redis-cli", "--user", ADMIN_USER, "-e", "ping"].map(String::from);
    probe(&command, period_seconds, failures)
}

/// A container that becomes Redis, which does this first: `script` is of a shell, and ends where the next command may
/// begin.
pub(super) fn after(script: &str, container: Container) -> Container {
    let (rest, name) = match container.command.as_deref() {
        // It does something first already.
        Some([_, _, rest]) => (rest.clone(), None),
        _ => (
            "exec redis-server \"$@\"".to_owned(),
            Some("redis".to_owned()),
        ),
    };
    let arguments = name.into_iter().chain(container.args.into_iter().flatten());
    Container {
        command: Some(vec!["sh".into(), "-c".into(), format!("{script}{rest}")]),
        args: Some(arguments.collect()),
        ..container
    }
}

pub(super) fn probe(command: &[String], period_seconds: i32, failures: i32) -> Probe {
    Probe {
        exec: Some(ExecAction {
            command: Some(command.to_vec()),
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(3),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}
