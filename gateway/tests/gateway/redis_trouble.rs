//! A Redis that is not as it should be: one clear line in the log and in `/ready`, which names it and says what to do.

use std::cell::Cell;

use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::history::FILE;
use crate::program::{Gateway, get};
use crate::redis_server::RedisServer;
use crate::redis_tls::RIGHTS;
use crate::wait::until;

const PASSWORD: &str = "a-long-enough-one";

/// A gateway on this Redis, which it cannot use, and why: in `/ready`, and once in the log.
async fn says(redis: &RedisServer, port: u16, set: &[&str], expected: &str) -> Gateway {
    let gateway = Gateway::on_redis(port, set).await;
    let name = format!("Redis at 127.0.0.1:{port}");
    until("the cause", || async {
        let why = gateway.not_ready("broker").await;
        match why.starts_with(&name) && why.contains(expected) {
            true => Ok(()),
            false => Err(why),
        }
    })
    .await;
    // After some more attempts.
    let before = connections(redis).await;
    let asked = Cell::new(0);
    until("attempts", || async {
        asked.set(asked.get() + 1);
        let tried = connections(redis).await - before - asked.get();
        let refused = r#"pushcluster_broker_publish_failures_total{outcome="unavailable"}"#;
        let refused = gateway.metric(refused).await.unwrap();
        match tried >= 8 || refused >= 8.0 {
            true => Ok(()),
            false => Err(format!("{tried} connections, {refused} refused")),
        }
    })
    .await;
    let log = gateway.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(expected)).collect();
    let first = lines.first().unwrap_or_else(|| panic!("no line: {log}"));
    assert!(
        first.contains(&name) && first.contains("broker.redis."),
        "{first}"
    );
    let ours = lines
        .iter()
        .filter(|line| line.contains("(broker.redis.url)"));
    assert_eq!(ours.count(), 1, "{log}");
    // And not more than one of what follows from it.
    assert!(lines.len() <= 2, "{log}");
    assert!(!log.contains(PASSWORD), "{log}");
    gateway
}

/// That the server has ever seen.
async fn connections(redis: &RedisServer) -> i64 {
    let stats = redis.ask("INFO stats").await;
    let (_, number) = stats
        .split_once("total_connections_received:")
        .expect("a number");
    number.lines().next().unwrap().trim().parse().unwrap()
}

fn with_password(folder: &TempDir, password: &str) -> String {
    let file = folder.path().join("password");
    std::fs::write(&file, password).unwrap();
    format!("broker.redis.passwordFile={}", file.display())
}

#[tokio::test]
async fn a_wrong_password_and_none() {
    let redis = RedisServer::start_with(Some(PASSWORD)).await;
    let folder = tempfile::tempdir().unwrap();
    let file = with_password(&folder, "a-wrong-password-of-24-b");
    says(&redis, redis.port, &[&file], "WRONGPASS invalid username-password pair or user is disabled.; see broker.redis.username and").await;
    says(&redis, redis.port, &[], "; set broker.redis.passwordFile").await;
}

#[tokio::test]
async fn a_user_that_lacks_a_right() {
    let redis = RedisServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = with_password(&folder, PASSWORD);
    for (rights, expected) in [
        (
            format!("{RIGHTS} ~pushcluster:* &pushcluster:* -eval"),
            "the 'eval' command; give the user the rights that broker.redis.username",
        ),
        (
            format!("{RIGHTS} ~pushcluster:* &pushcluster:* -subscribe"),
            "the 'subscribe' command; give",
        ),
        (
            format!("{RIGHTS} ~pushcluster:* &pushcluster:* -info"),
            "can't run this command or subcommand (INFO); give",
        ),
        (
            format!("{RIGHTS} ~pushcluster:* &pushcluster:* -xadd"),
            "can't run this command or subcommand (XADD); give",
        ),
        (
            format!("{RIGHTS} ~pushcluster:* &pushcluster:* -publish"),
            "can't run this command or subcommand (PUBLISH); give",
        ),
        (
            format!("{RIGHTS} ~other:* &pushcluster:*"),
            "one of the keys used as arguments; give",
        ),
        (
            format!("{RIGHTS} ~pushcluster:* &other:*"),
            "one of the channels used as arguments; give",
        ),
    ] {
        redis.ask("ACL DELUSER pushes").await;
        let made = redis
            .ask(&format!("ACL SETUSER pushes on >{PASSWORD} {rights}"))
            .await;
        assert!(made.starts_with("+OK"), "{made}");
        says(
            &redis,
            redis.port,
            &["broker.redis.username=pushes", &file],
            expected,
        )
        .await;
    }
}

#[tokio::test]
async fn a_replica_and_one_that_is_full() {
    let replica = RedisServer::start_as(&["--replicaof", "127.0.0.1", "1"]).await;
    says(
        &replica,
        replica.port,
        &[],
        "is a replica, which takes no writes; another Redis is the master now, or should",
    )
    .await;
    let full = RedisServer::start_as(&["--maxmemory", "1"]).await;
    let gateway = says(
        &full,
        full.port,
        &[],
        "takes no messages: OOM command not allowed",
    )
    .await;
    let why = gateway.not_ready("broker").await;
    assert!(
        why.ends_with("; it is full: give it more memory (maxmemory)"),
        "{why}"
    );
    full.ask("CONFIG SET maxmemory 0").await;
    gateway.ready().await;
}

#[tokio::test]
async fn one_that_takes_no_more_writes_while_it_is_used() {
    let redis = RedisServer::start().await;
    let gateway = Gateway::on_redis_with(redis.port, FILE, &[]).await;
    gateway.ready().await;
    let body = json!({"channel": "kept:a", "data": 1}).to_string();
    for (breaks, said, advice, mends) in [
        (
            "REPLICAOF 127.0.0.1 1",
            "READONLY You can't write against a read only replica",
            "; name the master instead",
            "REPLICAOF NO ONE",
        ),
        (
            "CONFIG SET maxmemory 1",
            "OOM command not allowed",
            "; it is full: give it more memory (maxmemory)",
            "CONFIG SET maxmemory 0",
        ),
        (
            "CONFIG SET min-replicas-to-write 1",
            "NOREPLICAS Not enough good replicas",
            "; it waits for its replicas (min-replicas-to-write)",
            "CONFIG SET min-replicas-to-write 0",
        ),
    ] {
        redis.ask(breaks).await;
        let begins = format!(
            "Redis at 127.0.0.1:{} takes no messages: {said}",
            redis.port
        );
        until("the cause", || async {
            let why = gateway.not_ready("broker").await;
            match why.starts_with(&begins) && why.ends_with(advice) {
                true => Ok(()),
                false => Err(why),
            }
        })
        .await;
        let refused = gateway.publish(&body).await;
        assert_eq!(refused.status, 503, "{breaks}: {refused:?}");
        redis.ask(mends).await;
        gateway.ready().await;
        let log = gateway.log();
        let line = format!("takes no messages: {said}");
        assert_eq!(log.matches(&line).count(), 1, "{breaks}: {log}");
        until("it is taken again", || async {
            let answer = gateway.publish(&body).await;
            if answer.status == 200 {
                Ok(())
            } else {
                Err(answer.body)
            }
        })
        .await;
    }
}

#[tokio::test]
async fn one_that_deletes_keys_when_it_is_full() {
    let lru = ["--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru"];
    let mut redis = RedisServer::start_as(&lru).await;
    let gateway = Gateway::on_redis(redis.port, &[]).await;
    gateway.ready().await;
    let gate = async || {
        let answer = get(gateway.admin, "/ready").await;
        let said = answer.json()["gates"]["broker"].as_str().map(str::to_owned);
        (answer.status, said.unwrap_or_default())
    };
    let expected = format!(
        "open, but Redis at 127.0.0.1:{} deletes keys when it is full (maxmemory-policy allkeys-lru): \
         history, and who is connected, may be lost; set it to noeviction",
        redis.port
    );
    // It delivers all the same.
    assert_eq!(gate().await, (200, expected));
    // Looked at with each connection, and said once.
    for policy in ["allkeys-lru", "noeviction"] {
        redis.kill();
        gateway.not_ready("broker").await;
        redis.begin(&["--maxmemory-policy", policy]);
        gateway.ready().await;
    }
    assert_eq!(gate().await, (200, "open".to_owned()));
    let log = gateway.log();
    assert_eq!(log.matches("maxmemory-policy").count(), 1, "{log}");
}

#[tokio::test]
async fn another_mode() {
    let cluster = RedisServer::start_as(&["--cluster-enabled", "yes"]).await;
    says(
        &cluster,
        cluster.port,
        &[],
        "is of mode cluster, and broker.redis.mode says standalone; change",
    )
    .await;
    let alone = RedisServer::start().await;
    for mode in ["cluster", "sentinel"] {
        let set = format!("broker.redis.mode={mode}");
        let set = [set.as_str(), "broker.redis.masterName=pushes"];
        let gateway = Gateway::on_redis(alone.port, &set).await;
        let expected =
            format!("is of mode standalone, and broker.redis.mode says {mode}; change one of them");
        until("the cause", || async {
            let why = gateway.not_ready("broker").await;
            match why.contains(&expected) && why.contains(&alone.port.to_string()) {
                true => Ok(()),
                false => Err(why),
            }
        })
        .await;
        let before = connections(&alone).await;
        until("attempts", || async {
            match connections(&alone).await - before >= 40 {
                true => Ok(()),
                false => Err("few".to_owned()),
            }
        })
        .await;
        let log = gateway.log();
        assert_eq!(log.matches(&expected).count(), 1, "{log}");
    }
}

#[tokio::test]
async fn one_that_loads_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().display().to_string();
    let mut redis = RedisServer::start_as(&["--dir", &dir, "--enable-debug-command", "yes"]).await;
    let made = redis.ask("DEBUG POPULATE 1500").await;
    assert!(made.starts_with("+OK"), "{made}");
    let saved = redis.ask("SAVE").await;
    assert!(saved.starts_with("+OK"), "{saved}");
    redis.kill();
    // A few seconds, with an ear for clients all the time.
    redis.begin(&[
        "--key-load-delay",
        "2000",
        "--loading-process-events-interval-bytes",
        "1024",
    ]);
    let gateway = Gateway::on_redis(redis.port, &[]).await;
    until("it says so", || async {
        let why = gateway.not_ready("broker").await;
        match why.contains("takes no messages: LOADING")
            && why.ends_with("; it works when the data is loaded")
        {
            true => Ok(()),
            false => Err(why),
        }
    })
    .await;
    gateway.ready().await;
    assert_eq!(gateway.log().matches("takes no messages").count(), 1);
}

#[tokio::test]
async fn one_that_is_too_old() {
    let redis = RedisServer::start().await;
    let old = older(redis.port).await;
    says(
        &redis,
        old,
        &[],
        ", and 7.0 is the oldest that works; name a newer one",
    )
    .await;
}

/// Passes on what this Redis says, which says that it is of version 6.
async fn older(redis: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let server = TcpStream::connect(("127.0.0.1", redis)).await?;
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let up = tokio::io::copy(&mut from_client, &mut to_server);
                let down = async {
                    let mut bytes = vec![0; 64 << 10];
                    while let Ok(n @ 1..) = from_server.read(&mut bytes).await {
                        let found = bytes[..n]
                            .windows(9)
                            .position(|word| word == b"version\r\n");
                        if let Some(at) = found {
                            let digit = at
                                + 9
                                + bytes[at + 9..n].iter().position(|b| *b == b'\n').unwrap()
                                + 1;
                            bytes[digit] = b'6';
                        }
                        to_client.write_all(&bytes[..n]).await?;
                    }
                    Ok(0)
                };
                tokio::select! { ended = up => ended, ended = down => ended }
            });
        }
    });
    port
}

#[tokio::test]
async fn keys_of_another_program() {
    let redis = RedisServer::start_as(&["--enable-debug-command", "yes"]).await;
    let url = format!("broker.redis.url=redis://127.0.0.1:{}", redis.port);
    let gateway = Gateway::with_file(FILE, &["broker.kind=redis", &url]).await;
    gateway.ready().await;
    let mut client = gateway.client().await;
    for (number, put) in [
        "SET pushcluster:log:kept:0:meta theirs",
        "HSET pushcluster:log:kept:1:meta theirs 1",
        "SET pushcluster:log:kept:2:stream theirs",
        "HSET pushcluster:log:kept:3:meta epoch new",
        "HSET pushcluster:log:kept:4:meta epoch 7",
    ]
    .into_iter()
    .enumerate()
    {
        let key = put.split(' ').nth(1).unwrap();
        redis.ask(put).await;
        let before = redis.ask(&format!("DEBUG DIGEST-VALUE {key}")).await;
        let channel = format!("kept:{number}");
        let body = json!({"channel": channel, "data": 1}).to_string();
        assert_eq!(gateway.publish(&body).await.status, 503, "{put}");
        client
            .send(json!({"type": "subscribe", "channel": channel}))
            .await;
        assert_eq!(client.next().await["code"], "unavailable", "{put}");
        assert_eq!(
            redis.ask(&format!("DEBUG DIGEST-VALUE {key}")).await,
            before,
            "it stays as it is"
        );
    }
    // Other channels work, so the node stays ready, and says what it found.
    let answer = get(gateway.admin, "/ready").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let said = answer.json()["gates"]["broker"]
        .as_str()
        .unwrap()
        .to_owned();
    let expected = format!(
        "open, but Redis at 127.0.0.1:{}: pushcluster:log:kept:0:meta or pushcluster:log:kept:0:stream is of another program",
        redis.port
    );
    assert!(said.starts_with(&expected), "{said}");
    assert!(said.contains("broker.redis.keyPrefix"), "{said}");
    assert_eq!(gateway.log().matches("is of another program").count(), 1);
    let body = json!({"channel": "kept:fine", "data": 1}).to_string();
    assert_eq!(gateway.publish(&body).await.status, 200);
}

/// What cannot be kept is refused; what needs no disk goes on, and so does the node.
#[tokio::test]
async fn a_redis_that_cannot_write_its_disk_passes_messages_on() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().display().to_string();
    let name = ["--dir", &dir, "--dbfilename", "dump.rdb"];
    let save = ["--save", "1", "1", "--stop-writes-on-bgsave-error", "yes"];
    let redis = RedisServer::start_as(&[&name[..], &save].concat()).await;
    let url = format!("broker.redis.url=redis://127.0.0.1:{}", redis.port);
    let gateway = Gateway::with_file(FILE, &["broker.kind=redis", &url]).await;
    gateway.ready().await;
    let mut client = gateway.client().await;
    client.subscribe("news").await;

    // Where the snapshot should be: nothing can take its place.
    let _ = std::fs::remove_file(folder.path().join("dump.rdb"));
    std::fs::create_dir(folder.path().join("dump.rdb")).unwrap();
    std::fs::write(folder.path().join("dump.rdb/full"), "").unwrap();
    until("Redis refuses writes", || async {
        match redis.ask("SET a b").await {
            answer if answer.starts_with("-MISCONF") => Ok(()),
            answer => Err(answer),
        }
    })
    .await;
    let impaired = |expected: &'static str| {
        let gateway = &gateway;
        async move {
            until("what the node says of its broker", || async {
                let node = gateway.node().await;
                let said = node["impaired"].as_str().unwrap_or_default();
                match said.contains(expected) && said.is_empty() == expected.is_empty() {
                    true => Ok(()),
                    false => Err(node.to_string()),
                }
            })
            .await;
        }
    };
    impaired("cannot write a snapshot").await;
    gateway.ready().await;
    let publish = async |channel: &str| {
        let body = json!({"channel": channel, "data": 1}).to_string();
        gateway.publish(&body).await
    };
    let answer = publish("news").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(client.next_untimed().await["message"], 1);
    let answer = publish("kept:a").await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    gateway.ready().await;

    std::fs::remove_dir_all(folder.path().join("dump.rdb")).unwrap();
    impaired("").await;
    until("what is kept is taken again", || async {
        match publish("kept:a").await {
            answer if answer.status == 200 => Ok(()),
            answer => Err(answer.body),
        }
    })
    .await;
}
