//! Speaks with the Redis of a Cluster: asks each pod how it sees the others, and carries out orders.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1;
use kube::ResourceExt;

use super::nodes;
use super::orders::{Act, Order};
use super::{Pod, Redis};
use crate::owner::controller;
use crate::push_cluster::build::redis_cluster::{CONTAINER, REPLICA_USER, shard_number};
use crate::push_cluster::build::sentinel::REDIS_PORT;
use crate::push_cluster::speak::{Admin, SpeakError, Speaker, in_time, running_at, within};

mod slots;

/// How long one Redis has while slots move: a slot that holds much takes its time, and is gone on with after the next look.
const MOVING: Duration = Duration::from_secs(20);

/// How every pod of Redis is.
pub async fn look(pods: &[v1::Pod], sets: &[StatefulSet], admin: &Admin) -> Vec<Pod> {
    let shards = pods
        .iter()
        .filter_map(|pod| Some((pod, shard_number(pod.labels())?)));
    let mut seen = join_all(shards.map(|(pod, shard)| async move {
        Pod {
            name: pod.name_any(),
            shard,
            ending: pod.metadata.deletion_timestamp.is_some(),
            outdated: is_outdated(pod, sets),
            redis: look_at(pod, admin).await,
        }
    }))
    .await;
    seen.sort_by(|one, other| (one.shard, &one.name).cmp(&(other.shard, &other.name)));
    seen
}

/// Not while the controller has not seen what was written last: then nobody knows.
pub fn is_outdated(pod: &v1::Pod, sets: &[StatefulSet]) -> bool {
    let uid = controller(pod).map(|owner| owner.uid.as_str());
    let set = uid.and_then(|uid| sets.iter().find(|set| set.uid().as_deref() == Some(uid)));
    let Some((set, status)) = set.and_then(|set| Some((set, set.status.as_ref()?))) else {
        return false;
    };
    let revision = pod.labels().get("controller-revision-hash");
    status.observed_generation == set.metadata.generation
        && revision.is_some()
        && revision != status.update_revision.as_ref()
}

async fn look_at(pod: &v1::Pod, admin: &Admin) -> Redis {
    let Some(address) = running_at(pod, CONTAINER) else {
        return Redis::Absent;
    };
    match ask(&address, admin).await {
        Ok(redis) => redis,
        Err(error) => Redis::Silent {
            address,
            why: crate::failure::line(&error),
        },
    }
}

async fn ask(address: &str, admin: &Admin) -> Result<Redis, SpeakError> {
    let asked = async {
        let place = admin.at(address, REDIS_PORT);
        let mut speaker = Speaker::open(&place, &admin.password).await?;
        let nodes = speaker.ask(&["CLUSTER", "NODES"]).await?;
        let replication = speaker.ask(&["INFO", "replication"]).await?;
        let view = nodes::parse(&nodes).ok_or_else(|| SpeakError::Strange {
            address: address.to_owned(),
            command: "CLUSTER NODES".into(),
        })?;
        let field = |name: &str| {
            let mut lines = replication.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        };
        Ok(Redis::Answers {
            address: address.to_owned(),
            view,
            // A replica's own is how far it has come; both are 0 before its first sync.
            offset: field("slave_repl_offset")
                .or_else(|| field("master_repl_offset"))
                .and_then(|offset| offset.parse().ok())
                .unwrap_or(0),
            in_step: field("master_link_status") == Some("up"),
        })
    };
    in_time(address, asked).await
}

/// Carries them out, each pod's in their order. What was done, and what failed.
pub async fn carry_out(
    pods: &[Pod],
    orders: Vec<Order>,
    admin: &Admin,
) -> (Vec<Order>, Vec<SpeakError>) {
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for order in orders {
        let address = pods.iter().find(|pod| pod.name == order.pod);
        let Some(address) = address.and_then(Pod::address) else {
            continue;
        };
        let told = match &order.act {
            Act::Take { from, slots } => {
                let took = slots::take(address, from, slots, admin);
                within(MOVING, address, took).await
            }
            act => in_time(address, tell(address, act, admin)).await,
        };
        match told {
            Ok(()) => done.push(order),
            Err(error) => failed.push(error),
        }
    }
    (done, failed)
}

/// Nothing for what is not said to one Redis alone.
async fn tell(address: &str, act: &Act, admin: &Admin) -> Result<(), SpeakError> {
    let place = admin.at(address, REDIS_PORT);
    let mut speaker = Speaker::open(&place, &admin.password).await?;
    for command in commands(act) {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        speaker.ask(&words).await?;
    }
    Ok(())
}

fn commands(act: &Act) -> Vec<Vec<String>> {
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
    let lets_replicas_in: Vec<String> = words(&["ACL", "SETUSER", REPLICA_USER, "on"]);
    match act {
        Act::TakeOver => vec![words(&["CLUSTER", "FAILOVER", "TAKEOVER"])],
        Act::Forget { id } => vec![words(&["CLUSTER", "FORGET", id])],
        Act::Meet { address, .. } => {
            vec![words(&[
                "CLUSTER",
                "MEET",
                address,
                &REDIS_PORT.to_string(),
            ])]
        }
        // It may be master later, without being told.
        Act::Succeed => vec![words(&["CLUSTER", "FAILOVER"])],
        Act::Keep { slot } => vec![words(&["CLUSTER", "SETSLOT", &slot.to_string(), "STABLE"])],
        // Said to the API server, to Sentinels, and to two Redis at once.
        Act::Replace | Act::Yield | Act::Take { .. } => Vec::new(),
        Act::Follow { id, .. } => vec![words(&["CLUSTER", "REPLICATE", id]), lets_replicas_in],
        Act::Claim { ranges } => {
            let mut claim: Vec<String> = words(&["CLUSTER", "ADDSLOTSRANGE"]);
            for (first, last) in ranges {
                claim.extend([first.to_string(), last.to_string()]);
            }
            // With an epoch above all others, so that nobody goes on believing in who had them before.
            vec![claim, words(&["CLUSTER", "BUMPEPOCH"]), lets_replicas_in]
        }
    }
}

#[cfg(test)]
mod tests;
