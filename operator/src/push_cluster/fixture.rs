//! What tests begin with: a PushCluster as the API server would hand it over, and nothing else there yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crds::{ConfigMapKey, PushCluster, SecretKey};
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use super::Images;
use super::build::{Objects, build};
use super::consent::hold;
use super::named::Source;
use super::observe::{Keda, Keys, Live, Observed, StoredKeys};
use super::passwords::Passwords;
use super::redis_tls::standing_for;
use super::rotation::Rotation;
use super::validate::validate;

/// The Secrets that specs in tests name hold these keys. Names differ wherever swapping them would hide.
pub fn observed(spec: &Value) -> Observed {
    let cluster: PushCluster = serde_json::from_value(json!({
        "apiVersion": "pushcluster.io/v1alpha1", "kind": "PushCluster",
        "metadata": {"name": "demo", "namespace": "shop", "uid": "u-1", "generation": 7},
        "spec": spec,
    }))
    .unwrap();
    let value = Some(ByteString(vec![b'x'; 32]));
    let pem = |what: &str| Some(ByteString(format!("-----BEGIN {what}-----").into_bytes()));
    let trusted = Source::ConfigMap(ConfigMapKey {
        name: "pem".into(),
        key: "ca.crt".into(),
    });
    Observed {
        cluster: Arc::new(cluster),
        live: Live::default(),
        keys: StoredKeys::default(),
        referenced: BTreeMap::from([
            (secret("jwt", "hmac"), value.clone()),
            (secret("cache", "pass"), value),
            (secret("pem", "tls.crt"), pem("CERTIFICATE")),
            (secret("pem", "tls.key"), pem("PRIVATE KEY")),
            (trusted, pem("CERTIFICATE")),
        ]),
        pods: vec![],
        refused: None,
        newest: None,
        listed: BTreeSet::new(),
        external_redis: None,
        redis_pods: None,
        foreign_autoscalers: Vec::new(),
        keda: Keda::default(),
        redis_users: vec![],
    }
}

pub fn secret(name: &str, key: &str) -> Source {
    Source::Secret(SecretKey {
        name: name.into(),
        key: key.into(),
    })
}

/// Metadata of an object of this PushCluster.
pub fn owned(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        ..built(&json!({})).config.metadata
    }
}

pub fn images() -> Images {
    Images {
        gateway: "img/gateway:1".into(),
        redis: "img/redis:1".into(),
        operator_namespace: "operators".into(),
        admin_url: "http://operator.operators.svc:9090".into(),
    }
}

pub fn keys() -> Keys {
    Keys {
        api_key: "the-api-key".into(),
        redis_password: "the-password".into(),
        redis_admin_password: "the-admin-password".into(),
        salt: "the-salt".into(),
        rotation: Rotation::default(),
        passwords: Passwords::default(),
        redis_tls: None,
    }
}

/// Builds what a spec asks for, through the real validation.
pub fn built(spec: &Value) -> Objects {
    let (observed, mut keys) = (observed(spec), keys());
    if observed.cluster.spec.redis.tls.is_some() {
        keys.redis_tls = Some(standing_for("made"));
    }
    let validated = validate(&observed, &images()).unwrap();
    let mut objects = build(&validated, &keys);
    let nothing = Live::default();
    hold(
        &mut objects,
        &nothing,
        &observed.cluster,
        (&validated, &keys),
    );
    objects
}

/// What there is after these objects were applied and nothing else happened.
pub fn live(objects: Objects) -> Live {
    let Objects {
        service_account,
        keys,
        config,
        redis,
        deployment,
        service,
        nodes_service,
        budget,
        autoscaler,
        scaled_object,
        gateway_policy,
        redis_policy,
    } = objects;
    let certificate = redis.as_ref().and_then(|redis| redis.certificate.clone());
    let (sets, redis_service, redis_files, redis_budget) =
        redis.map_or((Vec::new(), None, None, None), |redis| {
            let (sets, service) = (redis.stateful_sets, redis.service);
            (sets, Some(service), redis.files, redis.budget)
        });
    let is_shard = |set: &StatefulSet| set.metadata.name.as_deref() != Some("demo-redis");
    let (shards, mut redis): (Vec<_>, Vec<_>) = sets.into_iter().partition(is_shard);
    let redis = redis.pop();
    Live {
        service_account: Some(service_account),
        keys: Some(keys),
        config: Some(config),
        redis,
        shards,
        claims: Vec::new(),
        redis_service,
        redis_files,
        redis_certificate: certificate,
        redis_budget,
        deployment: Some(deployment),
        service: Some(service),
        nodes_service: Some(nodes_service),
        budget: Some(budget),
        autoscaler,
        scaled_object,
        gateway_policy,
        redis_policy,
    }
}
