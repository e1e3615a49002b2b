//! A kubelet brings a changed ConfigMap or Secret into a pod when it next looks at that pod, which takes a minute and
//! more. It looks at once when the pod has changed: a new value of an annotation is enough.

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, Patch};
use kube::{Client, ResourceExt};
use serde_json::json;

use super::Compared;
use crate::failure::line;
use crate::push_cluster::apply::merging;
use crate::push_cluster::observe::Observed;
use crate::push_cluster::redis_tls;
use crate::push_cluster::status::is_of;

/// Versions of the ConfigMap and the Secret for which the kubelet was asked to look.
pub const ANNOTATION: &str = "pushcluster.io/look-again-for";

/// Pods that run with what is no longer so, and whose kubelet was not asked yet, with the value to write: once for each
/// change, whatever a pod then does with it.
pub fn plan<'a>(observed: &'a Observed, compared: &Compared) -> (String, Vec<&'a Pod>) {
    let version = |version: Option<String>| version.unwrap_or_default();
    let live = &observed.live;
    let wanted = format!(
        "{}.{}",
        version(live.config.as_ref().and_then(ResourceExt::resource_version)),
        version(live.keys.as_ref().and_then(ResourceExt::resource_version)),
    );
    let pods = observed.pods.iter().filter(|pod| {
        compared.outdated.contains(&pod.name_any())
            && pod.annotations().get(ANNOTATION) != Some(&wanted)
    });
    let pods = pods.collect();
    (wanted, pods)
}

/// What fails is only slower: the kubelet looks by itself.
pub async fn nudge(client: &Client, observed: &Observed, compared: &Compared) {
    let (wanted, pods) = plan(observed, compared);
    ask(client, observed, &wanted, pods).await;
}

/// Pods of Redis whose files are about to count: with the old ones a Redis that starts again would let gateways in no more,
/// and one that is to show another certificate would not find it.
/// And the value to write.
pub fn plan_redis(observed: &Observed) -> (String, Vec<&Pod>) {
    let version = |secret: &Option<Secret>| {
        let version = secret.as_ref().and_then(ResourceExt::resource_version);
        version.unwrap_or_default()
    };
    let live = &observed.live;
    let mut wanted = format!("{}.{}", version(&live.keys), version(&live.redis_files));
    let other_certificate = !redis_tls::is_at_rest(observed);
    if other_certificate {
        wanted = format!("{wanted}.{}", version(&live.redis_certificate));
    }
    let pods = observed.pods.iter().filter(|pod| {
        (observed.keys.passwords.next.is_some() || other_certificate)
            && is_of(pod, "redis")
            && pod.metadata.deletion_timestamp.is_none()
            && pod.annotations().get(ANNOTATION) != Some(&wanted)
    });
    let pods = pods.collect();
    (wanted, pods)
}

/// While Redis learns a password, or shows another certificate than it should. What fails is only slower.
pub async fn redis(client: &Client, observed: &Observed) {
    let (wanted, pods) = plan_redis(observed);
    ask(client, observed, &wanted, pods).await;
}

async fn ask(client: &Client, observed: &Observed, wanted: &str, pods: Vec<&Pod>) {
    let namespace = observed.cluster.namespace().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    for pod in pods {
        let name = pod.name_any();
        let patch = json!({"metadata": {"annotations": {ANNOTATION: wanted}}});
        match api.patch(&name, &merging(), &Patch::Merge(patch)).await {
            Ok(_) => tracing::info!(pod = name, "asked its kubelet to look at the configuration"),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => {
                tracing::warn!(pod = name, "annotating the pod failed: {}", line(&error));
            }
        }
    }
}
