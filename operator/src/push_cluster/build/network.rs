use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Component, metadata, selector, selector_labels};
use crate::push_cluster::validate::{ValidatedCluster, ValidatedRedis};

/// The label that the API server itself gives every namespace.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Clients come from everywhere. The admin port can end every connection of a gateway: it is for the operator and for whoever
/// reads metrics. A kubelet's probes are let through by every network that enforces policies.
pub fn gateways(cluster: &ValidatedCluster) -> NetworkPolicy {
    let mut watchers = vec![operator(cluster)];
    watchers.extend(monitoring(&cluster.network_policies.monitoring_namespaces));
    policy(
        cluster,
        &cluster.names.gateway,
        Component::Gateway,
        vec![
            NetworkPolicyIngressRule {
                from: None,
                ports: Some(vec![port("clients")]),
            },
            NetworkPolicyIngressRule {
                from: Some(watchers),
                ports: Some(vec![port("admin")]),
            },
        ],
    )
}

/// Whoever speaks to Redis can publish to every client. None where Redis is not the operator's.
pub fn redis(cluster: &ValidatedCluster) -> Option<NetworkPolicy> {
    let mut ports = vec![port("redis")];
    match cluster.redis {
        ValidatedRedis::Standalone { .. } | ValidatedRedis::Cluster(_) => {}
        ValidatedRedis::Sentinel(_) => ports.push(port("sentinel")),
        ValidatedRedis::External => return None,
    }
    let rules = vec![
        NetworkPolicyIngressRule {
            from: Some(vec![
                pods(selector_labels(cluster, Component::Gateway)),
                operator(cluster),
            ]),
            ports: Some(ports),
        },
        // Replicas, Sentinels and nodes of a Cluster find each other on ports of their own.
        NetworkPolicyIngressRule {
            from: Some(vec![pods(selector_labels(cluster, Component::Redis))]),
            ports: None,
        },
    ];
    let name = &cluster.names.redis;
    Some(policy(cluster, name, Component::Redis, rules))
}

/// Only what comes in: what gateways connect to (an external Redis, a key server) is the user's to know.
fn policy(
    cluster: &ValidatedCluster,
    name: &str,
    component: Component,
    ingress: Vec<NetworkPolicyIngressRule>,
) -> NetworkPolicy {
    NetworkPolicy {
        metadata: metadata(cluster, name, component),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(cluster, component)),
            policy_types: Some(vec!["Ingress".into()]),
            ingress: Some(ingress),
            egress: None,
        }),
    }
}

/// By the name that the pod's container gives it.
fn port(name: &str) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::String(name.into())),
        protocol: Some("TCP".into()),
        end_port: None,
    }
}

/// In the PushCluster's namespace.
fn pods(labels: BTreeMap<String, String>) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        pod_selector: Some(LabelSelector {
            match_labels: Some(labels),
            ..LabelSelector::default()
        }),
        ..NetworkPolicyPeer::default()
    }
}

/// In its own namespace: anybody may give pods the operator's label elsewhere.
fn operator(cluster: &ValidatedCluster) -> NetworkPolicyPeer {
    let labels = [("app.kubernetes.io/name", "pushcluster-operator")];
    NetworkPolicyPeer {
        namespace_selector: Some(namespaces(std::slice::from_ref(
            &cluster.operator_namespace,
        ))),
        ..pods(labels.map(|(key, value)| (key.into(), value.into())).into())
    }
}

/// None where no namespace is named: a selector of no namespace is refused by the API server.
fn monitoring(names: &[String]) -> Option<NetworkPolicyPeer> {
    (!names.is_empty()).then(|| NetworkPolicyPeer {
        namespace_selector: Some(namespaces(names)),
        ..NetworkPolicyPeer::default()
    })
}

fn namespaces(names: &[String]) -> LabelSelector {
    LabelSelector {
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: NAMESPACE_NAME.into(),
            operator: "In".into(),
            values: Some(names.to_vec()),
        }]),
        ..LabelSelector::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::push_cluster::fixture::built;

    /// The rules of a policy, shortened: who is let in, and to which ports.
    fn rules(policy: impl serde::Serialize) -> Vec<String> {
        let policy = serde_json::to_value(policy).unwrap();
        let peer = |peer: &Value| {
            let namespaces = &peer["namespaceSelector"]["matchExpressions"][0]["values"];
            let labels = &peer["podSelector"]["matchLabels"];
            let pods = [
                "app.kubernetes.io/name",
                "app.kubernetes.io/instance",
                "app.kubernetes.io/component",
            ]
            .iter()
            .filter_map(|key| labels[key].as_str());
            format!("{namespaces}/{}", pods.collect::<Vec<_>>().join(","))
        };
        let list = |list: &Value, each: &dyn Fn(&Value) -> String| match list.as_array() {
            None => "any".to_owned(),
            Some(list) => list.iter().map(each).collect::<Vec<_>>().join(" "),
        };
        let ingress = policy["spec"]["ingress"].as_array().unwrap();
        let text = |value: &Value| value["port"].as_str().unwrap().to_owned();
        ingress
            .iter()
            .map(|rule| {
                let (from, to) = (list(&rule["from"], &peer), list(&rule["ports"], &text));
                format!("{from} to {to}")
            })
            .collect()
    }

    const OPERATOR: &str = "[\"operators\"]/pushcluster-operator";
    const GATEWAYS: &str = "null/pushcluster,demo,gateway";
    const REDIS: &str = "null/pushcluster,demo,redis to any";

    #[test]
    fn the_admin_port_is_for_the_operator_and_the_monitoring() {
        for (spec, watchers) in [
            (json!({}), format!("{OPERATOR} [\"monitoring\"]/")),
            (
                json!({"networkPolicies": {"monitoringNamespaces": ["a", "b"]}}),
                format!("{OPERATOR} [\"a\",\"b\"]/"),
            ),
            (
                json!({"networkPolicies": {"monitoringNamespaces": []}}),
                OPERATOR.to_owned(),
            ),
        ] {
            let policy = built(&spec).gateway_policy.unwrap();
            let admin = format!("{watchers} to admin");
            assert_eq!(rules(policy), ["any to clients".to_owned(), admin]);
        }
    }

    #[test]
    fn redis_is_for_gateways_the_operator_and_redis() {
        for (mode, ports) in [("Standalone", "redis"), ("Sentinel", "redis sentinel")] {
            let policy = built(&json!({"redis": {"mode": mode}})).redis_policy;
            let others = format!("{GATEWAYS} {OPERATOR} to {ports}");
            assert_eq!(rules(policy.unwrap()), [others, REDIS.to_owned()], "{mode}");
        }
        let external = json!({"redis": {"mode": "External", "external": {"host": "cache"}}});
        assert_eq!(built(&external).redis_policy, None);
    }

    /// A policy that selects no pod protects none, and a port that no container names lets nobody in.
    #[test]
    fn policies_select_pods_that_have_the_ports() {
        for mode in ["Standalone", "Sentinel", "Cluster"] {
            let objects = built(&json!({"redis": {"mode": mode}}));
            let set = objects.redis.unwrap().stateful_sets.remove(0);
            let redis = set.spec.unwrap().template;
            let gateway = objects.deployment.spec.unwrap().template;
            for (policy, template) in [
                (objects.gateway_policy, gateway),
                (objects.redis_policy, redis),
            ] {
                let spec = policy.unwrap().spec.unwrap();
                let labels = template.metadata.unwrap().labels.unwrap();
                let selected = spec.pod_selector.unwrap().match_labels.unwrap();
                assert!(!selected.is_empty());
                for (key, value) in &selected {
                    assert_eq!(labels.get(key), Some(value));
                }
                let containers = template.spec.unwrap().containers;
                let named: Vec<_> = containers
                    .iter()
                    .flat_map(|container| container.ports.iter().flatten())
                    .map(|port| port.name.clone().unwrap())
                    .collect();
                for port in spec.ingress.unwrap().into_iter().flat_map(|r| r.ports) {
                    for port in port {
                        let text = serde_json::to_value(port.port).unwrap();
                        let name = text.as_str().unwrap().to_owned();
                        assert!(named.contains(&name), "{name} is not in {named:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn without_them_everybody_gets_in() {
        let objects = built(&json!({"networkPolicies": {"enabled": false}}));
        assert_eq!((objects.gateway_policy, objects.redis_policy), (None, None));
    }
}
