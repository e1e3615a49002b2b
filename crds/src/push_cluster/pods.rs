//! Where pods may run, and what they carry.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::{annotation_values, label_values};

/// Where pods may run, and what they carry. Another value replaces the pods, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.labels) || self.labels.all(key, !key.startsWith('app.kubernetes.io/') && !key.startsWith('pushcluster.io/'))", "message": "spec.gateway.pods.labels, spec.redis.pods.labels: keys that begin with app.kubernetes.io/ or pushcluster.io/ are the operator's, which finds pods by them: use other keys"},
    {"rule": "!has(self.annotations) || self.annotations.all(key, !key.startsWith('pushcluster.io/'))", "message": "spec.gateway.pods.annotations, spec.redis.pods.annotations: keys that begin with pushcluster.io/ are the operator's: use other keys"},
]))]
pub struct PodsSpec {
    /// Labels of nodes that may run them, as in `disktype: ssd`. Default: every node.
    #[schemars(schema_with = "label_values")]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that they bear, so that nodes can be kept for them.
    #[schemars(length(max = 32))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// How they are spread, so that one lost node or zone takes few of them. Default: gateways over nodes, the pods of a
    /// Redis with Sentinels over zones, both as well as it goes.
    #[schemars(
        length(max = 8),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["topologyKey", "whenUnsatisfiable"]
        )
    )]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub topology_spread: Vec<TopologySpread>,
    /// The PriorityClass, so that a full node evicts something else. It must be there, or no pod is made. Default: the
    /// cluster's default.
    #[schemars(length(min = 1, max = 253))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Secrets of type `kubernetes.io/dockerconfigjson` in the namespace of the PushCluster, for images from a private
    /// registry.
    #[schemars(length(max = 8), inner(length(min = 1, max = 253)))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<String>,
    /// Further labels, for those who count costs or write policies.
    #[schemars(schema_with = "label_values")]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Further annotations, as scrapers, meshes and backups read them.
    #[schemars(schema_with = "annotation_values")]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A taint that a pod bears.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.operator == 'Equal' ? has(self.key) : !has(self.value)", "message": "spec.gateway.pods.tolerations, spec.redis.pods.tolerations: operator Equal needs a key, and operator Exists takes no value: add the key, or remove the value"},
    {"rule": "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')", "message": "spec.gateway.pods.tolerations, spec.redis.pods.tolerations: tolerationSeconds counts only with effect: NoExecute: set the effect, or remove tolerationSeconds"},
]))]
pub struct Toleration {
    /// The taint's key. Default: every taint, with operator `Exists`.
    #[schemars(length(min = 1, max = 317))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `Equal`: of this value; `Exists`: of any.
    pub operator: TolerationOperator,
    /// The taint's value. Default: the empty one.
    #[schemars(length(max = 63))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The taint's effect. Default: each of the three.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// How long a pod stays on a node that gets such a taint. Default: for ever.
    #[schemars(range(min = 0, max = 86_400))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum TolerationOperator {
    #[default]
    Equal,
    Exists,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

/// How pods are spread over one sort of places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopologySpread {
    /// The label of nodes that tells places apart: `kubernetes.io/hostname`, `topology.kubernetes.io/zone`.
    #[schemars(length(min = 1, max = 317))]
    pub topology_key: String,
    /// So many pods more than in the emptiest place there may be.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub max_skew: i32,
    /// Where that does not work out: `ScheduleAnyway` starts the pod all the same, `DoNotSchedule` lets it wait.
    #[serde(default)]
    pub when_unsatisfiable: WhenUnsatisfiable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum WhenUnsatisfiable {
    #[default]
    ScheduleAnyway,
    DoNotSchedule,
}

fn one() -> i32 {
    1
}
