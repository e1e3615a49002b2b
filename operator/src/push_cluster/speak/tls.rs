//! TLS of the operator's own connections to Redis and Sentinels.

use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Whom the operator trusts, and for which name.
#[derive(Clone)]
pub struct Tls {
    name: ServerName<'static>,
    bundle: String,
    config: Arc<ClientConfig>,
}

impl Tls {
    /// `name`: what every Redis of the PushCluster has in its certificate, so that a pod is asked at its address. `bundle`:
    /// certificates of authorities in PEM. None for what is none of either.
    pub fn of(name: &str, bundle: &str) -> Option<Tls> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            roots.add(root.ok()?).ok()?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let mut config = config
            .with_safe_default_protocol_versions()
            .ok()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Which certificate is shown is only seen in a handshake that is whole.
        config.resumption = Resumption::disabled();
        Some(Tls {
            name: ServerName::try_from(name.to_owned()).ok()?,
            bundle: bundle.to_owned(),
            config: Arc::new(config),
        })
    }

    /// And the certificate that was shown, in DER.
    pub(super) async fn handshake(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Option<Vec<u8>>)> {
        let connector = TlsConnector::from(self.config.clone());
        let stream = connector.connect(self.name.clone(), stream).await?;
        let shown = stream.get_ref().1.peer_certificates();
        let shown = shown.and_then(|chain| chain.first());
        let shown = shown.map(|leaf| leaf.to_vec());
        Ok((stream, shown))
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Tls) -> bool {
        (&self.name, &self.bundle) == (&other.name, &other.bundle)
    }
}

impl Eq for Tls {}

impl std::fmt::Debug for Tls {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Tls({:?})", self.name)
    }
}
