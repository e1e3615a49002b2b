//! What there is of KEDA: its kind, our object of it, and what it made of that.

use std::sync::atomic::Ordering;
use std::time::Instant;

use crds::{AutoscalingMode, PushCluster};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::Api;
use kube::{Error, ResourceExt};

use super::{ObserveError, Reader, Trust};
use crate::keda::ScaledObject;
use crate::owner::belongs;
use crate::push_cluster::build::Names;

/// Beside the ScaledObject.
#[derive(Debug, Default)]
pub struct Keda {
    /// Whether the cluster does not know the kind; looked at where one is to be made.
    pub is_missing: bool,
    /// The one that KEDA made of our ScaledObject.
    pub autoscaler: Option<HorizontalPodAutoscaler>,
}

/// What an answer of the API server comes to.
#[derive(Debug)]
enum Found {
    One(Box<ScaledObject>),
    None,
    /// Not even the kind.
    NoKind,
}

impl Reader<'_> {
    /// The ScaledObject, and whether there is no such kind. It is not watched, since a watch of a kind that is not there
    /// fails again and again: where there is to be one, each look reads it.
    pub(super) async fn scaled_object(
        &self,
        cluster: &PushCluster,
        names: &Names,
    ) -> Result<(Option<ScaledObject>, bool), ObserveError> {
        let spec = &cluster.spec.autoscaling;
        let is_wanted = spec.enabled && spec.mode == AutoscalingMode::Keda;
        let (name, now) = (&names.service, Instant::now());
        if !is_wanted
            && self.trust == Trust::Kept
            && let Some(kept) = self.kept.find(&self.namespace, name, now)
        {
            self.remembered.store(true, Ordering::Relaxed);
            return Ok((kept, false));
        }
        let ticket = self.kept.ask::<ScaledObject>(&self.namespace, name, now);
        let api: Api<ScaledObject> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = found(api.get(name).await, is_wanted).map_err(|source| ObserveError {
            kind: "ScaledObject".into(),
            name: name.clone(),
            source,
        })?;
        let is_missing = is_wanted && matches!(found, Found::NoKind);
        let one = match found {
            Found::One(one) => Some(*one),
            Found::None | Found::NoKind => None,
        };
        self.kept.keep(&self.namespace, name, &ticket, one.clone());
        Ok((one, is_missing))
    }
}

fn found(answer: Result<ScaledObject, Error>, is_wanted: bool) -> Result<Found, Error> {
    match answer {
        Ok(one) => Ok(Found::One(Box::new(one))),
        // Of a kind that it does not know the API server says it in plain text, without a reason of its own.
        Err(Error::Api(status)) if status.code == 404 => match status.reason.as_str() {
            "NotFound" => Ok(Found::None),
            _ => Ok(Found::NoKind),
        },
        // Who may not read it has made none: an operator with the rights of an earlier chart, a person with kubectl push.
        Err(Error::Api(status)) if status.code == 403 && !is_wanted => Ok(Found::None),
        Err(error) => Err(error),
    }
}

/// The HorizontalPodAutoscaler that belongs to the ScaledObject, if that is ours.
pub(super) fn made(
    cluster: &PushCluster,
    scaled_object: Option<&ScaledObject>,
    found: &[HorizontalPodAutoscaler],
) -> Option<HorizontalPodAutoscaler> {
    let ours = scaled_object.filter(|one| belongs(*one, &cluster.uid().unwrap_or_default()))?;
    let uid = ours.uid()?;
    found.iter().find(|one| belongs(*one, &uid)).cloned()
}

#[cfg(test)]
mod tests {
    use crate::keda::ScaledObjectSpec;
    use kube::core::Status;
    use serde_json::json;

    use super::*;
    use crate::push_cluster::fixture::{observed, owned};

    #[test]
    fn a_kind_that_is_not_there_is_told_from_an_object_that_is_not() {
        let refused = |message: &str, reason: &str, code| {
            Err(Error::Api(
                Status::failure(message, reason).with_code(code).boxed(),
            ))
        };
        for (answer, wanted, expected) in [
            (
                refused("scaledobjects.keda.sh \"demo\" not found", "NotFound", 404),
                true,
                "Ok(None)",
            ),
            (
                refused("404 page not found", "Failed to parse error data", 404),
                true,
                "Ok(NoKind)",
            ),
            (refused("no", "Forbidden", 403), false, "Ok(None)"),
            (refused("no", "Forbidden", 403), true, "Err"),
            (refused("no", "ServiceUnavailable", 503), false, "Err"),
        ] {
            let said = format!("{:?}", found(answer, wanted));
            assert!(said.starts_with(expected), "{said}, not {expected}");
        }
    }

    #[test]
    fn what_keda_made_is_known_by_its_owner() {
        let cluster = observed(&json!({})).cluster;
        let mut ours = ScaledObject::new("demo", ScaledObjectSpec::default());
        ours.metadata = owned("demo");
        ours.metadata.uid = Some("so-1".into());
        let autoscaler = |name: &str, owner: &str| -> HorizontalPodAutoscaler {
            let owner = json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "demo", "uid": owner});
            serde_json::from_value(json!({"metadata": {"name": name, "ownerReferences": [owner]}}))
                .unwrap()
        };
        let found = [autoscaler("a", "so-0"), autoscaler("b", "so-1")];
        let name = |one: Option<HorizontalPodAutoscaler>| one.map(|one| one.name_any());
        let of = |object| name(made(&cluster, object, &found));
        assert_eq!(of(Some(&ours)).as_deref(), Some("b"));
        assert_eq!(of(None), None);
        assert_eq!(name(made(&cluster, Some(&ours), &found[..1])), None);
        // Somebody else's of that name.
        ours.metadata.owner_references = None;
        assert_eq!(name(made(&cluster, Some(&ours), &found)), None);
    }
}
