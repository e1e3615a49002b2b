//! Which passwords each Redis and Sentinel of ours accepts from gateways, and having it accept those that it should. What
//! a Redis is told lasts until it restarts; then it has what the files of its pod say, which are the same, a little later.

use std::collections::BTreeSet;
use std::fmt;

use crds::RedisMode;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use redis_protocol::resp2::types::{BytesFrame, Resp2Frame};
use ring::digest::{SHA256, digest};

use super::build::redis_cluster::shard_number;
use super::build::sentinel::{GATEWAY_USER, REDIS_PORT, SENTINEL_PORT};
use super::name;
use super::observe::Observed;
use super::speak::{Admin, Place, SpeakError, Speaker, in_time, running_at};
use super::status::is_of;
use crate::failure::line;

/// The containers in pods of Redis that gateways come to, and their ports.
const CONTAINERS: [(&str, u16); 2] = [("redis", REDIS_PORT), (SENTINEL, SENTINEL_PORT)];
const SENTINEL: &str = "sentinel";

/// The gateways' user at one Redis or Sentinel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisUser {
    pub pod: String,
    /// Its container there.
    pub container: &'static str,
    pub place: Place,
    /// SHA-256 of each password that it accepts, as ACL GETUSER has it; or why that is not known.
    pub accepts: Result<BTreeSet<String>, String>,
    /// The certificate that it shows, in DER; None without TLS, and for one that did not answer.
    pub shows: Option<Vec<u8>>,
}

impl fmt::Display for RedisUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in pod {}", self.container, self.pod)
    }
}

/// As whom gateways come.
pub fn user(mode: RedisMode) -> &'static str {
    match mode {
        RedisMode::Standalone | RedisMode::External => "default",
        RedisMode::Sentinel | RedisMode::Cluster => GATEWAY_USER,
    }
}

/// As ACL GETUSER has them (redis.io/docs/latest/commands/acl-getuser).
pub fn hashes(passwords: &[&str]) -> BTreeSet<String> {
    let hash = |password: &&str| {
        let digest = digest(&SHA256, password.as_bytes());
        let bytes = digest.as_ref().iter();
        bytes.map(|byte| format!("{byte:02x}")).collect()
    };
    passwords.iter().map(hash).collect()
}

/// Every Redis of ours that runs: its pod, its shard (0 where there is one), its place.
pub fn redis(pods: &[Pod], admin: &Admin) -> Vec<(String, usize, Place)> {
    let pods = pods.iter().filter(|pod| is_of(pod, "redis"));
    let places = pods.filter_map(|pod| {
        let address = running_at(pod, CONTAINERS[0].0)?;
        let shard = shard_number(pod.labels()).unwrap_or(0);
        Some((pod.name_any(), shard, admin.at(&address, REDIS_PORT)))
    });
    places.collect()
}

/// Asks each that runs and is to stay, all at once.
pub async fn look(pods: &[Pod], mode: RedisMode, admin: &Admin) -> Vec<RedisUser> {
    let staying = |pod: &&Pod| is_of(pod, "redis") && pod.metadata.deletion_timestamp.is_none();
    let pods = pods.iter().filter(staying);
    let places = pods.flat_map(|pod| {
        let there = CONTAINERS.into_iter().filter_map(move |(container, port)| {
            let address = running_at(pod, container)?;
            Some((pod.name_any(), container, admin.at(&address, port)))
        });
        there.collect::<Vec<_>>()
    });
    let asked = places.map(|(pod, container, place)| async move {
        let asking = ask(&place, user(mode), &admin.password);
        let (accepts, shows) = match in_time(&place.address, asking).await {
            Ok((accepts, shows)) => (Ok(accepts), shows),
            Err(error) => (Err(line(&error)), None),
        };
        RedisUser {
            accepts,
            shows,
            pod,
            container,
            place,
        }
    });
    let mut users = join_all(asked).await;
    users.sort_by(|one, other| (&one.pod, one.container).cmp(&(&other.pod, other.container)));
    users
}

/// Passwords that it accepts, and the certificate that it shows.
type Answer = (BTreeSet<String>, Option<Vec<u8>>);

async fn ask(place: &Place, user: &str, password: &str) -> Result<Answer, SpeakError> {
    let mut speaker = Speaker::open(place, password).await?;
    let answer = speaker.send(&[b"ACL", b"GETUSER", user.as_bytes()]).await?;
    let accepts = passwords(&answer).ok_or_else(|| SpeakError::Strange {
        address: place.address.clone(),
        command: "ACL GETUSER".into(),
    })?;
    Ok((accepts, speaker.shown))
}

/// What ACL GETUSER says of passwords: names and values in turn.
fn passwords(answer: &BytesFrame) -> Option<BTreeSet<String>> {
    let BytesFrame::Array(fields) = answer else {
        return None;
    };
    let mut pairs = fields.chunks_exact(2);
    let pair = pairs.find(|pair| pair[0].as_str() == Some("passwords"))?;
    let BytesFrame::Array(hashes) = &pair[1] else {
        return None;
    };
    let hashes = hashes.iter().map(|hash| hash.as_str().map(str::to_owned));
    hashes.collect()
}

/// Has each accept what the Secret says, and nothing else. Whether one was told.
pub async fn tell(observed: &Observed) -> bool {
    let keys = &observed.keys;
    let (Some(password), Some(admin)) = (&keys.redis_password, &keys.redis_admin_password) else {
        return false;
    };
    let wanted = hashes(&keys.passwords.accepted(password));
    let others = observed.redis_users.iter();
    let others = others.filter(|user| user.accepts.as_ref().is_ok_and(|has| *has != wanted));
    let user = user(observed.cluster.spec.redis.mode);
    let told = others.map(|one| {
        let wanted = &wanted;
        async move {
            let telling = set(one, user, wanted, admin);
            match in_time(&one.place.address, telling).await {
                Ok(()) => tracing::info!(
                    object = name(&observed.cluster),
                    "{one} accepts {} passwords of gateways",
                    wanted.len()
                ),
                // Tried again with the next look.
                Err(error) => {
                    tracing::warn!(object = name(&observed.cluster), "{one}: {}", line(&error));
                }
            }
        }
    });
    !join_all(told).await.is_empty()
}

/// One command, so that there is no moment at which a password counts that should not, or one that should does not.
/// It ends no connection.
async fn set(
    one: &RedisUser,
    user: &str,
    wanted: &BTreeSet<String>,
    admin: &str,
) -> Result<(), SpeakError> {
    let mut speaker = Speaker::open(&one.place, admin).await?;
    let rules = wanted.iter().map(|hash| format!("#{hash}"));
    let rules: Vec<String> = ["resetpass".to_owned()].into_iter().chain(rules).collect();
    let begin = ["ACL", "SETUSER", user];
    let words: Vec<&str> = begin
        .into_iter()
        .chain(rules.iter().map(String::as_str))
        .collect();
    speaker.ask(&words).await?;
    if one.container == SENTINEL {
        // It starts again from a file of its own, which it would write at some other time.
        speaker.ask(&["SENTINEL", "FLUSHCONFIG"]).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
