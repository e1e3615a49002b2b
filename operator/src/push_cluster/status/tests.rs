use std::sync::Arc;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStatus, StatefulSet, StatefulSetStatus,
};
use kube::api::ObjectMeta;
use serde_json::json;

use super::*;
use crate::push_cluster::Images;
use crate::push_cluster::observe::Live;
use crate::push_cluster::validate::validate;

fn deployment(wanted: i32, updated: i32, ready: i32) -> Deployment {
    Deployment {
        metadata: ObjectMeta {
            name: Some("demo-gateway".into()),
            generation: Some(4),
            ..ObjectMeta::default()
        },
        spec: Some(DeploymentSpec {
            replicas: Some(wanted),
            ..DeploymentSpec::default()
        }),
        status: Some(DeploymentStatus {
            observed_generation: Some(4),
            replicas: Some(wanted),
            updated_replicas: Some(updated),
            ready_replicas: Some(ready),
            ..DeploymentStatus::default()
        }),
    }
}

fn redis(ready: i32) -> StatefulSet {
    StatefulSet {
        metadata: ObjectMeta {
            name: Some("demo-redis".into()),
            ..ObjectMeta::default()
        },
        status: Some(StatefulSetStatus {
            ready_replicas: Some(ready),
            ..StatefulSetStatus::default()
        }),
        ..StatefulSet::default()
    }
}

fn observed(spec: &serde_json::Value, live: Live) -> Observed {
    let cluster: PushCluster = serde_json::from_value(json!({
        "apiVersion": "pushcluster.io/v1alpha1", "kind": "PushCluster",
        "metadata": {"name": "demo", "namespace": "shop", "generation": 7}, "spec": spec,
    }))
    .unwrap();
    let external_redis = cluster
        .spec
        .redis
        .external
        .is_some()
        .then(|| Err("Redis nobody:6379 is not reachable: no such name".into()));
    Observed {
        cluster: Arc::new(cluster),
        live,
        keys: crate::push_cluster::observe::StoredKeys::default(),
        referenced: std::collections::BTreeMap::new(),
        gateway_pods: vec![],
        external_redis,
    }
}

fn live(deployment: Option<Deployment>, redis: Option<StatefulSet>) -> Live {
    Live {
        deployment,
        redis,
        ..Live::default()
    }
}

fn of(observed: &Observed) -> PushClusterStatus {
    let images = Images {
        gateway: "gateway".into(),
        redis: "redis".into(),
    };
    status(observed, &validate(observed, &images), None)
}

#[test]
fn ready_names_the_first_thing_that_is_wrong() {
    let jwt = json!({"gateway": {"auth": {"hs256KeySecret": {"name": "jwt", "key": "k"}}}});
    let external = json!({"redis": {"mode": "External", "external": {"host": "nobody"}}});
    for (spec, live, expected) in [
        (
            json!({}),
            live(Some(deployment(2, 2, 2)), Some(redis(1))),
            "True Delivering: every gateway is connected to Redis and takes clients",
        ),
        (
            json!({}),
            live(None, None),
            "False Creating: Redis is being created",
        ),
        (
            json!({}),
            live(Some(deployment(2, 2, 2)), Some(redis(0))),
            "False NotReady: Redis StatefulSet demo-redis: 0 of 1 pods are ready",
        ),
        (
            json!({}),
            live(Some(deployment(2, 1, 2)), Some(redis(1))),
            "False RollingOut: Deployment demo-gateway: 2 of 2 gateways are ready, 1 are up to date",
        ),
        (
            json!({}),
            live(Some(deployment(2, 2, 0)), Some(redis(1))),
            "False NotReady: Deployment demo-gateway: 0 of 2 gateways are ready, 2 are up to date",
        ),
        (
            json!({"replicas": 3}),
            live(Some(deployment(2, 2, 2)), Some(redis(1))),
            "False RollingOut: Deployment demo-gateway: 2 of 3 gateways are ready, 2 are up to date",
        ),
        (
            jwt,
            live(Some(deployment(2, 2, 2)), Some(redis(1))),
            "False InvalidSpec: spec.gateway.auth.hs256KeySecret names key k of Secret jwt, which is not there",
        ),
        (
            external,
            live(Some(deployment(2, 2, 0)), None),
            "False ExternalRedisUnreachable: Redis nobody:6379 is not reachable: no such name",
        ),
    ] {
        let status = of(&observed(&spec, live));
        let ready = status
            .conditions
            .iter()
            .find(|condition| condition.type_ == "Ready")
            .unwrap();
        assert_eq!(
            format!("{} {}: {}", ready.status, ready.reason, ready.message),
            expected,
            "{spec}"
        );
        assert!(
            status
                .conditions
                .iter()
                .all(|condition| condition.observed_generation == Some(7))
        );
    }
}

#[test]
fn a_condition_that_stays_keeps_its_time() {
    let mut observed = observed(&json!({}), live(Some(deployment(2, 2, 2)), Some(redis(1))));
    let mut before = of(&observed);
    let long_ago = Time(Timestamp::from_second(1_000).unwrap());
    for condition in &mut before.conditions {
        condition.last_transition_time = long_ago.clone();
    }
    let mut cluster = (*observed.cluster).clone();
    cluster.status = Some(before.clone());
    observed.cluster = Arc::new(cluster);
    assert_eq!(of(&observed), before, "nothing to write");
    observed.live.redis = Some(redis(0));
    let after = of(&observed);
    let changed: Vec<&str> = after
        .conditions
        .iter()
        .filter(|c| c.last_transition_time != long_ago)
        .map(|c| c.type_.as_str())
        .collect();
    assert_eq!(changed, ["Ready", "RedisAvailable"]);
}
