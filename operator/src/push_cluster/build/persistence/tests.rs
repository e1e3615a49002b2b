use serde_json::{Value, json};

use crate::push_cluster::build::RedisObjects;
use crate::push_cluster::fixture::built;

fn redis(mode: &str, persistence: &Value) -> RedisObjects {
    let spec = json!({"redis": {"mode": mode, "persistence": persistence}});
    built(&spec).redis.unwrap()
}

/// The StatefulSet's spec, and Redis's container in it.
fn spec(mode: &str, persistence: &Value) -> (Value, Value) {
    let spec = json!(redis(mode, persistence).stateful_sets[0].spec);
    let containers = spec["template"]["spec"]["containers"].as_array().unwrap();
    let container = containers.iter().find(|one| one["name"] == "redis");
    let container = container.unwrap().clone();
    (spec, container)
}

const MODES: [&str; 2] = ["Standalone", "Sentinel"];

#[test]
fn every_pod_has_a_volume_as_asked_for() {
    let asked = json!({"size": "3Gi", "storageClassName": "fast", "whenDeleted": "Delete"});
    for mode in MODES {
        let (spec, container) = spec(mode, &asked);
        let claim = &spec["volumeClaimTemplates"][0];
        assert_eq!(claim["metadata"]["name"], "data");
        assert_eq!(
            claim["spec"],
            json!({
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "3Gi"}},
                "storageClassName": "fast",
            })
        );
        assert_eq!(
            spec["persistentVolumeClaimRetentionPolicy"],
            json!({"whenDeleted": "Delete", "whenScaled": "Retain"})
        );
        // A volume of that name in the template would hide the claim.
        let volumes = spec["template"]["spec"]["volumes"].as_array().unwrap();
        assert!(volumes.iter().all(|volume| volume["name"] != "data"));
        let mounts = container["volumeMounts"].as_array().unwrap();
        assert!(mounts.iter().any(|mount| mount["name"] == "data"));
        let defaults = self::spec(mode, &json!({})).0;
        let claim = &defaults["volumeClaimTemplates"][0]["spec"];
        assert_eq!(claim["resources"]["requests"]["storage"], "1Gi");
        assert_eq!(claim.get("storageClassName"), None);
        let kept = &defaults["persistentVolumeClaimRetentionPolicy"];
        assert_eq!(kept["whenDeleted"], "Retain");
    }
}

#[test]
fn redis_writes_snapshots_and_goes_on_when_it_cannot() {
    let asked = json!({"snapshotSeconds": 30});
    let (_, container) = spec("Standalone", &asked);
    let arguments = container["args"].as_array().unwrap();
    let arguments: Vec<&str> = arguments.iter().map(|one| one.as_str().unwrap()).collect();
    let text = arguments.join(" ");
    let expected = "redis /etc/redis/redis.conf --dir /data --save 30 1 --stop-writes-on-bgsave-error no \
                    --shutdown-on-sigterm default force --appendonly no --bind *";
    assert_eq!(text, expected);

    let files = redis("Sentinel", &asked).files.unwrap().data.unwrap();
    let file = String::from_utf8(files["redis.conf"].0.clone()).unwrap();
    for line in [
        "dir /data",
        "save 30 1",
        "stop-writes-on-bgsave-error no",
        "shutdown-on-sigterm default force",
        "appendonly no",
        "replicaof 127.0.0.1 1",
    ] {
        assert!(file.lines().any(|one| one == line), "{line} in {file}");
    }
}

/// While it loads, Redis answers with errors. A probe that took those for death would have it begin anew for ever.
#[test]
fn a_redis_that_loads_is_alive_and_not_ready() {
    for mode in MODES {
        let (spec, container) = spec(mode, &json!({}));
        let minds_errors = |probe: &str| {
            let command = container[probe]["exec"]["command"].as_array().unwrap();
            command.contains(&json!("-e"))
        };
        assert!(!minds_errors("livenessProbe"), "{mode}");
        assert!(minds_errors("readinessProbe"), "{mode}");
        let probe = &container["livenessProbe"];
        let number = |name: &str| probe[name].as_i64().unwrap();
        assert!(number("periodSeconds") * number("failureThreshold") >= 120);
        let grace = &spec["template"]["spec"]["terminationGracePeriodSeconds"];
        assert_eq!(grace, 60, "{mode}: the time to write a snapshot");
    }
}

#[test]
fn without_volumes_the_pods_are_as_before() {
    let (spec, container) = spec("Standalone", &Value::Null);
    assert_eq!(container["command"], json!(["redis-server"]));
    let expected = [
        "/etc/redis/redis.conf",
        "--dir",
        "/data",
        "--save",
        "",
        "--appendonly",
        "no",
        "--bind",
        "*",
    ];
    assert_eq!(container["args"], json!(expected));
    let volumes = spec["template"]["spec"]["volumes"].as_array().unwrap();
    let data = volumes.iter().find(|volume| volume["name"] == "data");
    assert_eq!(data.unwrap()["emptyDir"], json!({}));
    for field in [
        "volumeClaimTemplates",
        "persistentVolumeClaimRetentionPolicy",
    ] {
        assert_eq!(spec.get(field), None);
    }
}
