//! Keys out of what people and key servers write: a bare secret, PEM (RFC 7468), a JWK or a set of them (RFC 7517).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;
use spki::der::Decode;
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

use super::signature::{Algorithm, BadKey, Family, Key};

/// Where keys come from decides which of them can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// On this machine: may hold secrets.
    File,
    /// Fetched: a secret that anybody can fetch is none.
    Server,
}

/// What was read.
#[derive(Default)]
pub struct Read {
    /// In the order of the text.
    pub keys: Vec<Key>,
    /// Keys of a set that are of no use here, and why: a set may hold keys for others (RFC 7517 section 5).
    pub skipped: Vec<String>,
}

/// Why there are no keys in a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("is neither PEM nor a JWK nor a JWK set")]
    Unknown,
    #[error("is PEM, not a secret: name it in auth.keyFiles")]
    PemSecret,
    #[error("is not JSON of a JWK or a JWK set: {0}")]
    Json(String),
    #[error("is PEM that cannot be read: {0}")]
    Pem(String),
    #[error("holds a private key; verifying takes the public one only")]
    Private,
    #[error("holds a PEM section {0}, which is no public key")]
    Section(String),
    #[error("holds a key of a kind that signs no tokens here: RSA, P-256, P-384 and Ed25519 do")]
    Kind,
    #[error("holds no key that can be used")]
    Empty,
    #[error("key {0} of the set has no use here: {1}")]
    Skipped(String, Box<ReadError>),
    #[error("does not say its `alg`, as a secret must")]
    NoAlgorithm,
    #[error("names `alg` {0}, which does not go with its kind")]
    Algorithm(String),
    #[error("is for something else: `use` or `key_ops` leave out signatures")]
    OtherUse,
    #[error("is a secret that comes over the network")]
    SharedSecret,
    #[error("lacks `{0}`, or it is not base64url")]
    Member(&'static str),
    #[error(transparent)]
    Bad(#[from] BadKey),
}

/// One JWK (RFC 7517 section 4, RFC 7518 section 6, RFC 8037 section 2).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    alg: Option<String>,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
    /// Present in a private key of any kind.
    d: Option<Value>,
}

/// A secret as it stands in a file; `bytes` without the line end that editors add.
pub fn secret(algorithm: Algorithm, bytes: &[u8]) -> Result<Read, ReadError> {
    // Taken as a secret, a public key would let everybody sign who can read it.
    if bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
        return Err(ReadError::PemSecret);
    }
    Ok(Read {
        keys: vec![Key::secret(algorithm, None, bytes)?],
        skipped: Vec::new(),
    })
}

/// PEM, a JWK or a JWK set; at least one key.
pub fn keys(text: &[u8], origin: Origin) -> Result<Read, ReadError> {
    let read = match text.trim_ascii_start().first() {
        Some(b'{') => json(text, origin)?,
        Some(b'-') if origin == Origin::File => pem_keys(text)?,
        // Certificates have words before them sometimes.
        _ if origin == Origin::File && contains(text, b"-----BEGIN ") => pem_keys(text)?,
        _ => return Err(ReadError::Unknown),
    };
    if read.keys.is_empty() {
        return Err(ReadError::Empty);
    }
    Ok(read)
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}

fn json(text: &[u8], origin: Origin) -> Result<Read, ReadError> {
    let bad = |e: serde_json::Error| ReadError::Json(e.to_string());
    let document: Value = serde_json::from_slice(text).map_err(bad)?;
    let Some(set) = document.get("keys") else {
        return Ok(Read {
            keys: vec![jwk(document, origin)?],
            skipped: Vec::new(),
        });
    };
    let mut read = Read::default();
    for (number, entry) in set.as_array().into_iter().flatten().enumerate() {
        let name = entry["kid"].as_str().map_or_else(
            || (number + 1).to_string(),
            // A key server chooses it, and it ends up in a log.
            |id| id.chars().take(64).collect(),
        );
        match jwk(entry.clone(), origin) {
            Ok(key) => read.keys.push(key),
            Err(why) => read
                .skipped
                .push(ReadError::Skipped(name, why.into()).to_string()),
        }
    }
    Ok(read)
}

fn jwk(json: Value, origin: Origin) -> Result<Key, ReadError> {
    if !json.is_object() {
        // serde would also take an array, member by position.
        return Err(ReadError::Json("a key must be an object".to_owned()));
    }
    let jwk: Jwk = serde_json::from_value(json).map_err(|e| ReadError::Json(e.to_string()))?;
    let signs = |ops: &Vec<String>| ops.iter().any(|op| op == "verify");
    if jwk.usage.as_ref().is_some_and(|usage| usage != "sig")
        || jwk.key_ops.as_ref().is_some_and(|ops| !signs(ops))
    {
        return Err(ReadError::OtherUse);
    }
    if jwk.d.is_some() {
        return Err(ReadError::Private);
    }
    let family = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("oct", _) if origin == Origin::Server => return Err(ReadError::SharedSecret),
        ("oct", _) => Family::Secret,
        ("RSA", _) => Family::Rsa,
        ("EC", Some("P-256")) => Family::P256,
        ("EC", Some("P-384")) => Family::P384,
        ("OKP", Some("Ed25519")) => Family::Ed25519,
        _ => return Err(ReadError::Kind),
    };
    let algorithm = match &jwk.alg {
        None => family.usual().ok_or(ReadError::NoAlgorithm)?,
        Some(name) => Algorithm::named(name)
            // RFC 9864 gives it a name that says which curve.
            .or((name == "Ed25519").then_some(Algorithm::EdDsa))
            .filter(|algorithm| algorithm.family() == family)
            .ok_or_else(|| ReadError::Algorithm(name.chars().take(32).collect()))?,
    };
    let id = jwk.kid.clone();
    let key = match family {
        Family::Secret => Key::secret(algorithm, id, &bytes("k", jwk.k.as_ref())?),
        Family::Rsa => {
            let (n, e) = (bytes("n", jwk.n.as_ref())?, bytes("e", jwk.e.as_ref())?);
            Key::rsa(algorithm, id, &n, &e)
        }
        Family::P256 | Family::P384 => {
            let (x, y) = (bytes("x", jwk.x.as_ref())?, bytes("y", jwk.y.as_ref())?);
            // Each must be as long as the curve's field (RFC 7518 section 6.2.1.2): together they are checked by length.
            if x.len() != y.len() {
                return Err(BadKey::Point(family).into());
            }
            Key::point(algorithm, id, [&[4], &x[..], &y[..]].concat())
        }
        Family::Ed25519 => Key::point(algorithm, id, bytes("x", jwk.x.as_ref())?),
    };
    Ok(key?)
}

fn bytes(name: &'static str, member: Option<&String>) -> Result<Vec<u8>, ReadError> {
    member
        .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
        .ok_or(ReadError::Member(name))
}

const RSA_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ED25519_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

fn pem_keys(text: &[u8]) -> Result<Read, ReadError> {
    let bad = |e: pem::PemError| ReadError::Pem(e.to_string());
    let mut read = Read::default();
    for section in pem::parse_many(text).map_err(bad)? {
        let der = section.contents();
        read.keys.push(match section.tag() {
            "PUBLIC KEY" => public_key(der)?,
            "RSA PUBLIC KEY" => rsa_key(der)?,
            "CERTIFICATE" => {
                // Its dates and its issuer are not looked at: that it stands in this file is why it is trusted.
                let certificate = der.into();
                let certificate = webpki::EndEntityCert::try_from(&certificate)
                    .map_err(|e| ReadError::Pem(e.to_string()))?;
                public_key(&certificate.subject_public_key_info())?
            }
            tag if tag.ends_with("PRIVATE KEY") => return Err(ReadError::Private),
            tag => return Err(ReadError::Section(tag.chars().take(64).collect())),
        });
    }
    Ok(read)
}

/// SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7, RFC 3279 section 2.3, RFC 8410 section 4).
fn public_key(der: &[u8]) -> Result<Key, ReadError> {
    let bad = |e: spki::der::Error| ReadError::Pem(e.to_string());
    let info = SubjectPublicKeyInfoRef::from_der(der).map_err(bad)?;
    let key = info.subject_public_key.raw_bytes();
    let algorithm = match (info.algorithm.oid, info.algorithm.parameters_oid().ok()) {
        (RSA_OID, _) => return rsa_key(key),
        (EC_OID, Some(P256_OID)) => Algorithm::Es256,
        (EC_OID, Some(P384_OID)) => Algorithm::Es384,
        (ED25519_OID, _) => Algorithm::EdDsa,
        _ => return Err(ReadError::Kind),
    };
    Ok(Key::point(algorithm, None, key.to_vec())?)
}

/// RSAPublicKey (RFC 8017 appendix A.1.1).
fn rsa_key(der: &[u8]) -> Result<Key, ReadError> {
    let key = pkcs1::RsaPublicKey::from_der(der).map_err(|e| ReadError::Pem(e.to_string()))?;
    let (modulus, exponent) = (key.modulus.as_bytes(), key.public_exponent.as_bytes());
    Ok(Key::rsa(Algorithm::Rs256, None, modulus, exponent)?)
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
