//! Real Redis and Sentinels, started with the files of their pods.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::push_cluster::build::build;
use crate::push_cluster::exchange::Dated;
use crate::push_cluster::fixture::{images, keys, observed as manifest};
use crate::push_cluster::observe::Keys;
use crate::push_cluster::passwords::lacking;
use crate::push_cluster::validate::validate;

/// Far above what anything here takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    child: Child,
    folder: TempDir,
    container: &'static str,
    place: Place,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the Secret says of this file of a pod's.
fn content(mode: &str, keys: &Keys, file: &str) -> String {
    let observed = manifest(&json!({"redis": {"mode": mode}}));
    let objects = build(&validate(&observed, &images()).unwrap(), keys);
    let files = objects.redis.unwrap().files.unwrap_or(objects.keys);
    String::from_utf8(files.data.unwrap()[file].0.clone()).unwrap()
}

impl Server {
    async fn start(mode: &str, keys: &Keys, file: &str) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let own = folder.path().to_str().unwrap();
        let text = content(mode, keys, file);
        let lines = text.lines().filter(|line| !line.starts_with("bind "));
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        let text = text
            .replace("/data", own)
            .replace("dir /sentinel", &format!("dir {own}"))
            // They would look names of pods up, which nobody answers here.
            .replace(
                "sentinel resolve-hostnames yes",
                "sentinel resolve-hostnames no",
            )
            .replace("demo-redis-0.demo-redis", "127.0.0.1")
            .replace("demo-redis-1.demo-redis", "127.0.0.2")
            .replace("demo-redis-2.demo-redis", "127.0.0.3");
        let path = folder.path().join("started.conf");
        std::fs::write(&path, text).unwrap();
        let mut command = Command::new("redis-server");
        command.arg(&path);
        command.args(["--port", &port.to_string()]);
        let container = match file.starts_with("demo-redis-") {
            true => SENTINEL,
            false => "redis",
        };
        if container == SENTINEL {
            command.arg("--sentinel");
        }
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let address = "127.0.0.1".to_owned();
        let place = Place {
            address,
            port,
            tls: None,
        };
        let server = Server {
            child,
            folder,
            container,
            place,
        };
        let begun = Instant::now();
        let mut pace = tokio::time::interval(Duration::from_millis(50));
        while let Err(error) = Speaker::open(&server.place, &keys.redis_admin_password).await {
            assert!(begun.elapsed() < PATIENCE, "{error}");
            pace.tick().await;
        }
        server
    }

    /// As the operator looks at it.
    async fn seen(&self, mode: RedisMode) -> RedisUser {
        let accepts = ask(&self.place, user(mode), &keys().redis_admin_password).await;
        RedisUser {
            pod: "demo-redis-0".into(),
            container: self.container,
            place: self.place.clone(),
            accepts: accepts
                .map(|(accepts, _)| accepts)
                .map_err(|error| line(&error)),
            shows: None,
        }
    }
}

/// A connection of a gateway's.
async fn gateway<'a>(place: &'a Place, mode: RedisMode, password: &str) -> Option<Speaker<'a>> {
    let mut speaker = Speaker::connect(place).await.unwrap();
    let words = ["AUTH", user(mode), password];
    speaker.ask(&words).await.ok().map(|_| speaker)
}

const FORMS: [(&str, RedisMode, &str); 4] = [
    ("Standalone", RedisMode::Standalone, "redis-users.conf"),
    ("Sentinel", RedisMode::Sentinel, "redis.conf"),
    ("Sentinel", RedisMode::Sentinel, "demo-redis-0.conf"),
    ("Cluster", RedisMode::Cluster, "redis.conf"),
];

#[tokio::test]
async fn a_redis_learns_a_password_and_forgets_one_and_ends_no_connection() {
    for (name, mode, file) in FORMS {
        let server = Server::start(name, &keys(), file).await;
        let what = format!("{name} {file}");
        let mut observed = manifest(&json!({"redis": {"mode": name}}));
        observed.keys.redis_password = Some("the-password".into());
        observed.keys.redis_admin_password = Some(keys().redis_admin_password);
        observed.redis_users = vec![server.seen(mode).await];
        assert!(!tell(&observed).await, "{what}: it is as it should be");
        let mut open = gateway(&server.place, mode, "the-password").await.unwrap();
        assert!(
            gateway(&server.place, mode, "next").await.is_none(),
            "{what}"
        );

        observed.keys.passwords.next = Some(Dated {
            key: "next".into(),
            at: k8s_openapi::jiff::Timestamp::UNIX_EPOCH,
        });
        assert_eq!(lacking(&observed).len(), 1, "{what}");
        assert!(tell(&observed).await, "{what}");
        observed.redis_users = vec![server.seen(mode).await];
        assert_eq!(lacking(&observed), [""; 0], "{what}");
        let mut late = gateway(&server.place, mode, "next").await.unwrap();

        observed.keys.passwords.next = None;
        observed.keys.redis_password = Some("next".into());
        assert!(tell(&observed).await, "{what}");
        observed.redis_users = vec![server.seen(mode).await];
        assert!(!tell(&observed).await, "{what}: told twice");
        assert!(
            gateway(&server.place, mode, "the-password").await.is_none(),
            "{what}"
        );
        // Who came with the one from before is still there.
        for speaker in [&mut open, &mut late] {
            assert_eq!(speaker.ask(&["PING"]).await.unwrap(), "PONG", "{what}");
        }
        if server.container == SENTINEL {
            let written = std::fs::read_to_string(server.folder.path().join("started.conf"));
            let [hash] = hashes(&["next"])
                .into_iter()
                .collect::<Vec<_>>()
                .try_into()
                .unwrap();
            assert!(written.unwrap().contains(&hash), "{what}: after a restart");
        }
    }
}

#[tokio::test]
async fn a_redis_that_starts_meanwhile_lets_gateways_in_with_either() {
    let mut both = keys();
    both.passwords.next = Some(Dated {
        key: "next".into(),
        at: k8s_openapi::jiff::Timestamp::UNIX_EPOCH,
    });
    for (name, mode, file) in FORMS {
        let server = Server::start(name, &both, file).await;
        for password in ["the-password", "next"] {
            let in_it = gateway(&server.place, mode, password).await;
            assert!(in_it.is_some(), "{name} {file}: {password}");
        }
        let seen = server.seen(mode).await;
        assert_eq!(seen.accepts, Ok(hashes(&["the-password", "next"])));
    }
}

#[tokio::test]
async fn one_that_does_not_let_the_operator_in_is_named() {
    let server = Server::start("Standalone", &keys(), "redis-users.conf").await;
    let error = ask(&server.place, "default", "not-it").await.unwrap_err();
    let text = line(&error);
    assert!(
        text.contains("refused AUTH") && !text.contains("not-it"),
        "{text}"
    );
}

#[test]
fn every_redis_and_sentinel_that_runs_and_stays_is_asked() {
    let pod = |state: Value| -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "demo-redis-0",
                "labels": {"app.kubernetes.io/component": "redis"}},
            "status": {"podIP": "10.0.0.9", "containerStatuses": [
                {"name": "redis", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": state},
            ]},
        }))
        .unwrap()
    };
    let running = pod(json!({"running": {}}));
    assert_eq!(running_at(&running, "redis").as_deref(), Some("10.0.0.9"));
    assert_eq!(running_at(&running, "sentinel"), None);
    let waiting = pod(json!({"waiting": {"reason": "CrashLoopBackOff"}}));
    assert_eq!(running_at(&waiting, "redis"), None);
}
