//! Makes the owned objects as built: server-side apply under one field manager, and no request for what is so already.

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::{Client, ResourceExt};

use super::build::Objects;
use super::observe::Observed;
use plan::{Act, Write, plan};

pub use plan::What;

mod difference;
mod plan;

pub const FIELD_MANAGER: &str = "pushcluster-operator";

/// One write that was made, for the event that tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Kind and name.
    pub object: String,
    pub what: What,
}

/// What was written, also when the rest could not be.
#[derive(Debug, Default)]
pub struct Applied {
    pub changes: Vec<Change>,
    pub failure: Option<ApplyError>,
}

#[derive(Debug, thiserror::Error)]
#[error("{action} {object} failed")]
pub struct ApplyError {
    action: &'static str,
    object: String,
    source: kube::Error,
}

pub async fn apply(client: &Client, objects: Objects, observed: &Observed) -> Applied {
    let owner = observed.cluster.uid().unwrap_or_default();
    let writes = plan(objects, &observed.live, &owner);
    let writer = Writer {
        client,
        namespace: observed.cluster.namespace().unwrap_or_default(),
    };
    let mut applied = Applied::default();
    if let Err(failure) = writer.rehearse(&writes).await {
        applied.failure = Some(failure);
        return applied;
    }
    for write in &writes {
        match writer.write(write).await {
            Ok(change) => applied.changes.extend(change),
            Err(failure) => {
                applied.failure = Some(failure);
                break;
            }
        }
    }
    applied
}

struct Writer<'a> {
    client: &'a Client,
    namespace: String,
}

impl Writer<'_> {
    /// Asks the API server about everything that the user's words are in before the first of several writes: what it
    /// would refuse (an annotation's key, a quota, a policy) is refused before the rest is there. One write needs no
    /// rehearsal.
    async fn rehearse(&self, writes: &[Write]) -> Result<(), ApplyError> {
        if writes.len() < 2 {
            return Ok(());
        }
        for write in writes.iter().filter(|write| write.has_users_words) {
            if let Act::Apply { manifest, .. } = &write.act {
                self.api(write)
                    .patch(
                        &write.name,
                        &parameters().dry_run(),
                        &Patch::Apply(manifest),
                    )
                    .await
                    .map_err(failed("rehearsing", write))?;
            }
        }
        Ok(())
    }

    /// None when there was nothing to delete any more.
    async fn write(&self, write: &Write) -> Result<Option<Change>, ApplyError> {
        let what = match &write.act {
            Act::Apply { manifest, what } => {
                self.api(write)
                    .patch(&write.name, &parameters(), &Patch::Apply(manifest))
                    .await
                    .map_err(failed("applying", write))?;
                what.clone()
            }
            Act::Delete { uid } => {
                let only_this = Preconditions {
                    uid: Some(uid.clone()),
                    resource_version: None,
                };
                let parameters = DeleteParams {
                    preconditions: Some(only_this),
                    ..DeleteParams::background()
                };
                match self.api(write).delete(&write.name, &parameters).await {
                    Ok(_) => What::Deleted,
                    Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
                    Err(source) => return Err(failed("deleting", write)(source)),
                }
            }
        };
        Ok(Some(Change {
            object: object(write),
            what,
        }))
    }

    fn api(&self, write: &Write) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &write.resource)
    }
}

/// Forced: the fields that are built here are the operator's alone, whoever set them last.
fn parameters() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

fn failed(action: &'static str, write: &Write) -> impl FnOnce(kube::Error) -> ApplyError {
    let object = object(write);
    move |source| ApplyError {
        action,
        object,
        source,
    }
}

fn object(write: &Write) -> String {
    format!("{} {}", write.resource.kind, write.name)
}
