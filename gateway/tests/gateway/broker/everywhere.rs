//! The promises, kept with Sentinels and in a Cluster: one test each, since each is six processes.

use std::time::Duration;

use gateway::broker::redis::{Redis, Settings};

use super::{Node, healthy, logs, promises};
use crate::redis_cluster::RedisCluster;
use crate::redis_sentinel::Sentinels;

/// Nothing fails here: no failover may begin because the machine is busy.
const NEVER_MS: u32 = 30_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sentinel() {
    let sentinels = Sentinels::start(NEVER_MS).await;
    keeps_its_promises(sentinels.settings()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_cluster() {
    let cluster = RedisCluster::start(NEVER_MS).await;
    keeps_its_promises(cluster.settings()).await;
}

async fn keeps_its_promises(settings: Settings) {
    promises::order_is_that_of_the_calls(named(&settings, "order_is_that_of_the_calls").await)
        .await;
    promises::a_subscription_is_live_when_subscribe_returns(
        named(&settings, "a_subscription_is_live_when_subscribe_returns").await,
    )
    .await;
    promises::unsubscribe_stops_one_channel(
        named(&settings, "unsubscribe_stops_one_channel").await,
    )
    .await;
    promises::subscribing_again_after_unsubscribing(
        named(&settings, "subscribing_again_after_unsubscribing").await,
    )
    .await;
    promises::many_channels(named(&settings, "many_channels").await).await;
    promises::a_node_that_does_not_read_loses_nothing_that_was_accepted(
        named(
            &settings,
            "a_node_that_does_not_read_loses_nothing_that_was_accepted",
        )
        .await,
    )
    .await;
    promises::publishing_to_nobody_is_accepted(
        named(&settings, "publishing_to_nobody_is_accepted").await,
    )
    .await;
    logs::promises::positions_are_those_of_the_deliveries(
        named(&settings, "positions_are_those_of_the_deliveries").await,
    )
    .await;
    logs::promises::what_was_missed_can_be_read(
        named(&settings, "what_was_missed_can_be_read").await,
    )
    .await;
    logs::promises::a_log_begins_when_it_is_asked_for(
        named(&settings, "a_log_begins_when_it_is_asked_for").await,
    )
    .await;
    logs::promises::what_is_too_old_is_not_read(
        named(&settings, "what_is_too_old_is_not_read").await,
    )
    .await;
}

/// With keys of its own.
async fn named(settings: &Settings, promise: &str) -> Node<Redis> {
    healthy(Settings {
        prefix: format!("{promise}:"),
        timeout: Duration::from_secs(5),
        probe_period: Duration::from_secs(1),
        ..settings.clone()
    })
    .await
}
