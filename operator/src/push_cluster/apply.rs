//! Makes the owned objects as built: server-side apply under one field manager, and no request for what is so already.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

use super::build::{Objects, RedisObjects};
use super::observe::{Live, Observed};

pub use difference::difference;

mod difference;

pub const FIELD_MANAGER: &str = "pushcluster-operator";
/// What was applied last, as a hash: a field that is no longer built is noticed although the live object still has it.
const APPLIED: &str = "pushcluster.io/applied";

/// One write that was made, for the event that tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Kind and name.
    pub object: String,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Created,
    /// The first field that was not as built.
    Changed(String),
    Deleted,
}

#[derive(Debug, thiserror::Error)]
#[error("{action} {object} failed")]
pub struct ApplyError {
    action: &'static str,
    object: String,
    source: kube::Error,
}

/// In an order in which nothing refers to what is not there yet: pods find their Secret, their config and Redis's name.
pub async fn apply(
    client: &Client,
    objects: Objects,
    observed: &Observed,
) -> Result<Vec<Change>, ApplyError> {
    let Objects {
        service_account,
        keys,
        config,
        redis,
        deployment,
        service,
        nodes_service,
        budget,
        autoscaler,
    } = objects;
    let Live {
        service_account: live_service_account,
        keys: live_keys,
        config: live_config,
        redis: live_redis,
        redis_service: live_redis_service,
        deployment: live_deployment,
        service: live_service,
        nodes_service: live_nodes_service,
        budget: live_budget,
        autoscaler: live_autoscaler,
    } = &observed.live;
    let mut writer = Writer {
        client,
        changes: Vec::new(),
        owner: observed.cluster.uid().unwrap_or_default(),
    };
    let (redis, redis_service) = match redis {
        Some(RedisObjects {
            stateful_set,
            service,
        }) => (Some(stateful_set), Some(service)),
        None => (None, None),
    };
    writer
        .put(service_account, live_service_account.as_ref())
        .await?;
    writer.put(keys, live_keys.as_ref()).await?;
    writer.put(config, live_config.as_ref()).await?;
    writer
        .put_or_prune(redis_service, live_redis_service.as_ref())
        .await?;
    writer.put_or_prune(redis, live_redis.as_ref()).await?;
    writer
        .put(nodes_service, live_nodes_service.as_ref())
        .await?;
    writer.put(service, live_service.as_ref()).await?;
    writer.put(budget, live_budget.as_ref()).await?;
    writer.put(deployment, live_deployment.as_ref()).await?;
    writer
        .put_or_prune(autoscaler, live_autoscaler.as_ref())
        .await?;
    Ok(writer.changes)
}

struct Writer<'a> {
    client: &'a Client,
    changes: Vec<Change>,
    owner: String,
}

impl Writer<'_> {
    async fn put_or_prune<K: Owned>(
        &mut self,
        built: Option<K>,
        live: Option<&K>,
    ) -> Result<(), ApplyError> {
        match (built, live) {
            (Some(built), live) => self.put(built, live).await,
            (None, Some(live)) => self.prune(live).await,
            (None, None) => Ok(()),
        }
    }

    async fn put<K: Owned>(&mut self, built: K, live: Option<&K>) -> Result<(), ApplyError> {
        let object = object_name(&built);
        let manifest = manifest(&built);
        let what = match live.map(|live| difference(&manifest, &to_json(live))) {
            Some(None) => return Ok(()),
            Some(Some(path)) => What::Changed(path),
            None => What::Created,
        };
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let api = self.api::<K>(&built);
        api.patch(&built.name_any(), &parameters, &Patch::Apply(&manifest))
            .await
            .map_err(|source| ApplyError {
                action: "applying",
                object: object.clone(),
                source,
            })?;
        self.changes.push(Change { object, what });
        Ok(())
    }

    /// Deletes an object that is no longer wanted, if it is ours.
    async fn prune<K: Owned>(&mut self, live: &K) -> Result<(), ApplyError> {
        if !live
            .owner_references()
            .iter()
            .any(|owner| owner.uid == self.owner)
            || live.meta().deletion_timestamp.is_some()
        {
            return Ok(());
        }
        let object = object_name(live);
        let only_this = Preconditions {
            uid: live.uid(),
            resource_version: None,
        };
        let parameters = DeleteParams {
            preconditions: Some(only_this),
            ..DeleteParams::background()
        };
        match self
            .api::<K>(live)
            .delete(&live.name_any(), &parameters)
            .await
        {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            Err(source) => {
                return Err(ApplyError {
                    action: "deleting",
                    object,
                    source,
                });
            }
        }
        self.changes.push(Change {
            object,
            what: What::Deleted,
        });
        Ok(())
    }

    fn api<K: Owned>(&self, object: &K) -> Api<K> {
        Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default())
    }
}

/// The kinds that a PushCluster owns.
pub trait Owned:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
{
}
impl<K> Owned for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
{
}

fn object_name<K: Owned>(object: &K) -> String {
    format!("{} {}", K::kind(&()), object.name_any())
}

/// What is sent: the object as built, with the hash of itself.
fn manifest<K: Owned>(built: &K) -> Value {
    let mut manifest = to_json(built);
    let hash: String = Sha1::digest(manifest.to_string())
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if let Some(annotations) = manifest["metadata"]
        .as_object_mut()
        .map(|m| m.entry("annotations").or_insert(json!({})))
    {
        annotations[APPLIED] = json!(hash);
    }
    manifest
}

fn to_json<K: Serialize>(object: &K) -> Value {
    serde_json::to_value(object).expect("Kubernetes objects are JSON")
}
