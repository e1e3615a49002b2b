//! Why a StatefulSet has no pod, in the words of the API server: a quota, a policy. A Deployment tells so in its status; a
//! StatefulSet only in Events.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::Live;

/// An Event tells of the last time that it was tried. The StatefulSet's controller waits at most this long between two tries
/// (client-go's default rate limiter: 1,000 s).
const TRIED_WITHIN: i64 = 1_000;

/// The first StatefulSet of Redis that has fewer pods than it should, if any.
pub fn short_of_pods<'a>(live: &'a Live, pods: &[Pod]) -> Option<&'a StatefulSet> {
    let mut sets = live.redis.iter().chain(&live.shards);
    sets.find(|set| {
        let wanted = set
            .spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(1);
        let name = set.name_any();
        let has = pods.iter().filter(|pod| {
            let mut owners = pod.owner_references().iter();
            owners.any(|owner| owner.kind == "StatefulSet" && owner.name == name)
        });
        has.count() < usize::try_from(wanted).unwrap_or(0)
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
    fn a_set_is_short_of_pods_that_are_its_own() {
        let pod = |owner: &str| -> Pod {
            let owner =
                json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": owner, "uid": "u"});
            serde_json::from_value(json!({"metadata": {"ownerReferences": [owner]}})).unwrap()
        };
        let set = |name: &str, replicas: Value| -> StatefulSet {
            serde_json::from_value(json!({
                "metadata": {"name": name},
                "spec": {"replicas": replicas, "selector": {}, "serviceName": "", "template": {}},
            }))
            .unwrap()
        };
        let live = Live {
            redis: Some(set("demo-redis", json!(2))),
            shards: vec![set("demo-redis-0", json!(1))],
            ..Live::default()
        };
        for (pods, expected) in [
            (vec![], Some("demo-redis")),
            (vec![pod("demo-redis"), pod("other")], Some("demo-redis")),
            (
                vec![pod("demo-redis"), pod("demo-redis")],
                Some("demo-redis-0"),
            ),
            (
                vec![pod("demo-redis"), pod("demo-redis-0"), pod("demo-redis")],
                None,
            ),
        ] {
            let short = short_of_pods(&live, &pods).map(ResourceExt::name_any);
            assert_eq!(short.as_deref(), expected, "{} pods", pods.len());
        }
    }
}
