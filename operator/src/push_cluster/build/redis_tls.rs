//! Redis and Sentinels that speak TLS and nothing else (docs/decisions/0018).

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    Container, KeyToPath, PodTemplateSpec, Probe, Secret, SecretVolumeSource, Volume,
};
use sha1::{Digest, Sha1};

use super::parts::{field_of_pod, mount, variable};
use super::sentinel::{REDIS_PORT, SECURELY};
use super::{Component, Objects, metadata};
use crate::certificate::{BUNDLE, Held, LEAF, LEAF_KEY};
use crate::push_cluster::redis_tls::server_name;
use crate::push_cluster::validate::{ValidatedCluster, ValidatedRedis};

/// On pods: whom they trust. They read it at their start.
pub const TRUST: &str = "pushcluster.io/redis-ca-hash";

const VOLUME: &str = "tls";
/// Where Redis and Sentinel find it.
const DIRECTORY: &str = "/etc/redis-tls";

fn files() -> [(&'static str, String); 3] {
    let file = |name: &str| format!("{DIRECTORY}/{name}");
    [
        ("tls-cert-file", file(LEAF)),
        ("tls-key-file", file(LEAF_KEY)),
        ("tls-ca-cert-file", file(BUNDLE)),
    ]
}

/// How a Redis listens with TLS. Who comes has a password; of a certificate it would only be said that it is ours, and every
/// user of a Redis of ours would need one.
fn settings(port: u16, is_cluster: bool) -> Vec<(&'static str, String)> {
    let mut settings = vec![("port", "0".to_owned()), ("tls-port", port.to_string())];
    settings.extend(files());
    settings.push(("tls-auth-clients", "no".to_owned()));
    // Who goes to a master, and in a Sentinel: who goes to any Redis or Sentinel.
    settings.push(("tls-replication", "yes".to_owned()));
    if is_cluster {
        settings.push(("tls-cluster", "yes".to_owned()));
    }
    settings
}

/// Where a Sentinel listens, as lines of its configuration.
pub(super) fn listening(cluster: &ValidatedCluster, port: u16) -> String {
    if !cluster.redis_tls {
        return format!("port {port}\n");
    }
    let settings = settings(port, false).into_iter();
    settings
        .map(|(name, value)| format!("{name} {value}\n"))
        .collect()
}

/// What whoever trusts these has in [`TRUST`].
pub fn hash(bundle: &str) -> String {
    let digest = Sha1::digest(bundle);
    let bytes = digest.iter().take(8);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// Everything that was built for a Redis without TLS, for one with.
pub fn secure(objects: &mut Objects, cluster: &ValidatedCluster, held: &Held) {
    let trust = hash(&held.bundle);
    if let Some(redis) = &mut objects.redis {
        redis.certificate = Some(secret(cluster, held));
        for set in &mut redis.stateful_sets {
            secure_set(set, cluster, &trust);
        }
    }
    if let Some(spec) = &mut objects.deployment.spec {
        trusting(&mut spec.template, &trust);
    }
}

fn secret(cluster: &ValidatedCluster, held: &Held) -> Secret {
    Secret {
        metadata: metadata(cluster, &cluster.names.redis_tls, Component::Redis),
        type_: Some("Opaque".into()),
        data: Some(held.entries()),
        ..Secret::default()
    }
}

fn trusting(template: &mut PodTemplateSpec, trust: &str) {
    let metadata = template.metadata.get_or_insert_default();
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(TRUST.to_owned(), trust.to_owned());
}

fn secure_set(set: &mut StatefulSet, cluster: &ValidatedCluster, trust: &str) {
    let Some(spec) = &mut set.spec else { return };
    let is_alone = matches!(cluster.redis, ValidatedRedis::Standalone { .. });
    // A Redis by itself goes to nobody: others to trust are no reason to restart it.
    if !is_alone {
        trusting(&mut spec.template, trust);
    }
    let pod = spec.template.spec.get_or_insert_default();
    pod.volumes.get_or_insert_default().push(volume(cluster));
    for container in &mut pod.containers {
        let mounts = container.volume_mounts.get_or_insert_default();
        mounts.push(mount(VOLUME, DIRECTORY, true));
        for probe in [
            &mut container.readiness_probe,
            &mut container.liveness_probe,
        ] {
            ask_with_tls(probe);
        }
        if container.name == "redis" {
            configure(container, cluster);
        }
    }
}

fn volume(cluster: &ValidatedCluster) -> Volume {
    // Not the key with which certificates are signed.
    let items = [BUNDLE, LEAF, LEAF_KEY].map(|key| KeyToPath {
        key: key.into(),
        path: key.into(),
        ..KeyToPath::default()
    });
    Volume {
        name: VOLUME.into(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(cluster.names.redis_tls.clone()),
            items: Some(items.into()),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn configure(container: &mut Container, cluster: &ValidatedCluster) {
    let is_cluster = matches!(cluster.redis, ValidatedRedis::Cluster(_));
    let arguments = container.args.get_or_insert_default();
    for (name, value) in settings(REDIS_PORT, is_cluster) {
        arguments.extend([format!("--{name}"), value]);
    }
    if matches!(cluster.redis, ValidatedRedis::Sentinel(_)) {
        let flags = format!("--tls --cacert {DIRECTORY}/{BUNDLE}");
        let variables = container.env.get_or_insert_default();
        variables.push(variable(SECURELY, flags));
    }
    if is_cluster {
        // Nodes still find each other by address. Gateways come by the name, which is in the certificate.
        let service = server_name(&cluster.names, &cluster.namespace);
        let name = format!("$(POD_NAME).{service}");
        arguments.extend(["--cluster-announce-hostname".to_owned(), name]);
        let variables = container.env.get_or_insert_default();
        variables.push(field_of_pod("POD_NAME", "metadata.name"));
    }
}

/// On its own loopback a probe need not find out whom it speaks to, and its certificate may change a moment before Redis
/// shows it. With a file named, it does not read all that browsers trust, which takes five times as long as all the rest.
fn ask_with_tls(probe: &mut Option<Probe>) {
    let exec = probe.as_mut().and_then(|probe| probe.exec.as_mut());
    if let Some(command) = exec.and_then(|exec| exec.command.as_mut()) {
        let first = command.len().min(1);
        let trusted = format!("{DIRECTORY}/{BUNDLE}");
        let words = ["--tls", "--insecure", "--cacert", trusted.as_str()];
        command.splice(first..first, words.map(String::from));
    }
}

#[cfg(test)]
mod tests;
