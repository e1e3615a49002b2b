//! Tokens: a JSON Web Token (RFC 7519) to the user it names. Pure: keys and the time are arguments.
//!
//! `signature` pins keys to algorithms, `read` takes keys out of texts, `keys` chooses the one that a token is for.

use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{DeserializeOwned, Error, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::message::ConnectionId;
use crate::name::check_user;
use crate::policy::Grants;

use keys::KeySet;
use signature::Algorithm;

pub mod keys;
pub mod read;
pub mod signature;

/// Longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// What a token must say, beyond being signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whether a connection may stay without a token.
    pub anonymous: bool,
    /// `iss` must be one of these. Empty: any.
    pub issuers: Vec<String>,
    /// One of `aud` must be one of these. Empty: any.
    pub audiences: Vec<String>,
    /// A clock of another machine may be this far from ours: a token counts so much earlier and longer than it says.
    pub leeway_seconds: u64,
}

/// Who may connect.
pub struct Verifier {
    policy: Policy,
    /// Replaced as a whole when keys change, by who reads files and asks servers. Readers never wait for that: a
    /// verification uses the set that it began with.
    keys: Arc<ArcSwap<KeySet>>,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub user: Arc<str>,
    /// Seconds since the Unix epoch. None: the token has no end.
    pub expires: Option<u64>,
    /// The channels that it names, where a policy asks for that.
    pub grants: Option<Arc<Grants>>,
}

/// Why a token is refused; the client sees it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("token refused: this gateway accepts none")]
    NoKey,
    #[error("token not looked at: this gateway has not got its keys yet, try again")]
    NoKeyYet,
    #[error("token refused: it is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    #[error("token refused: it is not a signed JSON Web Token")]
    Malformed,
    #[error("token refused: no key of this gateway is for its algorithm")]
    Algorithm,
    #[error("token refused: the key that it names (`kid`) is not known here")]
    UnknownKey,
    #[error("token refused: it names no key (`kid`), and there are too many to try")]
    Unnamed,
    #[error("token refused: its signature is wrong")]
    Signature,
    #[error("token refused: it has expired")]
    Expired,
    #[error("token refused: it is not valid yet")]
    NotYet,
    #[error("token refused: its issuer (`iss`) is none that counts here")]
    Issuer,
    #[error("token refused: it is not for this gateway (`aud`)")]
    Audience,
    #[error("token refused: `sub` {0}")]
    BadUser(String),
}

impl TokenError {
    /// Every cause, in the order of [`TokenError::index`]: labels of a metric.
    pub const CAUSES: [&str; 13] = [
        "no_key",
        "no_key_yet",
        "too_long",
        "malformed",
        "algorithm",
        "unknown_key",
        "unnamed_key",
        "signature",
        "expired",
        "not_yet",
        "issuer",
        "audience",
        "user",
    ];

    /// Its place in [`TokenError::CAUSES`].
    pub fn index(&self) -> usize {
        match self {
            TokenError::NoKey => 0,
            TokenError::NoKeyYet => 1,
            TokenError::TooLong => 2,
            TokenError::Malformed => 3,
            TokenError::Algorithm => 4,
            TokenError::UnknownKey => 5,
            TokenError::Unnamed => 6,
            TokenError::Signature => 7,
            TokenError::Expired => 8,
            TokenError::NotYet => 9,
            TokenError::Issuer => 10,
            TokenError::Audience => 11,
            TokenError::BadUser(_) => 12,
        }
    }

    /// Whether newer keys could change it.
    pub fn wants_keys(&self) -> bool {
        matches!(self, TokenError::UnknownKey | TokenError::NoKeyYet)
    }
}

/// RFC 7515 section 4.1.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood. None is here, so a token that has this is refused (section 4.1.11).
    crit: Option<IgnoredAny>,
}

/// RFC 7519 section 4.1.
#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
    sub: Option<String>,
    #[serde(default)]
    aud: Audience,
    exp: Option<f64>,
    nbf: Option<f64>,
    #[serde(default, deserialize_with = "object")]
    pushcluster: Option<Grants>,
}

/// An object or nothing: an array, member by position, grants nobody anything.
fn object<'de, D: Deserializer<'de>>(claim: D) -> Result<Option<Grants>, D::Error> {
    let members = Option::<Map<String, Value>>::deserialize(claim)?;
    let grants = members.map(|members| Grants::deserialize(Value::Object(members)));
    grants.transpose().map_err(D::Error::custom)
}

#[derive(Deserialize, Default)]
#[serde(untagged)]
enum Audience {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

impl Verifier {
    pub fn new(policy: Policy, keys: Arc<ArcSwap<KeySet>>) -> Self {
        Verifier { policy, keys }
    }

    /// With one secret, for tests; 32 bytes at least.
    #[cfg(test)]
    pub fn hs256(key: Option<&[u8]>, anonymous: bool) -> Result<Self, signature::BadKey> {
        let key = key.map(|key| signature::Key::secret(Algorithm::Hs256, None, key));
        let keys = KeySet::new(
            key.into_iter().collect::<Result<_, _>>()?,
            keys::Remote::None,
        );
        let policy = Policy {
            anonymous,
            issuers: Vec::new(),
            audiences: Vec::new(),
            leeway_seconds: 5,
        };
        let keys = keys.expect("one key is not too many");
        Ok(Verifier::new(policy, Arc::new(ArcSwap::from_pointee(keys))))
    }

    /// Whether a connection may stay without a token.
    pub fn anonymous(&self) -> bool {
        self.policy.anonymous
    }

    /// When a token that names this end stops counting, both in seconds since the Unix epoch.
    pub fn end(&self, expires: u64) -> u64 {
        expires.saturating_add(self.policy.leeway_seconds)
    }

    /// `now`: seconds since the Unix epoch.
    pub fn verify(&self, token: &str, now: u64) -> Result<Identity, TokenError> {
        self.policy.verify(&self.keys.load(), token, now)
    }
}

impl Policy {
    /// `now`: seconds since the Unix epoch.
    pub fn verify(&self, keys: &KeySet, token: &str, now: u64) -> Result<Identity, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        // JWS compact serialization (RFC 7515 section 7.1).
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let header: Header = json(header)?;
        if header.crit.is_some() {
            return Err(TokenError::Malformed);
        }
        let signature = decode(signature)?;
        let claimed = Algorithm::named(&header.alg);
        keys.prove(
            claimed,
            header.kid.as_deref(),
            signed.as_bytes(),
            &signature,
        )?;
        self.judge(json(claims)?, now)
    }

    /// What a token says whose signature is right.
    fn judge(&self, claims: Claims, now: u64) -> Result<Identity, TokenError> {
        // NumericDate may have a fraction (RFC 7519 section 2).
        let (expires, not_before) = (claims.exp.map(whole_seconds), claims.nbf.map(whole_seconds));
        let leeway = self.leeway_seconds;
        if expires.is_some_and(|expires| expires.saturating_add(leeway) <= now) {
            return Err(TokenError::Expired);
        }
        if not_before.is_some_and(|begin| begin > now.saturating_add(leeway)) {
            return Err(TokenError::NotYet);
        }
        let counts = |list: &[String], name: &String| list.is_empty() || list.contains(name);
        if !self.issuers.is_empty() && claims.iss.is_none_or(|iss| !counts(&self.issuers, &iss)) {
            return Err(TokenError::Issuer);
        }
        let named = match &claims.aud {
            Audience::None => self.audiences.is_empty(),
            Audience::One(name) => counts(&self.audiences, name),
            Audience::Many(names) => {
                self.audiences.is_empty() || names.iter().any(|name| counts(&self.audiences, name))
            }
        };
        if !named {
            return Err(TokenError::Audience);
        }
        let user = claims
            .sub
            .ok_or_else(|| TokenError::BadUser("is missing".into()))?;
        check_user(&user).map_err(|error| TokenError::BadUser(error.to_string()))?;
        if user.starts_with(ConnectionId::SIGIL) {
            return Err(TokenError::BadUser(format!(
                "begins with `{}`, as only connections do",
                ConnectionId::SIGIL
            )));
        }
        Ok(Identity {
            user: user.into(),
            expires,
            grants: claims.pushcluster.map(Arc::new),
        })
    }
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenError::Malformed)
}

/// A JSON object, as header and claims must be (RFC 7515 section 5.2, RFC 7519 section 7.2). serde would also take an
/// array, member by position.
fn json<T: DeserializeOwned>(part: &str) -> Result<T, TokenError> {
    let json = decode(part)?;
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(TokenError::Malformed);
    }
    serde_json::from_slice(&json).map_err(|_| TokenError::Malformed)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` from f64 saturates, which is what is wanted"
)]
fn whole_seconds(date: f64) -> u64 {
    date as u64
}

#[cfg(test)]
#[path = "auth/signers_tests.rs"]
mod signers;
#[cfg(test)]
#[path = "auth/auth_tests.rs"]
#[expect(clippy::too_many_lines, reason = "tables")]
mod tests;
