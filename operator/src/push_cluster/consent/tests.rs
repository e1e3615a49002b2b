use serde_json::json;

use super::*;
use crate::push_cluster::Images;
use crate::push_cluster::build::build;
use crate::push_cluster::fixture::{images, keys, observed};
use crate::push_cluster::observe::Observed;
use crate::push_cluster::validate::validate;

/// What one version of the operator builds for a spec, once it has been seen what there is.
fn made(spec: &Value, images: &Images, live: &Live, keys: &Keys) -> (Objects, Option<Pending>) {
    with_annotation(spec, images, live, (keys, None))
}

fn with_annotation(
    spec: &Value,
    images: &Images,
    live: &Live,
    (keys, consent): (&Keys, Option<&str>),
) -> (Objects, Option<Pending>) {
    let observed: Observed = observed(spec);
    let mut cluster = (*observed.cluster).clone();
    let annotations = cluster.annotations_mut();
    annotations.extend(consent.map(|name| (CONSENT.to_owned(), name.to_owned())));
    let validated = validate(&observed, images).unwrap();
    let mut objects = build(&validated, keys);
    let pending = hold(&mut objects, live, &cluster, (&validated, keys));
    (objects, pending)
}

fn live(objects: &Objects) -> Live {
    Live {
        deployment: Some(objects.deployment.clone()),
        redis: objects.redis.as_ref().map(|r| r.stateful_sets[0].clone()),
        ..Live::default()
    }
}

/// Images of the gateway and of Redis, as the pods would have them.
fn images_of(objects: &Objects) -> (String, Option<String>) {
    let image = |template: &PodTemplateSpec| {
        let containers = &template.spec.as_ref().unwrap().containers;
        containers[0].image.clone().unwrap()
    };
    let redis = objects.redis.as_ref().map(|redis| {
        let spec = redis.stateful_sets[0].spec.as_ref().unwrap();
        image(&spec.template)
    });
    let deployment = objects.deployment.spec.as_ref().unwrap();
    (image(&deployment.template), redis)
}

fn next() -> Images {
    Images {
        gateway: "img/gateway:2".into(),
        redis: "img/redis:2".into(),
        operator_namespace: "operators".into(),
        admin_url: "http://operator.operators.svc:9090".into(),
    }
}

fn old() -> (String, Option<String>) {
    (images().gateway, Some(images().redis))
}

fn new() -> (String, Option<String>) {
    (next().gateway, Some(next().redis))
}

#[test]
fn what_a_new_version_would_change_waits_and_is_told() {
    let spec = json!({});
    let (first, pending) = made(&spec, &images(), &Live::default(), &keys());
    assert_eq!(
        (images_of(&first), pending),
        (old(), None),
        "nothing was there"
    );
    let live = live(&first);
    let (held, pending) = made(&spec, &next(), &live, &keys());
    assert_eq!(held, first, "not a byte is written");
    let pending = pending.unwrap();
    assert_eq!(
        pending.what,
        [
            r#"Deployment demo-gateway: spec.containers[0].image from "img/gateway:1" to "img/gateway:2""#,
            r#"StatefulSet demo-redis: spec.containers[0].image from "img/redis:1" to "img/redis:2""#,
        ]
    );
    // Sizes and what gateways take while they run are no reason, either.
    for spec in [
        json!({"replicas": 5}),
        json!({"gateway": {"logFilter": "debug", "limits": {"maxConnections": 20_000}}}),
        json!({"gateway": {"channels": [{"prefix": "a"}]}}),
        json!({"drain": {"reconnectsPerSecond": 50}}),
        json!({"service": {"port": 81}}),
    ] {
        let (objects, still) = made(&spec, &next(), &live, &keys());
        assert_eq!(
            (images_of(&objects), still.is_some()),
            (old(), true),
            "{spec}"
        );
    }
    // Agreed: to this one, and to no other.
    for (consent, expected) in [
        (pending.name.as_str(), new()),
        ("another", old()),
        ("", old()),
    ] {
        let agreed = (&keys(), Some(consent));
        let (objects, pending) = with_annotation(&spec, &next(), &live, agreed);
        assert_eq!(images_of(&objects), expected, "{consent}");
        assert_eq!(pending.is_some(), expected == old(), "{consent}");
    }
    let (objects, pending) = made(
        &json!({"updatePolicy": "Automatic"}),
        &next(),
        &live,
        &keys(),
    );
    assert_eq!((images_of(&objects), pending), (new(), None));
    // And then it is what there is.
    let after = super::tests::live(&objects);
    let (again, pending) = made(&spec, &next(), &after, &keys());
    assert_eq!((again, pending), (objects, None));
}

#[test]
fn what_a_person_changes_is_done_at_once() {
    let other_password = Keys {
        redis_password: "another".into(),
        ..keys()
    };
    let both = new();
    let gateway_only = (next().gateway, Some(images().redis));
    let redis_only = (images().gateway, Some(next().redis));
    let memory = json!({"limits": {"memory": "1Gi"}});
    for (spec, keys, expected) in [
        (
            json!({"gateway": {"resources": memory}}),
            keys(),
            gateway_only.clone(),
        ),
        (
            json!({"gateway": {"auth": {"hs256KeySecret": {"name": "jwt", "key": "hmac"}}}}),
            keys(),
            gateway_only.clone(),
        ),
        (
            json!({"drain": {"deadlineSeconds": 600}}),
            keys(),
            gateway_only,
        ),
        (json!({"redis": {"resources": memory}}), keys(), redis_only),
        (json!({}), other_password, both),
    ] {
        let (first, _) = made(
            &json!({}),
            &images(),
            &Live::default(),
            &super::tests::keys(),
        );
        let (objects, _) = made(&spec, &next(), &live(&first), &keys);
        assert_eq!(images_of(&objects), expected, "{spec}");
    }
}

/// A person's own image is a wish; the one that came with the operator is not asked for then.
#[test]
fn an_image_of_ones_own_needs_no_consent() {
    let own = json!({"gateway": {"image": "mine:1"}, "redis": {"image": "mine:2"}});
    let (first, _) = made(&own, &images(), &Live::default(), &keys());
    let (second, pending) = made(&own, &next(), &live(&first), &keys());
    assert_eq!((second, pending), (first.clone(), None));
    let own = json!({"gateway": {"image": "mine:3"}, "redis": {"image": "mine:2"}});
    let (third, pending) = made(&own, &next(), &live(&first), &keys());
    assert_eq!(images_of(&third), ("mine:3".into(), Some("mine:2".into())));
    assert_eq!(pending, None);
}

/// Pods from before there was a record: whatever they are, they become what this version builds, once.
#[test]
fn without_a_record_nothing_is_held() {
    let (mut first, _) = made(&json!({}), &images(), &Live::default(), &keys());
    first.deployment.metadata.annotations = None;
    let (objects, pending) = made(&json!({}), &next(), &live(&first), &keys());
    assert_eq!(images_of(&objects).0, next().gateway);
    assert_eq!(pending.unwrap().what.len(), 1, "Redis has one");
}

/// A later version knows fields that this one does not; in every object that is read they stand as their defaults.
#[test]
fn a_field_that_is_new_is_no_wish() {
    let default = json!([{"a": 1, "new": {"b": true, "c": []}}, null]);
    for (stored, expected) in [
        (json!([{"a": 1}, null]), json!([{}, null])),
        (
            json!([{"a": 1, "new": {"b": true, "c": []}}, null]),
            json!([{}, null]),
        ),
        (
            json!([{"a": 1, "new": {"b": true}}, null]),
            json!([{}, null]),
        ),
        (
            json!([{"a": 2, "new": {"b": true}}, "x"]),
            json!([{"a": 2}, "x"]),
        ),
        (
            json!([{"new": {"b": false}}, [{"d": 1}]]),
            json!([{"new": {"b": false}}, [{"d": 1}]]),
        ),
    ] {
        assert_eq!(
            without_defaults(stored.clone(), &default),
            expected,
            "{stored}"
        );
    }
}
