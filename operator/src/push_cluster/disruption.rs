//! What a reconcile did that clients notice, and why. Pure: the objects before and after, values out.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ConfigMap, PodTemplateSpec};
use serde::Serialize;
use serde_json::Value;

use super::apply::Change;
use super::observe::Live;
use crate::reason::Told;

/// More of them are counted.
const MAX_FIELDS: usize = 8;

/// What a hash is of when no key of the configuration is another.
const READ_AT_START: &str =
    "a password or certificate that is read at the start, or another version of the operator";

/// One act, which is one Event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disruption {
    pub reason: Told,
    /// Kind and name, as in [`Change::object`].
    pub object: String,
    pub note: String,
}

/// What these writes did. What is different without a write of ours somebody else did.
pub fn disruptions(before: &Live, after: &Live, changes: &[Change]) -> Vec<Disruption> {
    let ours = |object: &String| changes.iter().any(|change| change.object == *object);
    [
        scaled(before, after),
        gateways_replaced(before, after),
        redis_replaced(before, after),
    ]
    .into_iter()
    .flatten()
    .filter(|act| ours(&act.object))
    .collect()
}

fn scaled(before: &Live, after: &Live) -> Option<Disruption> {
    let replicas = |live: &Live| live.deployment.as_ref()?.spec.as_ref()?.replicas;
    let (from, to) = (replicas(before)?, replicas(after)?);
    let clients = if to < from {
        ": clients of the gateways that end are moved to the others"
    } else {
        ""
    };
    (from != to).then(|| Disruption {
        reason: Told::Scaled,
        object: deployment(after),
        note: format!("gateways scaled from {from} to {to}{clients}"),
    })
}

fn gateways_replaced(before: &Live, after: &Live) -> Option<Disruption> {
    let template = |live: &Live| Some(live.deployment.as_ref()?.spec.as_ref()?.template.clone());
    let why = why(
        &template(before)?,
        &template(after)?,
        &configured(before.config.as_ref(), after.config.as_ref()),
    )?;
    Some(Disruption {
        reason: Told::GatewaysReplaced,
        object: deployment(after),
        note: format!(
            "gateways are replaced one by one, and their clients moved, because of: {why}"
        ),
    })
}

fn redis_replaced(before: &Live, after: &Live) -> Option<Disruption> {
    let spec = |live: &Live| live.redis.as_ref()?.spec.clone();
    let (from, to) = (spec(before)?, spec(after)?);
    let why = why(&from.template, &to.template, &[])?;
    let effect = match to.replicas {
        Some(1) | None => "Redis is replaced, and until the new one is there nothing is delivered",
        Some(_) => {
            "Redis is replaced pod by pod, the master last, after one failover, for which clients wait for seconds"
        }
    };
    let name = after.redis.as_ref()?.metadata.name.clone();
    Some(Disruption {
        reason: Told::RedisReplaced,
        object: format!("StatefulSet {}", name.unwrap_or_default()),
        note: format!("{effect}, because of: {why}"),
    })
}

fn deployment(live: &Live) -> String {
    let name = live
        .deployment
        .as_ref()
        .and_then(|object| object.metadata.name.clone());
    format!("Deployment {}", name.unwrap_or_default())
}

/// The fields in which the pods are others; None where they are the same. Of an annotation that is a hash it says what was
/// hashed: `keys` of the configuration, else what only Secrets have.
fn why(before: &PodTemplateSpec, after: &PodTemplateSpec, keys: &[String]) -> Option<String> {
    let mut fields = Vec::new();
    for path in differing(before, after) {
        match path.strip_prefix("metadata.annotations.pushcluster.io/") {
            Some(_) if keys.is_empty() => {
                fields.push(READ_AT_START.to_owned());
            }
            Some(_) => fields.extend(keys.iter().cloned()),
            None => fields.push(path),
        }
    }
    let more = fields.len().saturating_sub(MAX_FIELDS);
    fields.truncate(MAX_FIELDS);
    if more > 0 {
        fields.push(format!("{more} more"));
    }
    (!fields.is_empty()).then(|| fields.join(", "))
}

/// The keys of the gateways' configuration that have another value, of those that a gateway reads at its start only.
fn configured(before: Option<&ConfigMap>, after: Option<&ConfigMap>) -> Vec<String> {
    let read = |map: Option<&ConfigMap>| {
        let text = map?.data.as_ref()?.values().next()?;
        gateway_config::parse(text, &[]).ok()
    };
    let (Some(before), Some(after)) = (read(before), read(after)) else {
        return Vec::new();
    };
    gateway_config::diff(&before, &after).needs_restart
}

/// The paths of all that is in one of the two only, or otherwise in the other. What is in a list and has a name goes by it.
fn differing<T: Serialize>(before: &T, after: &T) -> Vec<String> {
    let json = |object: &T| serde_json::to_value(object).unwrap_or_default();
    let mut found = Vec::new();
    compare(&json(before), &json(after), "", &mut found);
    found
}

fn compare(before: &Value, after: &Value, path: &str, found: &mut Vec<String>) {
    let below = |key: &str| match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    };
    match (before, after) {
        (before, after) if before == after => {}
        (Value::Object(before), Value::Object(after)) => {
            let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for key in keys {
                let of = |map: &serde_json::Map<String, Value>| {
                    map.get(key).cloned().unwrap_or_default()
                };
                compare(&of(before), &of(after), &below(key), found);
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            let (before, after) = (by_name(before), by_name(after));
            let names: BTreeSet<&String> =
                before.iter().chain(&after).map(|entry| &entry.0).collect();
            for name in names {
                let of = |list: &[(String, Value)]| {
                    let entry = list.iter().find(|entry| entry.0 == *name);
                    entry.map(|entry| entry.1.clone()).unwrap_or_default()
                };
                compare(&of(&before), &of(&after), &format!("{path}[{name}]"), found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

fn by_name(list: &[Value]) -> Vec<(String, Value)> {
    let entries = list.iter().enumerate();
    entries
        .map(|(place, value)| {
            let name = value["name"].as_str();
            (
                name.map_or_else(|| place.to_string(), str::to_owned),
                value.clone(),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::push_cluster::apply::What;
    use crate::push_cluster::fixture::{built, live};

    /// What is told of a change of the spec, as `Reason: note`.
    fn told(before: &Value, after: &Value, written: &[&str]) -> Vec<String> {
        let changes: Vec<Change> = written
            .iter()
            .map(|object| Change {
                object: (*object).to_owned(),
                what: What::Changed {
                    path: "spec".into(),
                    by: None,
                },
            })
            .collect();
        let acts = disruptions(&live(built(before)), &live(built(after)), &changes);
        acts.iter()
            .map(|act| format!("{}: {}", act.reason.as_str(), act.note))
            .collect()
    }

    const ALL: &[&str] = &["Deployment demo-gateway", "StatefulSet demo-redis"];

    #[test]
    fn what_clients_notice_is_told_once_with_its_reason() {
        let external =
            |host: &str| json!({"redis": {"mode": "External", "external": {"host": host}}});
        for (before, after, expected) in [
            (json!({}), json!({}), &[] as &[&str]),
            // Gateways take it while they run.
            (
                json!({}),
                json!({"gateway": {"limits": {"maxPresenceMembers": 5}}}),
                &[],
            ),
            (json!({}), json!({"service": {"port": 81}}), &[]),
            (
                json!({}),
                json!({"replicas": 5}),
                &["Scaled: gateways scaled from 2 to 5"],
            ),
            (
                json!({}),
                json!({"replicas": 1}),
                &[
                    "Scaled: gateways scaled from 2 to 1: clients of the gateways that end are moved to the others",
                ],
            ),
            (
                external("a"),
                external("b"),
                &[
                    "GatewaysReplaced: gateways are replaced one by one, and their clients moved, because of: broker.redis.url",
                ],
            ),
            (
                json!({"gateway": {"image": "a", "pods": {"nodeSelector": {"a": "b"}}}}),
                json!({"gateway": {"image": "b"}}),
                &[
                    "GatewaysReplaced: gateways are replaced one by one, and their clients moved, because of: \
                   spec.containers[gateway].image, spec.nodeSelector",
                ],
            ),
            (
                json!({"redis": {"resources": {"limits": {"memory": "1Gi"}}}}),
                json!({"redis": {"resources": {"limits": {"memory": "2Gi"}}}}),
                &[
                    "RedisReplaced: Redis is replaced, and until the new one is there nothing is delivered, because of: \
                   spec.containers[redis].resources.limits.memory",
                ],
            ),
            (
                json!({"redis": {"mode": "Sentinel"}}),
                json!({"redis": {"mode": "Sentinel", "image": "img/redis:2"}}),
                &[
                    "RedisReplaced: Redis is replaced pod by pod, the master last, after one failover, for which clients wait for seconds, because of: \
                   spec.containers[redis].image, spec.containers[sentinel].image, \
                   spec.initContainers[sentinel-config].image",
                ],
            ),
        ] {
            assert_eq!(told(&before, &after, ALL), expected, "{before} to {after}");
        }
    }

    #[test]
    fn what_somebody_else_did_is_not_told_as_ours() {
        let more = json!({"replicas": 5, "gateway": {"image": "b"}});
        assert_eq!(told(&json!({}), &more, ALL).len(), 2);
        assert_eq!(told(&json!({}), &more, &["Service demo"]), [""; 0]);
    }

    #[test]
    fn a_secret_that_changed_is_told_without_its_value() {
        let mut before = live(built(&json!({})));
        let after = live(built(&json!({})));
        let template = &mut before
            .redis
            .as_mut()
            .unwrap()
            .spec
            .as_mut()
            .unwrap()
            .template;
        let annotations = template.metadata.as_mut().unwrap().annotations.as_mut();
        annotations
            .unwrap()
            .insert("pushcluster.io/keys-hash".into(), "another".into());
        let change = Change {
            object: "StatefulSet demo-redis".into(),
            what: What::Created,
        };
        let acts = disruptions(&before, &after, &[change]);
        assert!(acts[0].note.ends_with(READ_AT_START), "{acts:?}");
    }
}
