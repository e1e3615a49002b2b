//! SIGTERM.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::program::Gateway;

#[tokio::test]
async fn clients_are_told_and_closed_within_the_deadline() {
    let mut gateway = Gateway::start(&["drain.deadlineSeconds=10"]).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(gateway.client().await);
    }
    let begun = Instant::now();
    gateway.signal("TERM");
    for client in &mut clients {
        let message = client.next().await;
        assert_eq!(message["type"], "reconnect", "{message}");
        assert!(message["after_ms"].as_u64().is_some(), "{message}");
        assert_eq!(client.closed().await.0, 1012);
    }
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
    assert_eq!(gateway.not_ready("drain").await, "this gateway is ending");
    crate::wait::until("nobody is let in", || async {
        match TcpStream::connect(gateway.clients).await {
            Err(_) => Ok(()),
            Ok(_) => Err("connected".to_owned()),
        }
    })
    .await;
    for client in &mut clients {
        assert_eq!(client.next().await["type"], "reconnect");
        assert_eq!(client.closed().await.0, 1012);
    }
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
