//! Redis gets another password while clients are connected.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::client::Client;
use crate::history::{FILE, publish, subscribed};
use crate::program::Gateway;
use crate::redis_server::RedisServer;
use crate::redis_tls::RIGHTS;
use crate::wait::until;

const OLD: &str = "the-password-from-before";
const NEW: &str = "the-password-from-now-on";

async fn told(redis: &RedisServer, command: &str) {
    let answer = redis.ask(command).await;
    assert!(!answer.starts_with('-'), "{command}: {answer}");
}

/// The connections of gateways, by Redis's numbers.
async fn connections(redis: &RedisServer) -> BTreeSet<String> {
    let list = redis.ask("CLIENT LIST").await;
    let own = list.lines().filter(|line| line.contains(" user=pushes "));
    own.filter_map(|line| line.split(' ').find_map(|word| word.strip_prefix("id=")))
        .map(str::to_owned)
        .collect()
}

async fn on(redis: &RedisServer, file: &Path) -> Gateway {
    let password = format!("broker.redis.passwordFile={}", file.display());
    let set = ["broker.redis.username=pushes", &password];
    let gateway = Gateway::on_redis_with(redis.port, FILE, &set).await;
    gateway.ready().await;
    gateway
}

async fn shows(gateway: &Gateway, password: &str) {
    let expected = gateway_config::password_print(password);
    until("the gateway has the password", || async {
        let shown = gateway.admin("GET", "/config").await.json();
        match shown["redisPassword"] == expected.as_str() {
            true => Ok(()),
            false => Err(format!("{shown}\n{}", gateway.log())),
        }
    })
    .await;
}

async fn hears(gateway: &Gateway, client: &mut Client, number: u32) {
    publish(gateway, number..number + 1).await;
    let message = client.next().await;
    assert_eq!(message["message"], number, "{message}");
}

#[tokio::test]
async fn new_connections_have_the_new_password_and_the_others_go_on() {
    let redis = RedisServer::start().await;
    let keys = "~pushcluster:* &pushcluster:*";
    told(
        &redis,
        &format!("ACL SETUSER pushes on >{OLD} {RIGHTS} {keys}"),
    )
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("redis-password");
    std::fs::write(&file, OLD).unwrap();
    let gateway = on(&redis, &file).await;
    shows(&gateway, OLD).await;
    let mut ann = gateway.client().await;
    let first = subscribed(&mut ann, None).await;
    hears(&gateway, &mut ann, 0).await;
    let before = connections(&redis).await;
    assert!(!before.is_empty());

    told(&redis, &format!("ACL SETUSER pushes >{NEW}")).await;
    std::fs::write(&file, NEW).unwrap();
    shows(&gateway, NEW).await;
    told(&redis, &format!("ACL SETUSER pushes <{OLD}")).await;
    hears(&gateway, &mut ann, 1).await;
    let after = connections(&redis).await;
    assert!(before.is_subset(&after), "{before:?}, then {after:?}");

    // Which all come again, those of every kind.
    told(&redis, "CLIENT KILL USER pushes").await;
    until("other connections", || async {
        let now = connections(&redis).await;
        match now.is_disjoint(&before) && now.len() >= before.len() {
            true => Ok(()),
            false => Err(format!("{now:?} after {before:?}\n{}", gateway.log())),
        }
    })
    .await;
    gateway.ready().await;
    hears(&gateway, &mut ann, 2).await;
    // The log is read on connections of another kind.
    let position = json!({"epoch": first["epoch"], "offset": 0});
    let back = subscribed(&mut gateway.client().await, Some(position)).await;
    assert_eq!(back["recovered"], Value::Bool(true), "{back}");
}
