//! Redis and Sentinels that show another certificate than the Secret has are told to read their files again. Which one they
//! show is seen in the handshake, so a kubelet that brings the files late is waited for.

use k8s_openapi::api::core::v1::Pod;
use redis_protocol::resp2::types::{BytesFrame, Resp2Frame};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::failure::line;
use crate::push_cluster::build::sentinel::PODS;
use crate::push_cluster::name;
use crate::push_cluster::observe::Observed;
use crate::push_cluster::speak::{SpeakError, Speaker, in_time};
use crate::push_cluster::users::RedisUser;

const SENTINEL: &str = "sentinel";

/// Who answers and shows another one.
fn others(observed: &Observed) -> Vec<&RedisUser> {
    let held = observed.keys.redis_tls.as_ref();
    let Some(wanted) = held.and_then(|held| leaf(&held.leaf)) else {
        return Vec::new();
    };
    let users = observed.redis_users.iter();
    users
        .filter(|user| user.shows.as_ref().is_some_and(|shows| *shows != wanted))
        .collect()
}

fn leaf(pem: &str) -> Option<Vec<u8>> {
    let leaf = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    Some(leaf.to_vec())
}

/// Whether nobody is to be told anything.
pub fn is_at_rest(observed: &Observed) -> bool {
    others(observed).is_empty()
}

/// Whether every Redis and Sentinel was seen to show the certificate of the Secret; also without TLS.
pub(super) fn is_shown(observed: &Observed) -> bool {
    let all = observed.redis_users.iter();
    let silent = observed.keys.redis_tls.is_some() && all.clone().any(|user| user.shows.is_none());
    !silent && others(observed).is_empty()
}

/// Whom to tell now. A Redis takes its files while it runs. A Sentinel has no command for it and starts again, which it
/// does from what it has written down: one at a time, where all answer, and when the Redis beside it has shown that the
/// files are there.
fn next(observed: &Observed) -> Vec<&RedisUser> {
    let others = others(observed);
    let (sentinels, redis): (Vec<&RedisUser>, Vec<&RedisUser>) = others
        .into_iter()
        .partition(|user| user.container == SENTINEL);
    if !redis.is_empty() {
        return redis;
    }
    let answering = |user: &&RedisUser| user.container == SENTINEL && user.shows.is_some();
    if observed.redis_users.iter().filter(answering).count() < PODS {
        return Vec::new();
    }
    let ending = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
    if observed.pods.iter().any(ending) {
        return Vec::new();
    }
    let has_files = |sentinel: &&RedisUser| {
        let beside = |user: &RedisUser| user.container != SENTINEL && user.pod == sentinel.pod;
        let users = &observed.redis_users;
        users
            .iter()
            .any(|user| beside(user) && user.shows.is_some())
    };
    sentinels.into_iter().filter(has_files).take(1).collect()
}

/// Whether one was told.
pub async fn tell(observed: &Observed) -> bool {
    let Some(admin) = observed.admin() else {
        return false;
    };
    let told = next(observed);
    for user in &told {
        let object = name(&observed.cluster);
        match in_time(&user.place.address, read_again(user, &admin.password)).await {
            Ok(()) => tracing::info!(object, "{user} was told to read its certificate again"),
            // Tried again with the next look.
            Err(error) => tracing::warn!(object, "{user}: {}", line(&error)),
        }
    }
    !told.is_empty()
}

async fn read_again(user: &RedisUser, password: &str) -> Result<(), SpeakError> {
    let mut speaker = Speaker::open(&user.place, password).await?;
    if user.container == SENTINEL {
        // It answers by ending.
        return match speaker.ask(&["SHUTDOWN"]).await {
            Ok(_) | Err(SpeakError::Unreachable { .. }) => Ok(()),
            Err(error) => Err(error),
        };
    }
    // With the value that it has it reads all of its files again
    // (redis.io/docs/latest/operate/oss_and_stack/management/security/encryption).
    let has = speaker.send(&[b"CONFIG", b"GET", FILE.as_bytes()]).await?;
    let BytesFrame::Array(pair) = has else {
        return Err(strange(user));
    };
    let file = pair.get(1).and_then(Resp2Frame::as_str);
    let file = file.ok_or_else(|| strange(user))?;
    speaker.ask(&["CONFIG", "SET", FILE, file]).await.map(drop)
}

const FILE: &str = "tls-cert-file";

fn strange(user: &RedisUser) -> SpeakError {
    SpeakError::Strange {
        address: user.place.address.clone(),
        command: "CONFIG GET".into(),
    }
}

#[cfg(test)]
mod tests;
