//! One PushCluster: observe, validate, build, apply, status.
//!
//! `validate` and `build` are pure; `observe` only reads, `apply` and `status` only write, and nothing that is
//! already so. What is invalid is never half applied: the objects that are there stay as they are.

use std::sync::Arc;

use crds::PushCluster;
use kube::{Client, ResourceExt};
use rand::RngCore;

use apply::Change;

pub mod apply;
pub mod build;
pub mod observe;
pub mod status;
pub mod validate;

/// The images that came with the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    pub gateway: String,
    pub redis: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error("PushCluster {object}: observing it failed")]
    Observe {
        object: String,
        source: observe::ObserveError,
    },
    #[error("PushCluster {object}: applying its objects failed")]
    Apply {
        object: String,
        source: apply::ApplyError,
    },
    #[error("PushCluster {object}: writing its status failed")]
    Status { object: String, source: kube::Error },
}

/// What a reconcile came to.
#[derive(Debug)]
pub struct Outcome {
    pub changes: Vec<Change>,
    /// Whether there is nothing left to wait for.
    pub settled: bool,
}

pub async fn reconcile(
    client: &Client,
    cluster: Arc<PushCluster>,
    images: &Images,
) -> Result<Outcome, ReconcileError> {
    let object = format!(
        "{}/{}",
        cluster.namespace().unwrap_or_default(),
        cluster.name_any()
    );
    let observed =
        observe::observe(client, cluster)
            .await
            .map_err(|source| ReconcileError::Observe {
                object: object.clone(),
                source,
            })?;
    let validated = validate::validate(&observed, images);
    let mut changes = Vec::new();
    let mut failure = None;
    if let (Ok(validated), false) = (&validated, observed.cluster.spec.paused) {
        let objects = build::build(validated, &observed.keys.or_generate(random_key));
        match apply::apply(client, objects, &observed).await {
            Ok(applied) => changes = applied,
            Err(source) => failure = Some(source),
        }
    }
    let status = status::status(&observed, &validated, failure.as_ref());
    let settled = status::is_settled(&status);
    status::write(client, &observed.cluster, status)
        .await
        .map_err(|source| ReconcileError::Status {
            object: object.clone(),
            source,
        })?;
    match failure {
        Some(source) => Err(ReconcileError::Apply { object, source }),
        None => Ok(Outcome { changes, settled }),
    }
}

/// 256 bits, as text that needs no quoting anywhere.
fn random_key() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
