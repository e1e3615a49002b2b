use k8s_openapi::api::core::v1::{PodSpec, Service};
use serde_json::{Value, json};

use super::super::{Objects, RedisObjects, build};
use super::*;
use crate::push_cluster::fixture::{built, images, keys, observed};
use crate::push_cluster::validate::validate;

fn sentinel() -> Value {
    json!({"redis": {"mode": "Sentinel"}})
}

pub fn redis_of(objects: Objects) -> RedisObjects {
    objects.redis.unwrap()
}

pub fn pod_of(redis: &RedisObjects) -> PodSpec {
    let spec = redis.stateful_sets[0].spec.clone().unwrap();
    spec.template.spec.unwrap()
}

/// The file's directives, without comments.
fn file(redis: &RedisObjects, name: &str) -> Vec<String> {
    let files = redis.files.as_ref().unwrap().data.as_ref().unwrap();
    let text = std::str::from_utf8(&files[name].0).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

/// The arguments of all lines that begin so.
fn all(lines: &[String], directive: &str) -> Vec<String> {
    let found = lines.iter().filter_map(|line| line.strip_prefix(directive));
    found.map(|rest| rest.trim().to_owned()).collect()
}

#[test]
fn no_redis_and_no_sentinel_begins_with_a_master() {
    let redis = redis_of(built(&sentinel()));
    let directives = file(&redis, "redis.conf");
    assert_eq!(all(&directives, "replicaof"), ["127.0.0.1 1"]);
    let set = redis.stateful_sets[0].spec.as_ref().unwrap();
    assert_eq!(set.replicas, Some(3));
    assert_eq!(
        redis.files.as_ref().unwrap().data.as_ref().unwrap().len(),
        4
    );
    for pod in ["demo-redis-0", "demo-redis-1", "demo-redis-2"] {
        let directives = file(&redis, &format!("{pod}.conf"));
        assert_eq!(
            all(&directives, "sentinel monitor"),
            ["shop.demo 127.0.0.1 1 2"]
        );
    }
}

/// A Redis that could write its configuration would remember having been master, and be one again with nothing in it.
#[test]
fn redis_cannot_remember_that_it_was_master() {
    let pod = pod_of(&redis_of(built(&sentinel())));
    let redis = pod.containers.iter().find(|c| c.name == "redis").unwrap();
    let path = &redis.args.as_ref().unwrap()[1];
    let mounts = redis.volume_mounts.as_ref().unwrap();
    let holding = mounts
        .iter()
        .find(|mount| path.starts_with(&format!("{}/", mount.mount_path)))
        .unwrap();
    assert_eq!(holding.read_only, Some(true), "{path}");
}

#[test]
fn sentinels_know_each_other_and_every_redis_from_the_start() {
    let redis = redis_of(built(&sentinel()));
    let files: Vec<_> = (0..PODS)
        .map(|ordinal| file(&redis, &format!("demo-redis-{ordinal}.conf")))
        .collect();
    let one = |file: &Vec<String>, directive: &str| all(file, directive).remove(0);
    for (ordinal, directives) in files.iter().enumerate() {
        let host = |ordinal| format!("demo-redis-{ordinal}.demo-redis");
        assert_eq!(one(directives, "sentinel announce-ip"), host(ordinal));
        assert_eq!(
            all(directives, "sentinel known-replica shop.demo"),
            [0, 1, 2].map(|ordinal| format!("{} 6379", host(ordinal)))
        );
        let others: Vec<_> = (0..PODS)
            .filter(|other| *other != ordinal)
            .map(|other| {
                let id = one(&files[other], "sentinel myid");
                assert_eq!(id.len(), 40);
                format!("{} 26379 {id}", host(other))
            })
            .collect();
        assert_eq!(all(directives, "sentinel known-sentinel shop.demo"), others);
    }
    assert_ne!(
        one(&files[0], "sentinel myid"),
        one(&files[1], "sentinel myid")
    );
}

#[test]
fn a_master_is_replaced_after_the_time_of_the_spec() {
    for (spec, expected) in [
        (sentinel(), ("shop.demo 5000", "shop.demo 10000")),
        (
            json!({"redis": {"mode": "Sentinel", "sentinel": {"downAfterSeconds": 20}}}),
            ("shop.demo 20000", "shop.demo 40000"),
        ),
    ] {
        let redis = redis_of(built(&spec));
        let directives = file(&redis, "demo-redis-0.conf");
        let found = (
            all(&directives, "sentinel down-after-milliseconds").remove(0),
            all(&directives, "sentinel failover-timeout").remove(0),
        );
        assert_eq!(
            (found.0.as_str(), found.1.as_str()),
            (expected.0, expected.1)
        );
    }
}

#[test]
fn gateways_have_a_user_of_their_own_with_their_own_keys_only() {
    let objects = built(&sentinel());
    let config = &objects.config.data.as_ref().unwrap()["gateway.yaml"];
    let parsed = gateway_config::parse(config, &[]).unwrap().broker.redis;
    assert_eq!(parsed.mode, gateway_config::RedisMode::Sentinel);
    assert_eq!(
        parsed.url,
        "redis://demo-redis-0.demo-redis:26379,demo-redis-1.demo-redis:26379,\
         demo-redis-2.demo-redis:26379/0"
    );
    assert_eq!(parsed.master_name, "shop.demo");
    assert_eq!(
        (parsed.username, parsed.sentinel_username),
        ("gateway".into(), "gateway".into())
    );
    assert_eq!(parsed.password_file, "/etc/pushcluster/keys/redis-password");
    assert_eq!(parsed.sentinel_password_file, parsed.password_file);

    let redis = redis_of(objects);
    let users = |name: &str| all(&file(&redis, name), "user ");
    let [default, admin, gateway] = users("redis.conf").try_into().unwrap();
    assert_eq!(default, "default off");
    assert_eq!(admin, "admin on >the-admin-password ~* &* +@all");
    for part in [
        "gateway on >the-password ",
        " ~pushcluster:shop/demo:* resetchannels &pushcluster:shop/demo:* -@all ",
        " -@dangerous ",
    ] {
        assert!(gateway.contains(part), "{gateway}");
    }
    let [default, _, gateway] = users("demo-redis-1.conf").try_into().unwrap();
    assert_eq!(default, "default off");
    assert!(gateway.contains(" -@all "), "{gateway}");
}

/// What `kubectl get` shows to whoever may read pods and ConfigMaps, but no Secrets.
#[test]
fn passwords_are_in_secrets_only() {
    let objects = built(&sentinel());
    let config = serde_json::to_string(&objects.config).unwrap();
    let deployment = serde_json::to_string(&objects.deployment).unwrap();
    let set = serde_json::to_string(&redis_of(objects).stateful_sets).unwrap();
    for text in [config, deployment, set] {
        for secret in ["the-api-key", "the-password", "the-admin-password"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[test]
fn pods_with_other_files_are_other_pods_and_scaling_replaces_none() {
    let template = |spec: &Value, password: &str| {
        let keys = Keys {
            redis_admin_password: password.into(),
            ..keys()
        };
        let objects = build(&validate(&observed(spec), &images()).unwrap(), &keys);
        redis_of(objects)
            .stateful_sets
            .remove(0)
            .spec
            .unwrap()
            .template
    };
    let before = template(&sentinel(), "one");
    assert_eq!(before, template(&sentinel(), "one"));
    let scaled = json!({"replicas": 7, "redis": {"mode": "Sentinel"}});
    assert_eq!(before, template(&scaled, "one"));
    assert_ne!(before, template(&sentinel(), "another"));
    let slower = json!({"redis": {"mode": "Sentinel", "sentinel": {"downAfterSeconds": 6}}});
    assert_ne!(before, template(&slower, "one"));
}

#[test]
fn pods_are_found_before_they_are_ready_and_go_one_at_a_time() {
    let RedisObjects {
        service,
        budget,
        mut stateful_sets,
        ..
    } = redis_of(built(&sentinel()));
    let Service { spec, .. } = service;
    let spec = spec.unwrap();
    assert_eq!(spec.publish_not_ready_addresses, Some(true));
    assert_eq!(spec.cluster_ip.as_deref(), Some("None"));
    let ports: Vec<_> = spec.ports.unwrap().iter().map(|port| port.port).collect();
    assert_eq!(ports, [6379, 26379]);
    let set = stateful_sets.remove(0).spec.unwrap();
    assert_eq!(set.pod_management_policy.as_deref(), Some("Parallel"));
    let budget = budget.unwrap().spec.unwrap();
    assert_eq!(budget.selector, Some(set.selector));
    assert_eq!(
        budget.max_unavailable,
        Some(k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(1))
    );
}

/// Without the right to them gateways could not listen to backends.
#[test]
fn gateways_may_listen_to_the_channels_of_backends() {
    let rights = |redis: Value| {
        let directives = file(&redis_of(built(&json!({"redis": redis}))), "redis.conf");
        all(&directives, "user gateway").remove(0)
    };
    let own = "&pushcluster:shop/demo:*";
    let listening =
        json!({"mode": "Sentinel", "listen": ["ws:room:*", "ws:private"], "listenPrefix": "app:"});
    assert!(rights(listening).contains(&format!("{own} &app:ws:room:* &app:ws:private ")));
    let silent = rights(json!({"mode": "Sentinel"}));
    assert!(silent.contains(own) && !silent.contains("ws:"), "{silent}");
}

/// By number, as a StatefulSet does it by itself, masters would be replaced that are still to be replaced again.
#[test]
fn pods_are_replaced_by_who_knows_the_master() {
    let set = redis_of(built(&sentinel())).stateful_sets.remove(0);
    let strategy = set.spec.unwrap().update_strategy.unwrap();
    assert_eq!(strategy.type_.as_deref(), Some("OnDelete"));
}
