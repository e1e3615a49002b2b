use k8s_openapi::api::core::v1::PodSpec;
use serde_json::{Value, json};

use super::super::{Objects, RedisObjects};
use crate::push_cluster::build::sentinel::ADMIN_USER;
use crate::push_cluster::fixture::built;

fn cluster() -> Value {
    json!({"redis": {"mode": "Cluster"}})
}

fn redis_of(objects: Objects) -> RedisObjects {
    objects.redis.unwrap()
}

fn conf(redis: &RedisObjects) -> String {
    let files = redis.files.as_ref().unwrap().data.as_ref().unwrap();
    String::from_utf8(files["redis.conf"].0.clone()).unwrap()
}

fn pod_of(redis: &RedisObjects, shard: usize) -> PodSpec {
    let spec = redis.stateful_sets[shard].spec.clone().unwrap();
    spec.template.spec.unwrap()
}

#[test]
fn each_shard_is_a_set_of_pods_that_no_other_selects() {
    let spec = json!({"redis": {"mode": "Cluster", "cluster": {"shards": 4, "replicas": 2}}});
    let redis = redis_of(built(&spec));
    let sets: Vec<_> = redis.stateful_sets.iter().collect();
    let names: Vec<_> = sets
        .iter()
        .map(|set| set.metadata.name.as_deref().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "demo-redis-0",
            "demo-redis-1",
            "demo-redis-2",
            "demo-redis-3"
        ]
    );
    for (one, set) in sets.iter().enumerate() {
        let spec = set.spec.as_ref().unwrap();
        assert_eq!(spec.replicas, Some(3));
        let selector = spec.selector.match_labels.as_ref().unwrap();
        for (other, set) in sets.iter().enumerate() {
            let template = &set.spec.as_ref().unwrap().template;
            let labels = template.metadata.as_ref().unwrap().labels.as_ref().unwrap();
            let selected = selector
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value));
            assert_eq!(selected, one == other, "{one} selects {other}");
        }
    }
}

/// One that remembered would be master again, with nothing in it, and its replicas would copy that.
#[test]
fn whatever_starts_has_forgotten_that_it_was_master() {
    let redis = redis_of(built(&cluster()));
    let conf = conf(&redis);
    let pod = pod_of(&redis, 0);
    let file = conf
        .lines()
        .find_map(|line| line.strip_prefix("cluster-config-file "));
    let folder = conf.lines().find_map(|line| line.strip_prefix("dir "));
    let nodes = format!("{}/{}", folder.unwrap(), file.unwrap());
    let script = &pod.containers[0].command.as_ref().unwrap()[2];
    let waits = format!("if [ -s {nodes} ]; then sleep 12; : >{nodes}; fi; exec redis-server");
    assert!(script.starts_with(&waits), "{script}");
    assert!(
        conf.contains("save \"\"\n") && conf.contains("appendonly no\n"),
        "{conf}"
    );
}

#[test]
fn gateways_have_a_user_of_their_own_and_one_name_for_any_number_of_shards() {
    let config = |spec: &Value| {
        built(spec)
            .config
            .data
            .unwrap()
            .remove("gateway.yaml")
            .unwrap()
    };
    let more = json!({"redis": {"mode": "Cluster", "cluster": {"shards": 5}}});
    assert_eq!(
        config(&cluster()),
        config(&more),
        "other shards are no other gateways"
    );
    let parsed = gateway_config::parse(&config(&cluster()), &[])
        .unwrap()
        .broker
        .redis;
    assert_eq!(parsed.mode, gateway_config::RedisMode::Cluster);
    assert_eq!(parsed.url, "redis://demo-redis:6379");
    assert_eq!(parsed.username, "gateway");
    assert_eq!(parsed.password_file, "/etc/pushcluster/keys/redis-password");
    let conf = conf(&redis_of(built(&cluster())));
    let users: Vec<_> = conf
        .lines()
        .filter(|line| line.starts_with("user "))
        .collect();
    let [default, admin, gateway, replica] = users.try_into().unwrap();
    assert_eq!(default, "user default off");
    assert!(admin.starts_with(&format!("user {ADMIN_USER} on >the-admin-password ")));
    assert!(replica.starts_with("user replica off "), "{replica}");
    for part in [
        "user gateway on >the-password ~pushcluster:shop/demo:* resetchannels &pushcluster:shop/demo:* -@all ",
        " +spublish +ssubscribe +sunsubscribe +cluster|nodes",
    ] {
        assert!(gateway.contains(part), "{gateway}");
    }
}

#[test]
fn pods_are_found_before_they_are_ready_and_the_operator_says_which_one_goes() {
    let spec = json!({"redis": {"mode": "Cluster", "cluster": {"downAfterSeconds": 9}}});
    let redis = redis_of(built(&spec));
    assert!(conf(&redis).contains("cluster-node-timeout 9000\n"));
    let service = redis.service.spec.as_ref().unwrap();
    assert_eq!(service.publish_not_ready_addresses, Some(true));
    for set in &redis.stateful_sets {
        let spec = set.spec.as_ref().unwrap();
        assert_eq!(spec.pod_management_policy.as_deref(), Some("Parallel"));
        let strategy = spec.update_strategy.as_ref().unwrap();
        assert_eq!(strategy.type_.as_deref(), Some("OnDelete"));
        let text = serde_json::to_string(set).unwrap();
        for secret in ["the-api-key", "the-password", "the-admin-password"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}
