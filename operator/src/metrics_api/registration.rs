//! Whether the group is registered, and what to do about it. Pure.

use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{
    APIService, APIServiceSpec, ServiceReference,
};
use kube::ResourceExt;

use super::Place;
use super::request::{GROUP, Version};

/// What PushClusters are told of it (condition `MetricsApiRegistered`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Registration {
    #[default]
    NotLookedYet,
    /// By the chart's values.
    Disabled,
    /// The operator looks after one namespace, and the group is the whole cluster's.
    OneNamespace,
    Registered,
    /// The API server does not reach us; in its words.
    Unavailable(String),
    /// Somebody else serves the group: the APIService, and by what.
    Foreign {
        name: String,
        by: String,
    },
    Failed(String),
}

/// The next step.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The group is somebody else's, and what of it is ours goes.
    Leave {
        foreign: Registration,
        ours: Vec<String>,
    },
    /// Those that are missing or differ.
    Apply(Vec<APIService>),
}

#[must_use]
pub fn name(version: Version) -> String {
    format!("{}.{GROUP}", version.as_str())
}

/// What is to be there. `owner`: the uid of [`Place::owner`].
#[must_use]
pub fn wanted(place: &Place, version: Version, bundle: &str, owner: &str) -> APIService {
    let labels = [
        ("app.kubernetes.io/name", "pushcluster-operator"),
        ("app.kubernetes.io/managed-by", "pushcluster-operator"),
    ];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    APIService {
        metadata: ObjectMeta {
            name: Some(name(version)),
            labels: Some(labels.into()),
            owner_references: Some(vec![OwnerReference {
                api_version: "rbac.authorization.k8s.io/v1".into(),
                kind: "ClusterRole".into(),
                name: place.owner.clone(),
                uid: owner.to_owned(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(APIServiceSpec {
            ca_bundle: Some(ByteString(bundle.as_bytes().to_vec())),
            group: Some(GROUP.into()),
            version: Some(version.as_str().into()),
            // As other adapters have them.
            group_priority_minimum: 100,
            version_priority: match version {
                Version::V1beta1 => 100,
                Version::V1beta2 => 200,
            },
            insecure_skip_tls_verify: None,
            service: Some(ServiceReference {
                name: Some(place.service.clone()),
                namespace: Some(place.namespace.clone()),
                port: Some(443),
            }),
        }),
        status: None,
    }
}

#[must_use]
pub fn step(found: &[APIService], wanted: Vec<APIService>, place: &Place) -> Step {
    let foreign = found.iter().find(|found| !is_ours(found, place));
    if let Some(foreign) = foreign {
        let ours = found.iter().filter(|found| is_ours(found, place));
        return Step::Leave {
            foreign: Registration::Foreign {
                name: foreign.name_any(),
                by: served_by(foreign),
            },
            ours: ours.map(ResourceExt::name_any).collect(),
        };
    }
    let differs = |wanted: &APIService| {
        let mut same = found.iter();
        !same.any(|found| found.name_any() == wanted.name_any() && is_as(found, wanted))
    };
    Step::Apply(wanted.into_iter().filter(|w| differs(w)).collect())
}

/// By whom it is served, and not by what is written on it: another adapter may have been installed over ours.
#[must_use]
pub fn is_ours(found: &APIService, place: &Place) -> bool {
    let service = found.spec.as_ref().and_then(|spec| spec.service.as_ref());
    service.is_some_and(|service| {
        service.name.as_deref() == Some(&place.service)
            && service.namespace.as_deref() == Some(&place.namespace)
    })
}

fn served_by(found: &APIService) -> String {
    let service = found.spec.as_ref().and_then(|spec| spec.service.as_ref());
    service.map_or_else(
        || "the API server itself".into(),
        |service| {
            let text = |part: &Option<String>| part.clone().unwrap_or_default();
            format!(
                "Service {}/{}",
                text(&service.namespace),
                text(&service.name)
            )
        },
    )
}

fn is_as(found: &APIService, wanted: &APIService) -> bool {
    let insecure = |service: &APIService| {
        let spec = service.spec.as_ref();
        spec.and_then(|spec| spec.insecure_skip_tls_verify) == Some(true)
    };
    let mut found_spec = found.spec.clone().unwrap_or_default();
    found_spec.insecure_skip_tls_verify = None;
    let owners = |of: &APIService| -> Vec<String> {
        let owners = of.metadata.owner_references.iter().flatten();
        owners.map(|owner| owner.uid.clone()).collect()
    };
    !insecure(found)
        && wanted.spec.as_ref() == Some(&found_spec)
        && owners(wanted).iter().all(|uid| owners(found).contains(uid))
}

/// Whether the API server knows this bundle for all of them.
#[must_use]
pub fn knows(found: &[APIService], bundle: &str) -> bool {
    let told = |found: &APIService| {
        let known = found.spec.as_ref().and_then(|spec| spec.ca_bundle.as_ref());
        known.is_some_and(|known| known.0 == bundle.as_bytes())
    };
    found.len() == Version::ALL.len() && found.iter().all(told)
}

/// What the API server says of those that are ours.
#[must_use]
pub fn availability(found: &[APIService]) -> Registration {
    for service in found {
        let status = service.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_ref());
        let mut conditions = conditions.into_iter().flatten();
        let available = conditions.find(|condition| condition.type_ == "Available");
        match available {
            Some(available) if available.status == "True" => {}
            Some(condition) => {
                let why = condition.message.as_deref().unwrap_or_default();
                return Registration::Unavailable(format!("{}: {why}", service.name_any()));
            }
            None => return Registration::NotLookedYet,
        }
    }
    if found.len() < Version::ALL.len() {
        return Registration::NotLookedYet;
    }
    Registration::Registered
}

#[cfg(test)]
mod tests;
