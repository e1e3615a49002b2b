//! How a Redis begins beside a real Sentinel: as its container does, with real addresses in place of the pods' names.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use super::tests::{pod_of, redis_of};
use crate::push_cluster::fixture::built;

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

/// What the program prints, until a line has these words.
fn until(lines: &mut impl Iterator<Item = String>, words: &str) {
    let mut seen = Vec::new();
    for line in lines.by_ref() {
        if line.contains(words) {
            return;
        }
        seen.push(line);
    }
    panic!("it never said {words:?}: {seen:#?}");
}

fn lines(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let out = child.stdout.take().unwrap();
    BufReader::new(out).lines().map_while(Result::ok)
}

#[test]
fn a_redis_that_a_sentinel_takes_for_the_master_waits_until_it_does_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let (port, sentinel_port) = (free_port(), free_port());
    let file = folder.path().join("sentinel.conf");
    let text = format!(
        "port {sentinel_port}\nbind 127.0.0.1\nsentinel monitor shop.demo 127.0.0.1 1 1\n\
         user default off\nuser admin on >secret ~* &* +@all\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut sentinel = Command::new("redis-server");
    sentinel.arg(&file).arg("--sentinel").stdout(Stdio::piped());
    let mut sentinel = Ends(sentinel.spawn().unwrap());
    let mut says = lines(&mut sentinel.0);
    until(&mut says, "+monitor master shop.demo");

    let pod = pod_of(&redis_of(built(&json!({"redis": {"mode": "Sentinel"}}))));
    let container = pod.containers.into_iter().find(|one| one.name == "redis");
    let container = container.unwrap();
    let command = container.command.unwrap();
    let names: Vec<String> = container
        .env
        .into_iter()
        .flatten()
        .map(|v| v.name)
        .collect();
    let start = |own: &str| {
        let mut redis = Command::new(&command[0]);
        redis.args(&command[1..]).args(["redis", "--port", &port]);
        redis.args(["--bind", "127.0.0.1", "--save", ""]);
        for (name, value) in [
            ("OWN_NAME", own),
            // Whoever is not there names nobody.
            ("SENTINELS", "127.0.0.1 gone.invalid"),
            ("SENTINEL_PORT", &sentinel_port),
            ("MASTER", "shop.demo"),
            ("ADMIN", "admin"),
            ("REDISCLI_AUTH", "secret"),
        ] {
            assert!(names.iter().any(|known| known == name), "{name}");
            redis.env(name, value);
        }
        Ends(redis.stdout(Stdio::piped()).spawn().unwrap())
    };
    // A replica, which nobody takes for the master.
    let mut replica = start("demo-redis-1.demo-redis");
    until(&mut lines(&mut replica.0), "Ready to accept connections");
    drop(replica);

    let mut master = start("127.0.0.1");
    let mut says = lines(&mut master.0);
    until(&mut says, "127.0.0.1 still takes this one for it");
    let removed = Command::new("redis-cli")
        .args(["-p", &sentinel_port, "--user", "admin", "-a", "secret"])
        .args(["SENTINEL", "REMOVE", "shop.demo"])
        .output()
        .unwrap();
    assert_eq!(removed.stdout, b"OK\n", "{removed:?}");
    until(&mut says, "Ready to accept connections");
}
