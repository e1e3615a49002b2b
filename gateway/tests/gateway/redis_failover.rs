//! What clients are told when the log they were reading goes on at another master, or at the same one restarted.

use serde_json::{Value, json};

use crate::client::Client;
use crate::history::{FILE, numbers, publish, subscribed};
use crate::program::Gateway;
use crate::redis_sentinel::{MASTER, Sentinels};
use crate::redis_server::RedisServer;
use crate::wait::until;

async fn on_sentinels(sentinels: &Sentinels) -> Gateway {
    let seeds = sentinels.ports.iter();
    let seeds: Vec<_> = seeds.map(|port| format!("127.0.0.1:{port}")).collect();
    let set = [
        "broker.kind=redis".to_owned(),
        "broker.redis.mode=sentinel".to_owned(),
        format!("broker.redis.masterName={MASTER}"),
        format!("broker.redis.url=redis://{}", seeds.join(",")),
        "broker.redis.timeoutSeconds=2".to_owned(),
    ];
    let gateway = Gateway::with_file(FILE, &set.each_ref().map(String::as_str)).await;
    gateway.ready().await;
    gateway
}

fn recover(epoch: &Value, offset: u64) -> Option<Value> {
    Some(json!({"epoch": epoch, "offset": offset}))
}

async fn hears(client: &mut Client, expected: impl IntoIterator<Item = (u64, u64)>) {
    for (offset, number) in expected {
        let message = client.next().await;
        assert_eq!(
            (&message["offset"], &message["message"]),
            (&json!(offset), &json!(number)),
            "{message}"
        );
    }
}

/// The log goes on: what follows comes after this, and nothing before it is missing, or something may be.
async fn moves(client: &mut Client, offset: u64, recovered: bool) -> Value {
    let mut told = client.next().await;
    assert_eq!(
        (&told["type"], &told["offset"], &told["recovered"]),
        (&json!("position"), &json!(offset), &json!(recovered)),
        "{told}"
    );
    told["epoch"].take()
}

/// All that the master has, both replicas have.
async fn replicated(sentinels: &Sentinels) {
    until("replicated", || async {
        let answer = sentinels.servers[0].ask("WAIT 2 1000").await;
        if answer.starts_with(":2") {
            Ok(())
        } else {
            Err(answer)
        }
    })
    .await;
}

#[tokio::test]
async fn who_heard_what_a_failover_lost_is_told() {
    let mut sentinels = Sentinels::start(1_000).await;
    let a = on_sentinels(&sentinels).await;
    let b = on_sentinels(&sentinels).await;
    let other = on_sentinels(&sentinels).await;
    let (mut ann, mut bob) = (a.client().await, b.client().await);
    let epoch = subscribed(&mut ann, None).await["epoch"].take();
    subscribed(&mut bob, None).await;
    publish(&other, 0..3).await;
    for client in [&mut ann, &mut bob] {
        hears(client, [(1, 0), (2, 1), (3, 2)]).await;
    }
    replicated(&sentinels).await;

    // What the master accepts from now on, no replica gets: they are frozen, and then their connections are gone.
    for replica in &sentinels.servers[1..] {
        replica.signal("STOP");
    }
    sentinels.servers[0].ask("CLIENT KILL TYPE replica").await;
    publish(&other, 3..5).await;
    for client in [&mut ann, &mut bob] {
        hears(client, [(4, 3), (5, 4)]).await;
    }
    // These nodes look at the log again when as many have been published as were lost.
    a.signal("STOP");
    b.signal("STOP");
    sentinels.servers[0].kill();
    for replica in &sentinels.servers[1..] {
        replica.signal("CONT");
    }
    sentinels.other_than(0).await;
    other.ready().await;
    publish(&other, 5..7).await;
    a.signal("CONT");
    b.signal("CONT");
    for client in [&mut ann, &mut bob] {
        assert_ne!(moves(client, 3, false).await, epoch);
        hears(client, [(4, 5), (5, 6)]).await;
    }

    // Who comes back with a position in the lost part is told, too; who had not come so far missed nothing else.
    for (offset, recovered, missed) in [
        (5, false, None),
        (3, true, Some(vec![5, 6])),
        (1, true, Some(vec![1, 2, 5, 6])),
    ] {
        let mut back = b.client().await;
        let answer = subscribed(&mut back, recover(&epoch, offset)).await;
        assert_eq!(answer["recovered"], recovered, "{offset}: {answer}");
        let found = answer.get("messages").map(|_| numbers(&answer));
        assert_eq!(found, missed, "{offset}: {answer}");
        assert_ne!(answer["epoch"], epoch);
    }
}

#[tokio::test]
async fn a_planned_failover_costs_nobody_a_recovery() {
    let sentinels = Sentinels::start(5_000).await;
    let gateway = on_sentinels(&sentinels).await;
    let mut stays = gateway.client().await;
    let epoch = subscribed(&mut stays, None).await["epoch"].take();
    publish(&gateway, 0..3).await;
    hears(&mut stays, [(1, 0), (2, 1), (3, 2)]).await;
    replicated(&sentinels).await;
    let answer = sentinels.fail_over();
    assert_eq!(answer, "OK");
    sentinels.other_than(0).await;
    let new = moves(&mut stays, 3, true).await;
    assert_ne!(new, epoch);
    gateway.ready().await;
    publish(&gateway, 3..5).await;
    hears(&mut stays, [(4, 3), (5, 4)]).await;
    // One that was away meanwhile comes back with the old epoch, one that stayed with the new one.
    for epoch in [&epoch, &new] {
        let mut back = gateway.client().await;
        let answer = subscribed(&mut back, recover(epoch, 2)).await;
        assert_eq!(
            (&answer["recovered"], numbers(&answer)),
            (&json!(true), vec![2, 3, 4]),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_redis_that_kept_its_logs_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().display().to_string();
    let keeps = [
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--dir",
        &dir,
    ];
    let mut redis = RedisServer::start_as(&keeps).await;
    let url = format!("broker.redis.url=redis://127.0.0.1:{}", redis.port);
    let gateway = Gateway::with_file(FILE, &["broker.kind=redis", &url]).await;
    gateway.ready().await;
    let mut stays = gateway.client().await;
    let mut epochs = vec![subscribed(&mut stays, None).await["epoch"].take()];
    for round in 0..3 {
        let (offset, number) = (u64::from(round) + 1, u64::from(round));
        publish(&gateway, round..round + 1).await;
        hears(&mut stays, [(offset, number)]).await;
        redis.kill();
        redis.run().await;
        epochs.push(moves(&mut stays, offset, true).await);
        gateway.ready().await;
    }
    for (round, epoch) in (0..).zip(&epochs) {
        let mut back = gateway.client().await;
        let answer = subscribed(&mut back, recover(epoch, 1)).await;
        assert_eq!(
            (&answer["recovered"], numbers(&answer)),
            (&json!(true), vec![1, 2]),
            "{round}: {answer}"
        );
    }
}
