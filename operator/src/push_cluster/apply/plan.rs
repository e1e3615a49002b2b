//! Which writes make the live objects as built. Pure: objects in, requests out.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::ApiResource;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

use super::FIELD_MANAGER;
use super::difference::differences;
use super::volumes::{growths, other_claims};
use crate::owner::belongs;
use crate::push_cluster::build::{Objects, RedisObjects};
use crate::push_cluster::consent::{ASKED, TEMPLATE};
use crate::push_cluster::observe::Live;

/// What was applied last, as a hash: a field that is no longer built is noticed although the live object still has it.
pub const APPLIED: &str = "pushcluster.io/applied";

/// One request to come.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    pub resource: ApiResource,
    pub name: String,
    pub act: Act,
    /// Whether the user's own words are in it, so that the API server may find fault with them.
    pub has_users_words: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    Apply {
        manifest: Value,
        what: What,
    },
    /// Only the object of this uid: one that was made since under the same name is another.
    Delete {
        uid: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Created,
    /// The first field that was not as built, and who wrote the object last if that was not the operator.
    Changed {
        path: String,
        by: Option<String>,
    },
    /// The one of this uid was deleted without its pods, and made again around them: the field cannot be changed.
    Remade {
        uid: String,
        path: String,
    },
    Deleted,
}

/// In an order in which nothing refers to what is not there yet: pods find their Secret, their config and Redis's name.
/// `owner` is the uid of the PushCluster: what is not its own is never deleted.
pub fn plan(objects: Objects, live: &Live, owner: &str) -> Vec<Write> {
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
        scaled_object,
        gateway_policy,
        redis_policy,
    } = objects;
    let (redis, redis_service, redis_files, redis_certificate, redis_budget) = match redis {
        Some(RedisObjects {
            stateful_sets,
            service,
            files,
            certificate,
            budget,
        }) => (stateful_sets, Some(service), files, certificate, budget),
        None => (Vec::new(), None, None, None, None),
    };
    let mut writes = vec![
        put(&service_account, live.service_account.as_ref(), false),
        put(&keys, live.keys.as_ref(), false),
        put(&config, live.config.as_ref(), false),
        // Before the pods that they protect.
        put_or_prune(redis_policy.as_ref(), live.redis_policy.as_ref(), owner),
        put_or_prune(gateway_policy.as_ref(), live.gateway_policy.as_ref(), owner),
        put_if_built(redis_service.as_ref(), live.redis_service.as_ref()),
        put_if_built(redis_files.as_ref(), live.redis_files.as_ref()),
        put_if_built(redis_certificate.as_ref(), live.redis_certificate.as_ref()),
        put_if_built(redis_budget.as_ref(), live.redis_budget.as_ref()),
    ];
    writes.extend(stateful_sets(&redis, live, owner));
    writes.extend([
        put(&nodes_service, live.nodes_service.as_ref(), false),
        put(&service, live.service.as_ref(), true),
        put(&budget, live.budget.as_ref(), false),
        put(&deployment, live.deployment.as_ref(), true),
    ]);
    let autoscaler = put_or_prune(autoscaler.as_ref(), live.autoscaler.as_ref(), owner);
    let scaled_object = put_or_prune(scaled_object.as_ref(), live.scaled_object.as_ref(), owner);
    writes.extend(in_turn(autoscaler, scaled_object));
    // Last: where the class of a volume does not let it grow, all else is done.
    writes.extend(growths(&redis, &live.claims).into_iter().map(Some));
    writes.into_iter().flatten().collect()
}

fn stateful_sets(built: &[StatefulSet], live: &Live, owner: &str) -> Vec<Option<Write>> {
    let there = || live.redis.iter().chain(&live.shards);
    let same = |one: &StatefulSet, other: &StatefulSet| one.name_any() == other.name_any();
    let puts = built.iter().map(|built| {
        let live = there().find(|live| same(built, live));
        put_around_pods(built, live)
    });
    // A shard that has given its slots to others holds nothing.
    let left = live
        .shards
        .iter()
        .filter(|live| !built.iter().any(|built| same(built, live)));
    puts.chain(left.map(|live| prune(live, owner))).collect()
}

fn put_around_pods(built: &StatefulSet, live: Option<&StatefulSet>) -> Option<Write> {
    let other = live.and_then(|live| Some((live, other_claims(built, live)?)));
    let Some((live, path)) = other else {
        return put(built, live, true);
    };
    if live.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let mut write = put(built, None, true)?;
    if let Act::Apply { what, .. } = &mut write.act {
        let uid = live.uid().unwrap_or_default();
        *what = What::Remade { uid, path };
    }
    Some(write)
}

/// Nothing of Redis is deleted because the spec no longer asks for it: what it holds would be gone with a slip of the pen.
fn put_if_built<K: Owned>(built: Option<&K>, live: Option<&K>) -> Option<Write> {
    put(built?, live, true)
}

fn put_or_prune<K: Owned>(built: Option<&K>, live: Option<&K>, owner: &str) -> Option<Write> {
    match (built, live) {
        (Some(built), live) => put(built, live, true),
        (None, Some(live)) => prune(live, owner),
        (None, None) => None,
    }
}

/// The one goes before the other comes: KEDA's webhook refuses a ScaledObject of what a HorizontalPodAutoscaler scales, also
/// when it is rehearsed. The user's words in it are numbers that the API server has seen in the PushCluster.
fn in_turn(autoscaler: Option<Write>, scaled_object: Option<Write>) -> [Option<Write>; 2] {
    let goes = |write: &Option<Write>| {
        let write = write.as_ref();
        write.is_some_and(|write| matches!(write.act, Act::Delete { .. }))
    };
    let scaled_object = scaled_object.map(|write| Write {
        has_users_words: false,
        ..write
    });
    match goes(&scaled_object) {
        true => [scaled_object, autoscaler],
        false => [autoscaler, scaled_object],
    }
}

fn put<K: Owned>(built: &K, live: Option<&K>, has_users_words: bool) -> Option<Write> {
    let manifest = to_json(built);
    let hash = hash(&manifest);
    let what = match live {
        None => What::Created,
        Some(live) => What::Changed {
            path: first(&manifest, &to_json(live)).or_else(|| no_longer_built(live, &hash))?,
            by: somebody_else(live),
        },
    };
    Some(Write {
        resource: ApiResource::erase::<K>(&()),
        name: built.name_any(),
        act: Act::Apply {
            manifest: with_hash(manifest, &hash),
            what,
        },
        has_users_words,
    })
}

/// The first difference that a person would call one, or else a note that the operator keeps for itself.
fn first(built: &Value, live: &Value) -> Option<String> {
    let found = differences(built, live);
    let own = |path: &str| [TEMPLATE, ASKED].iter().any(|note| path.ends_with(note));
    let meant = found.iter().find(|difference| !own(&difference.path));
    Some(meant.or(found.first())?.path.clone())
}

/// All that is built is there, and was applied together with something that is built no more.
fn no_longer_built<K: Owned>(live: &K, hash: &str) -> Option<String> {
    let applied = live.annotations().get(APPLIED).map(String::as_str);
    (applied != Some(hash)).then(|| format!("metadata.annotations.{APPLIED}"))
}

/// Status has its own writers, who are not meant.
fn somebody_else<K: Owned>(live: &K) -> Option<String> {
    let writers = live.meta().managed_fields.iter().flatten();
    let last = writers
        .filter(|entry| entry.subresource.as_deref().unwrap_or_default().is_empty())
        .max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?;
    last.manager
        .clone()
        .filter(|manager| manager != FIELD_MANAGER)
}

fn prune<K: Owned>(live: &K, owner: &str) -> Option<Write> {
    let going = live.meta().deletion_timestamp.is_some();
    (belongs(live, owner) && !going).then(|| Write {
        resource: ApiResource::erase::<K>(&()),
        name: live.name_any(),
        act: Act::Delete {
            uid: live.uid().unwrap_or_default(),
        },
        has_users_words: false,
    })
}

/// The kinds that a PushCluster owns.
trait Owned: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize {}
impl<K> Owned for K where K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize {}

fn hash(manifest: &Value) -> String {
    Sha1::digest(manifest.to_string())
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn with_hash(mut manifest: Value, hash: &str) -> Value {
    manifest["metadata"]["annotations"][APPLIED] = json!(hash);
    manifest
}

fn to_json<K: Serialize>(object: &K) -> Value {
    serde_json::to_value(object).expect("Kubernetes objects are JSON")
}

#[cfg(test)]
mod tests;
