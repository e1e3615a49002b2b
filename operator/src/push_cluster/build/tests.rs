mod autoscalers;

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use serde_json::{Value, json};

use super::*;
use crate::push_cluster::exchange::Dated;
use crate::push_cluster::fixture::{built, images, keys, observed, secret};
use crate::push_cluster::passwords::Passwords;
use crate::push_cluster::validate::validate;

fn gateway_pod(objects: &Objects) -> &PodSpec {
    objects
        .deployment
        .spec
        .as_ref()
        .unwrap()
        .template
        .spec
        .as_ref()
        .unwrap()
}

fn config(objects: &Objects) -> &str {
    &objects.config.data.as_ref().unwrap()["gateway.yaml"]
}

#[test]
fn every_pod_passes_the_restricted_standard_and_has_no_token() {
    let redis = |mode: &str| {
        let redis = built(&json!({"redis": {"mode": mode}})).redis;
        redis
            .unwrap()
            .stateful_sets
            .remove(0)
            .spec
            .unwrap()
            .template
            .spec
    };
    let gateway = gateway_pod(&built(&json!({}))).clone();
    for pod in [
        gateway,
        redis("Standalone").unwrap(),
        redis("Sentinel").unwrap(),
        redis("Cluster").unwrap(),
    ] {
        let security = pod.security_context.as_ref().unwrap();
        assert_eq!(security.run_as_non_root, Some(true));
        assert_eq!(
            security.seccomp_profile.as_ref().unwrap().type_,
            "RuntimeDefault"
        );
        assert_eq!(pod.automount_service_account_token, Some(false));
        for container in pod
            .containers
            .iter()
            .chain(pod.init_containers.iter().flatten())
        {
            let security = container.security_context.as_ref().unwrap();
            assert_eq!(
                security.allow_privilege_escalation,
                Some(false),
                "{}",
                container.name
            );
            assert_eq!(
                security.read_only_root_filesystem,
                Some(true),
                "{}",
                container.name
            );
            assert_eq!(
                security.capabilities.as_ref().unwrap().drop,
                Some(vec!["ALL".into()]),
                "{}",
                container.name
            );
        }
    }
}

#[test]
fn the_config_is_one_that_the_gateway_takes() {
    for spec in [
        json!({}),
        json!({"gateway": {"auth": {"anonymous": false, "hs256KeySecret": {"name": "jwt", "key": "hmac"}}}}),
        json!({"gateway": {"limits": {"maxMessageBytes": 67_108_864}}}),
        json!({"redis": {"mode": "External", "external": {"host": "cache", "username": "push", "passwordSecret": {"name": "cache", "key": "pass"}}}}),
        json!({"redis": {"mode": "Sentinel"}}),
        json!({"redis": {"mode": "Cluster"}}),
    ] {
        let objects = built(&spec);
        let parsed = gateway_config::parse(config(&objects), &[]);
        assert!(parsed.is_ok(), "{spec}: {parsed:?}");
    }
}

#[test]
fn a_gateway_may_have_the_memory_of_its_pod() {
    let limit = |resources| {
        let objects = built(&json!({"gateway": {"resources": resources}}));
        let parsed = gateway_config::parse(config(&objects), &[]).unwrap();
        parsed.limits.max_memory_bytes
    };
    assert_eq!(limit(json!({})), 0, "the container's");
    assert_eq!(limit(json!({"limits": {"memory": "4Gi"}})), 0);
    let default = gateway_config::Config::default().limits.max_memory_bytes;
    assert_eq!(limit(json!({"limits": {"cpu": "2"}})), default);
    assert_eq!(limit(json!({"requests": {"memory": "4Gi"}})), default);
}

#[test]
fn a_gateway_is_another_pod_only_where_it_cannot_become_what_is_asked_for() {
    let made = |spec: &Value| {
        let objects = built(spec);
        let config = config(&objects).to_owned();
        (objects.deployment.spec.unwrap().template, config)
    };
    let plain = || json!({});
    let gateway = |spec: Value| json!({ "gateway": spec });
    let drain = |spec: Value| json!({ "drain": spec });
    let auth = |spec: Value| json!({"gateway": {"auth": spec}});
    let redis = |host| json!({"redis": {"mode": "External", "external": {"host": host}}});
    let (one, two) = ("https://a/keys", "https://b/keys");
    let secret = json!({"name": "jwt", "key": "hmac"});
    // From, to, whether other pods are made, whether the configuration is another one.
    for (before, after, pods, config) in [
        (plain(), plain(), false, false),
        (plain(), json!({"replicas": 5}), false, false),
        (plain(), json!({"service": {"port": 81}}), false, false),
        (
            plain(),
            gateway(json!({"limits": {"maxConnections": 5}})),
            false,
            true,
        ),
        (plain(), gateway(json!({"logFilter": "debug"})), false, true),
        (
            plain(),
            drain(json!({"reconnectsPerSecond": 50})),
            false,
            true,
        ),
        (
            auth(json!({"jwksUrl": one})),
            auth(json!({"jwksUrl": two})),
            false,
            true,
        ),
        // The file would not be in the pod.
        (plain(), auth(json!({"hs256KeySecret": secret})), true, true),
        // The kubelet ends a pod by the deadline that it began with, which is generous.
        (plain(), drain(json!({"deadlineSeconds": 60})), false, true),
        (plain(), drain(json!({"deadlineSeconds": 600})), true, true),
        (
            plain(),
            drain(json!({"reconnectsPerSecond": 5})),
            true,
            true,
        ),
        (
            plain(),
            gateway(json!({"limits": {"maxConnections": 50_000}})),
            true,
            true,
        ),
        (redis("a"), redis("b"), true, true),
        (plain(), gateway(json!({"image": "other"})), true, false),
    ] {
        let what = format!("{before} to {after}");
        let (before, after) = (made(&before), made(&after));
        assert_eq!(before.0 != after.0, pods, "{what}: the pods");
        assert_eq!(before.1 != after.1, config, "{what}: the configuration");
    }
}

#[test]
fn secrets_come_from_where_the_manifest_says() {
    let files = |objects: &Objects| -> Vec<String> {
        let volumes = gateway_pod(objects).volumes.clone().unwrap();
        let keys = volumes
            .into_iter()
            .find(|volume| volume.name == "keys")
            .unwrap()
            .projected
            .unwrap();
        let secrets = keys
            .sources
            .unwrap()
            .into_iter()
            .filter_map(|source| source.secret);
        secrets
            .map(|s| {
                format!(
                    "{}/{} as {}",
                    s.name,
                    s.items.as_ref().unwrap()[0].key,
                    s.items.as_ref().unwrap()[0].path
                )
            })
            .collect()
    };
    assert_eq!(
        files(&built(&json!({}))),
        [
            "demo-keys/api-keys as api-key",
            "demo-keys/redis-password as redis-password"
        ]
    );
    let external = json!({
        "gateway": {"auth": {"hs256KeySecret": {"name": "jwt", "key": "hmac"}}},
        "redis": {"mode": "External", "external": {"host": "cache", "passwordSecret": {"name": "cache", "key": "pass"}}},
    });
    let objects = built(&external);
    assert_eq!(
        files(&objects),
        [
            "demo-keys/api-keys as api-key",
            "cache/pass as redis-password",
            "jwt/hmac as hs256-key"
        ]
    );
    assert!(objects.redis.is_none());
    for secret in ["the-api-key", "the-password"] {
        assert!(
            !config(&objects).contains(secret),
            "a secret in a ConfigMap"
        );
    }
}

#[test]
fn the_clients_service_is_as_asked_for() {
    let service = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "loadBalancerClass": "a/b"});
    let spec = built(&json!({"service": service})).service.spec.unwrap();
    assert_eq!(spec.external_traffic_policy.as_deref(), Some("Local"));
    assert_eq!(spec.load_balancer_class.as_deref(), Some("a/b"));
    let plain = built(&json!({})).service.spec.unwrap();
    assert_eq!(
        (plain.external_traffic_policy, plain.load_balancer_class),
        (None, None)
    );
}

#[test]
fn services_select_the_pods_that_they_are_for() {
    let objects = built(&json!({}));
    let labels = |template: &k8s_openapi::api::core::v1::PodTemplateSpec| {
        template.metadata.clone().unwrap().labels.unwrap()
    };
    let gateway = labels(&objects.deployment.spec.as_ref().unwrap().template);
    let RedisObjects {
        mut stateful_sets,
        service,
        ..
    } = objects.redis.unwrap();
    let redis = labels(&stateful_sets.remove(0).spec.unwrap().template);
    let selects = |service: &Service, pod: &BTreeMap<String, String>| {
        let selector = service.spec.as_ref().unwrap().selector.clone().unwrap();
        selector
            .iter()
            .all(|(key, value)| pod.get(key) == Some(value))
    };
    for (service, to_gateway) in [
        (&objects.service, true),
        (&objects.nodes_service, true),
        (&service, false),
    ] {
        assert_eq!(
            (selects(service, &gateway), selects(service, &redis)),
            (to_gateway, !to_gateway)
        );
    }
}

/// Gateways and Redis read passwords at their start only: with other ones they must be other pods. Keys of tokens and of
/// the API are read again, and a rotation that ended every connection would be worse than none.
#[test]
fn a_pod_with_other_passwords_is_another_pod() {
    let templates = |spec: &Value, keys: Keys, (name, key): (&str, &str), value: &[u8]| {
        let mut observed = observed(spec);
        let value = Some(ByteString(value.to_vec()));
        let secret = secret(name, key);
        observed.referenced.insert(secret, value);
        let objects = build(&validate(&observed, &images()).unwrap(), &keys);
        let template = |spec: PodTemplateSpec| spec.metadata.unwrap().annotations.unwrap();
        let redis = objects
            .redis
            .map(|mut redis| template(redis.stateful_sets.remove(0).spec.unwrap().template));
        (template(objects.deployment.spec.unwrap().template), redis)
    };
    let tokens = json!({"gateway": {"auth": {
        "hs256KeySecret": {"name": "jwt", "key": "hmac"},
        "keySecrets": [{"name": "jwt", "key": "hmac"}],
    }}});
    let jwt = ("jwt", "hmac");
    let before = templates(&tokens, keys(), jwt, &[b'a'; 32]);
    assert_eq!(before, templates(&tokens, keys(), jwt, &[b'b'; 32]));
    let other_api_key = Keys {
        api_key: "another".into(),
        ..keys()
    };
    assert_eq!(before, templates(&tokens, other_api_key, jwt, &[b'a'; 32]));
    let other_password = Keys {
        redis_password: "another".into(),
        ..keys()
    };
    let after = templates(&tokens, other_password, jwt, &[b'a'; 32]);
    assert_eq!((before.0 == after.0, before.1 == after.1), (false, false));

    let external = json!({"redis": {"mode": "External", "external":
        {"host": "cache", "passwordSecret": {"name": "cache", "key": "pass"}}}});
    let password = ("cache", "pass");
    let before = templates(&external, keys(), password, b"one");
    assert_eq!(before, templates(&external, keys(), password, b"one"));
    assert_ne!(before, templates(&external, keys(), password, b"two"));
}

/// Else a rotation would close every socket.
#[test]
fn another_password_of_gateways_replaces_no_pod_and_the_next_start_accepts_both() {
    for mode in ["Standalone", "Sentinel", "Cluster"] {
        let observed = observed(&json!({"redis": {"mode": mode}}));
        let validated = validate(&observed, &images()).unwrap();
        let before = build(&validated, &keys());
        let dated = |key: &str| {
            let at = k8s_openapi::jiff::Timestamp::UNIX_EPOCH;
            let key = key.into();
            Some(Dated { key, at })
        };
        let first = Some("the-password".to_owned());
        for (password, next, from_before, first, accepted) in [
            ("the-password", dated("b"), None, None, ">the-password >b "),
            (
                "b",
                None,
                dated("the-password"),
                first.clone(),
                ">b >the-password ",
            ),
            ("b", None, None, first, ">b "),
        ] {
            let keys = Keys {
                redis_password: password.into(),
                passwords: Passwords {
                    next,
                    before: from_before,
                    first,
                    ..Passwords::default()
                },
                ..keys()
            };
            let after = build(&validated, &keys);
            assert_eq!(after.deployment, before.deployment, "{mode}");
            let sets = |objects: &Objects| objects.redis.as_ref().unwrap().stateful_sets.clone();
            assert_eq!(sets(&after), sets(&before), "{mode}");
            let files = after.redis.unwrap().files.unwrap_or(after.keys);
            let mut users = 0;
            for (name, content) in files.data.unwrap() {
                let text = String::from_utf8(content.0).unwrap();
                let lines = text.lines();
                let is_gateways = |line: &&str| {
                    line.starts_with("user gateway ") || line.starts_with("user default on")
                };
                for line in lines.filter(is_gateways) {
                    assert!(line.contains(accepted), "{mode} {name}: {line}");
                    users += 1;
                }
            }
            // One file for all, and with Sentinels one more for each pod.
            assert_eq!(users, if mode == "Sentinel" { 4 } else { 1 }, "{mode}");
        }
    }
}

#[test]
fn gateways_are_told_which_tokens_count() {
    let objects = built(&json!({"gateway": {"auth": {
        "keySecrets": [{"name": "jwt", "key": "hmac"}, {"name": "cache", "key": "pass"}],
        "jwksUrl": "https://id.example/keys",
        "issuers": ["https://id.example"],
        "audiences": ["push", "chat"],
    }}}));
    let auth = gateway_config::parse(config(&objects), &[]).unwrap().auth;
    assert_eq!(
        auth.key_files,
        [
            "/etc/pushcluster/keys/token-key-0",
            "/etc/pushcluster/keys/token-key-1"
        ]
    );
    assert_eq!(auth.jwks_url, "https://id.example/keys");
    assert_eq!(auth.issuers, ["https://id.example"]);
    assert_eq!(auth.audiences, ["push", "chat"]);
    let volumes = gateway_pod(&objects).volumes.clone().unwrap();
    let text = format!("{volumes:?}");
    for path in ["token-key-0", "token-key-1"] {
        assert!(text.contains(path), "{text}");
    }
}

/// What can be read from a pod must not let anybody try passwords: the same one with another salt looks otherwise.
#[test]
fn the_hash_of_a_password_is_worth_nothing_without_the_salt() {
    let hash = |salt: &str| {
        let keys = Keys {
            salt: salt.into(),
            ..keys()
        };
        config::hash(
            &gateway_config::Config::default(),
            &keys,
            &[ByteString(b"hunter2".to_vec())],
        )
    };
    assert_ne!(hash("one"), hash("another"));
}
