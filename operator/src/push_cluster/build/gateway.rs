use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{
    ConfigMapProjection, ConfigMapVolumeSource, Container, HTTPGetAction, KeyToPath, PodSpec,
    Probe, ProjectedVolumeSource, SecretProjection, Volume, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::parts::{field_of_pod, mount, port, spread};
use super::pods::template;
use super::{
    Component, FILES, config, container_security, labels, metadata, pod_security, selector,
};
use crate::certificate::BUNDLE;
use crate::push_cluster::named::Source;
use crate::push_cluster::validate::{ValidatedCluster, ValidatedRedis};
use crate::scaling::SERVING;

const CONFIG_DIRECTORY: &str = "/etc/pushcluster/config";

pub fn deployment(cluster: &ValidatedCluster, config_hash: &str) -> Deployment {
    let mut labels = labels(cluster, Component::Gateway);
    labels.insert(SERVING.into(), "true".into());
    let whole = |number| Some(IntOrString::Int(number));
    Deployment {
        metadata: metadata(cluster, &cluster.names.gateway, Component::Gateway),
        spec: Some(DeploymentSpec {
            replicas: Some(cluster.replicas),
            revision_history_limit: Some(3),
            selector: selector(cluster, Component::Gateway),
            // A new gateway takes clients before an old one gives them up.
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: whole(1),
                    max_unavailable: whole(0),
                }),
            }),
            template: template(
                &cluster.gateway_pods,
                labels,
                ("pushcluster.io/config-hash", config_hash),
                pod(cluster),
            ),
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn pod(cluster: &ValidatedCluster) -> PodSpec {
    PodSpec {
        service_account_name: Some(cluster.names.gateway.clone()),
        automount_service_account_token: Some(false),
        // The variables would be one for each Service of the namespace, and some would look like settings.
        enable_service_links: Some(false),
        security_context: Some(pod_security()),
        termination_grace_period_seconds: Some(cluster.grace_seconds),
        topology_spread_constraints: Some(vec![spread(
            "kubernetes.io/hostname",
            selector(cluster, Component::Gateway),
        )]),
        containers: vec![container(cluster)],
        volumes: Some(vec![
            Volume {
                name: "config".into(),
                config_map: Some(ConfigMapVolumeSource {
                    name: cluster.names.config.clone(),
                    ..ConfigMapVolumeSource::default()
                }),
                ..Volume::default()
            },
            Volume {
                name: "keys".into(),
                projected: Some(ProjectedVolumeSource {
                    sources: Some(files(cluster)),
                    ..ProjectedVolumeSource::default()
                }),
                ..Volume::default()
            },
        ]),
        ..PodSpec::default()
    }
}

fn container(cluster: &ValidatedCluster) -> Container {
    Container {
        name: "gateway".into(),
        image: Some(cluster.gateway_image.clone()),
        args: Some(vec![
            "--config".into(),
            format!("{CONFIG_DIRECTORY}/{}", config::FILE),
        ]),
        env: Some(vec![field_of_pod(
            "PUSHCLUSTER__NODE__NAME",
            "metadata.name",
        )]),
        ports: Some(vec![port("clients", 8080), port("admin", 9090)]),
        readiness_probe: Some(probe("/ready", 2, 2)),
        liveness_probe: Some(probe("/live", 10, 3)),
        resources: Some(cluster.gateway_resources.clone()),
        security_context: Some(container_security()),
        volume_mounts: Some(vec![
            mount("config", CONFIG_DIRECTORY, true),
            mount("keys", FILES, true),
        ]),
        ..Container::default()
    }
}

fn probe(path: &str, period_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String("admin".into()),
            scheme: Some("HTTP".into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(3),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// Each file that the config names, from whichever object holds it.
fn files(cluster: &ValidatedCluster) -> Vec<VolumeProjection> {
    let own = &cluster.names.keys;
    let mut files = vec![secret_file(own, "api-keys", "api-key")];
    match &cluster.redis {
        ValidatedRedis::Standalone { .. }
        | ValidatedRedis::Sentinel(_)
        | ValidatedRedis::Cluster(_) => {
            files.push(secret_file(own, "redis-password", "redis-password"));
        }
        ValidatedRedis::External => {}
    }
    if cluster.redis_tls {
        let certificate = &cluster.names.redis_tls;
        files.push(secret_file(certificate, BUNDLE, "redis-ca.crt"));
    }
    files.extend(cluster.named.iter().map(|one| match &one.source {
        Source::Secret(at) => secret_file(&at.name, &at.key, &one.path),
        Source::ConfigMap(at) => VolumeProjection {
            config_map: Some(ConfigMapProjection {
                name: at.name.clone(),
                items: Some(vec![item(&at.key, &one.path)]),
                ..ConfigMapProjection::default()
            }),
            ..VolumeProjection::default()
        },
    }));
    files
}

fn secret_file(secret: &str, key: &str, path: &str) -> VolumeProjection {
    VolumeProjection {
        secret: Some(SecretProjection {
            name: secret.into(),
            items: Some(vec![item(key, path)]),
            ..SecretProjection::default()
        }),
        ..VolumeProjection::default()
    }
}

fn item(key: &str, path: &str) -> KeyToPath {
    KeyToPath {
        key: key.into(),
        path: path.into(),
        ..KeyToPath::default()
    }
}
