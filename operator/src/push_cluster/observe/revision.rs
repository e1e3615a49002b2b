//! Which pods are of the template that the Deployment has now. Pure.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::ResourceExt;

/// The label by which a Deployment tells its ReplicaSets, and their pods, apart.
pub const HASH_LABEL: &str = "pod-template-hash";

/// Whether pods of two templates are there, or will be in a moment.
pub fn is_rolling(deployment: &Deployment) -> bool {
    let status = deployment.status.clone().unwrap_or_default();
    status.observed_generation != deployment.metadata.generation
        || status.updated_replicas.unwrap_or(0) != status.replicas.unwrap_or(0)
}

/// The hash of the pods that are of the template now; None while there is no ReplicaSet of it. As the Deployment's own
/// controller finds it: by the whole template but the hash.
pub fn newest(deployment: &Deployment, sets: &[ReplicaSet]) -> Option<String> {
    let mut wanted = deployment.spec.as_ref()?.template.clone();
    without_hash(&mut wanted);
    let of_it = sets.iter().find(|set| {
        let template = set.spec.as_ref().and_then(|spec| spec.template.clone());
        template.is_some_and(|mut template| {
            without_hash(&mut template);
            template == wanted
        })
    });
    of_it?.labels().get(HASH_LABEL).cloned()
}

fn without_hash(template: &mut k8s_openapi::api::core::v1::PodTemplateSpec) {
    let labels = template.metadata.as_mut().and_then(|m| m.labels.as_mut());
    if let Some(labels) = labels {
        labels.remove(HASH_LABEL);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::push_cluster::fixture::built;

    fn set(deployment: &Deployment, hash: &str) -> ReplicaSet {
        let mut set: ReplicaSet = serde_json::from_value(json!({
            "metadata": {"name": hash, "labels": {HASH_LABEL: hash}},
            "spec": {"selector": {}, "template": deployment.spec.as_ref().unwrap().template},
        }))
        .unwrap();
        let template = set.spec.as_mut().unwrap().template.as_mut().unwrap();
        let labels = template.metadata.as_mut().unwrap().labels.as_mut().unwrap();
        labels.insert(HASH_LABEL.into(), hash.into());
        set
    }

    #[test]
    fn the_set_of_the_template_is_the_newest_whatever_its_age() {
        let one = built(&json!({})).deployment;
        let other = built(&json!({"gateway": {"image": "b"}})).deployment;
        let sets = [set(&one, "1"), set(&other, "2")];
        assert_eq!(newest(&one, &sets).as_deref(), Some("1"));
        assert_eq!(newest(&other, &sets).as_deref(), Some("2"));
        assert_eq!(newest(&other, &sets[..1]), None);
    }
}
