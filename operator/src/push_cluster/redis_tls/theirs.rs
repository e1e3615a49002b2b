//! Whether a certificate that somebody made is one with which everybody reaches Redis. Pure.

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;

use crate::certificate::{BUNDLE, Held, LEAF, LEAF_KEY};

/// The error completes the sentence "names Secret x, whose …". `now`: seconds since 1970.
pub(super) fn check(theirs: &Held, hosts: &[String], now: i64) -> Result<(), String> {
    let provider = Arc::new(default_provider());
    let chain = certificates(&theirs.leaf).map_err(|why| format!("{LEAF} {why}"))?;
    let (leaf, between) = chain
        .split_first()
        .ok_or(format!("{LEAF} has no certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(theirs.leaf_key.as_bytes());
    let key = key.map_err(|_| format!("{LEAF_KEY} has no private key in PEM"))?;
    CertifiedKey::from_der(chain.clone(), key, &provider)
        .map_err(|_| format!("{LEAF_KEY} is not the key of {LEAF}"))?;
    let mut roots = RootCertStore::empty();
    for root in certificates(&theirs.bundle).map_err(|why| format!("{BUNDLE} {why}"))? {
        let added = roots.add(root);
        added.map_err(|_| format!("{BUNDLE} has a certificate that cannot be trusted"))?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build();
    let verifier = verifier.map_err(|_| format!("{BUNDLE} has no certificate"))?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.unsigned_abs()));
    for host in hosts {
        // What is for all pods is for each.
        let one = host.replacen('*', "any", 1);
        let name = ServerName::try_from(one).map_err(|_| format!("{host} is no name"))?;
        verifier
            .verify_server_cert(leaf, between, &name, &[], now)
            .map_err(|error| format!("{LEAF} would not be trusted for {host}: {error}"))?;
    }
    Ok(())
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    read.map_err(|_| "has a certificate that cannot be read".to_owned())
}
