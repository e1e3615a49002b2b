//! Whether a pod takes requests, as its kubelet says. Pure.

use k8s_openapi::api::core::v1::{Pod, PodCondition};

/// The condition `Ready`; a pod that no node has taken yet has none.
#[must_use]
pub fn of(pod: &Pod) -> Option<&PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|one| one.type_ == "Ready")
}

#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    of(pod).is_some_and(|condition| condition.status == "True")
}
