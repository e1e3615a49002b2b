//! `RedisAvailable` of mode Cluster: from what its Redis say themselves.

use super::{Holds, Verdict, is_of, pod_trouble};
use crate::push_cluster::observe::Observed;
use crate::push_cluster::shards::orders::moves::still_to_go;
use crate::push_cluster::shards::{Health, Pod, Redis, health};
use crate::reason::Reason;

const KIND: &str = "RedisAvailable";

pub(super) fn available(observed: &Observed, pods: &[Pod]) -> Verdict {
    let redis = &observed.cluster.spec.redis;
    let wanted = redis.cluster.clone().unwrap_or_default();
    let shards = usize::try_from(wanted.shards).unwrap_or(0);
    let replicas = usize::try_from(wanted.replicas).unwrap_or(0);
    let Some(health) = health(pods, shards) else {
        let silent = pods.iter().find_map(|pod| match &pod.redis {
            Redis::Silent { why, .. } => Some(why.as_str()),
            Redis::Absent | Redis::Answers { .. } => None,
        });
        let message = format!(
            "no pod of Redis answers the operator: {}",
            silent.unwrap_or_default()
        );
        return Verdict::new(KIND, Holds::Unknown, Reason::Silent, message);
    };
    if health.iter().all(|shard| shard.master.is_none()) {
        let message = format!("the Redis Cluster is being made{}", trouble(observed));
        return Verdict::new(KIND, Holds::No, Reason::Creating, message);
    }
    let without: Vec<String> = health
        .iter()
        .enumerate()
        .filter(|(_, health)| health.unserved > 0)
        .map(|(shard, health)| unserved(shard, health))
        .collect();
    if !without.is_empty() {
        let message = format!("{}{}", without.join("; "), trouble(observed));
        return Verdict::new(KIND, Holds::No, Reason::ShardWithoutMaster, message);
    }
    let to_go = still_to_go(pods, shards);
    if to_go > 0 {
        let message = format!("every slot has a master; {to_go} are still to go to another shard");
        return Verdict::new(KIND, Holds::Yes, Reason::MovingSlots, message);
    }
    let short: Vec<String> = health
        .iter()
        .enumerate()
        .filter(|(_, health)| health.replicas < replicas)
        .map(|(shard, health)| {
            format!(
                "shard {shard} has {} of {replicas} replicas",
                health.replicas
            )
        })
        .collect();
    if !short.is_empty() {
        let message = format!(
            "every shard has a master; {}{}",
            short.join(", "),
            trouble(observed)
        );
        return Verdict::new(KIND, Holds::Yes, Reason::Degraded, message);
    }
    let outdated = pods.iter().filter(|pod| pod.outdated).count();
    if outdated > 0 {
        let message = format!(
            "every shard has a master; {outdated} of {} pods are still to be replaced",
            pods.len()
        );
        return Verdict::new(KIND, Holds::Yes, Reason::RollingOut, message);
    }
    let message = format!("{shards} masters with {replicas} in step behind each answer");
    Verdict::new(KIND, Holds::Yes, Reason::Ready, message)
}

fn unserved(shard: usize, health: &Health) -> String {
    let slots = health.unserved;
    match &health.master {
        None => format!("shard {shard} has no master for its {slots} slots"),
        Some(pod) => format!("shard {shard}: pod {pod} has not all slots, {slots} have no master"),
    }
}

fn trouble(observed: &Observed) -> String {
    let mut pods = observed.pods.iter().filter(|pod| is_of(pod, "redis"));
    let why = pods.find_map(pod_trouble);
    let why = why.or_else(|| observed.refused.clone());
    why.map_or_else(String::new, |why| format!(": {why}"))
}
