//! Algorithms and the keys that are pinned to them (RFC 7518 section 3, RFC 8037).

use pkcs1::UintRef;
use pkcs1::der::Encode;
use ring::hmac;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};

/// What signs a token. `none` is not among them, and no token can bring it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

/// What kind of key an algorithm takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// A shared secret.
    Secret,
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// As tokens and JWKs write them (RFC 7518 section 3.1, RFC 8037 section 3.1).
const NAMES: [(&str, Algorithm); 12] = [
    ("HS256", Algorithm::Hs256),
    ("HS384", Algorithm::Hs384),
    ("HS512", Algorithm::Hs512),
    ("RS256", Algorithm::Rs256),
    ("RS384", Algorithm::Rs384),
    ("RS512", Algorithm::Rs512),
    ("PS256", Algorithm::Ps256),
    ("PS384", Algorithm::Ps384),
    ("PS512", Algorithm::Ps512),
    ("ES256", Algorithm::Es256),
    ("ES384", Algorithm::Es384),
    ("EdDSA", Algorithm::EdDsa),
];

/// Fewer bits are within reach of who can pay for it (RFC 7518 section 3.3).
pub const MIN_RSA_BITS: usize = 2_048;
/// More bits would let one signature take a shard's time, and ring verifies none.
pub const MAX_RSA_BITS: usize = 8_192;

/// Why bytes are no key for their algorithm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    #[error("the key has {found} bytes, fewer than {least}")]
    ShortSecret { found: usize, least: usize },
    #[error("the RSA key has {0} bits, fewer than {MIN_RSA_BITS}")]
    WeakRsa(usize),
    #[error("the RSA key has {0} bits, more than {MAX_RSA_BITS}")]
    HugeRsa(usize),
    #[error("its RSA modulus or exponent cannot be read")]
    Rsa,
    #[error("its point is not one of {0:?}")]
    Point(Family),
}

impl Algorithm {
    /// Exactly as registered: names are case-sensitive (RFC 7515 section 4.1.1).
    pub fn named(name: &str) -> Option<Algorithm> {
        NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, algorithm)| *algorithm)
    }

    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(_, known)| *known == self)
            .map_or("", |(name, _)| name)
    }

    pub fn family(self) -> Family {
        match self {
            Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => Family::Secret,
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512 => Family::Rsa,
            Algorithm::Es256 => Family::P256,
            Algorithm::Es384 => Family::P384,
            Algorithm::EdDsa => Family::Ed25519,
        }
    }

    /// Shortest secret, in bytes: as long as the hash (RFC 7518 section 3.2).
    fn min_secret_bytes(self) -> usize {
        match self {
            Algorithm::Hs384 => 48,
            Algorithm::Hs512 => 64,
            _ => 32,
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Algorithm::Hs384 => hmac::HMAC_SHA384,
            Algorithm::Hs512 => hmac::HMAC_SHA512,
            _ => hmac::HMAC_SHA256,
        }
    }

    /// None for secrets.
    fn public(self) -> Option<&'static dyn VerificationAlgorithm> {
        Some(match self {
            Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => return None,
            Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            Algorithm::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
            Algorithm::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
            Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
            Algorithm::Ps384 => &RSA_PSS_2048_8192_SHA384,
            Algorithm::Ps512 => &RSA_PSS_2048_8192_SHA512,
            Algorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
            Algorithm::Es384 => &ECDSA_P384_SHA384_FIXED,
            Algorithm::EdDsa => &ED25519,
        })
    }
}

impl Family {
    /// What a key without a word about its algorithm is for. None: it has to say.
    pub fn usual(self) -> Option<Algorithm> {
        match self {
            Family::Secret => None,
            Family::Rsa => Some(Algorithm::Rs256),
            Family::P256 => Some(Algorithm::Es256),
            Family::P384 => Some(Algorithm::Es384),
            Family::Ed25519 => Some(Algorithm::EdDsa),
        }
    }
}

/// One key, for one algorithm and no other: what a token's header asks for decides nothing (RFC 8725 section 3.1).
#[derive(Clone)]
pub struct Key {
    /// `kid`: tokens that name it are for this key alone.
    pub id: Option<String>,
    algorithm: Algorithm,
    material: Material,
}

#[derive(Clone)]
enum Material {
    Secret(hmac::Key),
    Public(UnparsedPublicKey<Vec<u8>>),
}

impl Key {
    /// A shared secret; `algorithm` is one of HS256, HS384 and HS512.
    pub fn secret(algorithm: Algorithm, id: Option<String>, bytes: &[u8]) -> Result<Key, BadKey> {
        let least = algorithm.min_secret_bytes();
        if bytes.len() < least {
            let found = bytes.len();
            return Err(BadKey::ShortSecret { found, least });
        }
        Ok(Key {
            id,
            algorithm,
            material: Material::Secret(hmac::Key::new(algorithm.hmac(), bytes)),
        })
    }

    /// From the two numbers, big-endian.
    pub fn rsa(
        algorithm: Algorithm,
        id: Option<String>,
        modulus: &[u8],
        exponent: &[u8],
    ) -> Result<Key, BadKey> {
        let public = pkcs1::RsaPublicKey {
            modulus: UintRef::new(modulus).map_err(|_| BadKey::Rsa)?,
            public_exponent: UintRef::new(exponent).map_err(|_| BadKey::Rsa)?,
        };
        let digits = public.modulus.as_bytes();
        let unused = digits.first().map_or(0, |first| first.leading_zeros());
        let bits = digits.len() * 8 - unused as usize;
        match bits {
            0 => return Err(BadKey::Rsa),
            1..MIN_RSA_BITS => return Err(BadKey::WeakRsa(bits)),
            MIN_RSA_BITS..=MAX_RSA_BITS => {}
            _ => return Err(BadKey::HugeRsa(bits)),
        }
        // With an even exponent, or with 1, everything or nothing is a signature.
        let exponent = public.public_exponent.as_bytes();
        if exponent.last().is_none_or(|last| last % 2 == 0) || exponent == [1] {
            return Err(BadKey::Rsa);
        }
        let der = public.to_der().map_err(|_| BadKey::Rsa)?;
        Key::public(algorithm, id, der).ok_or(BadKey::Rsa)
    }

    /// `point`: uncompressed (SEC 1 section 2.3.3) for the curves of ECDSA, 32 bytes for Ed25519.
    pub fn point(algorithm: Algorithm, id: Option<String>, point: Vec<u8>) -> Result<Key, BadKey> {
        let family = algorithm.family();
        let right = match family {
            Family::P256 => point.len() == 65 && point[0] == 4,
            Family::P384 => point.len() == 97 && point[0] == 4,
            Family::Ed25519 => point.len() == 32,
            Family::Secret | Family::Rsa => false,
        };
        if !right {
            return Err(BadKey::Point(family));
        }
        Key::public(algorithm, id, point).ok_or(BadKey::Point(family))
    }

    fn public(algorithm: Algorithm, id: Option<String>, bytes: Vec<u8>) -> Option<Key> {
        Some(Key {
            id,
            algorithm,
            material: Material::Public(UnparsedPublicKey::new(algorithm.public()?, bytes)),
        })
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether this key signed `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Material::Public(key) => key.verify(message, signature).is_ok(),
        }
    }
}
