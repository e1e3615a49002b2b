//! The certificate of Redis and Sentinels: which one there should be, and that they show it. `step` and `Circumstances` are
//! pure; `serving` reaches pods.
//!
//! Whoever trusts an authority reads it at the start, so another one is told before anything is signed by it:
//!
//! ```text
//! another authority        ─▶ it is trusted beside the one from before, and pods are replaced for it
//! every pod trusts it      ─▶ Redis and Sentinels show a certificate that it signed
//! all of them show that    ─▶ the one from before is trusted no more
//! ```
//! Another certificate of the same authority is shown at once, and replaces no pod.

use crds::{PushCluster, RedisMode};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::build::redis_tls::{TRUST, hash};
use super::build::{Names, sentinel};
use super::named::Source;
use super::observe::{Observed, StoredKeys};
use super::speak::{Admin, Tls};
use super::status::is_of;
use super::validate::Problem;
use crate::certificate::{BUNDLE, DAY, Due, Held, Kind, LEAF, LEAF_KEY, due, renewed};

mod serving;
mod theirs;

use serving::is_shown;
pub use serving::{is_at_rest, tell};

/// Where nobody names another one.
const CERTIFICATE: Kind = Kind {
    name: "pushcluster-redis",
    authority_life: 3_650 * DAY,
    leaf_life: 90 * DAY,
    // Nodes of a Cluster show it to each other.
    is_shown_by_clients: true,
};

/// What every certificate of Redis is for: the Service.
pub fn server_name(names: &Names, namespace: &str) -> String {
    format!("{}.{namespace}.svc", names.redis)
}

/// By which names gateways and the operator come.
fn asked_for(cluster: &PushCluster) -> Vec<String> {
    let names = Names::of(&cluster.name_any());
    let service = server_name(&names, &cluster.namespace().unwrap_or_default());
    let mut hosts = vec![service.clone()];
    match cluster.spec.redis.mode {
        RedisMode::Sentinel => hosts.extend(sentinel::hosts(&names)),
        // One for all, so that more shards need no other certificate.
        RedisMode::Cluster => hosts.push(format!("*.{service}")),
        RedisMode::Standalone | RedisMode::External => {}
    }
    hosts
}

/// These, and by which people may come.
fn hosts(cluster: &PushCluster) -> Vec<String> {
    let names = Names::of(&cluster.name_any());
    let mut hosts = asked_for(cluster);
    let service = server_name(&names, &cluster.namespace().unwrap_or_default());
    for host in [format!("*.{service}"), names.redis, "localhost".into()] {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

/// How the operator comes to Redis; None before there is a password, and with TLS before there is a certificate.
pub fn admin(cluster: &PushCluster, keys: &StoredKeys) -> Option<Admin> {
    let password = keys.redis_admin_password.clone()?;
    let tls = match cluster.spec.redis.tls {
        None => None,
        Some(_) => {
            let names = Names::of(&cluster.name_any());
            let name = server_name(&names, &cluster.namespace().unwrap_or_default());
            Some(Tls::of(&name, &keys.redis_tls.as_ref()?.bundle)?)
        }
    };
    Some(Admin { password, tls })
}

/// What the Secret should hold after this step; None without TLS. `now`: seconds since 1970.
pub fn step(observed: &Observed, now: i64) -> Result<Option<Held>, Problem> {
    let cluster = &observed.cluster;
    let Some(tls) = &cluster.spec.redis.tls else {
        return Ok(None);
    };
    let held = observed.keys.redis_tls.as_ref();
    let around = Circumstances {
        told: held.is_some_and(|held| is_told(&observed.pods, &held.bundle)),
        shown: is_shown(observed),
    };
    let next = match &tls.secret_name {
        None => ours(held, &hosts(cluster), around, now)?,
        Some(name) => {
            let theirs = theirs_of(observed, name);
            // What is missing is found by `validate`.
            let Some(theirs) = theirs else {
                return Ok(held.cloned());
            };
            theirs::check(&theirs, &asked_for(cluster), now).map_err(|why| Problem {
                field: "spec.redis.tls.secretName",
                message: format!("names Secret {name}, whose {why}"),
            })?;
            taken_over(held, theirs, around)
        }
    };
    Ok(Some(next))
}

/// What a step is decided on.
#[derive(Debug, Clone, Copy)]
struct Circumstances {
    /// Whether every pod trusts all that the Secret says.
    told: bool,
    /// Whether every Redis and Sentinel shows the certificate of the Secret.
    shown: bool,
}

fn ours(
    held: Option<&Held>,
    hosts: &[String],
    around: Circumstances,
    now: i64,
) -> Result<Held, Problem> {
    let step = match held {
        None => Due::Everything,
        // It was somebody else's.
        Some(held) if held.authority_key.is_empty() => Due::Authority,
        Some(held) => match due(held, &CERTIFICATE, hosts, around.told, now) {
            Due::Forgetting if !around.shown => Due::Nothing,
            due => due,
        },
    };
    renewed(held, step, (&CERTIFICATE, hosts), now).map_err(|error| Problem {
        field: "spec.redis.tls",
        message: format!("has no certificate: {}", crate::failure::line(&error)),
    })
}

/// `theirs`: what the user's Secret says.
fn taken_over(held: Option<&Held>, theirs: Held, around: Circumstances) -> Held {
    let Some(held) = held else { return theirs };
    if !held.bundle.starts_with(&theirs.bundle) {
        return Held {
            bundle: theirs.bundle + &held.bundle,
            authority_key: String::new(),
            ..held.clone()
        };
    }
    let is_theirs = held.leaf == theirs.leaf && held.leaf_key == theirs.leaf_key;
    match (is_theirs, around) {
        (false, Circumstances { told: true, .. }) => Held {
            leaf: theirs.leaf,
            leaf_key: theirs.leaf_key,
            ..held.clone()
        },
        (true, Circumstances { shown: true, .. }) => theirs,
        _ => held.clone(),
    }
}

fn theirs_of(observed: &Observed, name: &str) -> Option<Held> {
    let text = |key: &str| {
        let value = observed.referenced.get(&Source::secret(name, key))?;
        String::from_utf8(value.as_ref()?.0.clone()).ok()
    };
    Some(Held {
        // However it ends, what begins with it is told by its text.
        bundle: format!("{}\n", text(BUNDLE)?.trim()),
        authority_key: String::new(),
        leaf: text(LEAF)?,
        leaf_key: text(LEAF_KEY)?,
    })
}

/// Whether every pod that goes to a Redis has begun with these. One Redis by itself goes to none.
fn is_told(pods: &[Pod], bundle: &str) -> bool {
    let trust = hash(bundle);
    let alone = |pod: &Pod| is_of(pod, "redis") && !pod.annotations().contains_key(TRUST);
    let mut pods = pods.iter().filter(|pod| !alone(pod));
    pods.all(|pod| pod.annotations().get(TRUST) == Some(&trust))
}

/// For a preview: `word` stands for all of it.
pub fn standing_for(word: &str) -> Held {
    Held {
        bundle: word.to_owned(),
        authority_key: word.to_owned(),
        leaf: word.to_owned(),
        leaf_key: word.to_owned(),
    }
}

#[cfg(test)]
mod tests;
