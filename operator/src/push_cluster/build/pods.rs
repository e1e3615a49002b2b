//! What a user says about pods, in their template.

use std::collections::BTreeMap;

use crds::{PodsSpec, TopologySpread};
use k8s_openapi::api::core::v1::{
    LocalObjectReference, PodSpec, PodTemplateSpec, Toleration, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::redis_cluster::SHARD_LABEL;

/// The template of these pods, with what the user asked for. `hash`: an annotation, of what they read at their start.
pub fn template(
    asked: &PodsSpec,
    labels: BTreeMap<String, String>,
    hash: (&str, &str),
    pod: PodSpec,
) -> PodTemplateSpec {
    let (annotation, hash) = hash;
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(BTreeMap::from([(annotation.to_owned(), hash.to_owned())])),
            ..ObjectMeta::default()
        }),
        spec: Some(pod),
    };
    carrying(asked, template)
}

/// `template` with what the user asked for. Labels and annotations of ours stay as they are: selectors and hashes
/// depend on them.
fn carrying(asked: &PodsSpec, mut template: PodTemplateSpec) -> PodTemplateSpec {
    let metadata = template.metadata.get_or_insert_default();
    add(&asked.labels, metadata.labels.get_or_insert_default());
    add(
        &asked.annotations,
        metadata.annotations.get_or_insert_default(),
    );
    let ours = LabelSelector {
        // Of the same StatefulSet or Deployment: what the labels are that select its pods, the caller said.
        match_labels: metadata.labels.as_ref().map(selecting),
        ..LabelSelector::default()
    };
    let pod = template.spec.get_or_insert_default();
    pod.node_selector = some(asked.node_selector.clone(), BTreeMap::is_empty);
    pod.tolerations = some(
        asked.tolerations.iter().map(toleration).collect(),
        Vec::is_empty,
    );
    pod.priority_class_name
        .clone_from(&asked.priority_class_name);
    pod.image_pull_secrets = some(
        asked
            .image_pull_secrets
            .iter()
            .map(|name| LocalObjectReference { name: name.clone() })
            .collect(),
        Vec::is_empty,
    );
    if !asked.topology_spread.is_empty() {
        let spread = asked.topology_spread.iter();
        pod.topology_spread_constraints =
            Some(spread.map(|asked| constraint(asked, &ours)).collect());
    }
    template
}

/// An empty list that is applied would be the operator's, and whatever a webhook adds to it a difference.
fn some<T>(value: T, is_empty: impl Fn(&T) -> bool) -> Option<T> {
    (!is_empty(&value)).then_some(value)
}

fn add(asked: &BTreeMap<String, String>, to: &mut BTreeMap<String, String>) {
    for (key, value) in asked {
        to.entry(key.clone()).or_insert_with(|| value.clone());
    }
}

/// The labels that never change: `super::selector_labels`, and the shard.
fn selecting(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let selects = ["name", "instance", "component"].map(|key| format!("app.kubernetes.io/{key}"));
    let labels = labels
        .iter()
        .filter(|(key, _)| selects.contains(key) || *key == SHARD_LABEL);
    labels
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn toleration(asked: &crds::Toleration) -> Toleration {
    Toleration {
        key: asked.key.clone(),
        operator: Some(format!("{:?}", asked.operator)),
        value: asked.value.clone(),
        effect: asked.effect.map(|effect| format!("{effect:?}")),
        toleration_seconds: asked.toleration_seconds,
    }
}

fn constraint(asked: &TopologySpread, ours: &LabelSelector) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: asked.max_skew,
        topology_key: asked.topology_key.clone(),
        when_unsatisfiable: format!("{:?}", asked.when_unsatisfiable),
        label_selector: Some(ours.clone()),
        ..TopologySpreadConstraint::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::push_cluster::build::Objects;
    use crate::push_cluster::fixture::built;

    fn templates(objects: &Objects) -> [serde_json::Value; 2] {
        let gateway = &objects.deployment.spec.as_ref().unwrap().template;
        let redis = &objects.redis.as_ref().unwrap().stateful_sets[0];
        [json!(gateway), json!(redis.spec.as_ref().unwrap().template)]
    }

    #[test]
    fn what_a_user_says_about_pods_is_in_their_templates() {
        let pods = json!({
            "nodeSelector": {"pool": "push"},
            "tolerations": [{"key": "dedicated", "value": "push", "effect": "NoSchedule"}, {"operator": "Exists"}],
            "topologySpread": [{"topologyKey": "zone", "maxSkew": 2, "whenUnsatisfiable": "DoNotSchedule"}],
            "priorityClassName": "high",
            "imagePullSecrets": ["registry"],
            "labels": {"team": "chat", "app.kubernetes.io/name": "mine"},
            "annotations": {"scrape": "yes"},
        });
        for mode in ["Standalone", "Sentinel"] {
            let spec = json!({"gateway": {"pods": pods}, "redis": {"mode": mode, "pods": pods}});
            let plain = templates(&built(&json!({"redis": {"mode": mode}})));
            for (made, plain) in templates(&built(&spec)).into_iter().zip(plain) {
                let (pod, metadata) = (&made["spec"], &made["metadata"]);
                assert_eq!(pod["nodeSelector"], json!({"pool": "push"}));
                assert_eq!(
                    pod["tolerations"],
                    json!([
                        {"key": "dedicated", "operator": "Equal", "value": "push", "effect": "NoSchedule"},
                        {"operator": "Exists"},
                    ])
                );
                assert_eq!(pod["priorityClassName"], "high");
                assert_eq!(pod["imagePullSecrets"], json!([{"name": "registry"}]));
                assert_eq!(metadata["labels"]["team"], "chat");
                assert_eq!(metadata["annotations"]["scrape"], "yes");
                let spread = &pod["topologySpreadConstraints"];
                assert_eq!(spread.as_array().unwrap().len(), 1);
                assert_eq!(
                    (
                        &spread[0]["topologyKey"],
                        &spread[0]["maxSkew"],
                        &spread[0]["whenUnsatisfiable"]
                    ),
                    (&json!("zone"), &json!(2), &json!("DoNotSchedule"))
                );
                // Of its own pods, and the labels that select them are as ever.
                let ours = &spread[0]["labelSelector"]["matchLabels"];
                assert_eq!(ours.as_object().unwrap().len(), 3);
                for (key, value) in ours.as_object().unwrap() {
                    assert_eq!(&plain["metadata"]["labels"][key], value, "{key}");
                    assert_eq!(&metadata["labels"][key], value, "{key}");
                }
            }
        }
    }

    /// Or every upgrade of the operator would replace every pod.
    #[test]
    fn who_says_nothing_has_the_template_of_before() {
        for pod in templates(&built(&json!({}))) {
            for field in [
                "nodeSelector",
                "tolerations",
                "priorityClassName",
                "imagePullSecrets",
            ] {
                assert!(pod["spec"].get(field).is_none(), "{field}: {pod}");
            }
        }
    }
}
