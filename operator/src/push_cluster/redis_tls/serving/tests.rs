use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::certificate::{Due, Held, renewed};
use crate::push_cluster::fixture::{built, keys, observed};
use crate::push_cluster::redis_tls::{CERTIFICATE, hosts, step};
use crate::push_cluster::speak::{Place, Tls};

/// Far above what anything here takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Redis(Child);

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn write(folder: &Path, held: &Held) {
    for (name, content) in held.entries() {
        std::fs::write(folder.join(name), content.0).unwrap();
    }
}

/// With the arguments of its container.
fn start(folder: &Path, port: u16) -> Redis {
    let redis = built(&json!({"redis": {"tls": {}}})).redis.unwrap();
    let spec = redis.stateful_sets[0].spec.clone().unwrap();
    let container = spec.template.spec.unwrap().containers.remove(0);
    let own = folder.to_str().unwrap();
    let users = format!(
        "user admin on >{} ~* &* +@all\n",
        keys().redis_admin_password
    );
    std::fs::write(folder.join("redis.conf"), users).unwrap();
    let arguments = container.args.unwrap().into_iter().map(|word| {
        word.replace("/etc/redis-tls", own)
            .replace("/etc/redis/redis.conf", &format!("{own}/redis.conf"))
            .replace("/data", own)
    });
    let mut command = Command::new("redis-server");
    command.args(arguments).args(["--bind", "127.0.0.1"]);
    command.args(["--tls-port", &port.to_string()]);
    Redis(command.stdout(Stdio::null()).spawn().unwrap())
}

async fn open<'a>(place: &'a Place) -> Speaker<'a> {
    let begun = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    loop {
        match Speaker::open(place, &keys().redis_admin_password).await {
            Ok(speaker) => return speaker,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
        pace.tick().await;
    }
}

async fn seen(place: &Place) -> RedisUser {
    RedisUser {
        pod: "demo-redis-0".into(),
        container: "redis",
        place: place.clone(),
        accepts: Err("not asked".into()),
        shows: open(place).await.shown,
    }
}

#[tokio::test]
async fn a_redis_shows_another_certificate_and_ends_no_connection() {
    let mut observed = observed(&json!({"redis": {"mode": "Standalone", "tls": {}}}));
    observed.keys.redis_admin_password = Some(keys().redis_admin_password);
    let now = Timestamp::now().as_second();
    observed.keys.redis_tls = step(&observed, now).unwrap();
    let first = observed.keys.redis_tls.clone().unwrap();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &first);
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let _redis = start(folder.path(), port);
    let place = observed.admin().unwrap().at("127.0.0.1", port);
    observed.redis_users = vec![seen(&place).await];
    assert!(is_at_rest(&observed) && is_shown(&observed));
    assert!(!tell(&observed).await, "it shows what it should");

    let mut open = open(&place).await;
    let hosts = hosts(&observed.cluster);
    let other = renewed(Some(&first), Due::Leaf, (&CERTIFICATE, &hosts), now).unwrap();
    observed.keys.redis_tls = Some(other.clone());
    assert!(!is_at_rest(&observed));
    // The kubelet is late.
    assert!(tell(&observed).await);
    observed.redis_users = vec![seen(&place).await];
    assert!(!is_at_rest(&observed), "it cannot have what is not there");
    write(folder.path(), &other);
    assert!(tell(&observed).await);
    observed.redis_users = vec![seen(&place).await];
    assert!(is_at_rest(&observed));
    assert_eq!(open.ask(&["PING"]).await.unwrap(), "PONG");

    // Not by another name, and not without TLS.
    let other_name = Tls::of("other.shop.svc", &first.bundle);
    for tls in [other_name, None] {
        let place = Place {
            tls,
            ..place.clone()
        };
        let opened = Speaker::open(&place, &keys().redis_admin_password).await;
        assert!(opened.is_err());
    }
}

/// What each shows: `Some(true)` what it should, `Some(false)` another one; None: it did not answer.
#[test]
fn a_sentinel_starts_again_when_nobody_else_does_and_the_files_are_there() {
    let (right, wrong) = (Some(true), Some(false));
    for (redis, sentinels, ending, expected) in [
        ([right; 3], [right; 3], false, vec![]),
        (
            [wrong; 3],
            [wrong; 3],
            false,
            vec!["redis 0", "redis 1", "redis 2"],
        ),
        ([right, right, wrong], [wrong; 3], false, vec!["redis 2"]),
        ([right; 3], [wrong; 3], false, vec!["sentinel 0"]),
        ([right; 3], [right, wrong, wrong], false, vec!["sentinel 1"]),
        ([right; 3], [None, wrong, wrong], false, vec![]),
        ([right; 3], [right, right, wrong], true, vec![]),
        ([None, right, right], [wrong; 3], false, vec!["sentinel 1"]),
    ] {
        let mut observed = observed(&json!({"redis": {"mode": "Sentinel", "tls": {}}}));
        let held = step(&observed, 0).unwrap().unwrap();
        let right = leaf(&held.leaf).unwrap();
        observed.keys.redis_tls = Some(held);
        let all = [("redis", redis), (SENTINEL, sentinels)];
        let all = all.into_iter().flat_map(|(container, shows)| {
            shows
                .into_iter()
                .enumerate()
                .map(move |one| (container, one))
        });
        observed.redis_users = all
            .map(|(container, (pod, shows))| RedisUser {
                pod: pod.to_string(),
                container,
                place: Place {
                    address: String::new(),
                    port: 0,
                    tls: None,
                },
                accepts: Err(String::new()),
                shows: shows.map(|is_right| match is_right {
                    true => right.clone(),
                    false => vec![0],
                }),
            })
            .collect();
        if ending {
            let pod = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
            observed.pods = vec![serde_json::from_value(pod).unwrap()];
        }
        let told: Vec<String> = next(&observed)
            .into_iter()
            .map(|user| format!("{} {}", user.container, user.pod))
            .collect();
        assert_eq!(told, expected, "{redis:?} {sentinels:?} {ending}");
    }
}
