use crds::{AutoscalingSpec, BehaviorSpec, ScalingPolicy, ScalingRules, ScalingUnit, SelectPolicy};
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec, MetricIdentifier, MetricSpec,
    MetricTarget, ObjectMetricSource,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{Component, metadata};
use crate::push_cluster::validate::ValidatedCluster;

/// Scales the PushCluster, not the Deployment: whoever scales passes through the operator.
pub fn autoscaler(cluster: &ValidatedCluster, spec: &AutoscalingSpec) -> HorizontalPodAutoscaler {
    let target = target(cluster);
    HorizontalPodAutoscaler {
        metadata: metadata(cluster, &cluster.names.service, Component::Gateway),
        spec: Some(HorizontalPodAutoscalerSpec {
            scale_target_ref: target.clone(),
            min_replicas: Some(spec.min_replicas),
            max_replicas: spec.max_replicas,
            metrics: Some(vec![MetricSpec {
                type_: "Object".into(),
                object: Some(ObjectMetricSource {
                    described_object: target,
                    metric: MetricIdentifier {
                        name: "websocket_connected_clients".into(),
                        selector: None,
                    },
                    target: MetricTarget {
                        type_: "AverageValue".into(),
                        average_value: Some(Quantity(
                            connections_per_pod(cluster, spec).to_string(),
                        )),
                        ..MetricTarget::default()
                    },
                }),
                ..MetricSpec::default()
            }]),
            behavior: spec.behavior.as_ref().map(behavior),
        }),
        ..HorizontalPodAutoscaler::default()
    }
}

pub(super) fn target(cluster: &ValidatedCluster) -> CrossVersionObjectReference {
    CrossVersionObjectReference {
        api_version: Some("pushcluster.io/v1alpha1".into()),
        kind: "PushCluster".into(),
        name: cluster.names.instance.clone(),
    }
}

pub(super) fn behavior(spec: &BehaviorSpec) -> HorizontalPodAutoscalerBehavior {
    HorizontalPodAutoscalerBehavior {
        scale_up: spec.scale_up.as_ref().map(rules),
        scale_down: spec.scale_down.as_ref().map(rules),
    }
}

fn rules(spec: &ScalingRules) -> HPAScalingRules {
    let policy = |policy: &ScalingPolicy| HPAScalingPolicy {
        type_: match policy.type_ {
            ScalingUnit::Pods => "Pods".into(),
            ScalingUnit::Percent => "Percent".into(),
        },
        value: policy.value,
        period_seconds: policy.period_seconds,
    };
    let select = spec.select_policy.map(|select| match select {
        SelectPolicy::Max => "Max",
        SelectPolicy::Min => "Min",
        SelectPolicy::Disabled => "Disabled",
    });
    HPAScalingRules {
        stabilization_window_seconds: spec.stabilization_window_seconds,
        select_policy: select.map(Into::into),
        policies: spec
            .policies
            .as_ref()
            .map(|policies| policies.iter().map(policy).collect()),
        ..HPAScalingRules::default()
    }
}

/// Half of what a gateway may have: one that is lost, or is replaced, finds room in the others.
pub fn connections_per_pod(cluster: &ValidatedCluster, spec: &AutoscalingSpec) -> u64 {
    let given = spec.target_connections_per_pod;
    let given = given.and_then(|given| u64::try_from(given).ok());
    let half = u64::from(cluster.config.limits.max_connections / 2);
    given.unwrap_or(half).max(1)
}
