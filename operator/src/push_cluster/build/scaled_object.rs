use std::collections::BTreeMap;

use crds::AutoscalingSpec;

use super::autoscaler::{behavior, connections_per_pod, target};
use super::{Component, metadata};
use crate::clients::VALUE;
use crate::keda::{Advanced, OfItsAutoscaler, PAUSED, ScaledObject, ScaledObjectSpec, Trigger};
use crate::push_cluster::validate::ValidatedCluster;

/// As the HorizontalPodAutoscaler would be, on the number that the operator tells KEDA at `/clients`.
pub fn scaled_object(cluster: &ValidatedCluster, spec: &AutoscalingSpec) -> ScaledObject {
    let names = &cluster.names;
    let url = format!(
        "{}/clients/{}/{}",
        cluster.admin_url, cluster.namespace, names.instance
    );
    let aimed_at = connections_per_pod(cluster, spec).to_string();
    let number = [
        ("url", url),
        ("valueLocation", VALUE.into()),
        ("targetValue", aimed_at),
    ];
    let behavior = spec.behavior.as_ref().map(behavior);
    let mut metadata = metadata(cluster, &names.service, Component::Gateway);
    if cluster.replicas == 0 {
        // A HorizontalPodAutoscaler leaves zero alone; KEDA would go back to the least that there may be.
        metadata.annotations = Some(BTreeMap::from([(PAUSED.into(), "true".into())]));
    }
    ScaledObject {
        metadata,
        spec: ScaledObjectSpec {
            scale_target_ref: target(cluster),
            min_replica_count: Some(spec.min_replicas),
            max_replica_count: Some(spec.max_replicas),
            advanced: behavior.map(|behavior| Advanced {
                horizontal_pod_autoscaler_config: Some(OfItsAutoscaler {
                    behavior: Some(behavior),
                }),
            }),
            triggers: vec![Trigger {
                type_: "metrics-api".into(),
                metric_type: Some("AverageValue".into()),
                metadata: number.map(|(key, value)| (key.into(), value)).into(),
            }],
        },
        status: None,
    }
}
