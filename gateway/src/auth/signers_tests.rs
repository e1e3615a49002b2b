//! Another library that signs, with the keys in `tests/keys`: made for these tests, used nowhere else.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken as jwt;
use jsonwebtoken::jwk::Jwk;
use serde_json::{Value, json};

pub const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
pub const OTHER_SECRET: &[u8] = b"x123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

macro_rules! key_file {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/", $name))
    };
}
pub(crate) use key_file;

/// Who signs.
#[derive(Clone, Copy)]
pub struct Signer {
    pub algorithm: jwt::Algorithm,
    pub key: &'static [u8],
}

const fn signer(algorithm: jwt::Algorithm, key: &'static [u8]) -> Signer {
    Signer { algorithm, key }
}

pub const RSA: Signer = signer(jwt::Algorithm::RS256, key_file!("rsa.pem"));
pub const RSA_OTHER: Signer = signer(jwt::Algorithm::RS256, key_file!("rsa-other.pem"));
pub const P256: Signer = signer(jwt::Algorithm::ES256, key_file!("ec-P-256.pem"));
pub const P384: Signer = signer(jwt::Algorithm::ES384, key_file!("ec-P-384.pem"));
pub const ED: Signer = signer(jwt::Algorithm::EdDSA, key_file!("ed25519.pem"));
pub const HMAC: Signer = signer(jwt::Algorithm::HS256, SECRET);

impl Signer {
    pub fn with(self, algorithm: jwt::Algorithm) -> Signer {
        Signer { algorithm, ..self }
    }

    fn encoding_key(self) -> jwt::EncodingKey {
        use jwt::Algorithm as A;
        match self.algorithm {
            A::HS256 | A::HS384 | A::HS512 => jwt::EncodingKey::from_secret(self.key),
            A::ES256 | A::ES384 => jwt::EncodingKey::from_ec_pem(self.key).unwrap(),
            A::EdDSA => jwt::EncodingKey::from_ed_pem(self.key).unwrap(),
            _ => jwt::EncodingKey::from_rsa_pem(self.key).unwrap(),
        }
    }

    pub fn token_of(self, id: Option<&str>, claims: &Value) -> String {
        let mut header = jwt::Header::new(self.algorithm);
        header.kid = id.map(str::to_owned);
        jwt::encode(&header, claims, &self.encoding_key()).unwrap()
    }

    pub fn token(self, id: Option<&str>) -> String {
        self.token_of(id, &json!({"sub": "ann"}))
    }

    /// What a key server shows of it.
    pub fn jwk(self, id: &str) -> Value {
        let mut jwk = if self.algorithm == jwt::Algorithm::EdDSA {
            // The other library cannot: the last 32 bytes of the public key are `x` (RFC 8410 section 4, RFC 8037).
            let der = pem::parse(key_file!("ed25519.public.pem")).unwrap();
            let x = URL_SAFE_NO_PAD.encode(&der.contents()[12..]);
            json!({"kty": "OKP", "crv": "Ed25519", "x": x})
        } else {
            let jwk = Jwk::from_encoding_key(&self.encoding_key(), self.algorithm).unwrap();
            serde_json::to_value(jwk).unwrap()
        };
        jwk["kid"] = id.into();
        jwk
    }
}
