//! Why a StatefulSet has no pod, in the words of the API server: a quota, a policy. A Deployment tells so in its status; a
//! StatefulSet only in Events.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::Live;

/// An Event tells of the last time that it was tried. The StatefulSet's controller waits at most this long between two tries
/// (client-go's default rate limiter: 1,000 s).
const TRIED_WITHIN: i64 = 1_000;

/// The first StatefulSet of Redis that has fewer pods than it should, if any.
pub fn short_of_pods(live: &Live) -> Option<&StatefulSet> {
    let mut sets = live.redis.iter().chain(&live.shards);
    sets.find(|set| {
        let wanted = set.spec.as_ref().and_then(|spec| spec.replicas);
        let there = set.status.as_ref().map_or(0, |status| status.replicas);
        there < wanted.unwrap_or(1)
    })
}

/// For a list of Events.
pub fn selector(set: &StatefulSet) -> String {
    format!(
        "involvedObject.kind=StatefulSet,involvedObject.name={},involvedObject.uid={},reason=FailedCreate",
        set.name_any(),
        set.uid().unwrap_or_default()
    )
}

/// The last of them that is not too old to be true.
pub fn newest(events: Vec<Event>, now: Timestamp) -> Option<String> {
    let when = |event: &Event| {
        let time = event.last_timestamp.as_ref()?;
        Some(time.0.as_second())
    };
    let recent = events
        .into_iter()
        .filter(|event| when(event).is_some_and(|time| now.as_second() - time <= TRIED_WITHIN));
    recent.max_by_key(when)?.message
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event(message: &str, time: &str) -> Event {
        serde_json::from_value(json!({
            "metadata": {}, "involvedObject": {}, "message": message, "lastTimestamp": time,
        }))
        .unwrap()
    }

    #[test]
    fn the_last_word_counts_for_as_long_as_it_may_be_true() {
        let now: Timestamp = "2026-01-01T00:20:00Z".parse().unwrap();
        let early = || event("early", "2026-01-01T00:10:00Z");
        let late = || event("late", "2026-01-01T00:15:00Z");
        let old = || event("old", "2026-01-01T00:00:00Z");
        for (events, expected) in [
            (vec![], None),
            (vec![old()], None),
            (vec![early()], Some("early")),
            (vec![early(), late(), old()], Some("late")),
        ] {
            assert_eq!(newest(events, now).as_deref(), expected);
        }
    }

    #[test]
    fn a_set_is_short_of_pods_that_it_counts_itself() {
        let set = |name: &str, wanted: i32, there: Value| -> StatefulSet {
            serde_json::from_value(json!({
                "metadata": {"name": name},
                "spec": {"replicas": wanted, "selector": {}, "serviceName": "", "template": {}},
                "status": there,
            }))
            .unwrap()
        };
        let has = |count: i32| json!({ "replicas": count });
        for (redis, shard, expected) in [
            (Value::Null, has(1), Some("demo-redis")),
            (has(1), has(1), Some("demo-redis")),
            (has(2), has(0), Some("demo-redis-0")),
            (has(2), has(1), None),
            (has(3), has(1), None),
        ] {
            let live = Live {
                redis: Some(set("demo-redis", 2, redis)),
                shards: vec![set("demo-redis-0", 1, shard)],
                ..Live::default()
            };
            let short = short_of_pods(&live).map(ResourceExt::name_any);
            assert_eq!(short.as_deref(), expected);
        }
    }
}
