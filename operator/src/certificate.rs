//! Certificates that the operator issues and renews: an authority of its own, whose certificate those are told who come,
//! and a leaf, which is served. Values in, values out; time is an argument.
//!
//! A new authority is told before anything is signed by it, so that nobody ever distrusts what is served: it goes into the
//! bundle, the bundle to who comes, then comes a leaf of its making, and the old one is forgotten last.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

pub const DAY: i64 = 86_400;
/// Clocks of other machines may be behind.
const BACKDATED: i64 = 3_600;
/// Seconds after which everybody who serves it has read a new leaf.
const READ_BY_ALL: i64 = 300;

/// What a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// Common name of the leaf, and begins that of the authority.
    pub name: &'static str,
    /// Seconds. Replaced when half of it is over.
    pub authority_life: i64,
    /// Seconds. Replaced when two thirds of it are over.
    pub leaf_life: i64,
    /// Whether who serves with the leaf also comes with it.
    pub is_shown_by_clients: bool,
}

/// Keys of the Secret.
pub const BUNDLE: &str = "ca.crt";
const AUTHORITY_KEY: &str = "ca.key";
pub const LEAF: &str = "tls.crt";
pub const LEAF_KEY: &str = "tls.key";

/// All in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Held {
    /// Certificates of authorities, the newest first.
    pub bundle: String,
    /// The newest one's. Empty: it is not ours.
    pub authority_key: String,
    pub leaf: String,
    pub leaf_key: String,
}

/// The next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    Nothing,
    /// All of it: there is nothing that can be kept.
    Everything,
    /// One more authority, of which nothing is signed yet.
    Authority,
    Leaf,
    /// Authorities that have signed nothing that is served.
    Forgetting,
}

#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("making a certificate failed")]
    Made(#[from] rcgen::Error),
    #[error("a certificate cannot be read: {0}")]
    Unreadable(String),
}

/// Keys are in no log.
impl std::fmt::Debug for Held {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Held").finish_non_exhaustive()
    }
}

impl Held {
    #[must_use]
    pub fn of(secret: &Secret) -> Option<Held> {
        let entries = secret.data.as_ref()?;
        let text = |key: &str| String::from_utf8(entries.get(key)?.0.clone()).ok();
        Some(Held {
            bundle: text(BUNDLE)?,
            authority_key: text(AUTHORITY_KEY).unwrap_or_default(),
            leaf: text(LEAF)?,
            leaf_key: text(LEAF_KEY)?,
        })
    }

    #[must_use]
    pub fn entries(&self) -> BTreeMap<String, ByteString> {
        [
            (BUNDLE, &self.bundle),
            (AUTHORITY_KEY, &self.authority_key),
            (LEAF, &self.leaf),
            (LEAF_KEY, &self.leaf_key),
        ]
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(key, text)| (key.to_owned(), ByteString(text.clone().into_bytes())))
        .collect()
    }
}

/// What a certificate says of itself. Times in seconds since 1970.
struct Read {
    subject: String,
    issuer: String,
    begins: i64,
    ends: i64,
    hosts: Vec<String>,
}

fn read(pem: &str) -> Result<Vec<Read>, CertificateError> {
    let unreadable = |why: String| CertificateError::Unreadable(why);
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .map(|der| {
            let der = der.map_err(|e| unreadable(e.to_string()))?;
            let parsed = X509Certificate::from_der(&der);
            let (_, certificate) = parsed.map_err(|e| unreadable(e.to_string()))?;
            let names = certificate.subject_alternative_name().ok().flatten();
            let names = names.iter().flat_map(|names| &names.value.general_names);
            Ok(Read {
                subject: certificate.subject().to_string(),
                issuer: certificate.issuer().to_string(),
                begins: certificate.validity().not_before.timestamp(),
                ends: certificate.validity().not_after.timestamp(),
                hosts: names.filter_map(host).collect(),
            })
        })
        .collect()
}

fn host(name: &x509_parser::prelude::GeneralName<'_>) -> Option<String> {
    match name {
        x509_parser::prelude::GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    }
}

/// `told`: whether all who come know the bundle. `now`: seconds since 1970.
#[must_use]
pub fn due(held: &Held, kind: &Kind, hosts: &[String], told: bool, now: i64) -> Due {
    let (Ok(authorities), Ok(leaves)) = (read(&held.bundle), read(&held.leaf)) else {
        return Due::Everything;
    };
    let (Some(newest), Some(leaf)) = (authorities.first(), leaves.first()) else {
        return Due::Everything;
    };
    // Of a leaf that is not ours the key may be one that we could not make.
    let unusable = KeyPair::from_pem(&held.authority_key).is_err()
        || PrivateKeyDer::from_pem_slice(held.leaf_key.as_bytes()).is_err();
    if newest.ends <= now || unusable {
        return Due::Everything;
    }
    if newest.ends - now < kind.authority_life / 2 {
        return Due::Authority;
    }
    let is_newest = leaf.issuer == newest.subject;
    let names_all = hosts.iter().all(|host| leaf.hosts.contains(host));
    let serves = names_all && leaf.ends - now > kind.leaf_life / 3;
    if !(is_newest && serves) {
        // What nobody can verify would be worse than what ends soon.
        return if told { Due::Leaf } else { Due::Nothing };
    }
    let in_use = now - leaf.begins > BACKDATED + READ_BY_ALL;
    if authorities.len() > 1 && in_use {
        return Due::Forgetting;
    }
    Due::Nothing
}

/// Does what is due.
pub fn renewed(
    held: Option<&Held>,
    due: Due,
    (kind, hosts): (&Kind, &[String]),
    now: i64,
) -> Result<Held, CertificateError> {
    let Some(held) = held.filter(|_| due != Due::Everything) else {
        let (bundle, authority_key) = authority(kind, now)?;
        let (leaf, leaf_key) = leaf((&bundle, &authority_key), kind, hosts, now)?;
        return Ok(Held {
            bundle,
            authority_key,
            leaf,
            leaf_key,
        });
    };
    let mut next = held.clone();
    match due {
        Due::Nothing | Due::Everything => {}
        Due::Authority => {
            let (newest, key) = authority(kind, now)?;
            next.bundle = newest + &held.bundle;
            next.authority_key = key;
        }
        Due::Leaf => {
            let signs = (held.bundle.as_str(), held.authority_key.as_str());
            (next.leaf, next.leaf_key) = leaf(signs, kind, hosts, now)?;
        }
        Due::Forgetting => {
            const END: &str = "-----END CERTIFICATE-----";
            let first = held.bundle.split_inclusive(END).next();
            next.bundle = format!("{}\n", first.unwrap_or_default().trim());
        }
    }
    Ok(next)
}

fn valid(params: &mut CertificateParams, now: i64, life: i64) {
    let after_1970 = |seconds: i64| {
        date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds.max(0).unsigned_abs())
    };
    params.not_before = after_1970(now - BACKDATED);
    params.not_after = after_1970(now + life);
}

/// Each has a name of its own: by it a leaf says who signed it.
fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Certificate and key.
fn authority(kind: &Kind, now: i64) -> Result<(String, String), CertificateError> {
    let key = KeyPair::generate()?;
    let name = format!("{}-{now}-{:08x}", kind.name, rand::random::<u32>());
    let mut params = authority_params(&name);
    valid(&mut params, now, kind.authority_life);
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// Signed by the newest authority of a bundle, with its key.
fn leaf(
    (bundle, authority_key): (&str, &str),
    kind: &Kind,
    hosts: &[String],
    now: i64,
) -> Result<(String, String), CertificateError> {
    let subject = read(bundle)?
        .into_iter()
        .next()
        .map(|newest| newest.subject);
    let subject = subject.unwrap_or_default();
    let name = subject.strip_prefix("CN=").unwrap_or(&subject);
    let issuer = Issuer::new(authority_params(name), KeyPair::from_pem(authority_key)?);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = DistinguishedName::new();
    // Not a host: it may be longer than a common name can be (64 characters), and nobody looks here for it.
    params
        .distinguished_name
        .push(DnType::CommonName, kind.name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    if kind.is_shown_by_clients {
        let client = ExtendedKeyUsagePurpose::ClientAuth;
        params.extended_key_usages.push(client);
    }
    params.use_authority_key_identifier_extension = true;
    valid(&mut params, now, kind.leaf_life);
    Ok((params.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
}

#[cfg(test)]
mod tests;
