use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Component, metadata, selector_labels};
use crate::push_cluster::validate::{ValidatedCluster, ValidatedRedis};
use crate::scaling::SERVING;

/// What clients connect to.
pub fn clients(cluster: &ValidatedCluster) -> Service {
    let mut metadata = metadata(cluster, &cluster.names.service, Component::Gateway);
    if !cluster.service.annotations.is_empty() {
        metadata.annotations = Some(cluster.service.annotations.clone());
    }
    // A gateway that is about to go has another value, and gets no new clients.
    let mut selector = selector_labels(cluster, Component::Gateway);
    selector.insert(SERVING.into(), "true".into());
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(format!("{:?}", cluster.service.type_)),
            selector: Some(selector),
            ports: Some(vec![port("clients", cluster.service.port)]),
            external_traffic_policy: cluster
                .service
                .external_traffic_policy
                .map(|policy| format!("{policy:?}")),
            load_balancer_class: cluster.service.load_balancer_class.clone(),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// A name and an admin port for every gateway, ready or not: whoever asks how one is must reach a bad one too.
pub fn nodes(cluster: &ValidatedCluster) -> Service {
    Service {
        metadata: metadata(cluster, &cluster.names.nodes_service, Component::Gateway),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            publish_not_ready_addresses: Some(true),
            selector: Some(selector_labels(cluster, Component::Gateway)),
            ports: Some(vec![port("admin", 9090)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

pub fn redis(cluster: &ValidatedCluster) -> Service {
    let is_sentinel = matches!(cluster.redis, ValidatedRedis::Sentinel(_));
    let is_cluster = matches!(cluster.redis, ValidatedRedis::Cluster(_));
    let mut ports = vec![port("redis", 6379)];
    if is_sentinel {
        ports.push(port("sentinel", 26379));
    }
    Service {
        metadata: metadata(cluster, &cluster.names.redis, Component::Redis),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            // Before any of them is ready they have to find each other, and gateways ask every node of a Cluster.
            publish_not_ready_addresses: (is_sentinel || is_cluster).then_some(true),
            selector: Some(selector_labels(cluster, Component::Redis)),
            ports: Some(ports),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn port(name: &str, port: i32) -> ServicePort {
    ServicePort {
        name: Some(name.into()),
        port,
        protocol: Some("TCP".into()),
        target_port: Some(IntOrString::String(name.into())),
        ..ServicePort::default()
    }
}
