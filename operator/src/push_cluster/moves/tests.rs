use k8s_openapi::api::apps::v1::DeploymentStatus;
use serde_json::json;

use super::*;
use crate::push_cluster::fixture::{built, live, observed};
use crate::scaling::drain::after;

fn pod(name: &str, labels: &Value, annotations: &Value) -> Pod {
    let mut pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "resourceVersion": "7", "labels": labels, "annotations": annotations},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }))
    .unwrap();
    let component = (
        "app.kubernetes.io/component".to_owned(),
        "gateway".to_owned(),
    );
    pod.metadata
        .labels
        .get_or_insert_default()
        .extend([component]);
    pod
}

/// What a pod is after a merge patch.
fn patched(pod: &Pod, change: &Value) -> Pod {
    let mut value = json!(pod);
    for key in ["labels", "annotations"] {
        for (name, new) in change["metadata"][key].as_object().into_iter().flatten() {
            let map = value["metadata"][key].as_object_mut().unwrap();
            match new {
                Value::Null => drop(map.remove(name)),
                new => drop(map.insert(name.clone(), new.clone())),
            }
        }
    }
    serde_json::from_value(value).unwrap()
}

#[test]
fn all_that_is_remembered_is_on_the_pod() {
    let given = Mark {
        cause: Cause::Rebalance,
        since: after(Timestamp::UNIX_EPOCH, 1_000),
        clients: 12,
        down_to: 7,
        unlisted: None,
        given_up: None,
    };
    let seen = |pod: &Pod| gateway(pod, None);
    let before = pod("a", &json!({SERVING: "true"}), &json!({"mine": "stays"}));
    let mut expected = seen(&before);
    assert_eq!((expected.serving, expected.mark), (Some(true), None));

    let withdrawn = patched(&before, &change(&before, Act::Withdraw(given)).unwrap());
    (expected.serving, expected.mark) = (Some(false), Some(given));
    assert_eq!(seen(&withdrawn), expected);

    let act = Act::Unlisted(after(given.since, 2));
    let unlisted = patched(&withdrawn, &change(&withdrawn, act).unwrap());
    let given = Mark {
        unlisted: Some(after(given.since, 2)),
        ..given
    };
    expected.mark = Some(given);
    assert_eq!(seen(&unlisted), expected);

    let act = Act::GiveUp { wished: 3, cut: 2 };
    let given_up = patched(&unlisted, &change(&unlisted, act).unwrap());
    expected.mark = Some(Mark {
        given_up: Some(3),
        ..given
    });
    assert_eq!(seen(&given_up), expected);
    let cost = |pod: &Pod| pod.annotations().get(DELETION_COST).cloned();
    assert_eq!(cost(&given_up).as_deref(), Some("-1000"));

    let act = Act::Readmit { missed: false };
    let back = patched(&given_up, &change(&given_up, act).unwrap());
    assert_eq!(seen(&back), seen(&before));
    assert_eq!(back.annotations().len(), 1);

    // One that has no mark is not to be deleted, nor waited for.
    assert_eq!(change(&before, Act::GiveUp { wished: 3, cut: 0 }), None);
    assert_eq!(change(&before, Act::Unlisted(given.since)), None);
}

#[test]
fn a_mark_that_nobody_understands_is_none() {
    let mark = |text: &str| pod("a", &json!({}), &json!({MARK: text}));
    for text in [
        "",
        "{}",
        r#"{"cause":"because","since":"1970-01-01T00:00:00Z","clients":1,"downTo":0}"#,
    ] {
        assert_eq!(gateway(&mark(text), None).mark, None, "{text}");
    }
}

#[test]
fn endpoint_slices_are_read_while_a_pod_waits_for_them() {
    let selects = built(&json!({})).service;
    let mut earlier = selects.clone();
    let selector = earlier.spec.as_mut().unwrap().selector.as_mut().unwrap();
    selector.remove(SERVING);
    let with = |unlisted| {
        let mark = Mark {
            cause: Cause::ScaleIn,
            since: Timestamp::UNIX_EPOCH,
            clients: 12,
            down_to: 0,
            unlisted,
            given_up: None,
        };
        pod("b", &json!({}), &json!({MARK: text(&mark)}))
    };
    let quiet = || pod("a", &json!({}), &json!({}));
    let seen = Some(Timestamp::UNIX_EPOCH);
    for (service, pods, expected) in [
        (Some(&selects), vec![quiet(), with(None)], true),
        (Some(&selects), vec![with(seen)], false),
        (Some(&selects), vec![with(seen), with(None)], true),
        (Some(&selects), vec![quiet()], false),
        (Some(&earlier), vec![with(None)], false),
        (None, vec![with(None)], false),
    ] {
        assert_eq!(awaits_slices(service, &pods), expected, "{pods:?}");
    }
}

/// What is written, as the Deployment's replicas and whether the Service asks for the label.
fn settled(observed: &Observed) -> (Option<i32>, bool) {
    let spec = json!(observed.cluster.spec);
    let mut objects = built(&spec);
    settle(&mut objects, observed);
    let selector = objects.service.spec.unwrap().selector.unwrap();
    let replicas = objects.deployment.spec.unwrap().replicas;
    (replicas, selector.contains_key(SERVING))
}

#[test]
fn the_service_asks_for_the_label_when_pods_have_it() {
    let mut seen = observed(&json!({"replicas": 2}));
    assert_eq!(settled(&seen), (Some(2), true));
    // As an earlier version made it.
    seen.live = live(built(&json!({"replicas": 2})));
    let selector = |live: &mut super::super::observe::Live| {
        let spec = live.service.as_mut().unwrap().spec.as_mut().unwrap();
        spec.selector.as_mut().unwrap().remove(SERVING);
    };
    selector(&mut seen.live);
    seen.pods = vec![
        pod("a", &json!({}), &json!({})),
        pod("b", &json!({SERVING: "true"}), &json!({})),
    ];
    assert_eq!(settled(&seen), (Some(2), false));
    seen.pods[0] = pod("a", &json!({SERVING: "true"}), &json!({}));
    assert_eq!(settled(&seen), (Some(2), true));
}

#[test]
fn a_smaller_wish_waits_for_a_pod_that_was_given_up() {
    let mut seen = observed(&json!({"replicas": 1}));
    seen.live = live(built(&json!({"replicas": 2})));
    let serves = || json!({SERVING: "true"});
    seen.pods = vec![
        pod("a", &serves(), &json!({})),
        pod("b", &serves(), &json!({})),
    ];
    assert_eq!(settled(&seen), (Some(2), true));
    let given = Mark {
        cause: Cause::ScaleIn,
        since: Timestamp::UNIX_EPOCH,
        clients: 12,
        down_to: 0,
        unlisted: None,
        given_up: Some(2),
    };
    seen.pods[1] = pod("b", &serves(), &json!({MARK: text(&given)}));
    assert_eq!(settled(&seen), (Some(1), true));
    // Of a pod that has failed there is another one.
    seen.pods[1].status.as_mut().unwrap().phase = Some("Failed".into());
    seen.pods.push(pod("c", &serves(), &json!({})));
    assert_eq!(settled(&seen), (Some(2), true));
}

#[test]
fn a_deployment_is_held_while_an_old_gateway_has_clients() {
    let mut seen = observed(&json!({"replicas": 1}));
    seen.live = live(built(&json!({"replicas": 1})));
    let of = |hash: &str| json!({SERVING: "true", HASH_LABEL: hash});
    seen.pods = vec![
        pod("a", &of("1"), &json!({})),
        pod("b", &of("2"), &json!({})),
    ];
    seen.newest = Some("2".into());
    let held = |seen: &Observed| {
        let mut objects = built(&json!({"replicas": 1}));
        settle(&mut objects, seen);
        let spec = objects.deployment.spec.unwrap();
        let both = (spec.min_ready_seconds, spec.progress_deadline_seconds);
        assert!(
            both.0.is_none() && both.1.is_none() || both.0 < both.1,
            "{both:?}"
        );
        both.0.is_some()
    };
    // All are of one template.
    assert!(!held(&seen));
    let status = DeploymentStatus {
        replicas: Some(2),
        updated_replicas: Some(1),
        ..DeploymentStatus::default()
    };
    seen.live.deployment.as_mut().unwrap().status = Some(status);
    assert!(held(&seen));
    let given = Mark {
        cause: Cause::Rollout,
        since: Timestamp::UNIX_EPOCH,
        clients: 12,
        down_to: 0,
        unlisted: None,
        given_up: Some(2),
    };
    seen.pods[0] = pod("a", &of("1"), &json!({MARK: text(&given)}));
    assert!(!held(&seen));
}
