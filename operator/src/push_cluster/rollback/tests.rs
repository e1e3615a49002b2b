use k8s_openapi::api::apps::v1::DeploymentStatus;
use k8s_openapi::api::core::v1::Pod;

use super::*;
use crate::push_cluster::build::build;
use crate::push_cluster::consent::{Pending, hold};
use crate::push_cluster::fixture::{images, keys, observed};
use crate::push_cluster::gateways::Seen;
use crate::push_cluster::gateways::clients::Node;
use crate::push_cluster::gateways::delivery::{Deaf, Delivering};
use crate::push_cluster::moves::MARK;
use crate::push_cluster::observe::revision::HASH_LABEL;
use crate::push_cluster::validate::validate;
use fault::{NOTED, Noted, notes, verdict};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn image(name: &str) -> Value {
    json!({"gateway": {"image": name}})
}

/// What is built for a spec beside this Deployment and these pods, as a reconcile does.
fn look(
    spec: &Value,
    deployment: Option<&Deployment>,
    pods: &[Pod],
) -> (Deployment, Option<Refused>, Option<Pending>) {
    let mut seen = observed(spec);
    seen.live.deployment = deployment.cloned();
    seen.pods = pods.to_vec();
    seen.newest = Some("new".into());
    let (keys, validated) = (keys(), validate(&seen, &images()).unwrap());
    let mut objects = build(&validated, &keys);
    let refused = refuse(&mut objects, &seen, at(100));
    let pending = hold(&mut objects, &seen.live, &seen.cluster, (&validated, &keys));
    remember(&mut objects, &seen.live);
    (objects.deployment, refused, pending)
}

/// With its rollout at an end, or not.
fn there(deployment: Deployment, is_whole: bool) -> Deployment {
    let status = DeploymentStatus {
        replicas: Some(3),
        updated_replicas: Some(if is_whole { 3 } else { 1 }),
        ready_replicas: Some(2),
        ..DeploymentStatus::default()
    };
    Deployment {
        status: Some(status),
        ..deployment
    }
}

fn image_of(deployment: &Deployment) -> &str {
    let template = &deployment.spec.as_ref().unwrap().template;
    let containers = &template.spec.as_ref().unwrap().containers;
    containers[0].image.as_deref().unwrap()
}

fn pod(name: &str, hash: &str, ready: bool, restarts: i32) -> Pod {
    let ready = if ready { "True" } else { "False" };
    serde_json::from_value(json!({
        "metadata": {
            "name": name, "creationTimestamp": at(0).to_string(), "annotations": {},
            "labels": {"app.kubernetes.io/component": "gateway", HASH_LABEL: hash},
        },
        "status": {
            "phase": "Running", "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [{
                "name": "gateway", "image": "", "imageID": "", "ready": ready == "True",
                "restartCount": restarts,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
            }],
        },
    }))
    .unwrap()
}

fn noting(pod: Pod, fault: &str, since: i64) -> Pod {
    let text = json!({"fault": fault, "since": at(since).to_string(), "why": "it is so"});
    annotated(pod, NOTED, &text)
}

fn annotated(mut pod: Pod, name: &str, value: &Value) -> Pod {
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(name.into(), value.to_string());
    pod
}

fn crashes() -> Vec<Pod> {
    vec![pod("a", "old", true, 0), pod("n", "new", false, 3)]
}

#[test]
fn a_template_that_does_not_serve_is_taken_back_and_not_tried_again() {
    let (first, ..) = look(&image("good"), None, &[]);
    assert!(!first.annotations().contains_key(BEFORE));
    let first = there(first, true);
    // Nothing is written for a rollout that came to its end.
    let (same, ..) = look(&image("good"), Some(&first), &crashes());
    assert_eq!(same.metadata, first.metadata);

    let (second, refused, _) = look(&image("bad"), Some(&first), &[]);
    assert_eq!((image_of(&second), refused), ("bad", None));
    assert_eq!(
        second.annotations().get(BEFORE),
        first.annotations().get(TEMPLATE)
    );

    let second = there(second, false);
    let (goes_on, ..) = look(&image("bad"), Some(&second), &[pod("n", "new", false, 2)]);
    assert_eq!(goes_on.metadata, second.metadata);
    // Without asking anybody, although updatePolicy is WithConsent.
    let (back, refused, pending) = look(&image("bad"), Some(&second), &crashes());
    let refused = refused.unwrap();
    assert_eq!((image_of(&back), pending), ("good", None));
    assert_eq!(back.spec, first.spec);
    assert_eq!(refused.since, at(100));
    assert!(
        refused.why.contains("OOMKilled, exit code 137"),
        "{refused:?}"
    );

    // Another operator, later, with nobody to blame: not a byte is written.
    let back = there(back, true);
    let (stays, again, pending) = look(&image("bad"), Some(&back), &[]);
    assert_eq!((again, pending), (Some(refused), None));
    assert_eq!((&stays.metadata, &stays.spec), (&back.metadata, &back.spec));

    // Whatever else is asked for is tried.
    for spec in [image("other"), image("good")] {
        let (next, refused, pending) = look(&spec, Some(&back), &[]);
        assert_eq!((refused, pending), (None, None));
        assert_eq!(json!(image_of(&next)), spec["gateway"]["image"]);
        assert!(!next.annotations().contains_key(REFUSED));
        assert!(next.annotations()[BEFORE].contains("good"));
    }
}

#[test]
fn there_is_only_what_served_to_go_back_to() {
    let (first, ..) = look(&image("good"), None, &[]);
    // None was ever ready with it, or not all have it.
    let mut never = there(first.clone(), true);
    never.status.as_mut().unwrap().ready_replicas = None;
    for live in [never, there(first.clone(), false), first.clone()] {
        let (second, ..) = look(&image("bad"), Some(&live), &[]);
        assert!(!second.annotations().contains_key(BEFORE), "{live:?}");
        let (third, refused, _) = look(&image("bad"), Some(&there(second, false)), &crashes());
        assert_eq!((image_of(&third), refused), ("bad", None));
    }
    // Two changes, one soon after the other.
    let (second, ..) = look(&image("b"), Some(&there(first, true)), &[]);
    let (third, ..) = look(&image("c"), Some(&there(second, false)), &[]);
    assert!(third.annotations()[BEFORE].contains("good"));
}

#[test]
fn a_template_is_blamed_for_what_lasts_with_half_of_its_gateways() {
    let old = || pod("a", "old", true, 0);
    let good = |name| pod(name, "new", true, 0);
    let mut ending = pod("n", "new", false, 5);
    ending.metadata.deletion_timestamp = good("x").metadata.creation_timestamp;
    for (pods, expected) in [
        (vec![old()], None),
        (vec![old(), good("n")], None),
        (vec![old(), pod("n", "new", false, 2)], None),
        (
            crashes(),
            Some("pod n ended 3 times, OOMKilled, exit code 137"),
        ),
        // It has recovered.
        (vec![old(), pod("n", "new", true, 3)], None),
        (vec![pod("a", "old", false, 9), good("n")], None),
        (vec![old(), ending], None),
        (vec![old(), noting(good("n"), "not-heard", 41)], None),
        (
            vec![old(), noting(good("n"), "not-heard", 40)],
            Some("it is so, for 60 s"),
        ),
        (
            vec![old(), noting(good("n"), "clients-stay-away", 0)],
            Some("it is so, for 100 s"),
        ),
        // It may wait for a node.
        (vec![old(), noting(good("n"), "not-ready", -499)], None),
        (
            vec![old(), noting(good("n"), "not-ready", -500)],
            Some("it is so, for 600 s"),
        ),
        (vec![old(), noting(good("n"), "anything", -900)], None),
        // One of three is on a bad node.
        (vec![good("l"), good("m"), pod("n", "new", false, 3)], None),
        (
            vec![good("m"), pod("n", "new", false, 3)],
            Some("pod n ended 3 times, OOMKilled, exit code 137"),
        ),
    ] {
        let mut seen = observed(&json!({}));
        seen.newest = Some("new".into());
        seen.pods = pods;
        assert_eq!(
            verdict(&seen, at(100)).as_deref(),
            expected,
            "{:?}",
            seen.pods
        );
        // Nothing is rolled out.
        seen.newest = None;
        assert_eq!(verdict(&seen, at(100)), None);
    }
}

fn node(connections: u64) -> Option<Node> {
    Some(Node {
        version: "1".into(),
        connections,
        max_connections: 100,
        draining: false,
        impaired: None,
    })
}

/// What is noted at second 100, as pod and fault.
fn noted(pods: Vec<Pod>, delivery: Delivering, clients: &[(&str, u64)]) -> Vec<String> {
    let mut observed = observed(&json!({}));
    let deployment = look(&json!({}), None, &[]).0;
    observed.live.deployment = Some(there(deployment, false));
    observed.newest = Some("new".into());
    observed.pods = pods;
    let nodes = clients
        .iter()
        .map(|(pod, count)| ((*pod).to_owned(), node(*count)));
    let seen = Seen {
        config: None,
        delivery,
        clients: None,
        nodes: nodes.collect(),
        paces: std::collections::BTreeMap::new(),
    };
    let told = |(pod, noted): (&Pod, Option<Noted>)| {
        let fault = noted.map_or("nothing".to_owned(), |noted| format!("{:?}", noted.fault));
        format!("{}: {fault}", pod.name_any())
    };
    notes(&observed, &seen, at(100))
        .into_iter()
        .map(told)
        .collect()
}

#[test]
fn what_is_wrong_with_new_gateways_alone_is_noted() {
    let yes = || Delivering::Yes { heard: 2, of: 2 };
    let old = || pod("a", "old", true, 0);
    let new = |ready| pod("n", "new", ready, 0);
    let mut fresh = new(false);
    fresh.metadata.creation_timestamp = None;
    let deaf = |pod: &str, to: &str| Deaf::to(pod, vec![to.into()]);
    for (pods, delivery, expected) in [
        (vec![old(), new(true)], yes(), &[] as &[&str]),
        (vec![old(), new(false)], yes(), &["n: NotReady"]),
        (vec![old(), fresh], yes(), &[]),
        (vec![old(), noting(new(false), "not-ready", 0)], yes(), &[]),
        (
            vec![old(), noting(new(true), "not-ready", 0)],
            yes(),
            &["n: nothing"],
        ),
        (
            vec![old(), noting(new(false), "not-heard", 0)],
            yes(),
            &["n: NotReady"],
        ),
        // Redis is away, or a node: no old one is ready either.
        (vec![pod("a", "old", false, 0), new(false)], yes(), &[]),
        (vec![old(), pod("b", "old", false, 0)], yes(), &[]),
        (
            vec![old(), new(true)],
            Delivering::No(vec![deaf("n", "a")]),
            &["n: NotHeard"],
        ),
        (
            vec![old(), new(true)],
            Delivering::No(vec![deaf("a", "n")]),
            &["n: NotHeard"],
        ),
        (
            vec![old(), new(true)],
            Delivering::No(vec![Deaf::failed("n", "late")]),
            &["n: NotHeard"],
        ),
        // Old ones do not hear each other either.
        (
            vec![old(), new(true)],
            Delivering::No(vec![deaf("n", "a"), deaf("a", "b")]),
            &[],
        ),
        (
            vec![old(), new(true)],
            Delivering::No(vec![Deaf::failed("a", "late")]),
            &[],
        ),
    ] {
        let given = format!("{pods:?}, {delivery:?}");
        assert_eq!(noted(pods, delivery, &[]), expected, "{given}");
    }
    // One that is full is not ready, and serves.
    assert_eq!(noted(vec![old(), new(false)], yes(), &[("n", 80)]), [""; 0]);
}

#[test]
fn clients_that_do_not_come_to_new_gateways_are_noted() {
    let leaving = json!({
        "cause": "rollout", "since": at(0).to_string(), "clients": 60, "downTo": 0,
    });
    let pods = || {
        let old = annotated(pod("a", "old", false, 0), MARK, &leaving);
        vec![old, pod("b", "old", true, 0), pod("n", "new", true, 0)]
    };
    let yes = || Delivering::Yes { heard: 2, of: 2 };
    for (left, came, expected) in [
        (60, 0, &[] as &[&str]),
        (20, 9, &["n: ClientsStayAway"]),
        (20, 10, &[]),
    ] {
        let clients = [("a", left), ("n", came)];
        assert_eq!(noted(pods(), yes(), &clients), expected, "{clients:?}");
    }
}
