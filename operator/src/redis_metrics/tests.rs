use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use prometheus::{Encoder, Registry, TextEncoder};

use super::*;
use crate::push_cluster::vitals::Role;

const PASSWORD: &str = "the-admin-password";

/// A real one.
struct Redis {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Redis {
    fn start(more: &[&str]) -> Redis {
        let folder = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let password = format!(">{PASSWORD}");
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--save", ""]);
        command.args(["--user", "admin", "on", &password, "~*", "&*", "+@all"]);
        command.current_dir(folder.path()).args(more);
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        Redis {
            child,
            port,
            _folder: folder,
        }
    }
}

fn object(name: &str) -> Object {
    ("shop".to_owned(), name.to_owned())
}

fn at(pods: &[(&str, u16)]) -> Asked {
    let place = |port: u16| Place {
        address: "127.0.0.1".into(),
        port,
        tls: None,
    };
    let pods = pods.iter();
    Asked {
        password: PASSWORD.into(),
        pods: pods
            .map(|(pod, port)| ((*pod).to_owned(), 0, place(*port)))
            .collect(),
    }
}

/// As Prometheus reads it, without comments.
fn series(registry: &Registry) -> Vec<String> {
    let mut text = Vec::new();
    let encoder = TextEncoder::new();
    encoder.encode(&registry.gather(), &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn a_redis_that_answers_is_told_of_and_one_that_does_not_is_down() {
    let redis = Redis::start(&["--maxmemory", "100mb"]);
    let metrics = RedisMetrics::default();
    let registry = Registry::new();
    registry.register(Box::new(metrics.clone())).unwrap();
    // Nobody listens on the port of the other one.
    metrics.watch(
        object("demo"),
        at(&[("demo-redis-0", redis.port), ("demo-redis-1", 1)]),
    );
    let begun = Instant::now();
    let up = |pod: &str, value| {
        format!(
            r#"pushcluster_redis_up{{namespace="shop",pod="{pod}",pushcluster="demo"}} {value}"#
        )
    };
    loop {
        metrics.round().await;
        if series(&registry).contains(&up("demo-redis-0", 1)) {
            break;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{:?}",
            series(&registry)
        );
    }
    let found = series(&registry);
    let labels = r#"{namespace="shop",pod="demo-redis-0",pushcluster="demo"}"#;
    let with_role = r#"{namespace="shop",pod="demo-redis-0",pushcluster="demo",role="master"}"#;
    for expected in [
        up("demo-redis-1", 0),
        format!("pushcluster_redis_role{with_role} 1"),
        format!("pushcluster_redis_max_memory_bytes{labels} 104857600"),
        format!("pushcluster_redis_connected_replicas{labels} 0"),
        r#"pushcluster_redis_failovers_total{namespace="shop",pushcluster="demo"} 0"#.to_owned(),
    ] {
        assert!(found.contains(&expected), "{expected}: {found:#?}");
    }
    let used = found.iter().find(|line| line.contains("used_memory_bytes"));
    let used: u64 = used.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(used > 100_000, "{used}");
    assert!(
        !found.iter().any(|line| line.contains("link_up")),
        "{found:#?}"
    );
}

fn of(role: Role) -> Option<Vitals> {
    Some(Vitals {
        role,
        used_bytes: 1,
        max_bytes: 0,
        replicas: 0,
        follows: (role == Role::Replica).then_some(true),
    })
}

#[test]
fn failovers_add_up_and_series_go_with_their_pods_and_their_object() {
    let metrics = RedisMetrics::default();
    let registry = Registry::new();
    registry.register(Box::new(metrics.clone())).unwrap();
    for name in ["demo", "other"] {
        metrics.watch(object(name), at(&[]));
    }
    let answer = |pod: &str, role| (pod.to_owned(), 0, of(role));
    let take = |answers| {
        metrics.with(|all| all.get_mut(&object("demo")).unwrap().take(answers));
    };
    take(vec![answer("a", Role::Master), answer("b", Role::Replica)]);
    take(vec![answer("a", Role::Replica), answer("b", Role::Master)]);
    take(vec![answer("b", Role::Master)]);
    let found = series(&registry);
    let failovers = r#"pushcluster_redis_failovers_total{namespace="shop",pushcluster="demo"} 1"#;
    assert!(found.contains(&failovers.to_owned()), "{found:#?}");
    assert!(
        !found.iter().any(|line| line.contains(r#"pod="a""#)),
        "{found:#?}"
    );
    assert!(
        !found.iter().any(|line| line.contains("other")),
        "nothing was asked: {found:#?}"
    );

    metrics.forget_others(&BTreeSet::from([object("other")]));
    assert_eq!(series(&registry), [""; 0]);
}
