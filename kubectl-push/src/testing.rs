//! What tests of the pure parts begin with.

use std::collections::BTreeMap;

use operator::push_cluster::Images;
use operator::push_cluster::preview::{self, Preview, assumed};
use serde_json::{Value, json};

use crate::manifest::understood;

pub fn manifest(spec: &Value) -> Value {
    json!({
        "apiVersion": "pushcluster.io/v1alpha1", "kind": "PushCluster",
        "metadata": {"name": "demo", "namespace": "shop", "uid": "u-1"}, "spec": spec,
    })
}

pub fn images() -> Images {
    Images {
        gateway: "img/gateway:1".into(),
        redis: "img/redis:1".into(),
        operator_namespace: "operators".into(),
        admin_url: "http://operator.operators.svc:9090".into(),
    }
}

/// In an empty namespace.
pub fn preview(spec: &Value) -> Preview {
    let cluster = understood(&manifest(spec)).expect("a good spec");
    preview::preview(&assumed(cluster), &images()).expect("a spec that can be built")
}

/// The objects of this spec, as they are after they were applied.
pub fn live(spec: &Value) -> BTreeMap<(String, String), Value> {
    let objects = preview(spec).built.into_iter();
    let object = |write: operator::push_cluster::apply::plan::Write| {
        let operator::push_cluster::apply::plan::Act::Apply { manifest, .. } = write.act else {
            return None;
        };
        Some(((write.resource.kind, write.name), manifest))
    };
    objects.filter_map(object).collect()
}
