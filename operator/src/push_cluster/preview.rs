//! What a reconcile would come to, without one: for `kubectl push`. Pure, and made of the same steps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crds::PushCluster;
use k8s_openapi::ByteString;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::Images;
use super::apply::plan::{Write, plan};
use super::autoscaling;
use super::build::build;
use super::consent::{Pending, hold};
use super::moves::settle;
use super::named::{Wants, read_from};
use super::observe::{Keda, Live, Observed, StoredKeys};
use super::redis_tls;
use super::rollback;
use super::validate::{Problem, validate};
use crate::metrics_api::registration::Registration;

/// Stands for every password and key that the operator would make.
pub const NOT_MADE_YET: &str = "(made by the operator)";

#[derive(Debug)]
pub struct Preview {
    /// Every owned object whole, as if none were there, in the order of writing.
    pub built: Vec<Write>,
    /// What a reconcile would write.
    pub writes: Vec<Write>,
    /// What would wait for somebody to agree.
    pub pending: Option<Pending>,
}

pub fn preview(observed: &Observed, images: &Images) -> Result<Preview, Vec<Problem>> {
    let validated = validate(observed, images)?;
    let mut keys = observed.keys.or_generate(|| NOT_MADE_YET.to_owned());
    if validated.redis_tls && keys.redis_tls.is_none() {
        keys.redis_tls = Some(redis_tls::standing_for(NOT_MADE_YET));
    }
    let owner = observed.cluster.uid().unwrap_or_default();
    let mut objects = build(&validated, &keys);
    let (cluster, live) = (&observed.cluster, &observed.live);
    rollback::refuse(&mut objects, observed, Timestamp::UNIX_EPOCH);
    let pending = hold(&mut objects, live, cluster, (&validated, &keys));
    rollback::remember(&mut objects, live);
    settle(&mut objects, observed);
    autoscaling::settle(&mut objects, observed, &registration(cluster));
    Ok(Preview {
        built: plan(objects.clone(), &Live::default(), &owner),
        writes: plan(objects, &observed.live, &owner),
        pending,
    })
}

/// As the operator told it last; without a word of it as it is where nobody else serves the group.
fn registration(cluster: &PushCluster) -> Registration {
    let mut conditions = cluster.status.iter().flat_map(|status| &status.conditions);
    let told = conditions.find(|condition| condition.type_ == "MetricsApiRegistered");
    told.map_or(Registration::Registered, |told| {
        match told.reason.as_str() {
            "ForeignMetricsApi" => Registration::Foreign {
                name: told.message.clone(),
                by: String::new(),
            },
            "Disabled" => Registration::Disabled,
            "OneNamespace" => Registration::OneNamespace,
            _ => Registration::Registered,
        }
    })
}

/// A namespace in which nothing is yet, but what the manifest names in Secrets and ConfigMaps, with good values.
pub fn assumed(cluster: PushCluster) -> Observed {
    let referenced: BTreeMap<_, _> = read_from(&cluster.spec)
        .into_iter()
        .map(|named| (named.source, Some(good(named.wants))))
        .collect();
    Observed {
        cluster: Arc::new(cluster),
        live: Live::default(),
        keys: StoredKeys::default(),
        referenced,
        pods: Vec::new(),
        refused: None,
        newest: None,
        listed: BTreeSet::new(),
        external_redis: None,
        redis_pods: None,
        foreign_autoscalers: Vec::new(),
        keda: Keda::default(),
        redis_users: Vec::new(),
    }
}

fn good(wants: Wants) -> ByteString {
    let value = match wants {
        Wants::Bytes(min) => vec![b'x'; min.max(64)],
        Wants::Certificates => b"-----BEGIN CERTIFICATE-----".to_vec(),
        Wants::PrivateKey => b"-----BEGIN PRIVATE KEY-----".to_vec(),
    };
    ByteString(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::push_cluster::apply::What;
    use crate::push_cluster::apply::plan::Act;
    use crate::push_cluster::fixture::{images, live, observed};

    #[test]
    fn in_an_empty_namespace_everything_is_created() {
        let spec =
            json!({"gateway": {"auth": {"keySecrets": [{"name": "nowhere", "key": "pem"}]}}});
        let cluster = observed(&spec).cluster;
        let preview = preview(&assumed((*cluster).clone()), &images()).unwrap();
        assert!(preview.built.len() > 5, "{preview:?}");
        assert_eq!(preview.built, preview.writes);
    }

    #[test]
    fn what_is_there_is_left_alone_and_what_is_wrong_is_told() {
        let mut seen = observed(&json!({}));
        let keys = seen.keys.or_generate(|| NOT_MADE_YET.to_owned());
        seen.live = live(build(&validate(&seen, &images()).unwrap(), &keys));
        // Nobody has written down what was applied and asked for, so some are written once more, and for no other reason.
        let writes = preview(&seen, &images()).unwrap().writes;
        for write in writes {
            let Act::Apply { what, .. } = &write.act else {
                panic!("{write:?}")
            };
            assert!(
                matches!(what, What::Changed { path, .. } if path.starts_with("metadata.annotations.pushcluster.io/")),
                "{write:?}"
            );
        }
        let absent =
            json!({"gateway": {"auth": {"keySecrets": [{"name": "nowhere", "key": "pem"}]}}});
        let problems = preview(&observed(&absent), &images()).unwrap_err();
        assert_eq!(problems[0].field, "spec.gateway.auth.keySecrets");
    }
}
