//! What a Redis pod says of itself.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::gateway::PodAddress;

const PORT: u16 = 6379;
const ANSWER: Duration = Duration::from_secs(5);

/// What a Redis is right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Master,
    /// It follows its master.
    Replica,
    /// It has no master, or does not have all of it yet.
    Behind,
}

pub async fn role(pod: &PodAddress, user: &str, password: &str) -> Result<Role> {
    let asked = timeout(ANSWER, replication(pod, user, password));
    let text = asked
        .await
        .with_context(|| format!("Redis in {} does not answer", pod.pod))??;
    Ok(role_in(&text))
}

fn role_in(text: &str) -> Role {
    let says = |line| text.lines().any(|said| said == line);
    match (says("role:master"), says("master_link_status:up")) {
        (true, _) => Role::Master,
        (false, true) => Role::Replica,
        (false, false) => Role::Behind,
    }
}

/// `INFO replication`. Commands as plain lines, the answer a bulk string: `$length` and so many bytes
/// (redis.io/docs/latest/develop/reference/protocol-spec).
async fn replication(pod: &PodAddress, user: &str, password: &str) -> Result<String> {
    let mut stream = pod.stream(PORT).await?;
    let asked = format!("AUTH {user} {password}\r\nINFO replication\r\n");
    stream.write_all(asked.as_bytes()).await?;
    let mut received = Vec::new();
    loop {
        let count = stream.read_buf(&mut received).await?;
        let text = String::from_utf8_lossy(&received);
        ensure!(count > 0, "Redis in {} said only {text:?}", pod.pod);
        let Some((login, rest)) = text.split_once("\r\n") else {
            continue;
        };
        ensure!(login == "+OK", "Redis in {} says {login}", pod.pod);
        let Some((length, rest)) = rest.split_once("\r\n") else {
            continue;
        };
        let Some(length) = length.strip_prefix('$') else {
            bail!("Redis in {} says {length}", pod.pod);
        };
        if rest.len() >= length.parse()? {
            return Ok(rest.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_counts_when_it_follows() {
        for (text, expected) in [
            (
                "# Replication\r\nrole:master\r\nconnected_slaves:2\r\n",
                Role::Master,
            ),
            ("role:slave\r\nmaster_link_status:up\r\n", Role::Replica),
            ("role:slave\r\nmaster_link_status:down\r\n", Role::Behind),
        ] {
            assert_eq!(role_in(text), expected, "{text}");
        }
    }
}
