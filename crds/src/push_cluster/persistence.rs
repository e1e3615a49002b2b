//! What of Redis outlives its pods.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What of Redis outlives its pods (docs/decisions/0015).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0", "message": "spec.redis.persistence.size cannot become less, since volumes do not shrink: leave it, or make a second PushCluster with the size you want and move clients to it"},
    {"rule": "has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)", "message": "spec.redis.persistence.storageClassName cannot be changed, since a volume stays where it was made: make a second PushCluster with the class you want and move clients to it"},
]))]
pub struct PersistenceSpec {
    /// Of each pod's volume, as in `2Gi`. Redis writes a snapshot beside the last one, so it should have room for twice
    /// what Redis may have in memory. It may grow where the storage class lets volumes grow.
    #[schemars(
        length(max = 20),
        regex(pattern = r"^[1-9][0-9]*([kMGTPE]|[KMGTPE]i)?$")
    )]
    pub size: String,
    /// Default: the cluster's default class.
    #[schemars(length(min = 1, max = 253))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
    /// How often Redis writes a snapshot while anything changes. When all of its pods are lost at once, what came after the
    /// last one is lost, and clients are told; a pod that is ended in an orderly way writes one before.
    #[schemars(range(min = 5, max = 86_400))]
    pub snapshot_seconds: i32,
    /// What becomes of the volumes with the PushCluster: `Retain`, they stay, and a new one of this name goes on with what
    /// is on them; `Delete`, they go with it.
    pub when_deleted: WhenDeleted,
}

/// What becomes of volumes with their PushCluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum WhenDeleted {
    #[default]
    Retain,
    Delete,
}

impl Default for PersistenceSpec {
    fn default() -> Self {
        PersistenceSpec {
            size: "1Gi".into(),
            storage_class_name: None,
            snapshot_seconds: 60,
            when_deleted: WhenDeleted::Retain,
        }
    }
}
