//! Every key that is said to be taken while the gateway runs is: one check for each, on one gateway, to which one
//! client stays connected through all of them.

use gateway_config::{Kind, Reload, keys, reload};
use serde_json::json;

use super::stage::{Stage, answer, subscribe};
use super::{apart, doors};
use crate::program::{API_KEY, Answer};
use crate::wait::until;

#[tokio::test]
async fn every_key_that_is_live_takes_effect() {
    let stage = Stage::start().await;
    let mut witness = stage.gateway.user("witness").await;
    witness.subscribe("witness").await;
    for key in keys() {
        if key.kind == Kind::Section || reload(&key.path) == Reload::Restart {
            continue;
        }
        check(&stage, &key.path).await;
        stage.set(json!({})).await;
    }
    assert_eq!(stage.publish("witness", "here", &[]).await.status, 200);
    assert_eq!(witness.next().await["message"], "here");
}

/// Changes the key, and sees the gateway do otherwise.
async fn check(stage: &Stage, key: &str) {
    match key.split_once('.').map_or(key, |(section, _)| section) {
        "api" => api(stage, key).await,
        "auth" => doors::auth(stage, key).await,
        "limits" if key.contains("maxConnections") || key.contains("andshake") => {
            doors::caps(stage, key).await;
        }
        "limits" => limits(stage, key).await,
        "listen" => doors::listen(stage, key).await,
        "heartbeat" => apart::heartbeat(key).await,
        "drain" => apart::drain(key).await,
        "compression" => apart::compression(stage, key).await,
        _ => others(stage, key).await,
    }
}

async fn api(stage: &Stage, key: &str) {
    let named = [("idempotency-key", key)];
    let replayed = |answer: &Answer| answer.head.contains("idempotency-replayed");
    match key {
        "api.idempotencyBytes" => {
            stage.set(json!({"api": {"idempotencyBytes": 1}})).await;
            stage.publish("a", "x", &named).await;
            assert!(!replayed(&stage.publish("a", "x", &named).await));
        }
        "api.idempotencySeconds" => {
            stage.set(json!({"api": {"idempotencySeconds": 1}})).await;
            stage.publish("a", "x", &named).await;
            until("the answer is forgotten", || async {
                match stage.publish("a", "x", &named).await {
                    answer if replayed(&answer) => Err(answer.head),
                    _ => Ok(()),
                }
            })
            .await;
        }
        "api.keyFile" => {
            let change = json!({"api": {"keyFile": stage.at("other-api")}});
            stage.set(change).await;
            let info = |key: &'static str| async move {
                stage.get("/api/info", &[("x-api-key", key)]).await.status
            };
            assert_eq!(info(API_KEY).await, 401);
            assert_eq!(info("another-key-for-tests").await, 200);
            // The way back takes a key, too: one that counts now. The file is watched as the configuration is.
            stage.gateway.write("other-api", API_KEY);
            until("the key in the file counts", || async {
                match info(API_KEY).await {
                    200 => Ok(()),
                    other => Err(other.to_string()),
                }
            })
            .await;
        }
        "api.maxBatchMessages" => {
            stage.set(json!({"api": {"maxBatchMessages": 1}})).await;
            let message = json!({"channel": "a", "data": 1});
            let body = json!({"messages": [message, message]}).to_string();
            let headers = [("x-api-key", API_KEY)];
            let answer = stage.gateway.post("/api/batch", &headers, &body).await;
            assert_eq!(answer.status, 413);
        }
        other => panic!("no check for {other}"),
    }
}

async fn limits(stage: &Stage, key: &str) {
    let set = |limits| stage.set(json!({"limits": limits}));
    match key {
        "limits.maxHistoryBytes" => {
            for channel in ["kept.a", "kept.b"] {
                stage.publish(channel, "x", &[]).await;
            }
            set(json!({"maxHistoryBytes": 1})).await;
            let mut client = stage.gateway.client().await;
            client
                .send(json!({"type": "history", "channel": "kept.a"}))
                .await;
            let log = client.next().await;
            assert_eq!(log["messages"], json!([]), "{log}");
        }
        "limits.maxMemoryBytes" => {
            // Whoever came first would have to go.
            let own = Stage::start().await;
            own.set(json!({"limits": {"maxMemoryBytes": 1}})).await;
            own.gateway.not_ready("memory").await;
        }
        "limits.maxPresenceMembers" => presence(stage).await,
        "limits.maxOutboxBytes" => {
            let mut client = stage.gateway.client().await;
            client.subscribe("a").await;
            let change = json!({"maxMessageBytes": 100_000, "maxOutboxBytes": 100_000});
            set(change).await;
            // More than the kernel's buffers and the outbox hold together, and far less than the outbox held.
            let large = "x".repeat(90_000);
            let slow = r#"pushcluster_connections_closed_total{code="slow"}"#;
            for _ in 0..1_000 {
                stage.publish("a", &large, &[]).await;
                let closed = stage.gateway.metric(slow).await;
                if closed.is_some_and(|count| count > 0.0) {
                    return;
                }
            }
            panic!("{key}: a client that reads nothing is still here");
        }
        "limits.maxRequestBytes" => {
            let change = json!({"maxRequestBytes": 1_000, "maxMessageBytes": 1_000});
            set(change).await;
            let answer = stage.publish("a", &"x".repeat(1_001), &[]).await;
            assert_eq!(answer.status, 413);
        }
        _ => of_a_client(stage, key).await,
    }
}

async fn presence(stage: &Stage) {
    let who = async || {
        let headers = [("x-api-key", API_KEY)];
        let list = stage.get("/api/presence?channel=seen.a", &headers).await;
        let list = list.json();
        (
            list["members"].as_array().map(Vec::len),
            list["total"].clone(),
        )
    };
    let [mut one, mut other] = [stage.gateway.client().await, stage.gateway.client().await];
    for client in [&mut one, &mut other] {
        assert_eq!(subscribe(client, "seen.a").await, "subscribed");
    }
    until("both are seen", || async {
        let seen = who().await;
        if seen == (Some(2), json!(2)) {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    })
    .await;
    stage
        .set(json!({"limits": {"maxPresenceMembers": 1}}))
        .await;
    assert_eq!(who().await, (Some(1), json!(2)));
}

/// What a client that is connected already may do.
async fn of_a_client(stage: &Stage, key: &str) {
    let chat =
        |text: &str| json!({"type": "chat", "channel": "a", "message": text, "id": text.len()});
    let set = |limits| stage.set(json!({"limits": limits}));
    let mut client = stage.gateway.client().await;
    match key {
        "limits.maxChannelsPerConnection" => {
            set(json!({"maxChannelsPerConnection": 1})).await;
            assert_eq!(subscribe(&mut client, "a").await, "subscribed");
            assert_eq!(subscribe(&mut client, "b").await, "too_many_channels");
        }
        "limits.maxMessageBytes" => {
            set(json!({"maxMessageBytes": 100})).await;
            client.send(chat(&"x".repeat(100))).await;
            assert_eq!(client.closed().await.0, 1009);
        }
        "limits.messageBurst" => {
            for _ in 0..20 {
                assert_eq!(answer(&mut client, chat("x")).await, "published");
            }
            set(json!({"messageBurst": 15})).await;
            assert_eq!(answer(&mut client, chat("x")).await, "rate_limited");
        }
        "limits.messagesPerSecond" => {
            set(json!({"messagesPerSecond": 0, "messageBurst": 2})).await;
            for _ in 0..5 {
                assert_eq!(answer(&mut client, chat("x")).await, "published");
            }
            set(json!({"messagesPerSecond": 1, "messageBurst": 2})).await;
            client
                .send_together(&[chat("x"), chat("xx"), chat("xxx")])
                .await;
            let mut limited = None;
            for _ in 0..3 {
                let answer = client.next().await;
                if answer["code"] == "rate_limited" {
                    limited = Some(answer["id"].clone());
                }
            }
            assert_eq!(limited, Some(json!(3)));
        }
        other => panic!("no check for {other}"),
    }
}

async fn others(stage: &Stage, key: &str) {
    match key {
        "channels" => {
            let mut client = stage.gateway.client().await;
            assert_eq!(subscribe(&mut client, "a").await, "subscribed");
            let policy = json!([{"prefix": "b", "subscribe": "nobody"}]);
            stage.set(json!({"channels": policy})).await;
            assert_eq!(subscribe(&mut client, "b").await, "denied");
        }
        "log.filter" => {
            stage.set(json!({"log": {"filter": "off"}})).await;
            let change = json!({"log": {"filter": "off"}, "drain": {"deadlineSeconds": 7}});
            stage.set(change).await;
            let line = "taken: drain.deadlineSeconds;";
            let log = stage.gateway.log();
            assert!(!log.contains(line), "{log}");
            let change = json!({"log": {"filter": "info"}, "drain": {"deadlineSeconds": 8}});
            stage.set(change).await;
            until("a line is logged again", || async {
                let log = stage.gateway.log();
                let line = "taken: drain.deadlineSeconds, log.filter;";
                if log.contains(line) { Ok(()) } else { Err(log) }
            })
            .await;
        }
        "log.format" => {
            stage.set(json!({"log": {"format": "text"}})).await;
            until("a line in text", || async {
                let log = stage.gateway.log();
                let line = "INFO gateway::reload: configuration read again; taken: log.format;";
                if log.contains(line) { Ok(()) } else { Err(log) }
            })
            .await;
        }
        other => panic!("no check for {other}"),
    }
}
