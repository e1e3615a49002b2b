//! Volumes that are to be others. The claims in a StatefulSet cannot be changed, so it is made anew around its pods; claims
//! that there are, which no StatefulSet changes either, grow by themselves. Pure.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use kube::api::ApiResource;
use serde_json::{Value, json};

use super::difference::{differences, quantity};
use super::plan::{Act, What, Write};

/// Where the claims of a StatefulSet are not as built; None where they are.
pub(super) fn other_claims(built: &StatefulSet, live: &StatefulSet) -> Option<String> {
    const PATH: &str = "spec.volumeClaimTemplates";
    let claims = |set: &StatefulSet| {
        let spec = set.spec.as_ref();
        let claims = spec.and_then(|spec| spec.volume_claim_templates.clone());
        json!({"spec": {"volumeClaimTemplates": claims.unwrap_or_default()}})
    };
    let (built, live) = (claims(built), claims(live));
    if built["spec"]["volumeClaimTemplates"] == json!([])
        && live["spec"]["volumeClaimTemplates"] != json!([])
    {
        return Some(PATH.to_owned());
    }
    let found = differences(&built, &live);
    found.first().map(|difference| difference.path.clone())
}

/// Requests for more room, for the claims that have less than is built. One that has more was given it by somebody.
pub(super) fn growths(sets: &[StatefulSet], claims: &[PersistentVolumeClaim]) -> Vec<Write> {
    let built = sets.iter().find_map(wanted);
    let Some(wanted) = built else {
        return Vec::new();
    };
    let grows = claims.iter().filter(|claim| {
        let has = json!(claim)["spec"]["resources"]["requests"]["storage"].take();
        let less = |has: &str| quantity(has).ok().zip(quantity(&wanted).ok());
        has.as_str()
            .and_then(less)
            .is_some_and(|(has, wanted)| has < wanted)
    });
    grows.map(|claim| growth(claim, &wanted)).collect()
}

fn wanted(set: &StatefulSet) -> Option<String> {
    let claims = set.spec.as_ref()?.volume_claim_templates.as_ref()?;
    let requests = claims.first()?.spec.as_ref()?.resources.as_ref()?;
    Some(requests.requests.as_ref()?.get("storage")?.0.clone())
}

fn growth(claim: &PersistentVolumeClaim, size: &str) -> Write {
    let resource = ApiResource::erase::<PersistentVolumeClaim>(&());
    let manifest: Value = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": claim.name_any(), "namespace": claim.namespace()},
        "spec": {"resources": {"requests": {"storage": size}}},
    });
    Write {
        resource,
        name: claim.name_any(),
        act: Act::Apply {
            manifest,
            what: What::Changed {
                path: "spec.resources.requests.storage".into(),
                by: None,
            },
        },
        has_users_words: false,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::push_cluster::apply::plan::plan;
    use crate::push_cluster::fixture::{built, live};
    use crate::push_cluster::observe::Live;

    fn spec(persistence: &Value) -> Value {
        json!({"redis": {"persistence": persistence}})
    }

    /// What there is after the first spec, as the API server has it.
    fn there(before: &Value) -> Live {
        let mut live = live(built(before));
        let set = live.redis.as_mut().unwrap();
        set.metadata.uid = Some("set-uid".into());
        let claims = set.spec.as_mut().unwrap().volume_claim_templates.as_mut();
        for claim in claims.into_iter().flatten() {
            claim.spec.as_mut().unwrap().volume_mode = Some("Filesystem".into());
        }
        live
    }

    /// What becomes of the StatefulSet and of claims.
    fn acts(live: &Live, after: &Value) -> Vec<String> {
        let writes = plan(built(after), live, "u-1").into_iter();
        let kinds = ["StatefulSet", "PersistentVolumeClaim"];
        let writes = writes.filter(|write| kinds.contains(&write.resource.kind.as_str()));
        let acts = writes.filter_map(|write| match write.act {
            Act::Apply {
                what: What::Remade { uid, path },
                ..
            } => Some(format!("remade {uid}: {path}")),
            Act::Apply { manifest, what } => match what {
                What::Changed { path, .. } if path.contains("annotations") => None,
                _ => Some(format!(
                    "{}: {}",
                    write.name, manifest["spec"]["resources"]["requests"]["storage"]
                )),
            },
            Act::Delete { .. } => Some("deleted".into()),
        });
        acts.collect()
    }

    #[test]
    fn other_volumes_make_another_stateful_set_around_the_same_pods() {
        let one = json!({"size": "1Gi"});
        for (before, after, expected) in [
            (Value::Null, Value::Null, None),
            (one.clone(), one.clone(), None),
            (one.clone(), json!({"size": "1024Mi"}), None),
            (
                one.clone(),
                json!({"size": "1Gi", "whenDeleted": "Delete", "snapshotSeconds": 9}),
                None,
            ),
            (
                one.clone(),
                json!({"size": "2Gi"}),
                Some("[0].spec.resources.requests.storage"),
            ),
            (Value::Null, one.clone(), Some("")),
            (one, Value::Null, Some("")),
        ] {
            let live = there(&spec(&before));
            let acts = acts(&live, &spec(&after));
            let remade = acts.iter().find(|act| act.starts_with("remade"));
            let wanted =
                expected.map(|at| format!("remade set-uid: spec.volumeClaimTemplates{at}"));
            assert_eq!(remade, wanted.as_ref(), "{before} to {after}");
        }
    }

    /// The API server would take a write to it, and it would be lost.
    #[test]
    fn one_that_is_going_is_waited_for() {
        let before = spec(&json!({"size": "1Gi"}));
        let mut live = there(&before);
        live.redis.as_mut().unwrap().metadata.deletion_timestamp =
            Some(Time(Timestamp::UNIX_EPOCH));
        assert_eq!(acts(&live, &spec(&json!({"size": "2Gi"}))), [""; 0]);
    }

    #[test]
    fn claims_grow_and_never_shrink() {
        let claim = |name: &str, size: &str| {
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "shop"},
                "spec": {"resources": {"requests": {"storage": size}}},
            }))
            .unwrap()
        };
        let wanted = spec(&json!({"size": "2Gi"}));
        let mut live = there(&wanted);
        live.claims = vec![claim("a", "1Gi"), claim("b", "2048Mi"), claim("c", "3Gi")];
        assert_eq!(acts(&live, &wanted), ["a: \"2Gi\""]);
    }
}
