//! Makes the owned objects as built: server-side apply under one field manager, and no request for what is so already.

use std::time::{Duration, Instant};

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::{Client, ResourceExt};

use crate::contest::Contests;
use plan::{Act, Write};

pub use plan::What;

pub mod difference;
pub mod plan;
mod volumes;

pub const FIELD_MANAGER: &str = "pushcluster-operator";

/// One write that was made, for the event that tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Kind and name.
    pub object: String,
    pub what: What,
}

/// How long the garbage collector may take to let go of the pods of a StatefulSet that is made anew.
const GOES: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What was written, also when the rest could not be.
#[derive(Debug, Default)]
pub struct Applied {
    pub changes: Vec<Change>,
    pub failure: Option<ApplyError>,
}

#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("{action} {object} failed")]
    Request {
        action: &'static str,
        object: String,
        source: kube::Error,
    },
    #[error("{object}, which is made anew around its pods, is not gone after {} s", GOES.as_secs())]
    StillThere { object: String },
    #[error(
        "{object}: {by} sets {path} again and again, and it is the operator's: end that, or set it in the PushCluster; \
         the operator sets it at most five times in half a minute"
    )]
    Contested {
        object: String,
        /// The other one's name for itself (its field manager).
        by: String,
        path: String,
    },
}

/// Carries out a plan. What somebody else writes again and again is left to them for a while, see [`Contests`]; all else
/// is written.
pub async fn apply(
    client: &Client,
    namespace: &str,
    writes: &[Write],
    contests: &Contests,
) -> Applied {
    let writer = Writer { client, namespace };
    let mut applied = Applied::default();
    if let Err(failure) = writer.rehearse(writes).await {
        applied.failure = Some(failure);
        return applied;
    }
    for write in writes {
        if let Some(contested) = contested(write, namespace, contests) {
            applied.failure.get_or_insert(contested);
            continue;
        }
        match writer.write(write).await {
            Ok(change) => applied.changes.extend(change),
            Err(failure) => {
                applied.failure.get_or_insert(failure);
                break;
            }
        }
    }
    applied
}

fn contested(write: &Write, namespace: &str, contests: &Contests) -> Option<ApplyError> {
    let Act::Apply {
        what: What::Changed { path, by: Some(by) },
        ..
    } = &write.act
    else {
        return None;
    };
    let object = object(write);
    contests
        .restore(&format!("{namespace} {object}"), Instant::now())
        .err()?;
    Some(ApplyError::Contested {
        object,
        by: by.clone(),
        path: path.clone(),
    })
}

struct Writer<'a> {
    client: &'a Client,
    namespace: &'a str,
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
            if let Act::Apply { manifest, what } = &write.act
                // What cannot be changed, a try to change it finds out only that.
                && !matches!(what, What::Remade { .. })
            {
                self.api(write)
                    .patch(&write.name, &applying().dry_run(), &Patch::Apply(manifest))
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
                if let What::Remade { uid, .. } = what {
                    self.leave_pods(write, uid).await?;
                }
                self.api(write)
                    .patch(&write.name, &applying(), &Patch::Apply(manifest))
                    .await
                    .map_err(failed("applying", write))?;
                what.clone()
            }
            Act::Delete { uid } => {
                if !self.delete(write, uid, DeleteParams::background()).await? {
                    return Ok(None);
                }
                What::Deleted
            }
        };
        Ok(Some(Change {
            object: object(write),
            what,
        }))
    }

    /// Deletes it and not its pods, which go on and are taken up by the next of its name.
    async fn leave_pods(&self, write: &Write, uid: &str) -> Result<(), ApplyError> {
        if !self.delete(write, uid, DeleteParams::orphan()).await? {
            return Ok(());
        }
        let begun = Instant::now();
        while begun.elapsed() < GOES {
            let left = self.api(write).get_opt(&write.name).await;
            match left.map_err(failed("reading", write))? {
                Some(left) if left.uid().as_deref() == Some(uid) => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                _ => return Ok(()),
            }
        }
        Err(ApplyError::StillThere {
            object: object(write),
        })
    }

    /// Deletes this one, and not another that has come in its place; whether it was still there. `how`: what becomes of
    /// what it owns.
    async fn delete(
        &self,
        write: &Write,
        uid: &str,
        how: DeleteParams,
    ) -> Result<bool, ApplyError> {
        let only_this = Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        };
        let parameters = DeleteParams {
            preconditions: Some(only_this),
            ..how
        };
        match self.api(write).delete(&write.name, &parameters).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(source) => Err(failed("deleting", write)(source)),
        }
    }

    fn api(&self, write: &Write) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), self.namespace, &write.resource)
    }
}

/// Forced: the fields that are built here are the operator's alone, whoever set them last.
pub fn applying() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

/// For single fields, without a word about the others.
pub fn merging() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    }
}

fn failed(action: &'static str, write: &Write) -> impl FnOnce(kube::Error) -> ApplyError {
    let object = object(write);
    move |source| ApplyError::Request {
        action,
        object,
        source,
    }
}

fn object(write: &Write) -> String {
    format!("{} {}", write.resource.kind, write.name)
}
