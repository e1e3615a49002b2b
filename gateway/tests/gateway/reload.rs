//! The configuration read again while clients are connected.

use std::os::unix::fs::symlink;

use gateway_config::{Config, Kind, Reload, diff};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Error;

use crate::client::Client;
use crate::event_source::EventSource;
use crate::key_server::{KeyServer, Says, Signer};
use crate::program::{API_KEY, Answer, Gateway, request};
use crate::wait::until;
use stage::subscribe;

mod apart;
mod doors;
mod keys;
mod stage;

/// Has the gateway take a file. What it has taken, and what waits for a restart.
async fn take(gateway: &Gateway, file: &str) -> (Vec<String>, Vec<String>) {
    let config = || async {
        let shown = gateway.admin("GET", "/config").await.json();
        serde_json::from_value::<Config>(shown["config"].clone()).unwrap()
    };
    let list = |value: &Value| serde_json::from_value::<Vec<String>>(value.clone()).unwrap();
    let before = config().await;
    let answer = gateway.reload(file).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = answer.json();
    let change = diff(&before, &config().await);
    assert_eq!(change.needs_restart, [""; 0], "half taken");
    let told = list(&answer["taken"]);
    // Who watches the file may have come between the writing and the asking.
    assert!(told == change.taken || told.is_empty(), "{told:?}");
    (change.taken, list(&answer["needsRestart"]))
}

/// The API's answer to who has the key.
async fn with_key(gateway: &Gateway, path: &str) -> Answer {
    request(gateway.clients, "GET", path, &[("x-api-key", API_KEY)], "").await
}

async fn metric_is(gateway: &Gateway, series: &str, expected: f64) {
    until(series, || async {
        match gateway.metric(series).await {
            Some(value) if value == expected => Ok(()),
            other => Err(format!("{other:?}, not {expected}\n{}", gateway.log())),
        }
    })
    .await;
}

#[tokio::test]
async fn a_mounted_configmap_that_changes_is_taken_under_open_connections() {
    let one = "limits: {maxChannelsPerConnection: 1}\n";
    let two = "limits: {maxChannelsPerConnection: 2}\n";
    let gateway = Gateway::with_file(one, &[]).await;
    // As Kubernetes mounts it: the file is a link into `..data`, which is a link to a folder and is swapped.
    for (folder, text) in [("1", one), ("2", two)] {
        std::fs::create_dir(gateway.path(folder)).unwrap();
        gateway.write(&format!("{folder}/gateway.yaml"), text);
    }
    symlink("1", gateway.path("..data")).unwrap();
    symlink("..data/gateway.yaml", gateway.path("link")).unwrap();
    std::fs::rename(gateway.path("link"), gateway.path("gateway.yaml")).unwrap();

    let mut client = gateway.client().await;
    assert_eq!(subscribe(&mut client, "a").await, "subscribed");
    assert_eq!(subscribe(&mut client, "b").await, "too_many_channels");
    assert_eq!(
        gateway.metric("pushcluster_config_generation").await,
        Some(1.0)
    );

    symlink("2", gateway.path("..new")).unwrap();
    std::fs::rename(gateway.path("..new"), gateway.path("..data")).unwrap();
    metric_is(&gateway, "pushcluster_config_generation", 2.0).await;
    metric_is(&gateway, "pushcluster_config_last_reload_successful", 1.0).await;
    assert_eq!(subscribe(&mut client, "b").await, "subscribed");
    let line = "configuration read again; taken: limits.maxChannelsPerConnection; needs a restart: nothing";
    assert!(gateway.log().contains(line), "{}", gateway.log());
    client.heard_nothing().await;
}

#[tokio::test]
async fn a_file_with_a_mistake_changes_nothing_and_says_where_it_is() {
    let gateway = Gateway::with_file("", &[]).await;
    let mut client = gateway.client().await;
    let before = gateway.admin("GET", "/config").await.json();
    let file = gateway.path("gateway.yaml").display().to_string();
    for (text, field, message) in [
        (
            "limits: {maxConnections: 0, maxChannelsPerConnection: 1}\n",
            json!("limits.maxConnections"),
            format!("{file}:1:26: limits.maxConnections: must be at least 1"),
        ),
        (
            "limits: {maxChannelsPerConnection: 1, x: 2}\n",
            json!("limits.x"),
            format!("{file}:1:39: limits.x: "),
        ),
        (
            "limits: {maxChannelsPerConnection: 1}\nauth: {hs384KeyFile: /nowhere}\n",
            json!("auth.hs384KeyFile"),
            "auth.hs384KeyFile: read /nowhere: No such file".to_owned(),
        ),
        (
            "limits: {maxChannelsPerConnection: 1}\nlog: {filter: gateway=loud}\n",
            json!("log.filter"),
            "log.filter: the log filter \"gateway=loud\" cannot be read".to_owned(),
        ),
        // It waits for a restart, which would fail.
        (
            "limits: {maxChannelsPerConnection: 1}\nbroker: {kind: redis, redis: {passwordFile: /nowhere}}\n",
            json!("broker.redis.passwordFile"),
            "broker.redis.passwordFile: read /nowhere: No such file".to_owned(),
        ),
        ("limits: [", Value::Null, format!("{file}:2:1: not YAML: ")),
    ] {
        let answer = gateway.reload(text).await;
        assert_eq!(answer.status, 422, "{text}: {}", answer.body);
        let error = &answer.json()["error"];
        assert_eq!(
            (&error["code"], &error["field"]),
            (&json!("bad_config"), &field),
            "{text}"
        );
        let said = error["message"].as_str().unwrap();
        assert!(said.starts_with(&message), "{text}: {said}");
        let mut shown = gateway.admin("GET", "/config").await.json();
        let refused = shown.as_object_mut().unwrap().remove("refused");
        assert_eq!(refused.as_ref(), Some(&error["message"]), "{text}");
        assert_eq!(shown, before);
        let successful = "pushcluster_config_last_reload_successful";
        assert_eq!(gateway.metric(successful).await, Some(0.0));
    }
    let line = "configuration not taken, the one from before stays: ";
    assert!(gateway.log().contains(line), "{}", gateway.log());
    for channel in ["a", "b"] {
        assert_eq!(subscribe(&mut client, channel).await, "subscribed");
    }
    // The file that is good again is the one that counts, and takes nothing: nothing was half taken.
    let (taken, needs_restart) = take(&gateway, "").await;
    assert_eq!((taken, needs_restart), (vec![], vec![]));
    metric_is(&gateway, "pushcluster_config_last_reload_successful", 1.0).await;
}

#[tokio::test]
async fn a_flag_stays_on_top_of_the_file() {
    let gateway = Gateway::with_file("", &["limits.maxChannelsPerConnection=1"]).await;
    let mut client = gateway.client().await;
    let file = "limits: {maxChannelsPerConnection: 5, maxConnections: 50}\nlisten: {clients: '127.0.0.1:1'}\n";
    let (taken, needs_restart) = take(&gateway, file).await;
    assert_eq!(
        (taken, needs_restart),
        (vec!["limits.maxConnections".to_owned()], vec![])
    );
    assert_eq!(subscribe(&mut client, "a").await, "subscribed");
    assert_eq!(subscribe(&mut client, "b").await, "too_many_channels");
    let config = gateway.admin("GET", "/config").await.json();
    assert_eq!(config["config"]["limits"]["maxChannelsPerConnection"], 1);
    assert_eq!(config["config"]["limits"]["maxConnections"], 50);
}

#[tokio::test]
async fn reloading_and_looking_take_a_key() {
    let gateway = Gateway::start(&[]).await;
    for (method, path) in [("POST", "/reload"), ("GET", "/config")] {
        for key in [&[][..], &[("x-api-key", "another-key-for-tests")]] {
            let answer = request(gateway.admin, method, path, key, "").await;
            assert_eq!(answer.status, 401, "{path}: {}", answer.body);
        }
    }
    let shown = gateway.admin("GET", "/config").await;
    assert_eq!(shown.json()["generation"], 1);
    assert!(!shown.body.contains(API_KEY), "{}", shown.body);
    assert!(shown.body.contains("hs256KeyFile"), "{}", shown.body);
}

#[tokio::test]
async fn a_policy_that_wants_more_takes_the_channel_from_who_has_less() {
    let gateway = Gateway::with_file("", &[]).await;
    let mut nobody = gateway.client().await;
    let mut ann = gateway.user("ann").await;
    let mut stream = EventSource::with(gateway.clients, &["room:a"]).await;
    for client in [&mut nobody, &mut ann] {
        for channel in ["room:a", "news"] {
            client.subscribe(channel).await;
        }
    }
    let file = "channels: [{prefix: 'room:', subscribe: authenticated}]\n";
    let (taken, _) = take(&gateway, file).await;
    assert_eq!(taken, ["channels"]);
    assert_eq!(
        nobody.next().await,
        json!({"type": "unsubscribed", "channel": "room:a"})
    );
    assert_eq!(stream.closed().await, 1008);
    for (channel, data) in [("room:a", 1), ("news", 2)] {
        let body = json!({"channel": channel, "data": data}).to_string();
        assert_eq!(gateway.publish(&body).await.status, 200);
    }
    assert_eq!(
        nobody.next().await["message"],
        2,
        "not what goes to the room"
    );
    assert_eq!(ann.next().await["data"], 1);
    assert_eq!(ann.next().await["message"], 2);
    assert_eq!(subscribe(&mut nobody, "room:a").await, "denied");
    // What is wide again is not given back by itself: the client asks.
    assert_eq!(take(&gateway, "").await.0, ["channels"]);
    assert_eq!(subscribe(&mut nobody, "room:a").await, "subscribed");
}

#[tokio::test]
async fn who_may_no_longer_be_nobody_is_closed() {
    let file = "limits: {handshakeTimeoutSeconds: 1}\n";
    let gateway = Gateway::with_file(file, &[]).await;
    let mut nobody = gateway.client().await;
    let mut ann = gateway.user("ann").await;
    nobody.subscribe("news").await;
    ann.subscribe("news").await;
    let mut stream = EventSource::with(gateway.clients, &["news"]).await;
    let file = "auth: {anonymous: false}\nlimits: {handshakeTimeoutSeconds: 1}\n";
    assert_eq!(take(&gateway, file).await.0, ["auth.anonymous"]);
    // It may have a moment left to say who it is; until then it hears nothing more.
    assert_eq!(nobody.closed_at_last().await.0, 3000);
    assert_eq!(stream.closed().await, 3000);
    ann.heard_nothing().await;
}

#[tokio::test]
async fn what_needs_a_restart_waits_as_a_whole() {
    let gateway = Gateway::with_file("", &[]).await;
    let mut client = gateway.client().await;
    let before = gateway.admin("GET", "/config").await.json();
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    gateway.write("tls.crt", signed.cert.pem());
    gateway.write("tls.key", signed.signing_key.serialize_pem());
    gateway.write("password", "secret");
    let at = |name: &str| gateway.path(name).display().to_string();
    let file = json!({
        "broker": {"kind": "redis", "redis": {
            "mode": "sentinel",
            "url": "rediss://127.0.0.1:1/0",
            "masterName": "x",
            "username": "x",
            "passwordFile": at("password"),
            "sentinelUsername": "x",
            "sentinelPasswordFile": at("password"),
            "caFile": at("tls.crt"),
            "certificateFile": at("tls.crt"),
            "keyFile": at("tls.key"),
            "keyPrefix": "x:",
            "listen": ["ws:private"],
            "listenPrefix": "x:",
            "timeoutSeconds": 7,
            "probeSeconds": 7,
            "leaseSeconds": 7,
            "maxPendingFacts": 7_000,
        }},
        "engine": {"shards": 3},
        "listen": {"tls": {"certificateFile": at("tls.crt"), "keyFile": at("tls.key")}},
        "node": {"name": "another"},
    })
    .to_string();
    // Again and again: the answer is about the process, not about the file before.
    for _ in 0..2 {
        let (taken, needs_restart) = take(&gateway, &file).await;
        let all = gateway_config::keys()
            .into_iter()
            .filter(|key| {
                key.kind != Kind::Section && gateway_config::reload(&key.path) == Reload::Restart
            })
            .map(|key| key.path)
            // Flags are on top of these.
            .filter(|key| key != "listen.admin" && key != "listen.clients");
        let mut all: Vec<String> = all.collect();
        all.sort_unstable();
        assert_eq!((taken, needs_restart), (vec![], all.clone()));
        let waiting = "pushcluster_config_keys_waiting_for_restart";
        assert_eq!(
            gateway.metric(waiting).await,
            u32::try_from(all.len()).ok().map(f64::from)
        );
        let mut shown = gateway.admin("GET", "/config").await.json();
        assert_eq!(shown["needsRestart"], json!(all));
        shown["needsRestart"] = json!([]);
        assert_eq!(shown, before, "it runs with what it ran with");
    }
    gateway.ready().await;
    let body = json!({"channel": "news", "data": 1}).to_string();
    client.subscribe("news").await;
    assert_eq!(gateway.publish(&body).await.status, 200);
    assert_eq!(client.next().await["message"], 1);
    drop(gateway.client().await);
    take(&gateway, "").await;
    metric_is(&gateway, "pushcluster_config_keys_waiting_for_restart", 0.0).await;
}

#[tokio::test]
async fn presence_begins_with_those_who_are_there_and_leaves_nobody_behind() {
    let gateway = Gateway::with_file("", &[]).await;
    let mut ann = gateway.user("ann").await;
    let mut bob = gateway.user("bob").await;
    ann.subscribe("room:a").await;
    bob.subscribe("room:a").await;
    let stream = EventSource::with(gateway.clients, &["room:a"]).await;
    let on = "channels: [{prefix: 'room:', presence: true}]\n";
    let total = async |expected: u64| {
        until("so many are there", || async {
            let answer = with_key(&gateway, "/api/presence?channel=room:a").await;
            if answer.json()["total"] == expected {
                Ok(())
            } else {
                Err(answer.body)
            }
        })
        .await;
    };
    take(&gateway, on).await;
    total(3).await;
    assert_eq!(take(&gateway, "").await.0, ["channels"]);
    let path = "/api/presence?channel=room:a";
    assert_eq!(with_key(&gateway, path).await.status, 404);
    metric_is(&gateway, "pushcluster_presence_members", 0.0).await;
    // Who leaves while nobody looks is not there when they look again.
    bob.close().await;
    drop(stream);
    metric_is(&gateway, "websocket_connected_clients", 1.0).await;
    take(&gateway, on).await;
    total(1).await;
    // It has heard who came while presence was on, and nothing of an end of it.
    let mut heard = Vec::new();
    loop {
        ann.send(json!({"type": "ping"})).await;
        let message = ann.next().await;
        match message["type"].as_str() {
            Some("presence") => heard.push(message["event"].clone()),
            _ => break,
        }
    }
    assert!(heard.iter().all(|event| event == "join"), "{heard:?}");
}

#[tokio::test]
async fn another_key_server_counts_when_it_has_answered() {
    let (one, other) = (Signer::new("one"), Signer::new("other"));
    let first = KeyServer::http(Says::Keys(vec![one.jwk()])).await;
    let mut second = KeyServer::http(Says::Keys(vec![other.jwk()])).await;
    let file = |server: &KeyServer| json!({"auth": {"jwksUrl": server.url()}}).to_string();
    let gateway = Gateway::with_file(&file(&first), &[]).await;
    gateway.ready().await;
    let knocks = async || {
        let tokens = [&one, &other].map(|signer| signer.token("ann", &json!({})));
        let mut statuses = Vec::new();
        for token in tokens {
            statuses.push(knock(&gateway, &token).await);
        }
        statuses
    };
    assert_eq!(knocks().await, [101, 401]);

    second.go_away().await;
    let answer = gateway.reload(&file(&second)).await;
    assert_eq!(answer.status, 422, "{}", answer.body);
    assert_eq!(answer.json()["error"]["field"], "auth.jwksUrl");
    assert_eq!(knocks().await, [101, 401]);

    second.come_back().await;
    assert_eq!(take(&gateway, &file(&second)).await.0, ["auth.jwksUrl"]);
    gateway.ready().await;
    // A key that is not known: the server of now is asked, and nobody else.
    let asked = (first.asked(), second.asked() + 1);
    assert_eq!(knocks().await, [401, 101]);
    assert_eq!((first.asked(), second.asked()), asked);

    assert_eq!(take(&gateway, "").await.0, ["auth.jwksUrl"]);
    assert_eq!(knocks().await, [401, 401]);
    gateway.ready().await;
}

async fn knock(gateway: &Gateway, token: &str) -> u16 {
    let url = format!("ws://{}/ws?token={token}", gateway.clients);
    match Client::handshake(&url, &[]).await {
        Ok(_) => 101,
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_hangup_asks_for_a_reload_and_ends_nothing() {
    let gateway = Gateway::start(&[]).await;
    let mut client = gateway.client().await;
    let reloads = r#"pushcluster_config_reloads_total{result="good"}"#;
    assert_eq!(gateway.metric(reloads).await, Some(0.0));
    until("the file is watched", || async {
        gateway.signal("HUP");
        match gateway.metric(reloads).await {
            Some(count) if count > 0.0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    client.heard_nothing().await;
}

#[tokio::test]
async fn a_file_that_comes_later_than_the_configuration_that_names_it() {
    let gateway = Gateway::with_file("", &[]).await;
    let key = gateway.path("later").display().to_string();
    let file = json!({"auth": {"hs384KeyFile": key}}).to_string();
    assert_eq!(gateway.reload(&file).await.status, 422);
    let failed = r#"pushcluster_config_reloads_total{result="failed"}"#;
    until("the watch has failed as well", || async {
        match gateway.metric(failed).await {
            Some(count) if count >= 2.0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    gateway.write("later", [b'k'; 48]);
    metric_is(&gateway, "pushcluster_config_generation", 2.0).await;
    let log = gateway.log();
    let line = "configuration not taken";
    assert_eq!(log.matches(line).count(), 1, "said once: {log}");
}
