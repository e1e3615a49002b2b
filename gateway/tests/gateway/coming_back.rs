//! Many that come back to one channel at once, each from another place, share what is read of its log.

use serde_json::{Value, json};

use crate::event_source::EventSource;
use crate::history::{FILE, numbers, publish, subscribed};
use crate::program::Gateway;
use crate::redis_server::RedisServer;
use crate::wait::until;

const MESSAGES: u32 = 8;
/// Over WebSocket, and as many event streams.
const MANY: usize = 24;

/// After one position of the log, which ends with [`MESSAGES`].
fn missed(place: usize) -> (usize, Vec<u64>) {
    let heard = place % MESSAGES as usize;
    (heard, (heard as u64..MESSAGES.into()).collect())
}

/// Reads of logs so far, those of scripts too.
async fn reads(redis: &RedisServer) -> usize {
    let said = redis.ask("INFO commandstats").await;
    let calls = said.split("cmdstat_xrange:calls=").nth(1);
    calls.map_or(0, |calls| {
        let (number, _) = calls.split_once(',').expect("more figures");
        number.parse().unwrap()
    })
}

async fn asked(gateway: &Gateway, count: usize) {
    let series = r#"websocket_messages_received_total{type="subscribe"}"#;
    until("all have asked", || async {
        match gateway.metric(series).await {
            #[expect(clippy::cast_precision_loss, reason = "some dozens")]
            Some(found) if found >= count as f64 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn many_that_come_back_share_a_few_reads() {
    let redis = RedisServer::start().await;
    let url = format!("broker.redis.url=redis://127.0.0.1:{}", redis.port);
    // Longer than a busy machine needs for all that is asked while Redis hangs.
    let set = ["broker.kind=redis", &url, "broker.redis.timeoutSeconds=60"];
    let gateway = Gateway::with_file(FILE, &set).await;
    gateway.ready().await;
    let mut stays = gateway.client().await;
    let epoch = subscribed(&mut stays, None).await["epoch"].clone();
    publish(&gateway, 0..MESSAGES).await;
    let mut clients = Vec::new();
    for _ in 0..MANY {
        clients.push(gateway.client().await);
    }
    let before = reads(&redis).await;
    redis.signal("STOP");
    for (place, client) in clients.iter_mut().enumerate() {
        let recover = json!({"epoch": epoch, "offset": missed(place).0});
        let request = json!({"type": "subscribe", "channel": "kept:a", "recover": recover});
        client.send(request).await;
    }
    let mut streams = Vec::new();
    for place in 0..MANY {
        let last = format!("{epoch}:{}", missed(place).0);
        let last = [("last-event-id", last.as_str())];
        let mut stream = EventSource::open(gateway.clients, "channel=kept:a", &last).await;
        assert_eq!(stream.next().await["type"], "welcome");
        streams.push(stream);
    }
    asked(&gateway, MANY + 1).await;
    redis.signal("CONT");
    for (place, client) in clients.iter_mut().enumerate() {
        let answer = client.next().await;
        assert_eq!(answer["recovered"], true, "{answer}");
        assert_eq!(numbers(&answer), missed(place).1, "{answer}");
    }
    for (place, stream) in streams.iter_mut().enumerate() {
        assert_eq!(stream.next().await["recovered"], true);
        for number in missed(place).1 {
            assert_eq!(stream.next().await["message"], Value::from(number));
        }
    }
    let reads = reads(&redis).await - before;
    assert!(
        (1..=MANY / 2).contains(&reads),
        "{reads} reads for {} that came back",
        2 * MANY
    );
}
