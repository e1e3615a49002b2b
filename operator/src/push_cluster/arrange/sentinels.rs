//! The pods of mode Sentinel are replaced where their StatefulSet would make them otherwise. In which order, `succession`
//! decides.

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt};

use super::evict;
use crate::failure::line;
use crate::push_cluster::build::sentinel::{PODS, SENTINEL_PORT, master_name};
use crate::push_cluster::name;
use crate::push_cluster::observe::Observed;
use crate::push_cluster::shards::orders::{Act, Order};
use crate::push_cluster::shards::speak::is_outdated;
use crate::push_cluster::speak::{Admin, SpeakError, Speaker, in_time, running_at};
use crate::push_cluster::status::is_of;
use crate::push_cluster::succession::{self, Member};
use crate::push_cluster::validate::ValidatedCluster;
use crate::readiness::is_ready;
use crate::redis_metrics;

fn outdated<'a>(observed: &'a Observed) -> impl Fn(&Pod) -> bool + 'a {
    let sets = observed.live.redis.as_slice();
    move |pod| is_outdated(pod, sets)
}

/// By name, so that it is always the same Sentinel that is asked first: a second one would begin a second failover.
fn pods(observed: &Observed) -> Vec<&Pod> {
    let pods = observed.pods.iter().filter(|pod| is_of(pod, "redis"));
    let mut pods: Vec<&Pod> = pods.collect();
    pods.sort_by_key(|pod| pod.name_any());
    pods
}

/// Whether no pod of Redis is to be replaced.
pub fn are_current(observed: &Observed) -> bool {
    let outdated = outdated(observed);
    !pods(observed).into_iter().any(outdated)
}

/// The next step, where there is one. Nothing is asked where all pods are as they should be.
pub async fn replace(
    client: &Client,
    observed: &Observed,
    validated: &ValidatedCluster,
) -> Vec<Order> {
    let Some(admin) = observed.admin() else {
        return Vec::new();
    };
    if are_current(observed) {
        return Vec::new();
    }
    let pods = pods(observed);
    let mut asked = Vec::new();
    for pod in &pods {
        asked.push(member(observed, pod, &admin));
    }
    let members = join_all(asked).await;
    let Some(order) = succession::next(&members, PODS) else {
        return Vec::new();
    };
    if order.act == Act::Replace {
        return evict(client, &observed.cluster, vec![order]).await;
    }
    let name_of_master = master_name(&validated.names, &validated.namespace);
    match fail_over(&pods, &name_of_master, &admin).await {
        Ok(()) => vec![order],
        // Tried again with the next look; one that is under way is refused, too.
        Err(error) => {
            tracing::warn!(object = name(&observed.cluster), "{}", line(&error));
            Vec::new()
        }
    }
}

async fn member(observed: &Observed, pod: &Pod, admin: &Admin) -> Member {
    let address = running_at(pod, "redis");
    let vitals = match &address {
        Some(address) => redis_metrics::vitals_at(address, admin).await,
        None => None,
    };
    Member {
        pod: pod.name_any(),
        outdated: outdated(observed)(pod),
        runs: address.is_some(),
        ready: is_ready(pod),
        ending: pod.metadata.deletion_timestamp.is_some(),
        vitals,
    }
}

/// Has the first Sentinel make another Redis the master, without asking the others
/// (redis.io/docs/latest/operate/oss_and_stack/management/sentinel).
async fn fail_over(pods: &[&Pod], master: &str, admin: &Admin) -> Result<(), SpeakError> {
    let address = pods.iter().find_map(|pod| running_at(pod, "sentinel"));
    let Some(address) = address else {
        return Ok(());
    };
    let place = admin.at(&address, SENTINEL_PORT);
    let telling = async {
        let mut speaker = Speaker::open(&place, &admin.password).await?;
        speaker.ask(&["SENTINEL", "FAILOVER", master]).await?;
        Ok(())
    };
    in_time(&place.address, telling).await
}
