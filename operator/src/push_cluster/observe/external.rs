//! Whether a Redis that the operator does not run is there, lets gateways in, and is what the manifest says. Nothing is
//! changed in it.
//!
//! Of what it answers nothing is repeated but a version: whoever may write a PushCluster must not read, through its status,
//! what services say that only the operator can reach.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use crds::{ExternalRedis, ExternalTopology};
use futures::future::join_all;
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::encode::extend_encode;
use redis_protocol::resp2::types::{BytesFrame, Resp2Frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::reason::Reason;

/// How long it has to answer everything.
const DEADLINE: Duration = Duration::from_secs(3);
/// More is no answer to what is asked.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Why gateways cannot use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    pub reason: Reason,
    /// Names the address and the field.
    pub message: String,
}

/// Of several Sentinels or nodes one is enough. The error is about the first. `password`: of Redis, or of the Sentinels
/// with topology Sentinel.
pub async fn ask(redis: &ExternalRedis, password: Option<&str>) -> Result<(), Wrong> {
    let addresses = redis.addresses();
    let answers = addresses.iter().map(|address| async move {
        let said = match tokio::time::timeout(DEADLINE, talk(address, redis, password)).await {
            Ok(said) => said.map_err(|error| format!("is not reachable: {error}")),
            Err(_) => Err(format!("did not answer within {} s", DEADLINE.as_secs())),
        };
        let wrong = |reason, what: &str| Wrong {
            reason,
            message: format!("Redis {address} {what}"),
        };
        match said {
            Ok(None) => Ok(()),
            Ok(Some(said)) => match fault(redis, &said) {
                None => Ok(()),
                Some((reason, what)) => Err(wrong(reason, &what)),
            },
            Err(what) => Err(wrong(Reason::ExternalRedisUnreachable, &what)),
        }
    });
    let mut answers = join_all(answers).await;
    if answers.iter().any(Result::is_ok) || answers.is_empty() {
        return Ok(());
    }
    answers.swap_remove(0)
}

/// What it answered to each of these.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    /// To the password; None without one.
    auth: Option<BytesFrame>,
    ping: Option<BytesFrame>,
    info: Option<BytesFrame>,
    /// Of Sentinels: where the master is.
    master: Option<BytesFrame>,
}

/// None with TLS, where only that somebody listens is asked: gateways have the certificates.
async fn talk(
    address: &str,
    redis: &ExternalRedis,
    password: Option<&str>,
) -> io::Result<Option<Said>> {
    let mut stream = TcpStream::connect(address).await?;
    if redis.tls.is_some() {
        return Ok(None);
    }
    let is_sentinel = redis.topology == ExternalTopology::Sentinel;
    let user = match is_sentinel {
        true => &redis.sentinel_username,
        false => &redis.username,
    };
    let mut said = Said::default();
    if let Some(password) = password {
        let user = user.as_deref().unwrap_or("default");
        said.auth = Some(answer(&mut stream, &["AUTH", user, password]).await?);
    }
    said.ping = Some(answer(&mut stream, &["PING"]).await?);
    said.info = Some(answer(&mut stream, &["INFO", "server"]).await?);
    if is_sentinel {
        let name = redis.master_name.as_deref().unwrap_or_default();
        let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", name];
        said.master = Some(answer(&mut stream, &words).await?);
    }
    Ok(Some(said))
}

async fn answer(stream: &mut TcpStream, words: &[&str]) -> io::Result<BytesFrame> {
    let strange = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "it does not answer like a Redis",
        )
    };
    let word = |word: &&str| BytesFrame::BulkString(word.as_bytes().to_vec().into());
    let mut sent = BytesMut::new();
    let asked = BytesFrame::Array(words.iter().map(word).collect());
    extend_encode(&mut sent, &asked, false).map_err(|_| strange())?;
    stream.write_all(&sent).await?;
    let mut received = BytesMut::new();
    loop {
        if let Some((frame, ..)) = decode_bytes_mut(&mut received).map_err(|_| strange())? {
            return Ok(frame);
        }
        if stream.read_buf(&mut received).await? == 0 || received.len() > MAX_ANSWER_BYTES {
            return Err(strange());
        }
    }
}

/// Why gateways could not use who said that; completes a sentence about it.
fn fault(redis: &ExternalRedis, said: &Said) -> Option<(Reason, String)> {
    let refused = |frame: &Option<BytesFrame>, with: &str| match frame {
        Some(BytesFrame::Error(error)) => error.starts_with(with),
        _ => false,
    };
    let is_sentinel = redis.topology == ExternalTopology::Sentinel;
    let (user, secret) = match is_sentinel {
        true => ("sentinelUsername", "sentinelPasswordSecret"),
        false => ("username", "passwordSecret"),
    };
    let field = "spec.redis.external";
    if refused(&said.auth, "") {
        let what = format!(
            "lets nobody in with {field}.{user} and {field}.{secret}: change the one or the other"
        );
        return Some((Reason::ExternalRedisRefuses, what));
    }
    if refused(&said.ping, "NOAUTH") {
        return Some((
            Reason::ExternalRedisRefuses,
            format!("asks for a password: set {field}.{secret}"),
        ));
    }
    if matches!(said.master, Some(BytesFrame::Null)) {
        let what = format!("knows no master of the name in {field}.masterName");
        return Some((Reason::ExternalRedisUnsuitable, what));
    }
    let info = said
        .info
        .as_ref()
        .and_then(|info| info.as_str())
        .unwrap_or_default();
    let told = |name: &str| {
        let mut lines = info.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    let runs_as = match told("redis_mode") {
        Some("standalone") => Some(ExternalTopology::Standalone),
        Some("sentinel") => Some(ExternalTopology::Sentinel),
        Some("cluster") => Some(ExternalTopology::Cluster),
        _ => None,
    };
    if let Some(runs_as) = runs_as.filter(|runs_as| *runs_as != redis.topology) {
        let what = format!(
            "runs as {runs_as:?}, and {field}.topology says {:?}: change the one or the other",
            redis.topology
        );
        return Some((Reason::ExternalRedisUnsuitable, what));
    }
    let major: Option<u32> =
        told("redis_version").and_then(|version| version.split('.').next()?.parse().ok());
    let major = major.filter(|major| *major < 7)?;
    let what = format!("is of version {major}, and gateways need 7.0 or later");
    Some((Reason::ExternalRedisUnsuitable, what))
}

#[cfg(test)]
mod tests;
