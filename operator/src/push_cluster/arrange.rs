//! A Redis Cluster is told what to do next, by Redis itself or through the API server. What that is, `shards` decides.

use crds::PushCluster;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, EvictParams};
use kube::{Client, ResourceExt};

use super::name;
use super::observe::Observed;
use super::shards::orders::{Act, Order};
use super::shards::{self, orders, speak};
use super::validate::{Problem, ValidatedCluster, ValidatedRedis};
use crate::failure::line;

mod sentinels;

/// Tells the Redis of a Cluster what to do next.
pub(super) async fn arrange(
    client: &Client,
    observed: &Observed,
    validated: &Result<ValidatedCluster, Vec<Problem>>,
) -> Vec<Order> {
    if let Ok(validated) = validated
        && matches!(validated.redis, ValidatedRedis::Sentinel(_))
    {
        return sentinels::replace(client, observed, validated).await;
    }
    let (Some(pods), Ok(validated)) = (&observed.redis_pods, validated) else {
        return Vec::new();
    };
    let (ValidatedRedis::Cluster(redis), Some(admin)) = (&validated.redis, observed.admin()) else {
        return Vec::new();
    };
    let replicas = usize::try_from(redis.replicas).unwrap_or(0);
    let (evictions, orders): (Vec<Order>, Vec<Order>) =
        orders::orders(pods, redis.shards, replicas)
            .into_iter()
            .partition(|order| order.act == Act::Replace);
    let (mut done, failed) = speak::carry_out(pods, orders, &admin).await;
    done.extend(evict(client, &observed.cluster, evictions).await);
    for error in failed {
        // Tried again with the next look, which sees what has become of it.
        tracing::warn!(object = name(&observed.cluster), "{}", line(&error));
    }
    done
}

/// As a drain of a node would: what a PodDisruptionBudget protects stays, and is asked again with the next look.
async fn evict(client: &Client, cluster: &PushCluster, orders: Vec<Order>) -> Vec<Order> {
    let namespace = cluster.namespace().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let mut done = Vec::new();
    for order in orders {
        match pods.evict(&order.pod, &EvictParams::default()).await {
            Ok(_) => done.push(order),
            Err(error) => tracing::warn!(
                object = name(cluster),
                pod = order.pod,
                "evicting a pod of Redis failed: {}",
                line(&error)
            ),
        }
    }
    done
}

/// Whether every Redis of a Cluster has its part; also while one is missing, the rest of them serve.
pub(super) fn is_whole(observed: &Observed) -> bool {
    let Some(pods) = &observed.redis_pods else {
        return sentinels::are_current(observed);
    };
    let redis = observed
        .cluster
        .spec
        .redis
        .cluster
        .clone()
        .unwrap_or_default();
    let shards = usize::try_from(redis.shards).unwrap_or(0);
    let replicas = usize::try_from(redis.replicas).unwrap_or(0);
    let outdated = pods.iter().any(|pod| pod.outdated);
    let whole =
        |health: &shards::Health| health.unserved == 0 && health.replicas == replicas && !outdated;
    let moved =
        orders::moves::are_others_empty(pods, shards) && observed.live.shards.len() == shards;
    moved && shards::health(pods, shards).is_some_and(|all| all.iter().all(whole))
}
