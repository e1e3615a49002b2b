use k8s_openapi::api::core::v1::PodSpec;
use serde_json::{Value, json};

use crate::push_cluster::build::Objects;
use crate::push_cluster::fixture::built;

const MODES: [&str; 3] = ["Standalone", "Sentinel", "Cluster"];

fn with(mode: &str, tls: bool) -> Objects {
    let mut spec = json!({"redis": {"mode": mode}});
    if tls {
        spec["redis"]["tls"] = json!({});
    }
    built(&spec)
}

fn template(objects: &Objects) -> Value {
    let set = &objects.redis.as_ref().unwrap().stateful_sets[0];
    json!(set.spec.as_ref().unwrap().template)
}

fn pod(objects: &Objects) -> PodSpec {
    serde_json::from_value(template(objects)["spec"].clone()).unwrap()
}

/// The value of this setting that counts, which is the last one.
fn setting<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let name = format!("--{name}");
    let place = arguments.iter().rposition(|word| *word == name)?;
    arguments.get(place + 1).map(String::as_str)
}

#[test]
fn redis_listens_with_tls_and_not_without() {
    for mode in MODES {
        let pod = pod(&with(mode, true));
        let redis = pod.containers.iter().find(|c| c.name == "redis").unwrap();
        let arguments = redis.args.as_ref().unwrap();
        let is_cluster = mode == "Cluster";
        for (name, expected) in [
            ("port", Some("0")),
            ("tls-port", Some("6379")),
            ("tls-cert-file", Some("/etc/redis-tls/tls.crt")),
            ("tls-key-file", Some("/etc/redis-tls/tls.key")),
            ("tls-ca-cert-file", Some("/etc/redis-tls/ca.crt")),
            ("tls-auth-clients", Some("no")),
            ("tls-replication", Some("yes")),
            ("tls-cluster", is_cluster.then_some("yes")),
            (
                "cluster-announce-hostname",
                is_cluster.then_some("$(POD_NAME).demo-redis.shop.svc"),
            ),
        ] {
            assert_eq!(setting(arguments, name), expected, "{mode} {name}");
        }
    }
}

#[test]
fn a_sentinel_listens_with_tls_and_not_without() {
    for (tls, expected) in [
        (false, vec!["port 26379"]),
        (true, vec!["port 0", "tls-port 26379"]),
    ] {
        let files = with("Sentinel", tls).redis.unwrap().files.unwrap();
        let text = &files.data.unwrap()["demo-redis-0.conf"].0;
        let text = std::str::from_utf8(text).unwrap();
        let ports = text.lines().filter(|line| line.contains("port "));
        let ports: Vec<&str> = ports.filter(|line| !line.contains("announce")).collect();
        assert_eq!(ports, expected);
        assert_eq!(text.contains("\ntls-replication yes\n"), tls);
    }
}

#[test]
fn every_probe_asks_as_its_server_listens() {
    for (mode, tls) in MODES.iter().flat_map(|mode| [(mode, false), (mode, true)]) {
        for container in pod(&with(mode, tls)).containers {
            for probe in [container.readiness_probe, container.liveness_probe] {
                let command = probe.unwrap().exec.unwrap().command.unwrap();
                let asks = command.contains(&"--tls".to_owned());
                assert_eq!(asks, tls, "{mode} {}: {command:?}", container.name);
                assert_eq!(command[0], "redis-cli");
            }
        }
    }
}

/// Whoever has the key of the authority can be any Redis.
#[test]
fn no_pod_has_the_key_that_signs() {
    for mode in MODES {
        let objects = with(mode, true);
        let secret = objects
            .redis
            .as_ref()
            .unwrap()
            .certificate
            .as_ref()
            .unwrap();
        assert!(secret.data.as_ref().unwrap().contains_key("ca.key"));
        let deployment = objects.deployment.spec.as_ref().unwrap();
        for pod in [template(&objects), json!(deployment.template)] {
            let sources = pod["spec"]["volumes"].as_array().unwrap();
            let whole = sources.iter().find(|volume| {
                volume["secret"]["secretName"] == "demo-redis-tls"
                    && volume["secret"]["items"].is_null()
            });
            assert!(whole.is_none(), "{mode}: {whole:?}");
            assert!(!pod.to_string().contains("ca.key"), "{mode}");
        }
    }
}

/// A Redis by itself goes to nobody, so other authorities do not restart it.
#[test]
fn who_trusts_other_authorities_is_another_pod() {
    for (mode, expected) in MODES.into_iter().zip([false, true, true]) {
        let has = |template: &Value| {
            let annotations = &template["metadata"]["annotations"];
            !annotations["pushcluster.io/redis-ca-hash"].is_null()
        };
        let objects = with(mode, true);
        assert_eq!(has(&template(&objects)), expected, "{mode}");
        let gateway = objects.deployment.spec.unwrap().template;
        assert!(has(&json!(gateway)), "{mode}");
    }
}

/// Or every upgrade of the operator would replace every pod.
#[test]
fn without_tls_all_is_as_before() {
    for mode in MODES {
        let objects = with(mode, false);
        assert!(objects.redis.as_ref().unwrap().certificate.is_none());
        let gateway = json!(objects.deployment.spec.as_ref().unwrap().template);
        for text in [template(&objects).to_string(), gateway.to_string()] {
            assert!(!text.contains("tls"), "{mode}: {text}");
            assert!(!text.contains("redis-ca"), "{mode}: {text}");
        }
    }
}

#[test]
fn gateways_come_with_tls_by_a_name_that_the_certificate_has() {
    for (mode, expected) in [
        ("Standalone", "rediss://demo-redis.shop.svc:6379/0"),
        (
            "Sentinel",
            "rediss://demo-redis-0.demo-redis:26379,demo-redis-1.demo-redis:26379,demo-redis-2.demo-redis:26379/0",
        ),
        ("Cluster", "rediss://demo-redis.shop.svc:6379"),
    ] {
        let config = with(mode, true).config.data.unwrap();
        let config: Value = serde_yaml::from_str(&config["gateway.yaml"]).unwrap();
        let redis = &config["broker"]["redis"];
        assert_eq!(redis["url"], expected);
        assert_eq!(redis["caFile"], "/etc/pushcluster/keys/redis-ca.crt");
    }
}
