//! What a Redis pod says of itself.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

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

/// How to be let in.
#[derive(Debug, Clone)]
pub struct Login {
    pub user: &'static str,
    pub password: String,
    /// Certificates of authorities in PEM, and the name that Redis is to have; None: it speaks without TLS.
    pub tls: Option<(String, String)>,
}

pub async fn role(pod: &PodAddress, login: &Login) -> Result<Role> {
    let asked = timeout(ANSWER, replication(pod, login));
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
async fn replication(pod: &PodAddress, login: &Login) -> Result<String> {
    let Some(tls) = &login.tls else {
        return ask(pod.stream(PORT).await?, pod, login).await;
    };
    let stream = with_tls(pod, PORT, tls).await?;
    ask(stream, pod, login).await
}

/// A connection with TLS; an error where what is shown is not to be trusted.
pub async fn with_tls(
    pod: &PodAddress,
    port: u16,
    (authorities, name): &(String, String),
) -> Result<TlsStream<DuplexStream>> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        roots.add(root?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.clone())?;
    let stream = pod.stream(port).await?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    connecting
        .await
        .with_context(|| format!("TLS with port {port} of {}", pod.pod))
}

async fn ask<S>(mut stream: S, pod: &PodAddress, login: &Login) -> Result<String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Login { user, password, .. } = login;
    let asked = format!("AUTH {user} {password}\r\nINFO replication\r\n");
    stream.write_all(asked.as_bytes()).await?;
    stream.flush().await?;
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
