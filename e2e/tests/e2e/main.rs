//! What users were promised, tried on a real cluster. `make e2e` starts one and runs this; a test here has a
//! namespace of its own, which refuses pods that are not *restricted*, and leaves nothing behind.

mod autoscaling;
mod changes;
mod deletion;
mod drift;
mod events;
mod faults;
mod install;
mod kubectl_push;
mod lifecycle;
mod metrics_api;
mod mistakes;
mod nodes;
mod outages;
mod persistence;
mod push;
mod rbac;
mod redis_cluster;
mod refusals;
mod rollout;
mod scale;
mod sentinel;
mod spec;
mod succession;

use anyhow::Result;
use e2e::namespace::Namespace;
use e2e::push_cluster;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Tests run beside each other; one that takes the operator away needs it for itself.
static OPERATOR: RwLock<()> = RwLock::const_new(());

async fn operator_stays() -> RwLockReadGuard<'static, ()> {
    OPERATOR.read().await
}

async fn operator_is_mine() -> RwLockWriteGuard<'static, ()> {
    OPERATOR.write().await
}

/// Every test's PushCluster.
const NAME: &str = "demo";

/// So many gateways, and nobody who counts clients and finds that fewer will do.
fn fixed_size(replicas: usize) -> serde_json::Value {
    serde_json::json!({"replicas": replicas, "autoscaling": {"enabled": false}})
}

/// The smallest PushCluster in which a message can cross pods.
const TWO_GATEWAYS: &str = "
apiVersion: pushcluster.io/v1alpha1
kind: PushCluster
metadata:
  name: demo
spec:
  replicas: 2
";

/// Applies [`TWO_GATEWAYS`] and waits until it is Ready.
async fn two_gateways(namespace: &Namespace) -> Result<()> {
    namespace
        .cluster
        .apply(&namespace.name, TWO_GATEWAYS)
        .await?;
    push_cluster::until_ready(&namespace.cluster, &namespace.name, NAME).await
}
