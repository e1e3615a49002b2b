//! What happens to a real Redis, and what nodes then see.

use std::time::{Duration, Instant};

use gateway::broker::redis::{Login, Password, Settings};
use gateway::broker::{Broker, Health, Publish, PublishError};

use super::{channel, counted, message, redis, set, settings, start};
use crate::redis_server::{Proxy, RedisServer};
use crate::wait::{until, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_see_the_same_order() {
    let server = RedisServer::start().await;
    let (mut a, mut b) = (redis(&server).await, redis(&server).await);
    a.subscribe("x").await;
    b.subscribe("x").await;
    let from_a = async {
        for i in 0..300 {
            a.broker
                .publish(channel("x"), message(i), None)
                .await
                .unwrap();
        }
    };
    let from_b = async {
        for i in 1_000..1_300 {
            b.broker
                .publish(channel("x"), message(i), None)
                .await
                .unwrap();
        }
    };
    within("both publish", async { tokio::join!(from_a, from_b) }).await;
    let (mut seen_a, mut seen_b) = (Vec::new(), Vec::new());
    for _ in 0..600 {
        seen_a.push(a.delivery().await.1);
        seen_b.push(b.delivery().await.1);
    }
    assert_eq!(seen_a, seen_b);
    // A node that is gone takes nothing with it.
    drop(a);
    b.publish("x", 7).await.unwrap();
    assert_eq!(b.delivery().await.1, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_restarts() {
    let mut server = RedisServer::start().await;
    let (mut node, registry) = start(settings(&server));
    node.healthy().await;
    let names: Vec<String> = (0..1_200).map(|i| format!("channel {i}")).collect();
    for name in &names {
        node.subscribe(name).await;
    }
    server.kill();
    let lost = node.lost().await;
    assert_eq!(lost, set(names.iter().map(String::as_str)));
    assert_eq!(missing(&registry), "1200");
    let why = node.unhealthy().await;
    assert!(why.contains(&format!("127.0.0.1:{}", server.port)), "{why}");
    let asked = Instant::now();
    let refused = node.publish("channel 7", 1).await.unwrap_err();
    assert!(
        asked.elapsed() < Duration::from_secs(3),
        "{:?}",
        asked.elapsed()
    );
    assert!(
        matches!(refused, PublishError::Unavailable { .. }),
        "{refused}"
    );
    let error = within("subscribe", node.broker.subscribe(channel("late")))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("subscribe to late failed: Redis at "),
        "{error}"
    );

    server.run().await;
    node.restored(lost).await;
    assert_eq!(missing(&registry), "0");
    node.healthy().await;
    for i in [0, 7, 1_199] {
        node.publish(&format!("channel {i}"), i).await.unwrap();
        assert_eq!(node.delivery().await, (format!("channel {i}"), i));
    }
    assert!((counted(&registry, "pushcluster_broker_losses_total") - 1.0).abs() < 0.1);
}

/// Channels that were subscribed and are not.
fn missing(registry: &prometheus::Registry) -> String {
    let families = registry.gather();
    let family = families
        .iter()
        .find(|family| family.name() == "pushcluster_broker_missing_channels");
    let gauge = family.unwrap().get_metric()[0].get_gauge();
    gauge.get_value().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_subscription_is_killed() {
    let server = RedisServer::start().await;
    let mut node = redis(&server).await;
    node.subscribe("a").await;
    for i in 0..5 {
        assert_eq!(server.ask("CLIENT KILL TYPE pubsub").await, ":1\r\n+OK\r\n");
        assert_eq!(node.lost().await, set(["a"]));
        node.restored(set(["a"])).await;
        node.publish("a", i).await.unwrap();
        assert_eq!(node.delivery().await, ("a".into(), i));
        node.healthy().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_hangs_with_its_sockets_open() {
    let server = RedisServer::start().await;
    let mut node = redis(&server).await;
    node.subscribe("a").await;
    server.signal("STOP");
    let asked = Instant::now();
    // More than one pipeline takes, so that some wait behind others: none may wait longer than promised.
    let all = (0..1_000).map(|i| node.broker.publish(channel("a"), message(i), None));
    let results = within("publish", futures::future::join_all(all)).await;
    assert!(
        asked.elapsed() < Duration::from_secs(4),
        "{:?}",
        asked.elapsed()
    );
    assert!(
        matches!(results[0], Err(PublishError::Unanswered { .. })),
        "{:?}",
        results[0]
    );
    assert!(results.iter().all(Result::is_err));
    let last = &results[999];
    assert!(
        matches!(last, Err(PublishError::Unavailable { .. })),
        "never sent: {last:?}"
    );
    let why = node.unhealthy().await;
    assert!(why.contains("no probe came back"), "{why}");

    server.signal("CONT");
    node.healthy().await;
    // No Lost: the connection held, and Redis passes on what it had received before.
    until("a publish is accepted", || async {
        node.publish("a", 5_000).await.map_err(|e| e.to_string())
    })
    .await;
    while node.delivery().await != ("a".into(), 5_000) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_is_open_and_silent_is_replaced() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(server.port).await;
    let (mut node, _) = start(crate::redis_server::settings(proxy.port, Login::default()));
    node.healthy().await;
    node.subscribe("a").await;
    proxy.swallow_subscriptions();
    // Accepted by Redis, and gone on the way back, without any error on any socket.
    node.publish("a", 1).await.unwrap();
    let why = node.unhealthy().await;
    assert!(why.contains("no probe came back"), "{why}");
    assert_eq!(node.lost().await, set(["a"]));
    node.restored(set(["a"])).await;
    node.publish("a", 2).await.unwrap();
    assert_eq!(node.delivery().await, ("a".into(), 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_no_gateway_wrote_are_counted_and_dropped() {
    let server = RedisServer::start().await;
    let (mut node, registry) = start(settings(&server));
    node.healthy().await;
    node.subscribe("a").await;
    for payload in [
        "nonsense",
        "{}",
        "[1]",
        r#""\xff\xfe""#,
        "'{\"kind\":\"chat\"}'",
    ] {
        assert_eq!(
            server
                .ask(&format!("PUBLISH test:channel:a {payload}"))
                .await,
            ":1\r\n+OK\r\n"
        );
    }
    node.publish("a", 1).await.unwrap();
    assert_eq!(node.delivery().await, ("a".into(), 1));
    assert!((counted(&registry, "pushcluster_broker_bad_payloads_total") - 5.0).abs() < 0.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_comes_after_the_node() {
    let mut server = RedisServer::absent();
    let (mut node, _) = start(settings(&server));
    let why = until("the cause is known", || async {
        match node.broker.health() {
            Health::NotDelivering(why) if why.contains("refused") => Ok(why),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(why.contains("Connection refused"), "{why}");
    let refused = node.publish("a", 1).await.unwrap_err();
    assert!(
        matches!(refused, PublishError::Unavailable { .. }),
        "{refused}"
    );

    server.run().await;
    node.healthy().await;
    node.subscribe("a").await;
    node.publish("a", 2).await.unwrap();
    // No Lost, no Restored: nothing was ever there to lose.
    assert_eq!(node.delivery().await, ("a".into(), 2));
}

fn password_of(password: Option<&str>) -> Login {
    Login {
        username: None,
        password: password.map(|text| Password::new(text.to_owned())),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords() {
    let password = "a-long-enough-one";
    let server = RedisServer::start_with(Some(password)).await;
    for (given, expected) in [(None, "NOAUTH"), (Some("not-it"), "WRONGPASS")] {
        let (node, _) = start(Settings {
            login: password_of(given),
            ..settings(&server)
        });
        let why = until("refused", || async {
            match node.broker.health() {
                Health::NotDelivering(why) if why.contains(expected) => Ok(why),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        assert!(
            !why.contains("not-it"),
            "the password is in no message: {why}"
        );
        assert!(node.publish("a", 1).await.is_err());
    }
    let right = Settings {
        login: password_of(Some(password)),
        ..settings(&server)
    };
    let (mut node, _) = start(Settings {
        database: 3,
        ..right
    });
    node.healthy().await;
    node.subscribe("a").await;
    node.publish("a", 1).await.unwrap();
    assert_eq!(node.delivery().await, ("a".into(), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_broker_closes_its_connections() {
    let server = RedisServer::start().await;
    let node = redis(&server).await;
    node.subscribe("a").await;
    drop(node);
    until("no connection is left", || async {
        // The one that asks is always there.
        let list = server.ask("CLIENT LIST").await;
        let left = list.lines().filter(|line| line.contains("id=")).count();
        if left == 1 { Ok(()) } else { Err(list) }
    })
    .await;
}
