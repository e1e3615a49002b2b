//! A slot of a Redis Cluster moves: what its channels miss is read from their logs, and no other log is read.

use serde_json::json;

use crate::client::Client;
use crate::history::FILE;
use crate::program::Gateway;
use crate::redis_cluster::{RANGES, RedisCluster};
use crate::wait::until;

/// Of which the first one's slot moves.
const CHANNELS: u64 = 40;

struct Stage {
    cluster: RedisCluster,
    gateway: Gateway,
    client: Client,
    /// The next number on every channel.
    next: u64,
}

impl Stage {
    async fn new() -> Stage {
        let cluster = RedisCluster::start(30_000).await;
        let set = [
            "broker.kind=redis".to_owned(),
            "broker.redis.mode=cluster".to_owned(),
            format!(
                "broker.redis.url=redis://127.0.0.1:{}",
                cluster.servers[1].port
            ),
        ];
        let gateway = Gateway::with_file(FILE, &set.each_ref().map(String::as_str)).await;
        gateway.ready().await;
        let mut client = gateway.client().await;
        for number in 0..CHANNELS {
            client.subscribe(&format!("kept:{number}")).await;
        }
        Stage {
            cluster,
            gateway,
            client,
            next: 0,
        }
    }

    /// Logs that were read for what may have been missed.
    async fn reads(&self) -> f64 {
        let mut sum = 0.0;
        for result in ["whole", "filled", "lost", "new_epoch", "unread"] {
            let series = format!(r#"pushcluster_gap_fills_total{{result="{result}"}}"#);
            sum += self.gateway.metric(&series).await.unwrap();
        }
        sum
    }

    async fn publish(&self, channel: u64, number: u64) {
        let body = json!({"channel": format!("kept:{channel}"), "data": number}).to_string();
        assert_eq!(self.gateway.publish(&body).await.status, 200, "{body}");
    }

    /// One message to each channel, and each arrives.
    async fn all_deliver(&mut self) {
        let number = self.next;
        self.next += 1;
        for channel in 0..CHANNELS {
            self.publish(channel, number).await;
            let name = format!("kept:{channel}");
            self.hears(&name, number).await;
        }
    }

    /// The next message of the channel; before it, at most that the log goes on under a new epoch.
    async fn hears(&mut self, channel: &str, number: u64) {
        loop {
            let heard = self.client.next().await;
            if heard["type"] == "position" {
                let expected = (&json!("kept:0"), &json!(true));
                assert_eq!(
                    (&heard["channel"], &heard["recovered"]),
                    expected,
                    "{heard}"
                );
                continue;
            }
            let expected = (&json!(channel), &json!(number));
            assert_eq!((&heard["channel"], &heard["message"]), expected, "{heard}");
            return;
        }
    }
}

#[tokio::test]
async fn only_logs_of_the_slot_are_read_and_nothing_is_lost() {
    let mut stage = Stage::new().await;
    let slot = stage.cluster.slot("pushcluster:{channel:kept:0}").await;
    let has = |(first, last): &(u16, u16)| (*first..=*last).contains(&slot);
    let home = RANGES.iter().position(has).unwrap();
    stage.all_deliver().await;
    for round in 0..4 {
        let other = (home + 1) % 3;
        let (from, to) = if round % 2 == 0 {
            (home, other)
        } else {
            (other, home)
        };
        let before = stage.reads().await;
        // Fewer than the log keeps, before, while and after the slot moves.
        let first = stage.next;
        stage.next += 8;
        let publishing = async {
            for number in first..first + 8 {
                stage.publish(0, number).await;
            }
        };
        tokio::join!(stage.cluster.move_slot(slot, from, to), publishing);
        for number in first..first + 8 {
            stage.hears("kept:0", number).await;
        }
        until("the log was read", || async {
            let reads = stage.reads().await - before;
            if reads > 0.0 {
                Ok(())
            } else {
                Err("none was".to_owned())
            }
        })
        .await;
        stage.all_deliver().await;
        let reads = stage.reads().await - before;
        assert!(reads < 10.0, "{reads} for one channel of {CHANNELS}");
    }
}
