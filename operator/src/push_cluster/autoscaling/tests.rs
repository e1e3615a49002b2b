use serde_json::{Value, json};

use super::*;
use crate::push_cluster::fixture::{images, live, observed};
use crate::push_cluster::gateways::clients::Node;
use crate::push_cluster::gateways::delivery::Delivering;
use crate::push_cluster::validate::validate;

fn pod(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"app.kubernetes.io/component": "gateway"}},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:09Z"}],
            "containerStatuses": [{
                "name": "gateway", "ready": true, "restartCount": 0, "image": "", "imageID": "",
                "state": {"running": {"startedAt": "2026-01-01T00:00:05Z"}},
            }],
        },
    })
}

fn fleet(spec: &Value, clients: &[Option<u64>]) -> (Observed, Seen) {
    let mut observed = observed(spec);
    let validated = validate(&observed, &images()).unwrap();
    let keys = observed.keys.or_generate(String::new);
    observed.live = live(crate::push_cluster::build::build(&validated, &keys));
    let names = (0..clients.len()).map(|number| format!("demo-gateway-{number}"));
    observed.pods = names
        .clone()
        .map(|name| serde_json::from_value(pod(&name)).unwrap())
        .collect();
    let status = json!({"replicas": clients.len()});
    let deployment = observed.live.deployment.as_mut().unwrap();
    deployment.status = Some(serde_json::from_value(status).unwrap());
    let node = |connections: u64| Node {
        version: "1".into(),
        connections,
        max_connections: 1_000,
        draining: false,
        impaired: None,
    };
    let seen = Seen {
        config: None,
        delivery: Delivering::Yes { heard: 2, of: 2 },
        clients: None,
        nodes: names.zip(clients.iter().map(|c| c.map(node))).collect(),
        paces: std::collections::BTreeMap::new(),
    };
    (observed, seen)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_571_200 + second).unwrap()
}

/// The size and the note of what is wished at that second.
fn wished(
    spec: &Value,
    clients: &[Option<u64>],
    histories: &Histories,
    second: i64,
) -> Option<(u32, String)> {
    let (observed, seen) = fleet(spec, clients);
    let validated = validate(&observed, &images()).unwrap();
    let autoscaling = Autoscaling::of(&observed, &seen, &Registration::Registered, at(second));
    let wish = wish(&observed, &validated, &autoscaling, histories, at(second))?;
    Some((wish.size, wish.note))
}

fn builtin(more: &Value) -> Value {
    let mut spec =
        json!({"replicas": 2, "autoscaling": {"mode": "Builtin", "targetConnectionsPerPod": 2}});
    spec["autoscaling"]
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    spec
}

#[test]
fn a_wish_says_why() {
    let scheduled = json!({"schedule": [{"from": "00:00", "until": "06:00", "minReplicas": 4}]});
    for (spec, clients, expected) in [
        (
            builtin(&json!({})),
            [Some(3), Some(2)],
            Some((
                3,
                "3 gateways are wished instead of 2: there are 5 clients, and 2 for each are aimed at",
            )),
        ),
        (
            builtin(&scheduled),
            [None, None],
            Some((
                4,
                "4 gateways are wished instead of 2: spec.autoscaling asks for 4 to 10 of them now",
            )),
        ),
        (builtin(&json!({})), [Some(2), Some(2)], None),
        // One that may have clients and does not tell.
        (builtin(&json!({})), [Some(3), None], None),
        // Somebody else's work, or nobody's.
        (
            builtin(&json!({"mode": "HorizontalPodAutoscaler"})),
            [Some(3), Some(2)],
            None,
        ),
        (
            builtin(&json!({"mode": "Automatic"})),
            [Some(3), Some(2)],
            None,
        ),
        (
            builtin(&json!({"enabled": false})),
            [Some(3), Some(2)],
            None,
        ),
    ] {
        let expected = expected.map(|(size, note)| (size, note.to_owned()));
        assert_eq!(
            wished(&spec, &clients, &Histories::default(), 0),
            expected,
            "{spec}"
        );
    }
}

#[test]
fn a_foreign_autoscaler_makes_it_rest() {
    let (mut observed, seen) = fleet(&builtin(&json!({})), &[Some(3), Some(2)]);
    let validated = validate(&observed, &images()).unwrap();
    let histories = Histories::default();
    for (foreign, expected) in [(vec![], Some(3)), (vec!["one".to_owned()], None)] {
        observed.foreign_autoscalers = foreign;
        let autoscaling = Autoscaling::of(&observed, &seen, &Registration::Registered, at(0));
        assert!(autoscaling.again().is_some());
        let wish = wish(&observed, &validated, &autoscaling, &histories, at(0));
        assert_eq!(wish.map(|wish| wish.size), expected);
    }
}

/// Many looks in one second, as while clients are moved, are one decision.
#[test]
fn it_decides_four_times_a_minute() {
    let (spec, histories) = (builtin(&json!({})), Histories::default());
    let few = [Some(2), Some(2)];
    let many = [Some(3), Some(2)];
    assert_eq!(wished(&spec, &few, &histories, 0), None);
    assert_eq!(wished(&spec, &many, &histories, 14), None);
    assert_eq!(
        wished(&spec, &many, &histories, 15).map(|(size, _)| size),
        Some(3)
    );
}

#[test]
fn what_is_decided_by_another_is_forgotten() {
    let (spec, histories) = (builtin(&json!({})), Histories::default());
    wished(&spec, &[Some(2)], &histories, 0);
    assert_eq!(histories.0.lock().unwrap().len(), 1);
    wished(&json!({}), &[Some(2)], &histories, 0);
    assert_eq!(histories.0.lock().unwrap().len(), 0);
}

#[test]
fn an_autoscaler_of_kubernetes_goes_when_the_operator_decides() {
    let foreign = Registration::Foreign {
        name: "v1beta1.custom.metrics.k8s.io".into(),
        by: "Service monitoring/adapter".into(),
    };
    for (spec, registration, stays) in [
        (json!({}), Registration::Registered, true),
        (json!({}), Registration::NotLookedYet, true),
        (json!({}), foreign, false),
        (builtin(&json!({})), Registration::Registered, false),
        (
            json!({"autoscaling": {"enabled": false}}),
            Registration::Registered,
            false,
        ),
    ] {
        let (observed, _) = fleet(&spec, &[]);
        let validated = validate(&observed, &images()).unwrap();
        let keys = observed.keys.or_generate(String::new);
        let mut objects = crate::push_cluster::build::build(&validated, &keys);
        settle(&mut objects, &observed, &registration);
        assert_eq!(
            objects.autoscaler.is_some(),
            stays,
            "{spec} {registration:?}"
        );
    }
}

#[test]
fn with_keda_there_is_a_scaled_object_where_that_kind_is_known() {
    let spec = json!({"autoscaling": {"mode": "Keda"}});
    for is_missing in [false, true] {
        let (mut observed, seen) = fleet(&spec, &[]);
        observed.keda.is_missing = is_missing;
        let validated = validate(&observed, &images()).unwrap();
        let keys = observed.keys.or_generate(String::new);
        let mut objects = crate::push_cluster::build::build(&validated, &keys);
        settle(&mut objects, &observed, &Registration::Registered);
        assert_eq!(objects.scaled_object.is_some(), !is_missing);
        assert!(objects.autoscaler.is_none());
        let autoscaling = Autoscaling::of(&observed, &seen, &Registration::Registered, at(0));
        assert!(!autoscaling.is_ours());
        // Found within a minute, when it is installed.
        assert!(autoscaling.again().unwrap() < Duration::from_secs(60));
    }
}
