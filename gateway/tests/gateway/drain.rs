//! SIGTERM.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::program::{API_KEY, Gateway, request};

/// Each is told when to come back, and closed.
async fn all_are_sent_away(clients: &mut [Client]) {
    for client in clients {
        let message = client.next().await;
        assert_eq!(message["type"], "reconnect", "{message}");
        assert!(message["after_ms"].as_u64().is_some(), "{message}");
        assert_eq!(client.closed().await.0, 1012);
    }
}

#[tokio::test]
async fn clients_are_told_and_closed_within_the_deadline() {
    let mut gateway = Gateway::start(&["drain.deadlineSeconds=10"]).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(gateway.client().await);
    }
    let begun = Instant::now();
    gateway.signal("TERM");
    all_are_sent_away(&mut clients).await;
    drop(clients);
    assert_eq!(gateway.exit().await.code(), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn while_it_drains_it_is_not_ready_and_lets_nobody_in() {
    let set = [
        "drain.deadlineSeconds=6",
        "drain.connectionsPerSecond=1",
        "engine.shards=1",
    ];
    let mut gateway = Gateway::start(&set).await;
    let mut clients = [
        gateway.client().await,
        gateway.client().await,
        gateway.client().await,
    ];
    gateway.ready().await;
    gateway.signal("TERM");
    assert_eq!(
        gateway.not_ready("drain").await,
        "clients are being sent away"
    );
    crate::wait::until("nobody is let in", || async {
        match TcpStream::connect(gateway.clients).await {
            Err(_) => Ok(()),
            Ok(_) => Err("connected".to_owned()),
        }
    })
    .await;
    all_are_sent_away(&mut clients).await;
    drop(clients);
    assert_eq!(gateway.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_client_that_does_not_answer_ends_at_the_deadline() {
    let mut gateway = Gateway::start(&["drain.deadlineSeconds=2"]).await;
    // Reads nothing, answers nothing.
    let deaf = gateway.client().await;
    let begun = Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.exit().await.code(), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    drop(deaf);
}

/// One that somebody has asked about others.
async fn attended(set: &[&str]) -> Gateway {
    let gateway = Gateway::start(set).await;
    gateway.ready().await;
    let round = json!({"round": "1", "from": ["another"], "seconds": 1}).to_string();
    let key = [("x-api-key", API_KEY)];
    let answer = request(gateway.admin, "POST", "/probe", &key, &round).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    gateway
}

#[tokio::test]
async fn one_that_is_looked_after_serves_until_it_is_told_its_pace() {
    let mut gateway = attended(&["drain.deadlineSeconds=120"]).await;
    let mut clients = vec![gateway.client().await];
    let begun = Instant::now();
    gateway.signal("TERM");
    assert_eq!(
        gateway.not_ready("drain").await,
        "this gateway ends, and waits to be told how fast"
    );
    // Who does not know it yet, as the proxy of another node, still sends somebody.
    clients.push(gateway.client().await);
    for client in &mut clients {
        client.send(json!({"type": "ping"})).await;
        assert_eq!(client.next().await["type"], "pong");
    }
    let progress = gateway.drain("GET", &[], "").await.json();
    assert_eq!(progress["draining"], true, "{progress}");
    assert_eq!(progress["connectionsPerSecond"], Value::Null, "{progress}");
    assert!(progress["secondsLeft"].as_u64() > Some(60), "{progress}");
    let key = [("x-api-key", API_KEY)];
    assert_eq!(gateway.drain("DELETE", &key, "").await.status, 409);
    assert!(begun.elapsed() < Duration::from_secs(8), "too slow to tell");
    let told = r#"{"connectionsPerSecond":50}"#;
    assert_eq!(gateway.drain("POST", &key, told).await.status, 202);
    all_are_sent_away(&mut clients).await;
    drop(clients);
    assert_eq!(gateway.exit().await.code(), Some(0));
}

#[tokio::test]
async fn one_that_nobody_tells_its_pace_begins_by_itself() {
    // A quarter of it is what it waits.
    let mut gateway = attended(&["drain.deadlineSeconds=8"]).await;
    let mut client = gateway.client().await;
    let begun = Instant::now();
    gateway.signal("TERM");
    assert_eq!(client.next().await["type"], "reconnect");
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_secs(2), "{waited:?}");
    assert_eq!(client.closed().await.0, 1012);
    drop(client);
    assert_eq!(gateway.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let set = [
        "drain.deadlineSeconds=60",
        "drain.connectionsPerSecond=1",
        "engine.shards=1",
    ];
    let mut gateway = Gateway::start(&set).await;
    let mut clients = Vec::new();
    for _ in 0..30 {
        clients.push(gateway.client().await);
    }
    gateway.signal("TERM");
    gateway.not_ready("drain").await;
    let begun = Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.exit().await.code(), Some(143));
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn the_admin_port_begins_a_drain_paces_it_and_takes_it_back() {
    let gateway = Gateway::start(&["engine.shards=1", "limits.maxConnections=77"]).await;
    let mut clients = Vec::new();
    // One a second would keep the first of them for longer than a wait lasts.
    for _ in 0..40 {
        clients.push(gateway.client().await);
    }
    let refused = gateway.drain("POST", &[], "").await;
    assert_eq!(refused.status, 401, "{}", refused.body);

    let key = [("x-api-key", API_KEY)];
    let slowly = gateway
        .drain("POST", &key, r#"{"connectionsPerSecond":1}"#)
        .await;
    assert_eq!(slowly.status, 202, "{}", slowly.body);
    assert_eq!(slowly.json()["draining"], true);
    gateway.not_ready("drain").await;
    let node = gateway.node().await;
    assert_eq!(node["draining"], true, "{node}");
    assert_eq!(node["maxConnections"], 77, "{node}");
    assert!(node["connections"].as_u64() > Some(30), "{node}");
    assert!(node["version"].is_string(), "{node}");
    let url = format!("ws://{}/ws", gateway.clients);
    assert!(Client::handshake(&url, &[]).await.is_err(), "let in");

    let fast = gateway
        .drain("POST", &key, r#"{"connectionsPerSecond":100000}"#)
        .await;
    assert_eq!(fast.json()["connectionsPerSecond"], 100_000);
    all_are_sent_away(&mut clients).await;
    crate::wait::until("all are gone", || async {
        let progress = gateway.drain("GET", &[], "").await.json();
        if progress["connections"] == 0 {
            Ok(())
        } else {
            Err(progress.to_string())
        }
    })
    .await;

    let back = gateway.drain("DELETE", &key, "").await;
    assert_eq!(back.json()["draining"], false, "{}", back.body);
    gateway.ready().await;
    drop(gateway.client().await);
}

#[tokio::test]
async fn the_end_keeps_the_pace_that_was_set_and_cannot_be_taken_back() {
    let set = ["drain.deadlineSeconds=60", "engine.shards=1"];
    let mut gateway = Gateway::start(&set).await;
    let mut clients = [gateway.client().await, gateway.client().await];
    let key = [("x-api-key", API_KEY)];
    gateway
        .drain("POST", &key, r#"{"connectionsPerSecond":3}"#)
        .await;
    gateway.signal("TERM");
    crate::wait::until("the drain has a deadline", || async {
        let progress = gateway.drain("GET", &[], "").await.json();
        if progress["secondsLeft"].is_u64() {
            assert_eq!(progress["connectionsPerSecond"], 3);
            Ok(())
        } else {
            Err(progress.to_string())
        }
    })
    .await;
    let answer = gateway.drain("DELETE", &key, "").await;
    assert_eq!(answer.status, 409, "{}", answer.body);
    all_are_sent_away(&mut clients).await;
    drop(clients);
    assert_eq!(gateway.exit().await.code(), Some(0));
}

/// Who talks, and who listens, stays for as long as others can go.
#[tokio::test]
async fn those_with_whom_nothing_happens_are_sent_away_first() {
    let gateway = Gateway::start(&["engine.shards=1"]).await;
    // In no order that could be the drain's by chance.
    let mut listens = gateway.client().await;
    let mut quiet = [gateway.client().await, gateway.client().await];
    let mut talks = gateway.client().await;
    listens.subscribe("news").await;
    for client in &mut quiet {
        client.subscribe("silence").await;
    }
    // The last round begins later than what is noted is coarse, however busy the machine is.
    let begun = Instant::now();
    let mut is_last = false;
    while !is_last {
        is_last = begun.elapsed() > Duration::from_millis(600);
        talks.send(json!({"type": "ping"})).await;
        assert_eq!(talks.next().await["type"], "pong");
        let answer = gateway.publish(r#"{"channel":"news","data":1}"#).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(listens.next().await["channel"], "news");
    }
    let key = [("x-api-key", API_KEY)];
    let begun = gateway
        .drain("POST", &key, r#"{"connectionsPerSecond":2}"#)
        .await;
    assert_eq!(begun.status, 202, "{}", begun.body);
    // Of several who are told before it is looked, the first of the list counts: those that are to be first.
    let mut clients = Vec::from(quiet);
    clients.extend([talks, listens]);
    for place in ["first", "second"] {
        let told = clients.iter_mut().map(|client| Box::pin(client.next()));
        let (told, who, _) = futures::future::select_all(told).await;
        assert_eq!(told["type"], "reconnect");
        let left = clients.len() - 2;
        assert!(
            who < left,
            "the {place} is not one of the {left} quiet ones"
        );
        clients.remove(who);
    }
}

/// What a gateway that has too many gives to others.
#[tokio::test]
async fn a_drain_down_to_so_many_takes_itself_back() {
    let gateway = Gateway::start(&["engine.shards=1"]).await;
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut client = gateway.client().await;
        // A client that does not read keeps its connection until its close times out.
        readers.spawn(async move {
            let told = client.next().await;
            (told, client.closed().await.0)
        });
    }
    let key = [("x-api-key", API_KEY)];
    let asked = r#"{"connectionsPerSecond":2,"downTo":5}"#;
    let begun = gateway.drain("POST", &key, asked).await;
    assert_eq!(begun.status, 202, "{}", begun.body);
    assert_eq!(begun.json()["downTo"], 5);
    gateway.not_ready("drain").await;
    let left = crate::wait::until("it lets clients in again", || async {
        let progress = gateway.drain("GET", &[], "").await.json();
        if progress["draining"] == false {
            Ok(progress["connections"].as_u64().unwrap())
        } else {
            Err(progress.to_string())
        }
    })
    .await;
    assert!((3..=5).contains(&left), "{left} are left");
    gateway.ready().await;
    drop(gateway.client().await);
    let (told, code) = readers.join_next().await.unwrap().unwrap();
    assert_eq!((told["type"].as_str(), code), (Some("reconnect"), 1012));
}
