//! Every rule with a manifest that breaks it, and what its author reads then.

use std::collections::BTreeSet;

use crds::PushCluster;
use kube::CustomResourceExt;
use kube::core::cel::{validate_cel, validate_cel_update};
use serde_json::{Value, json};

use crate::cluster;

/// What the API server would say.
fn refusal(result: Result<(), impl ToString>) -> String {
    result
        .err()
        .map_or_else(|| "accepted".into(), |errors| errors.to_string())
}

/// The `spec` of a PushCluster in YAML, and what its refusal begins with.
type Case = (&'static str, &'static str, &'static str);

/// A spec that breaks one rule, the same put right, and the beginning of what is said.
const BROKEN: &[Case] = &[
    (
        "{autoscaling: {mode: Builtin, buffer: {connections: 5, percent: 5}}}",
        "{autoscaling: {mode: Builtin, buffer: {percent: 5}}}",
        "spec.autoscaling.buffer: set one of connections and percent",
    ),
    (
        "{autoscaling: {mode: Builtin, buffer: {}}}",
        "{autoscaling: {mode: Builtin, buffer: {connections: 5}}}",
        "spec.autoscaling.buffer: set one of connections and percent",
    ),
    (
        "{autoscaling: {coolDownSeconds: 5}}",
        "{autoscaling: {mode: Builtin, coolDownSeconds: 5}}",
        "spec.autoscaling: buffer, schedule and coolDownSeconds are for spec.autoscaling.mode Builtin",
    ),
    (
        "{autoscaling: {mode: Keda, buffer: {percent: 5}}}",
        "{autoscaling: {mode: Keda, behavior: {scaleUp: {stabilizationWindowSeconds: 5}}}}",
        "spec.autoscaling: buffer, schedule and coolDownSeconds are for spec.autoscaling.mode Builtin",
    ),
    (
        "{autoscaling: {mode: Builtin, maxReplicas: 9, schedule: [{from: '08:00', until: '18:00', minReplicas: 10}]}}",
        "{autoscaling: {mode: Builtin, maxReplicas: 10, schedule: [{from: '08:00', until: '18:00', minReplicas: 10}]}}",
        "spec.autoscaling.schedule: minReplicas of a window is greater than spec.autoscaling.maxReplicas",
    ),
    (
        "{autoscaling: {targetConnectionsPerPod: 8001}}",
        "{autoscaling: {targetConnectionsPerPod: 8000}}",
        "spec.autoscaling.targetConnectionsPerPod is above 80 % of spec.gateway.limits.maxConnections",
    ),
    (
        "{autoscaling: {maxReplicas: 2, minReplicas: 3}}",
        "{autoscaling: {maxReplicas: 3, minReplicas: 3}}",
        "spec.autoscaling.minReplicas is greater than spec.autoscaling.maxReplicas",
    ),
    (
        "{gateway: {auth: {anonymous: false}}}",
        "{gateway: {auth: {anonymous: false, hs256KeySecret: {key: k, name: s}}}}",
        "spec.gateway.auth: nobody could connect",
    ),
    (
        "{gateway: {auth: {anonymous: false, keySecrets: []}}}",
        "{gateway: {auth: {anonymous: false, keySecrets: [{key: k, name: s}]}}}",
        "spec.gateway.auth: nobody could connect",
    ),
    (
        "{gateway: {auth: {jwksCa: {secret: {key: k, name: s}}}}}",
        "{gateway: {auth: {jwksCa: {secret: {key: k, name: s}}, jwksUrl: 'https://id.example/keys'}}}",
        "spec.gateway.auth.jwksCa is set but not used: set jwksUrl",
    ),
    (
        "{gateway: {auth: {jwksCa: {}, jwksUrl: 'https://id.example/keys'}}}",
        "{gateway: {auth: {jwksCa: {configMap: {key: k, name: s}}, jwksUrl: 'https://id.example/keys'}}}",
        "spec.gateway.auth.jwksCa, spec.redis.external.tls.ca: certificates come from one place",
    ),
    (
        "{gateway: {channels: [{historyMessages: 5, prefix: 'a:'}]}}",
        "{gateway: {channels: [{historyMessages: 5, historySeconds: 60, prefix: 'a:'}]}}",
        "spec.gateway.channels: history needs historyMessages and historySeconds",
    ),
    (
        r#"{gateway: {channels: [{prefix: "a\tb"}]}}"#,
        "{gateway: {channels: [{prefix: 'a b'}]}}",
        "spec.gateway.channels: a prefix has a character that cannot be printed",
    ),
    (
        "{gateway: {channels: [{maxMessageBytes: 200, prefix: ''}], limits: {maxMessageBytes: 199}}}",
        "{gateway: {channels: [{maxMessageBytes: 200, prefix: ''}], limits: {maxMessageBytes: 200}}}",
        "spec.gateway.channels: a maxMessageBytes is greater than spec.gateway.limits.maxMessageBytes",
    ),
    (
        "{gateway: {channels: [{prefix: '', publish: Granted}]}}",
        "{gateway: {auth: {hs256KeySecret: {key: k, name: s}}, channels: [{prefix: '', publish: Granted}]}}",
        "spec.gateway.channels: Authenticated and Granted ask for a token",
    ),
    (
        "{gateway: {channels: [{prefix: '', subscribe: Authenticated}]}}",
        "{gateway: {channels: [{prefix: '', subscribe: Nobody}]}}",
        "spec.gateway.channels: Authenticated and Granted ask for a token",
    ),
    (
        "{gateway: {heartbeat: {idleSeconds: 30, pingSeconds: 31}}}",
        "{gateway: {heartbeat: {idleSeconds: 30, pingSeconds: 30}}}",
        "spec.gateway.heartbeat.pingSeconds is greater than spec.gateway.heartbeat.idleSeconds",
    ),
    (
        "{gateway: {limits: {maxMessageBytes: 1000, maxOutboxBytes: 999}}}",
        "{gateway: {limits: {maxMessageBytes: 1000, maxOutboxBytes: 1000}}}",
        "spec.gateway.limits.maxOutboxBytes is less than spec.gateway.limits.maxMessageBytes",
    ),
    (
        "{gateway: {limits: {maxMessageBytes: 1000, maxRequestBytes: 999}}}",
        "{gateway: {limits: {maxMessageBytes: 1000, maxRequestBytes: 1000}}}",
        "spec.gateway.limits.maxRequestBytes is less than spec.gateway.limits.maxMessageBytes",
    ),
    (
        "{gateway: {pods: {labels: {app.kubernetes.io/name: mine}}}}",
        "{gateway: {pods: {labels: {team: mine}}}}",
        "spec.gateway.pods.labels, spec.redis.pods.labels: keys that begin with app.kubernetes.io/",
    ),
    (
        "{redis: {pods: {annotations: {pushcluster.io/keys-hash: '0'}}}}",
        "{redis: {pods: {annotations: {team.example/keys-hash: '0'}}}}",
        "spec.gateway.pods.annotations, spec.redis.pods.annotations: keys that begin with pushcluster.io/",
    ),
    (
        "{gateway: {pods: {tolerations: [{key: a, operator: Exists, value: b}]}}}",
        "{gateway: {pods: {tolerations: [{key: a, operator: Equal, value: b}]}}}",
        "spec.gateway.pods.tolerations, spec.redis.pods.tolerations: operator Equal needs a key",
    ),
    (
        "{gateway: {pods: {tolerations: [{value: b}]}}}",
        "{gateway: {pods: {tolerations: [{operator: Exists}]}}}",
        "spec.gateway.pods.tolerations, spec.redis.pods.tolerations: operator Equal needs a key",
    ),
    (
        "{gateway: {pods: {tolerations: [{key: a, tolerationSeconds: 5}]}}}",
        "{gateway: {pods: {tolerations: [{effect: NoExecute, key: a, tolerationSeconds: 5}]}}}",
        "spec.gateway.pods.tolerations, spec.redis.pods.tolerations: tolerationSeconds counts only with",
    ),
    (
        "{redis: {mode: External}}",
        "{redis: {external: {host: redis}, mode: External}}",
        "spec.redis.external is missing: mode External needs external.host",
    ),
    (
        "{redis: {external: {host: redis}}}",
        "{redis: {external: {host: redis}, mode: External}}",
        "spec.redis.external is set but not used",
    ),
    (
        "{redis: {external: {host: redis}, mode: Sentinel}}",
        "{redis: {mode: Sentinel}}",
        "spec.redis.external is set but not used",
    ),
    (
        "{redis: {sentinel: {downAfterSeconds: 10}}}",
        "{redis: {mode: Sentinel, sentinel: {downAfterSeconds: 10}}}",
        "spec.redis.sentinel is set but not used: set mode: Sentinel, or remove sentinel",
    ),
    (
        "{redis: {cluster: {shards: 5}}}",
        "{redis: {cluster: {replicas: 2, shards: 5}, mode: Cluster}}",
        "spec.redis.cluster is set but not used: set mode: Cluster, or remove cluster",
    ),
    (
        "{redis: {external: {host: redis}, mode: External, persistence: {}}}",
        "{redis: {persistence: {}}}",
        "spec.redis.persistence is set but not used: mode External runs no Redis",
    ),
    (
        "{redis: {mode: Cluster, persistence: {}}}",
        "{redis: {mode: Sentinel, persistence: {storageClassName: fast}}}",
        "spec.redis.persistence is not for mode Cluster",
    ),
    (
        "{redis: {external: {host: redis}, mode: External, tls: {}}}",
        "{redis: {external: {host: redis, tls: {}}, mode: External}}",
        "spec.redis.tls is set but not used: mode External runs no Redis of its own: set spec.redis.external.tls",
    ),
    (
        "{redis: {external: {host: redis}, image: 'redis:8', mode: External}}",
        "{redis: {image: 'redis:8', mode: Standalone}}",
        "spec.redis.image is set but not used",
    ),
    (
        "{redis: {listenPrefix: 'app:'}}",
        "{redis: {listen: ['ws:broadcast'], listenPrefix: 'app:'}}",
        "spec.redis.listenPrefix is set but not used",
    ),
    (
        "{redis: {external: {}, mode: External}}",
        "{redis: {external: {database: 3, host: redis}, mode: External}}",
        "spec.redis.external: one Redis is named by host, Sentinels and nodes of a Cluster by hosts",
    ),
    (
        "{redis: {external: {hosts: ['a:1']}, mode: External}}",
        "{redis: {external: {hosts: ['a:1'], topology: Cluster}, mode: External}}",
        "spec.redis.external.topology: Standalone goes with host",
    ),
    (
        "{redis: {external: {hosts: ['a:1'], topology: Sentinel}, mode: External}}",
        "{redis: {external: {hosts: ['a:1'], masterName: m, topology: Sentinel}, mode: External}}",
        "spec.redis.external.masterName is what Sentinels call the master",
    ),
    (
        "{redis: {external: {host: a, sentinelUsername: u}, mode: External}}",
        "{redis: {external: {hosts: ['a:1'], masterName: m, sentinelUsername: u, topology: Sentinel}, mode: External}}",
        "spec.redis.external.sentinelUsername and sentinelPasswordSecret are for topology Sentinel",
    ),
    (
        "{redis: {external: {database: 1, hosts: ['a:1'], topology: Cluster}, mode: External}}",
        "{redis: {external: {hosts: ['a:1'], tls: {}, topology: Cluster}, mode: External}}",
        "spec.redis.external.database: a Redis Cluster has only database 0",
    ),
    (
        "{service: {externalTrafficPolicy: Local}}",
        "{service: {externalTrafficPolicy: Local, type: NodePort}}",
        "spec.service.externalTrafficPolicy is for types NodePort and LoadBalancer",
    ),
    (
        "{service: {loadBalancerClass: a/b, type: NodePort}}",
        "{service: {loadBalancerClass: a/b, type: LoadBalancer}}",
        "spec.service.loadBalancerClass is for type LoadBalancer",
    ),
];

/// A spec, one that it cannot become, and the beginning of what is said, which ends with what to do instead.
const UNCHANGEABLE: &[Case] = &[
    (
        "{}",
        "{redis: {external: {host: redis}, mode: External}}",
        "spec.redis.mode cannot be changed: make a second PushCluster with the mode you want",
    ),
    (
        "{}",
        "{redis: {mode: Sentinel}}",
        "spec.redis.mode cannot be changed: make a second PushCluster with the mode you want",
    ),
    (
        "{redis: {mode: Sentinel}}",
        "{}",
        "spec.redis.mode cannot be changed: make a second PushCluster with the mode you want",
    ),
    (
        "{redis: {external: {host: redis}, mode: External}}",
        "{redis: {mode: Sentinel}}",
        "spec.redis.mode cannot be changed: make a second PushCluster with the mode you want",
    ),
    (
        "{redis: {mode: Sentinel}}",
        "{redis: {mode: Cluster}}",
        "spec.redis.mode cannot be changed: make a second PushCluster with the mode you want",
    ),
    (
        "{}",
        "{redis: {tls: {}}}",
        "spec.redis.tls cannot be added or removed",
    ),
    (
        "{redis: {tls: {secretName: mine}}}",
        "{redis: {mode: Standalone}}",
        "spec.redis.tls cannot be added or removed",
    ),
    (
        "{redis: {persistence: {size: 2Gi}}}",
        "{redis: {persistence: {size: 2047Mi}}}",
        "spec.redis.persistence.size cannot become less",
    ),
    (
        "{redis: {persistence: {storageClassName: fast}}}",
        "{redis: {persistence: {storageClassName: slow}}}",
        "spec.redis.persistence.storageClassName cannot be changed",
    ),
    (
        "{redis: {persistence: {}}}",
        "{redis: {persistence: {storageClassName: slow}}}",
        "spec.redis.persistence.storageClassName cannot be changed",
    ),
    (
        "{service: {loadBalancerClass: null, type: LoadBalancer}}",
        "{service: {loadBalancerClass: a/b, type: LoadBalancer}}",
        "spec.service.loadBalancerClass cannot be changed while there is a load balancer: set type: ClusterIP first",
    ),
    (
        "{service: {loadBalancerClass: a/b, type: LoadBalancer}}",
        "{service: {loadBalancerClass: null, type: LoadBalancer}}",
        "spec.service.loadBalancerClass cannot be changed while there is a load balancer: set type: ClusterIP first",
    ),
    (
        "{service: {loadBalancerClass: a/b, type: LoadBalancer}}",
        "{service: {loadBalancerClass: a/c, type: LoadBalancer}}",
        "spec.service.loadBalancerClass cannot be changed while there is a load balancer: set type: ClusterIP first",
    ),
];

fn read(spec: &str) -> PushCluster {
    let spec: Value = serde_yaml::from_str(spec).expect("YAML");
    cluster(&spec)
}

#[test]
fn what_breaks_a_rule_is_told_the_field_and_what_to_do() {
    for (wrong, right, expected) in BROKEN {
        let said = refusal(validate_cel(&read(wrong)));
        assert!(said.contains(expected), "{wrong}: {said}");
        let said = refusal(validate_cel(&read(right)));
        assert_eq!(said, "accepted", "{right}");
    }
}

#[test]
fn what_cannot_be_changed_says_what_to_do_instead() {
    for (before, after, expected) in UNCHANGEABLE {
        let (before, after) = (read(before), read(after));
        let said = refusal(validate_cel_update(&after, &before));
        assert!(said.contains(expected), "{said}");
        for same in [&before, &after] {
            assert_eq!(refusal(validate_cel_update(same, same)), "accepted");
        }
    }
    for (before, after) in [
        ("{}", "{redis: {persistence: {}}}"),
        ("{redis: {persistence: {}}}", "{}"),
        ("{redis: {tls: {}}}", "{redis: {tls: {secretName: mine}}}"),
        (
            "{redis: {persistence: {size: 1024Mi}}}",
            "{redis: {persistence: {size: 1Gi, whenDeleted: Delete}}}",
        ),
        (
            "{redis: {persistence: {size: 900M}}}",
            "{redis: {persistence: {size: 1G, snapshotSeconds: 5}}}",
        ),
    ] {
        let said = refusal(validate_cel_update(&read(after), &read(before)));
        assert_eq!(said, "accepted", "{before} to {after}");
    }
    let class = json!({"service": {"type": "LoadBalancer", "loadBalancerClass": "a/b"}});
    let said = refusal(validate_cel_update(&cluster(&class), &cluster(&json!({}))));
    assert_eq!(said, "accepted", "from another type of Service");
}

const NAMES: &[(&str, &str)] = &[
    ("demo", "accepted"),
    ("d3-mo", "accepted"),
    ("x23456789012345678901234567890123456789012345", "accepted"),
    (
        "x234567890123456789012345678901234567890123456",
        "metadata.name is longer than 45 characters",
    ),
    ("3demo", "metadata.name cannot name a Service"),
    ("my.demo", "metadata.name cannot name a Service"),
];

/// With mode Cluster: how long a name is.
const LENGTHS: &[(usize, &str)] = &[
    (42, "accepted"),
    (
        43,
        "metadata.name is longer than 42 characters: with spec.redis.mode Cluster",
    ),
];

#[test]
fn a_cluster_of_redis_leaves_less_for_the_name() {
    for (length, expected) in LENGTHS {
        let mut cluster = cluster(&json!({"redis": {"mode": "Cluster"}}));
        cluster.metadata.name = Some("x".repeat(*length));
        let said = refusal(validate_cel(&cluster));
        assert!(said.contains(expected), "{length}: {said}");
    }
}

#[test]
fn a_name_makes_good_names_of_services_and_labels() {
    for (name, expected) in NAMES {
        let mut cluster = cluster(&json!({}));
        cluster.metadata.name = Some((*name).into());
        let said = refusal(validate_cel(&cluster));
        assert!(said.contains(expected), "{name}: {said}");
    }
}

/// A rule without a case could be one that never holds, or never breaks.
#[test]
fn every_rule_has_a_case() {
    let cases = BROKEN.iter().chain(UNCHANGEABLE).map(|case| case.2);
    let names = NAMES.iter().map(|(_, expected)| *expected);
    let lengths = LENGTHS.iter().map(|(_, expected)| *expected);
    let cases: BTreeSet<&str> = cases.chain(names).chain(lengths).collect();
    let without: Vec<String> = messages()
        .into_iter()
        .filter(|message| !cases.iter().any(|case| message.starts_with(case)))
        .collect();
    assert!(without.is_empty(), "rules without a case: {without:#?}");
}

fn messages() -> BTreeSet<String> {
    fn collect(value: &Value, found: &mut BTreeSet<String>) {
        let rules = value["x-kubernetes-validations"].as_array();
        for rule in rules.into_iter().flatten() {
            let message = rule["message"].as_str().expect("every rule has a message");
            found.insert(message.to_owned());
        }
        match value {
            Value::Object(fields) => fields.values().for_each(|value| collect(value, found)),
            Value::Array(items) => items.iter().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let definition = serde_json::to_value(PushCluster::crd()).expect("a definition is JSON");
    let mut found = BTreeSet::new();
    collect(&definition, &mut found);
    assert!(found.len() > 20, "the rules were not found: {found:?}");
    found
}
