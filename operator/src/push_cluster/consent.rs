//! A new version of the operator builds other pods: another image, another template. It replaces none of those that are
//! there until somebody agrees. What a person changes is done at once, whatever comes with it. Pure.
//!
//! What was built when pods were last allowed to change stands beside them, in annotations of the Deployment and the
//! StatefulSet: the template, and a hash of what had been asked for. Another template for the same wish is the operator's
//! own doing.

use std::collections::BTreeMap;

use crds::{GatewaySpec, PushCluster, PushClusterSpec, RedisSpec, UpdatePolicy};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

use super::apply::difference::differences;
use super::build::{Objects, secrets_hash};
use super::grace;
use super::observe::{Keys, Live};
use super::rollback::goes_back;
use super::validate::ValidatedCluster;

/// The template as it was built when it was last taken, in JSON.
pub const TEMPLATE: &str = "pushcluster.io/template";
/// What had been asked for then, as a hash.
pub const ASKED: &str = "pushcluster.io/asked-for";
/// The annotation of a PushCluster that agrees to one upgrade, by its name.
pub const CONSENT: &str = "pushcluster.io/consent";

/// An upgrade that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Of what would be built, so that nobody agrees to anything else.
    pub name: String,
    /// Object, field, and both values, for each field.
    pub what: Vec<String>,
}

/// Leaves pods as they are where nobody agreed to others, and says what they would be.
pub fn hold(
    objects: &mut Objects,
    live: &Live,
    cluster: &PushCluster,
    (validated, keys): (&ValidatedCluster, &Keys),
) -> Option<Pending> {
    let secrets = secrets_hash(keys, &validated.referenced);
    let there = live.deployment.as_ref();
    let there = there.filter(|live| !goes_back(&objects.deployment, live));
    let deployment = objects.deployment.spec.as_mut().map(|spec| Workload {
        meta: &mut objects.deployment.metadata,
        template: &mut spec.template,
        before: there.and_then(before),
        asked: asked(gateway_wish, &cluster.spec, &secrets),
        name: "Deployment",
    });
    let sets = objects.redis.iter_mut();
    let redis = sets
        .flat_map(|redis| &mut redis.stateful_sets)
        .filter_map(|set| {
            let mut there = live.redis.iter().chain(&live.shards);
            let there = there.find(|live| live.metadata.name == set.metadata.name);
            Some(Workload {
                meta: &mut set.metadata,
                template: &mut set.spec.as_mut()?.template,
                before: there.and_then(before),
                asked: asked(redis_wish, &cluster.spec, &secrets),
                name: "StatefulSet",
            })
        });
    let mut workloads: Vec<Workload<'_>> = deployment.into_iter().chain(redis).collect();
    let held: Vec<&Workload<'_>> = workloads.iter().filter(|w| w.waits()).collect();
    let wanted: Vec<Value> = held.iter().map(|w| json!(w.template)).collect();
    let name = hash(&wanted.iter().collect::<Vec<_>>());
    let agreed = cluster.spec.update_policy == UpdatePolicy::Automatic
        || cluster.annotations().get(CONSENT) == Some(&name);
    let what: Vec<String> = held.iter().flat_map(|w| w.changes()).collect();
    for workload in &mut workloads {
        workload.settle(agreed);
    }
    (!agreed && !what.is_empty()).then_some(Pending { name, what })
}

/// A Deployment or StatefulSet as built, and what there was.
struct Workload<'a> {
    name: &'static str,
    meta: &'a mut ObjectMeta,
    template: &'a mut PodTemplateSpec,
    before: Option<Before>,
    asked: String,
}

struct Before {
    /// As it stands in the annotation.
    text: String,
    template: Value,
    asked: String,
}

/// None: there is nothing, or nothing that says what it was made for.
fn before<K: Resource>(live: &K) -> Option<Before> {
    let text = live.annotations().get(TEMPLATE)?;
    Some(Before {
        template: serde_json::from_str(text).ok()?,
        text: text.clone(),
        asked: live.annotations().get(ASKED)?.clone(),
    })
}

impl Workload<'_> {
    /// Whether other pods would be made although nobody asked for anything else.
    fn waits(&self) -> bool {
        let before = self.before.as_ref();
        before.is_some_and(|b| b.asked == self.asked && b.template != json!(self.template))
    }

    fn changes(&self) -> Vec<String> {
        let Some(before) = &self.before else {
            return Vec::new();
        };
        let name = self.meta.name.as_deref().unwrap_or_default();
        let wanted = json!(self.template);
        let say = |path: &str, old: &Value, new: &Value| {
            format!("{} {name}: {path} from {old} to {new}", self.name)
        };
        let mut found: Vec<String> = differences(&wanted, &before.template)
            .iter()
            .map(|d| say(&d.path, d.live, d.built))
            .collect();
        // What would no longer be there.
        let gone = differences(&before.template, &wanted);
        let gone = gone.iter().filter(|d| d.live.is_null());
        found.extend(gone.map(|d| say(&d.path, d.built, d.live)));
        found
    }

    /// Keeps the template where it waits and nobody agreed, and writes down which one counts.
    fn settle(&mut self, agreed: bool) {
        let keep = self.waits() && !agreed;
        let wanted = json!(self.template);
        let text = match &self.before {
            // The same text, whatever the order of its fields: nothing is written for that.
            Some(before) if keep || before.template == wanted => before.text.clone(),
            _ => wanted.to_string(),
        };
        if let (true, Some(before)) = (keep, &self.before)
            && let Ok(template) = serde_json::from_value(before.template.clone())
        {
            *self.template = template;
        }
        let annotations = self.meta.annotations.get_or_insert_default();
        annotations.insert(TEMPLATE.to_owned(), text);
        annotations.insert(ASKED.to_owned(), self.asked.clone());
    }
}

/// What of the spec a gateway's pod is made of. The rest it takes while it runs: who changes that asks for no other pods.
/// Every field is named, so that a new one cannot be forgotten.
fn gateway_wish(spec: &PushClusterSpec) -> Value {
    let GatewaySpec {
        image,
        resources,
        pods,
        auth,
        tls,
        limits: _,
        channels: _,
        allowed_origins: _,
        trusted_proxies: _,
        heartbeat: _,
        compression: _,
        api_key_overlap_seconds: _,
        log_filter: _,
    } = &spec.gateway;
    let files = json!([auth.hs256_key_secret, auth.key_secrets, auth.jwks_ca, tls]);
    let redis = &spec.redis;
    let broker = json!([
        redis.mode,
        redis.external,
        redis.listen,
        redis.listen_prefix
    ]);
    let mut wish = vec![
        json!(image),
        json!(resources),
        json!(pods),
        files,
        broker,
        json!(spec.drain.deadline_seconds),
    ];
    // Of no long grace the hash is the one from before there was one.
    wish.extend(grace::is_long(spec).then(|| json!(grace::of_pod(spec))));
    json!(wish)
}

fn redis_wish(spec: &PushClusterSpec) -> Value {
    let RedisSpec {
        mode,
        image,
        resources,
        pods,
        sentinel,
        cluster,
        // Gateways', and of no Redis that is made here.
        listen: _,
        listen_prefix: _,
        external: _,
        persistence,
        tls,
    } = &spec.redis;
    // More shards are more of the same pods.
    let down_after = cluster.as_ref().map(|cluster| cluster.down_after_seconds);
    let mut wish = vec![json!([mode, image, resources, pods, sentinel, down_after])];
    // Of no volume the hash is the one from before there were any.
    // How large they are is not what pods are made of.
    let snapshots = persistence.as_ref().map(|kept| kept.snapshot_seconds);
    wish.extend(snapshots.map(|seconds| json!(seconds)));
    // Whose certificate it is, no pod knows.
    wish.extend(tls.as_ref().map(|_| json!("tls")));
    if wish.len() == 1 {
        wish.remove(0)
    } else {
        json!(wish)
    }
}

/// Of a wish that is as by default nothing is left.
fn asked(wish: fn(&PushClusterSpec) -> Value, spec: &PushClusterSpec, secrets: &str) -> String {
    let wish = without_defaults(wish(spec), &wish(&PushClusterSpec::default()));
    hash(&[&wish, &json!(secrets)])
}

/// A field that a new version adds is in every stored object at once, as its default: nobody asked for it.
fn without_defaults(value: Value, default: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(key, value)| default.get(key) != Some(value) && !value.is_null())
            .map(|(key, value)| {
                let default = default.get(&key).unwrap_or(&Value::Null);
                let value = without_defaults(value, default);
                (key, value)
            })
            .filter(|(_, value)| value.as_object().is_none_or(|fields| !fields.is_empty()))
            // In one order, whatever the order in which a version declares its fields.
            .collect::<BTreeMap<_, _>>()
            .into_iter()
            .collect(),
        Value::Array(entries) => {
            let pairs = entries.into_iter().enumerate();
            let entry = |(place, value)| {
                without_defaults(value, default.get(place).unwrap_or(&Value::Null))
            };
            pairs.map(entry).collect()
        }
        value => value,
    }
}

pub(super) fn hash(parts: &[&Value]) -> String {
    let mut digest = Sha1::new();
    for part in parts {
        digest.update(part.to_string());
        digest.update([0]);
    }
    let digest = digest.finalize();
    digest[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests;
