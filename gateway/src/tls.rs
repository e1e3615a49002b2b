//! TLS for clients: certificate and key from files, exchanged while the gateway runs. The handshake is here; what
//! follows it is in [`crate::engine`].

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use gateway_config::Tls as Section;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use ring::digest::{SHA256, digest};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{ring as provider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client};

/// How often the files are read. They are not watched: a mounted Secret changes by the swap of a link two folders
/// up, which watchers of the file never hear of.
const EVERY: Duration = Duration::from_secs(2);

/// `listen.tls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    certificate: String,
    key: String,
}

/// Files that can be served with.
#[derive(Debug)]
pub struct Prepared {
    pub files: Files,
    pub first: CertifiedKey,
}

/// Why there is nothing to serve with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("read {path}: {cause}")]
    Read { path: String, cause: io::Error },
    #[error("{path}: {cause}")]
    Pem { path: String, cause: pem::Error },
    #[error("{path} holds no certificate")]
    NoCertificate { path: String },
    #[error("use {certificate} with {key}: {cause}")]
    Pair {
        certificate: String,
        key: String,
        cause: rustls::Error,
    },
}

impl Files {
    /// None: no TLS. The rules of gateway-config see to it that it is both or none.
    pub fn of(section: &Section) -> Option<Files> {
        (!section.certificate_file.is_empty()).then(|| Files {
            certificate: section.certificate_file.clone(),
            key: section.key_file.clone(),
        })
    }

    /// What they hold now. Blocks.
    pub fn prepare(self) -> Result<Prepared, TlsError> {
        let first = self.load()?;
        Ok(Prepared { files: self, first })
    }

    fn load(&self) -> Result<CertifiedKey, TlsError> {
        let pem = |path: &String| {
            let path = path.clone();
            move |cause| TlsError::Pem { path, cause }
        };
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(&read(&self.certificate)?)
                .collect::<Result<_, _>>()
                .map_err(pem(&self.certificate))?;
        if chain.is_empty() {
            let path = self.certificate.clone();
            return Err(TlsError::NoCertificate { path });
        }
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?).map_err(pem(&self.key))?;
        // Also compares the key with the certificate.
        CertifiedKey::from_der(chain, key, &provider::default_provider()).map_err(|cause| {
            TlsError::Pair {
                certificate: self.certificate.clone(),
                key: self.key.clone(),
                cause,
            }
        })
    }

    /// Tells one content from another without keeping the key around.
    fn print(&self) -> Vec<u8> {
        // A file that cannot be read is a content of its own: `load` will say why.
        [&self.certificate, &self.key]
            .iter()
            .flat_map(|path| {
                let bytes = fs::read(path).unwrap_or_default();
                digest(&SHA256, &bytes).as_ref().to_vec()
            })
            .collect()
    }
}

fn read(path: &str) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|cause| TlsError::Read {
        path: path.to_owned(),
        cause,
    })
}

struct Counters {
    good: IntCounter,
    failed: IntCounter,
    handshakes_failed: IntCounter,
}

impl Counters {
    fn register(registry: &Registry) -> prometheus::Result<Counters> {
        let reads = IntCounterVec::new(
            Opts::new(
                "pushcluster_tls_certificate_reads_total",
                "Times that the certificate or its key had changed. After `failed` the one from before stays.",
            ),
            &["result"],
        )?;
        let handshakes_failed = IntCounter::new(
            "pushcluster_tls_handshakes_failed_total",
            "Connections that ended in their TLS handshake.",
        )?;
        registry.register(Box::new(reads.clone()))?;
        registry.register(Box::new(handshakes_failed.clone()))?;
        Ok(Counters {
            good: reads.with_label_values(&["good"]),
            failed: reads.with_label_values(&["failed"]),
            handshakes_failed,
        })
    }
}

/// The certificate for new connections; those that are open keep what they began with.
#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// What the self-test takes for its gateway: who has this process's own certificate, and the key that goes with it.
/// Names and dates are for clients; a certificate that has run out must not stop the node from telling how it is.
#[derive(Debug)]
struct Ourselves(Arc<Current>);

impl ServerCertVerifier for Ourselves {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.0.0.load().end_entity_cert()? == end_entity {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::General("another certificate".to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider::default_provider().signature_verification_algorithms;
        verify_tls12_signature(message, cert, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider::default_provider().signature_verification_algorithms;
        verify_tls13_signature(message, cert, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Does the handshakes. Cloning shares everything.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    /// For the self-test.
    connector: TlsConnector,
    counters: Arc<Counters>,
}

/// Why TLS does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("start of TLS: {0}")]
    Rustls(#[from] rustls::Error),
    #[error("start of TLS: register metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl Tls {
    /// Serves with `prepared`, and with what its files hold later. Needs a tokio runtime, and ends with it.
    pub fn start(prepared: Prepared, registry: &Registry) -> Result<Tls, StartError> {
        let counters = Arc::new(Counters::register(registry)?);
        let current = Arc::new(Current(ArcSwap::from_pointee(prepared.first)));
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_cert_resolver(current.clone());
        // WebSocket begins as HTTP/1.1 (RFC 6455 section 4.1), and nothing else is spoken here.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // The client keeps what a resumption needs, and not this node: a storm of reconnects costs it no key exchange
        // with a certificate and no memory.
        config.ticketer = provider::Ticketer::new()?;
        let ourselves = Arc::new(Ourselves(current.clone()));
        let mut client =
            ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
                .with_safe_default_protocol_versions()?
                .dangerous()
                .with_custom_certificate_verifier(ourselves)
                .with_no_client_auth();
        // A resumed handshake would not show that the certificate of now can be used.
        client.resumption = Resumption::disabled();
        tokio::spawn(watch(prepared.files, current, counters.clone()));
        Ok(Tls {
            connector: TlsConnector::from(Arc::new(client)),
            acceptor: TlsAcceptor::from(Arc::new(config)),
            counters,
        })
    }

    /// The handshake, at most so long.
    pub async fn accept(
        &self,
        socket: TcpStream,
        patience: Duration,
    ) -> io::Result<TlsStream<TcpStream>> {
        let handshake = tokio::time::timeout(patience, self.acceptor.accept(socket)).await;
        let accepted = handshake.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if accepted.is_err() {
            self.counters.handshakes_failed.inc();
        }
        accepted
    }

    /// The other side of a handshake with this same process.
    pub async fn connect_to_ourselves(
        &self,
        socket: TcpStream,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let name = ServerName::from(socket.peer_addr()?.ip());
        self.connector.connect(name, socket).await
    }
}

/// Puts changed files into force.
async fn watch(files: Files, current: Arc<Current>, counters: Arc<Counters>) {
    let mut pace = tokio::time::interval(EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = None;
    loop {
        pace.tick().await;
        let (read, before) = (files.clone(), known.clone());
        let look = move || {
            let print = read.print();
            // What was served with first may be older than this first look: loading again once costs nothing.
            let loaded = (before.as_ref() != Some(&print)).then(|| read.load());
            (print, loaded)
        };
        // A disk that hangs must not hang what runs beside this.
        let Ok((print, loaded)) = tokio::task::spawn_blocking(look).await else {
            continue;
        };
        let first = known.replace(print).is_none();
        match loaded {
            None => {}
            Some(Ok(pair)) => {
                current.0.store(Arc::new(pair));
                if !first {
                    counters.good.inc();
                    tracing::info!("listen.tls: new connections get the new certificate");
                }
            }
            // The two files change one after the other: then this is followed by a good one.
            Some(Err(error)) => {
                counters.failed.inc();
                tracing::warn!("listen.tls: the certificate from before stays: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_files_hold() {
        let folder = tempfile::tempdir().unwrap();
        let made = |name: &str| {
            let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
            (made.cert.pem(), made.signing_key.serialize_pem())
        };
        let ((ours, key), (_, other)) = (made("a.example"), made("b.example"));
        for (certificate, key, expected) in [
            (Some(&ours), Some(&key), "1 certificates"),
            (Some(&format!("{ours}{ours}")), Some(&key), "2 certificates"),
            (
                None,
                Some(&key),
                "read C: No such file or directory (os error 2)",
            ),
            (
                Some(&ours),
                None,
                "read K: No such file or directory (os error 2)",
            ),
            (Some(&String::new()), Some(&key), "C holds no certificate"),
            (Some(&ours), Some(&ours), "K: no items found"),
            (
                Some(&ours),
                Some(&other),
                "use C with K: keys may not be consistent: KeyMismatch",
            ),
        ] {
            let write = |name: &str, text: Option<&String>| {
                let path = folder.path().join(name);
                match text {
                    Some(text) => fs::write(&path, text).unwrap(),
                    None => fs::remove_file(&path).unwrap_or_default(),
                }
                path.display().to_string()
            };
            let files = Files {
                certificate: write("certificate", certificate),
                key: write("key", key),
            };
            let found = match files.clone().prepare() {
                Ok(prepared) => format!("{} certificates", prepared.first.cert.len()),
                Err(error) => error.to_string(),
            };
            let found = found
                .replace(&files.certificate, "C")
                .replace(&files.key, "K");
            assert_eq!(found, expected);
        }
    }
}
