//! A Redis that is connected and passes nothing on: what is done about it, and what `/ready` and metrics say.

use crate::history::{FILE, publish, subscribed};
use crate::program::Gateway;
use crate::redis_server::{Proxy, RedisServer};
use crate::wait::until;

async fn on(port: u16) -> Gateway {
    let url = format!("broker.redis.url=redis://127.0.0.1:{port}");
    let set = ["broker.kind=redis", &url, "broker.redis.timeoutSeconds=2"];
    let gateway = Gateway::with_file(FILE, &set).await;
    gateway.ready().await;
    gateway
}

/// Waits until a series is as it should be.
async fn shows(gateway: &Gateway, series: &str, wanted: impl Fn(f64) -> bool) {
    until(series, || async {
        let value = gateway.metric(series).await;
        match value.is_some_and(&wanted) {
            true => Ok(()),
            false => Err(format!("{value:?}")),
        }
    })
    .await;
}

fn is(expected: f64) -> impl Fn(f64) -> bool {
    move |value| (value - expected).abs() < 0.1
}

#[tokio::test]
async fn it_is_replaced_and_what_it_swallowed_comes_from_the_log() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::start(redis.port).await;
    let gateway = on(proxy.port).await;
    let mut client = gateway.client().await;
    subscribed(&mut client, None).await;
    shows(&gateway, "pushcluster_broker_reconnects_total", is(0.0)).await;
    proxy.swallow_subscriptions();
    // Accepted by Redis, and gone on the way back, without an error on any socket.
    publish(&gateway, 0..3).await;
    for number in 0..3 {
        let message = client.next().await;
        assert_eq!(
            (&message["message"], &message["offset"]),
            (&number.into(), &(number + 1).into())
        );
    }
    shows(&gateway, "pushcluster_broker_reconnects_total", is(1.0)).await;
    gateway.ready().await;
    publish(&gateway, 3..4).await;
    assert_eq!(client.next().await["offset"], 4);
    let log = gateway.log();
    let expected = format!(
        "Redis at 127.0.0.1:{} (broker.redis.url): no probe came back",
        proxy.port
    );
    assert_eq!(log.matches(&expected).count(), 1, "{log}");
}

#[tokio::test]
async fn what_metrics_say() {
    const CONNECTIONS: &str = "pushcluster_broker_connections";
    let mut redis = RedisServer::start().await;
    let gateway = on(redis.port).await;
    let well = async || {
        gateway.ready().await;
        shows(&gateway, "pushcluster_broker_connected", is(1.0)).await;
        shows(&gateway, "pushcluster_broker_probe_age_seconds", |age| {
            age < 3.0
        })
        .await;
        shows(
            &gateway,
            &format!(r#"{CONNECTIONS}{{state="delivering"}}"#),
            is(1.0),
        )
        .await;
    };
    well().await;

    redis.signal("STOP");
    let why = gateway.not_ready("broker").await;
    let silent = format!("Redis at 127.0.0.1:{}: no probe came back for ", redis.port);
    assert!(why.starts_with(&silent), "{why}");
    shows(
        &gateway,
        &format!(r#"{CONNECTIONS}{{state="silent"}}"#),
        is(1.0),
    )
    .await;
    shows(
        &gateway,
        &format!(r#"{CONNECTIONS}{{state="delivering"}}"#),
        is(0.0),
    )
    .await;
    shows(&gateway, "pushcluster_broker_probe_age_seconds", |age| {
        age > 3.0
    })
    .await;
    redis.signal("CONT");
    well().await;

    redis.kill();
    shows(&gateway, "pushcluster_broker_connected", is(0.0)).await;
    shows(
        &gateway,
        &format!(r#"{CONNECTIONS}{{state="connecting"}}"#),
        is(1.0),
    )
    .await;
    redis.run().await;
    well().await;
    shows(&gateway, "pushcluster_broker_reconnects_total", |count| {
        count >= 1.0
    })
    .await;
}
