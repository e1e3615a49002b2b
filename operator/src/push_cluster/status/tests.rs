use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStatus, StatefulSet, StatefulSetSpec, StatefulSetStatus,
};
use kube::api::ObjectMeta;
use serde_json::json;

use super::*;
use crate::push_cluster::fixture;
use crate::push_cluster::gateways::Compared;
use crate::push_cluster::gateways::delivery::Delivering;
use crate::push_cluster::observe::Live;
use crate::push_cluster::validate::validate;

fn deployment(wanted: i32, updated: i32, ready: i32) -> Deployment {
    Deployment {
        metadata: ObjectMeta {
            generation: Some(4),
            ..fixture::owned("demo-gateway")
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
        metadata: fixture::owned("demo-redis"),
        status: Some(StatefulSetStatus {
            ready_replicas: Some(ready),
            ..StatefulSetStatus::default()
        }),
        ..StatefulSet::default()
    }
}

fn sentinels(ready: i32) -> StatefulSet {
    StatefulSet {
        spec: Some(StatefulSetSpec {
            replicas: Some(3),
            ..StatefulSetSpec::default()
        }),
        ..redis(ready)
    }
}

fn observed(spec: &serde_json::Value, live: Live) -> Observed {
    let observed = fixture::observed(spec);
    let external_redis = observed.cluster.spec.redis.external.is_some().then(|| {
        Err(Wrong {
            reason: Reason::ExternalRedisUnreachable,
            message: "Redis nobody:6379 is not reachable: no such name".into(),
        })
    });
    Observed {
        live,
        external_redis,
        ..observed
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
    let validated = validate(observed, &fixture::images());
    status(
        observed,
        &validated,
        &Acted::default(),
        &seen(None),
        Timestamp::from_second(2_000).unwrap(),
    )
}

fn seen(config: Option<Compared>) -> Seen {
    let delivery = Delivering::Yes { heard: 2, of: 2 };
    Seen {
        config,
        delivery,
        clients: None,
        nodes: Vec::new(),
        paces: BTreeMap::new(),
    }
}

fn ready_of(observed: &Observed) -> String {
    let status = of(observed);
    assert!(
        status
            .conditions
            .iter()
            .all(|condition| condition.observed_generation == Some(7))
    );
    said(&status, "Ready")
}

fn said(status: &PushClusterStatus, kind: &str) -> String {
    let mut conditions = status.conditions.iter();
    let found = conditions.find(|condition| condition.type_ == kind);
    let Condition {
        status,
        reason,
        message,
        ..
    } = found.unwrap();
    format!("{status} {reason}: {message}")
}

#[test]
fn ready_names_the_first_thing_that_is_wrong() {
    let jwt = json!({"gateway": {"auth": {"hs256KeySecret": {"name": "jwt", "key": "k"}}}});
    let external = json!({"redis": {"mode": "External", "external": {"host": "nobody"}}});
    for (spec, live, expected) in [
        (
            json!({}),
            live(Some(deployment(2, 2, 2)), Some(redis(1))),
            "True Delivering: every gateway is connected to Redis and delivers",
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
            live(None, None),
            "False InvalidSpec: spec.gateway.auth.hs256KeySecret names key k of Secret jwt, which is not there",
        ),
        (
            external,
            live(Some(deployment(2, 2, 0)), None),
            "False ExternalRedisUnreachable: Redis nobody:6379 is not reachable: no such name",
        ),
    ] {
        assert_eq!(ready_of(&observed(&spec, live)), expected, "{spec}");
    }
}

/// A status that says Ready of the old pods, with the new generation, would let `kubectl wait` go on too early.
#[test]
fn what_was_changed_a_moment_ago_is_not_ready() {
    let mut changed = deployment(2, 2, 2);
    changed.metadata.generation = Some(5);
    let mut replaced = redis(1);
    replaced.status.as_mut().unwrap().update_revision = Some("new".into());
    for (live, expected) in [
        (
            live(Some(changed), Some(redis(1))),
            "False RollingOut: Deployment demo-gateway: 2 of 2 gateways are ready, 2 are up to date",
        ),
        (
            live(Some(deployment(2, 2, 2)), Some(replaced)),
            "False RollingOut: Redis StatefulSet demo-redis: its pod is about to be replaced",
        ),
    ] {
        assert_eq!(ready_of(&observed(&json!({}), live)), expected);
    }
}

/// With two of three there is a master and a majority of Sentinels: messages flow, and a person should look.
#[test]
fn sentinels_are_available_while_two_are_ready() {
    let rolling = |ready| {
        let mut set = sentinels(ready);
        set.status.as_mut().unwrap().update_revision = Some("new".into());
        set
    };
    // Who replaces pods by itself never sees the update revision become the current one.
    let mut replaced = rolling(3);
    replaced.status.as_mut().unwrap().updated_replicas = Some(3);
    for (redis, expected) in [
        (sentinels(3), "True Ready: a master and 2 replicas answer"),
        (replaced, "True Ready: a master and 2 replicas answer"),
        (
            sentinels(2),
            "True Degraded: Redis StatefulSet demo-redis: 2 of 3 pods are ready",
        ),
        (
            rolling(3),
            "True RollingOut: Redis StatefulSet demo-redis: 3 of 3 pods are ready",
        ),
        (
            sentinels(1),
            "False NotReady: Redis StatefulSet demo-redis: 1 of 3 pods are ready",
        ),
        (
            rolling(1),
            "False NotReady: Redis StatefulSet demo-redis: 1 of 3 pods are ready",
        ),
    ] {
        let spec = json!({"redis": {"mode": "Sentinel"}});
        let observed = observed(&spec, live(Some(deployment(2, 2, 2)), Some(redis)));
        assert_eq!(said(&of(&observed), "RedisAvailable"), expected);
        let ready = said(&of(&observed), "Ready");
        assert_eq!(ready[..4], expected[..4], "{ready}");
    }
}

/// A gateway that is ready has had a message back through Redis; the operator may stand behind a wall.
#[test]
fn ready_gateways_know_better_than_the_operator_whether_redis_is_there() {
    let external = json!({"redis": {"mode": "External", "external": {"host": "nobody"}}});
    assert_eq!(
        ready_of(&observed(&external, live(Some(deployment(2, 2, 2)), None))),
        "True Delivering: every gateway is connected to Redis and delivers"
    );
}

#[test]
fn why_a_pod_does_not_start_is_in_the_message() {
    let pod = |component: &str, status: serde_json::Value| -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": format!("demo-{component}-x"), "labels": {"app.kubernetes.io/component": component}},
            "spec": {"containers": [], "nodeName": "node-2"},
            "status": status,
        }))
        .unwrap()
    };
    let waiting = |reason: &str, message: &str| {
        json!({"containerStatuses": [{
            "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 1,
            "state": {"waiting": {"reason": reason, "message": message}},
            "lastState": {"terminated": {"exitCode": 2}},
        }]})
    };
    let unscheduled = json!({"conditions": [
        {"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available"},
    ]});
    for (pod, ready, expected) in [
        (
            pod("gateway", waiting("CrashLoopBackOff", "back-off 10s")),
            1,
            "False NotReady: Deployment demo-gateway: 0 of 2 gateways are ready, 2 are up to date: pod demo-gateway-x: CrashLoopBackOff, exit code 2 back-off 10s",
        ),
        (
            pod("gateway", unscheduled),
            1,
            "False NotReady: Deployment demo-gateway: 0 of 2 gateways are ready, 2 are up to date: pod demo-gateway-x: Unschedulable 0/2 nodes are available",
        ),
        (
            pod(
                "gateway",
                json!({"conditions": [{"type": "Ready", "status": "False"}]}),
            ),
            1,
            "False NotReady: Deployment demo-gateway: 0 of 2 gateways are ready, 2 are up to date: pod demo-gateway-x: NodeLost node node-2 does not answer",
        ),
        (
            pod("redis", waiting("ImagePullBackOff", "no such image")),
            0,
            "False NotReady: Redis StatefulSet demo-redis: 0 of 1 pods are ready: pod demo-redis-x: ImagePullBackOff, exit code 2 no such image",
        ),
    ] {
        let mut observed = observed(
            &json!({}),
            live(Some(deployment(2, 2, 0)), Some(redis(ready))),
        );
        observed.pods = vec![pod];
        assert_eq!(ready_of(&observed), expected);
    }
}

/// Without any pod there is nobody to ask, and the message would say no more than that there is none.
#[test]
fn why_no_pod_is_made_is_in_the_message() {
    let mut deployment = deployment(2, 2, 0);
    let status = deployment.status.as_mut().unwrap();
    status.conditions = serde_json::from_value(json!([
        {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "pods is forbidden: exceeded quota"},
    ]))
    .unwrap();
    let mut observed = observed(&json!({}), live(Some(deployment), Some(redis(1))));
    assert!(
        ready_of(&observed).ends_with("2 are up to date: pods is forbidden: exceeded quota"),
        "{}",
        ready_of(&observed)
    );
    observed.live.redis = Some(redis(0));
    observed.refused = Some("pods is forbidden: exceeded quota".into());
    assert!(
        ready_of(&observed).ends_with("0 of 1 pods are ready: pods is forbidden: exceeded quota"),
        "{}",
        ready_of(&observed)
    );
}

#[test]
fn gateways_that_end_are_named_with_when_they_are_killed() {
    let pod = |name: &str, component: &str, ending: bool, running: bool| -> Pod {
        let state = if running { "running" } else { "terminated" };
        serde_json::from_value(json!({
            "metadata": {
                "name": name,
                "labels": {"app.kubernetes.io/component": component},
                "deletionTimestamp": ending.then_some("2030-01-01T00:00:40Z"),
            },
            "status": {"containerStatuses": [{
                "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": {state: {"exitCode": 0}},
            }]},
        }))
        .unwrap()
    };
    let of_pods = |pods: Vec<Pod>| {
        let mut observed = observed(&json!({}), live(Some(deployment(2, 2, 2)), Some(redis(1))));
        observed.pods = pods;
        let status = of(&observed);
        (said(&status, "Draining"), is_settled(&status))
    };
    assert_eq!(
        of_pods(vec![
            pod("a", "gateway", false, true),
            pod("b", "gateway", true, false),
            pod("c", "redis", true, true),
        ]),
        ("False NoneEnding: no gateway is ending".into(), true)
    );
    assert_eq!(
        of_pods(vec![pod("b", "gateway", true, true), pod("a", "gateway", true, true)]),
        (
            "True GatewaysEnding: gateways that end move their clients: a until 2030-01-01T00:00:40Z at the latest, \
             b until 2030-01-01T00:00:40Z at the latest"
                .into(),
            false
        )
    );
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

/// What gateways say, and what only a new operator would change.
mod told;
