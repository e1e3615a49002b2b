//! Somebody else's autoscalers of the same gateways. Pure.

use crds::PushCluster;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::ResourceExt;

use crate::owner::{belongs, controller};
use crate::push_cluster::build::Names;

/// Most that a message names.
const MAX_NAMED: usize = 3;

/// Each as a sentence's subject and predicate, in the order of their names. One on the PushCluster itself counts only
/// where the operator's own autoscaler is on: without it that is how another one is meant to scale (decision 2).
/// `of_keda`: the one that KEDA made of our ScaledObject.
pub fn foreign(
    cluster: &PushCluster,
    found: &[HorizontalPodAutoscaler],
    of_keda: Option<&HorizontalPodAutoscaler>,
) -> Vec<String> {
    let owner = cluster.uid().unwrap_or_default();
    let mut foreign: Vec<String> = found
        .iter()
        .filter(|one| !belongs(*one, &owner))
        .filter(|one| of_keda.is_none_or(|ours| ours.name_any() != one.name_any()))
        .filter_map(|one| {
            let scaled = scaled(cluster, one)?;
            Some(format!("{} scales {scaled}", whose(one)))
        })
        .collect();
    foreign.sort();
    foreign.truncate(MAX_NAMED);
    foreign
}

fn scaled(cluster: &PushCluster, one: &HorizontalPodAutoscaler) -> Option<String> {
    let target = &one.spec.as_ref()?.scale_target_ref;
    let instance = cluster.name_any();
    let expected = match target.kind.as_str() {
        "PushCluster" if cluster.spec.autoscaling.enabled => instance,
        "Deployment" => Names::of(&instance).gateway,
        _ => return None,
    };
    (target.name == expected).then(|| format!("{} {expected}", target.kind))
}

/// Of one that a program made for something else (a ScaledObject of KEDA), both names.
fn whose(one: &HorizontalPodAutoscaler) -> String {
    let name = format!("HorizontalPodAutoscaler {}", one.name_any());
    controller(one).map_or(name.clone(), |owner| {
        format!("{name} of {} {}", owner.kind, owner.name)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::push_cluster::fixture::{built, observed};

    fn autoscaler(
        name: &str,
        kind: &str,
        target: &str,
        owner: Option<&str>,
    ) -> HorizontalPodAutoscaler {
        let owner = owner.map(|owner| {
            json!([{"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": owner, "uid": "u-9", "controller": true}])
        });
        serde_json::from_value(json!({
            "metadata": {"name": name, "ownerReferences": owner},
            "spec": {"maxReplicas": 9, "scaleTargetRef": {"kind": kind, "name": target}},
        }))
        .unwrap()
    }

    /// A spec; kind and name of what is scaled; the ScaledObject behind it; what is said.
    type Case = (
        Value,
        &'static str,
        &'static str,
        Option<&'static str>,
        Option<&'static str>,
    );

    #[test]
    fn who_else_scales_the_gateways_is_named() {
        let off = json!({"autoscaling": {"enabled": false}});
        let cases: [Case; 7] = [
            (
                json!({}),
                "Deployment",
                "demo-gateway",
                None,
                Some("HorizontalPodAutoscaler mine scales Deployment demo-gateway"),
            ),
            (
                json!({}),
                "PushCluster",
                "demo",
                None,
                Some("HorizontalPodAutoscaler mine scales PushCluster demo"),
            ),
            (
                json!({}),
                "PushCluster",
                "demo",
                Some("peak"),
                Some("HorizontalPodAutoscaler mine of ScaledObject peak scales PushCluster demo"),
            ),
            (json!({}), "PushCluster", "other", None, None),
            (json!({}), "Deployment", "demo", None, None),
            // Meant so; and never on the Deployment.
            (off.clone(), "PushCluster", "demo", None, None),
            (
                off,
                "Deployment",
                "demo-gateway",
                None,
                Some("HorizontalPodAutoscaler mine scales Deployment demo-gateway"),
            ),
        ];
        for (spec, kind, target, owner, expected) in cases {
            let cluster = observed(&spec).cluster;
            let ours = built(&json!({})).autoscaler.unwrap();
            let by_keda = autoscaler("keda-hpa-demo", "PushCluster", "demo", Some("demo"));
            let found = [
                ours,
                autoscaler("mine", kind, target, owner),
                by_keda.clone(),
            ];
            let expected: Vec<String> = expected.into_iter().map(Into::into).collect();
            assert_eq!(
                foreign(&cluster, &found, Some(&by_keda)),
                expected,
                "{spec} {kind} {target}"
            );
        }
    }
}
