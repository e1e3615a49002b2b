use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Resource;
use kube::api::ObjectMeta;

use crate::keda::ScaledObject;

/// The owned objects as they are.
#[derive(Debug, Default)]
pub struct Live {
    pub service_account: Option<ServiceAccount>,
    pub keys: Option<Secret>,
    pub config: Option<ConfigMap>,
    pub redis: Option<StatefulSet>,
    /// Of mode Cluster.
    pub shards: Vec<StatefulSet>,
    /// Of the volumes of Redis, where it has some.
    pub claims: Vec<PersistentVolumeClaim>,
    pub redis_service: Option<Service>,
    pub redis_files: Option<Secret>,
    /// With TLS.
    pub redis_certificate: Option<Secret>,
    pub redis_budget: Option<PodDisruptionBudget>,
    pub deployment: Option<Deployment>,
    pub service: Option<Service>,
    pub nodes_service: Option<Service>,
    pub budget: Option<PodDisruptionBudget>,
    pub autoscaler: Option<HorizontalPodAutoscaler>,
    pub scaled_object: Option<ScaledObject>,
    pub gateway_policy: Option<NetworkPolicy>,
    pub redis_policy: Option<NetworkPolicy>,
}

impl Live {
    /// Kind and metadata of everything that is there.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &ObjectMeta)> {
        let Live {
            service_account,
            keys,
            config,
            redis,
            shards,
            // StatefulSets', which make them and take up those that are there.
            claims: _,
            redis_service,
            redis_files,
            redis_certificate,
            redis_budget,
            deployment,
            service,
            nodes_service,
            budget,
            autoscaler,
            scaled_object,
            gateway_policy,
            redis_policy,
        } = self;
        let shards = shards.iter().map(|set| ("StatefulSet", Some(set.meta())));
        fn meta<K: Resource>(object: &Option<K>) -> Option<&ObjectMeta> {
            object.as_ref().map(Resource::meta)
        }
        [
            ("ServiceAccount", meta(service_account)),
            ("Secret", meta(keys)),
            ("ConfigMap", meta(config)),
            ("StatefulSet", meta(redis)),
            ("Service", meta(redis_service)),
            ("Secret", meta(redis_files)),
            ("Secret", meta(redis_certificate)),
            ("PodDisruptionBudget", meta(redis_budget)),
            ("Deployment", meta(deployment)),
            ("Service", meta(service)),
            ("Service", meta(nodes_service)),
            ("PodDisruptionBudget", meta(budget)),
            ("HorizontalPodAutoscaler", meta(autoscaler)),
            ("ScaledObject", meta(scaled_object)),
            ("NetworkPolicy", meta(gateway_policy)),
            ("NetworkPolicy", meta(redis_policy)),
        ]
        .into_iter()
        .chain(shards)
        .filter_map(|(kind, meta)| Some((kind, meta?)))
    }
}
