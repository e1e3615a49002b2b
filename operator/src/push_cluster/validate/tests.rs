use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use super::*;
use crate::push_cluster::fixture::{built, images, live, observed, secret};

/// Each problem as its user reads it.
fn problems(observed: &Observed) -> Vec<String> {
    let problems = validate(observed, &images()).err().unwrap_or_default();
    let line = |problem: Problem| format!("{} {}", problem.field, problem.message);
    problems.into_iter().map(line).collect()
}

#[test]
fn a_secret_that_cannot_be_used_is_named_with_its_field() {
    let jwt =
        |key: &str| json!({"gateway": {"auth": {"hs256KeySecret": {"name": "jwt", "key": key}}}});
    let redis = json!({"redis": {"mode": "External", "external": {"host": "r", "passwordSecret": {"name": "nobody", "key": "p"}}}});
    for (spec, value, expected) in [
        (jwt("hmac"), Some(32), &[] as &[&str]),
        (
            jwt("hmac"),
            Some(31),
            &[
                "spec.gateway.auth.hs256KeySecret names key hmac of Secret jwt, which has 31 bytes: at least 32 are needed",
            ],
        ),
        (
            jwt("hmac"),
            None,
            &["spec.gateway.auth.hs256KeySecret names key hmac of Secret jwt, which is not there"],
        ),
        (
            json!({"gateway": {"auth": {"keySecrets": [{"name": "jwt", "key": "hmac"}, {"name": "no", "key": "k"}]}}}),
            Some(1),
            &["spec.gateway.auth.keySecrets names key k of Secret no, which is not there"],
        ),
        (
            json!({"gateway": {"tls": {"secretName": "jwt"}}}),
            Some(32),
            &[
                "spec.gateway.tls names key tls.crt of Secret jwt, which is not there",
                "spec.gateway.tls names key tls.key of Secret jwt, which is not there",
            ],
        ),
        (
            json!({"gateway": {"auth": {"jwksUrl": "https://id/", "jwksCa": {"secret": {"name": "jwt", "key": "hmac"}}}}}),
            Some(32),
            &[
                "spec.gateway.auth.jwksCa names key hmac of Secret jwt, which has no certificate in PEM (BEGIN CERTIFICATE)",
            ],
        ),
        (
            json!({"gateway": {"auth": {"jwksUrl": "https://id/", "jwksCa": {"configMap": {"name": "no", "key": "ca"}}}}}),
            Some(32),
            &["spec.gateway.auth.jwksCa names key ca of ConfigMap no, which is not there"],
        ),
        (
            redis,
            Some(32),
            &[
                "spec.redis.external.passwordSecret names key p of Secret nobody, which is not there",
            ],
        ),
    ] {
        let mut observed = observed(&spec);
        let value: Option<usize> = value;
        observed.referenced.insert(
            secret("jwt", "hmac"),
            value.map(|bytes| ByteString(vec![b'x'; bytes])),
        );
        assert_eq!(problems(&observed), expected, "{spec}");
    }
}

#[test]
fn a_zone_that_is_none_is_named_with_its_field() {
    let spec = json!({"autoscaling": {"mode": "Builtin", "schedule": [
        {"from": "07:00", "until": "19:00", "minReplicas": 3, "timeZone": "Europe/Berlin"},
        {"from": "07:00", "until": "19:00", "minReplicas": 3, "timeZone": "Europe/Bonn"},
    ]}});
    assert_eq!(
        problems(&observed(&spec)),
        [
            "spec.autoscaling.schedule cannot be kept: timeZone \"Europe/Bonn\" is not in the IANA database, where a name is such as \
             Europe/Berlin"
        ]
    );
}

fn owner(kind: &str, name: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        kind: kind.into(),
        name: name.into(),
        uid: uid.into(),
        controller: Some(true),
        ..OwnerReference::default()
    }
}

/// A Service and a Secret that were there first were once applied over, and deleted with the PushCluster.
#[test]
fn what_is_somebody_elses_is_never_taken() {
    let service = |owners: Vec<OwnerReference>, labels: &[(&str, &str)]| Service {
        metadata: ObjectMeta {
            name: Some("demo".into()),
            owner_references: Some(owners),
            labels: Some(
                labels
                    .iter()
                    .map(|(k, v)| ((*k).into(), (*v).into()))
                    .collect(),
            ),
            ..ObjectMeta::default()
        },
        ..Service::default()
    };
    let left = |instance| {
        [
            ("app.kubernetes.io/managed-by", "pushcluster-operator"),
            ("app.kubernetes.io/instance", instance),
        ]
    };
    for (found, expected) in [
        (
            service(vec![owner("PushCluster", "demo", "u-1")], &[]),
            &[] as &[&str],
        ),
        (service(vec![], &left("demo")), &[]),
        (
            service(vec![], &[]),
            &["metadata.name is taken: Service demo was there before: rename the one or the other"],
        ),
        (
            service(vec![], &left("other")),
            &["metadata.name is taken: Service demo was there before: rename the one or the other"],
        ),
        (
            service(vec![owner("Shop", "big", "u-9")], &left("demo")),
            &[
                "metadata.name is taken: Service demo belongs to Shop big: rename the one or the other",
            ],
        ),
        (
            service(vec![owner("PushCluster", "demo", "u-0")], &left("demo")),
            &[
                "metadata.name is taken: Service demo belongs to the PushCluster of this name that was deleted, and will be gone soon",
            ],
        ),
    ] {
        let mut observed = observed(&json!({}));
        observed.live.service = Some(found.clone());
        assert_eq!(problems(&observed), expected, "{found:?}");
    }
}

#[test]
fn its_own_objects_are_no_problem_and_names_that_it_does_not_need_are_free() {
    let taken = |name: &str| ObjectMeta {
        name: Some(name.into()),
        ..ObjectMeta::default()
    };
    let external = json!({"redis": {"mode": "External", "external": {"host": "r"}}});
    let problems_with = |spec: &Value, change: fn(&mut Live, ObjectMeta), name| {
        let mut observed = observed(spec);
        observed.live = live(built(spec));
        change(&mut observed.live, taken(name));
        problems(&observed).len()
    };
    let redis = |live: &mut Live, metadata| {
        live.redis_service = Some(Service {
            metadata,
            ..Service::default()
        });
    };
    let keys = |live: &mut Live, metadata| {
        live.keys = Some(Secret {
            metadata,
            ..Secret::default()
        });
    };
    let files = |live: &mut Live, metadata| {
        live.redis_files = Some(Secret {
            metadata,
            ..Secret::default()
        });
    };
    let sentinel = json!({"redis": {"mode": "Sentinel"}});
    assert_eq!(problems_with(&sentinel, |_, _| (), ""), 0);
    assert_eq!(problems_with(&sentinel, files, "demo-redis"), 1);
    assert_eq!(problems_with(&json!({}), files, "demo-redis"), 0);
    assert_eq!(problems_with(&json!({}), |_, _| (), ""), 0);
    assert_eq!(problems_with(&json!({}), redis, "demo-redis"), 1);
    assert_eq!(problems_with(&external, redis, "demo-redis"), 0);
    assert_eq!(problems_with(&json!({}), keys, "demo-keys"), 1);
}
