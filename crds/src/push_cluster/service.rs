//! The Service that clients connect to.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The Service that clients connect to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.externalTrafficPolicy) || self.type != 'ClusterIP'", "message": "spec.service.externalTrafficPolicy is for types NodePort and LoadBalancer: change the type, or remove it"},
    {"rule": "!has(self.loadBalancerClass) || self.type == 'LoadBalancer'", "message": "spec.service.loadBalancerClass is for type LoadBalancer: change the type, or remove it"},
    {"rule": "self.type != 'LoadBalancer' || oldSelf.type != 'LoadBalancer' || (has(self.loadBalancerClass) ? has(oldSelf.loadBalancerClass) && self.loadBalancerClass == oldSelf.loadBalancerClass : !has(oldSelf.loadBalancerClass))", "message": "spec.service.loadBalancerClass cannot be changed while there is a load balancer: set type: ClusterIP first, then type: LoadBalancer with the class that you want"},
]))]
pub struct ServiceSpec {
    /// How it is reached: `ClusterIP` from inside, `NodePort` on every node, `LoadBalancer` through your cloud's.
    #[serde(rename = "type")]
    pub type_: ServiceType,
    /// Its TCP port for WebSocket clients and the HTTP API; 443 is usual with `gateway.tls`.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
    /// Annotations for the cloud's load balancer.
    pub annotations: BTreeMap<String, String>,
    /// `Local` keeps the clients' addresses, which `limits.maxConnectionsPerAddress` counts by, and sends clients only to
    /// nodes that have a gateway. Default: Kubernetes' own, `Cluster`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<TrafficPolicy>,
    /// Which of several load balancer implementations takes it. Default: the cluster's default. It stays as it was made.
    #[schemars(length(min = 1, max = 317))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer_class: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    #[default]
    ClusterIP,
    NodePort,
    LoadBalancer,
}

/// What a node does with a client that comes to it from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TrafficPolicy {
    /// Sends it to any gateway, under the node's own address.
    Cluster,
    /// Sends it to a gateway on this node, under the client's address.
    Local,
}

impl Default for ServiceSpec {
    fn default() -> Self {
        ServiceSpec {
            type_: ServiceType::ClusterIP,
            port: 80,
            annotations: BTreeMap::new(),
            external_traffic_policy: None,
            load_balancer_class: None,
        }
    }
}
