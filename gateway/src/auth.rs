//! Tokens: a JSON Web Token (RFC 7519) to the user it names. Pure: keys and the time are arguments.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;

use crate::message::ConnectionId;
use crate::name::check_user;

/// Shortest HS256 key (RFC 7518 section 3.2: at least as long as the hash).
pub const MIN_HS256_KEY_BYTES: usize = 32;

/// Longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// A clock of another machine may be this far from ours: a token counts so much earlier and longer than it says.
pub const LEEWAY_SECONDS: u64 = 5;

/// Who may connect.
pub struct Verifier {
    /// None: no token is accepted.
    key: Option<DecodingKey>,
    validation: Validation,
    anonymous: bool,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub user: Arc<str>,
    /// Seconds since the Unix epoch. None: the token has no end.
    pub expires: Option<u64>,
}

/// Why a token is refused; the client sees it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("token refused: this gateway accepts none")]
    NoKey,
    #[error("token refused: it is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    #[error("token refused: its form, algorithm or signature is wrong")]
    Invalid,
    #[error("token refused: it has expired")]
    Expired,
    #[error("token refused: it is not valid yet")]
    NotYet,
    #[error("token refused: `sub` {0}")]
    BadUser(String),
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
}

#[derive(Debug, thiserror::Error)]
#[error("the key has {0} bytes, fewer than {MIN_HS256_KEY_BYTES}")]
pub struct ShortKey(usize);

impl Verifier {
    /// The algorithm is pinned: what a token's own header asks for decides nothing (RFC 8725 section 3.1).
    pub fn hs256(key: Option<&[u8]>, anonymous: bool) -> Result<Self, ShortKey> {
        if let Some(key) = key
            && key.len() < MIN_HS256_KEY_BYTES
        {
            return Err(ShortKey(key.len()));
        }
        let mut validation = Validation::new(Algorithm::HS256);
        // The library would ask the system's clock; `verify` compares with the time it is given.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        Ok(Verifier {
            key: key.map(DecodingKey::from_secret),
            validation,
            anonymous,
        })
    }

    /// Whether a connection may stay without a token.
    pub fn anonymous(&self) -> bool {
        self.anonymous
    }

    /// `now`: seconds since the Unix epoch.
    pub fn verify(&self, token: &str, now: u64) -> Result<Identity, TokenError> {
        let key = self.key.as_ref().ok_or(TokenError::NoKey)?;
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        let claims = decode::<Claims>(token, key, &self.validation)
            .map_err(|_| TokenError::Invalid)?
            .claims;
        // NumericDate may have a fraction (RFC 7519 section 2).
        let (expires, not_before) = (claims.exp.map(whole_seconds), claims.nbf.map(whole_seconds));
        if expires.is_some_and(|expires| expires.saturating_add(LEEWAY_SECONDS) <= now) {
            return Err(TokenError::Expired);
        }
        if not_before.is_some_and(|begin| begin > now.saturating_add(LEEWAY_SECONDS)) {
            return Err(TokenError::NotYet);
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
        })
    }
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
#[expect(clippy::too_many_lines, reason = "tables")]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    use super::*;

    const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn token(algorithm: Algorithm, key: &[u8], claims: &Value) -> String {
        encode(
            &Header::new(algorithm),
            claims,
            &EncodingKey::from_secret(key),
        )
        .unwrap()
    }

    #[test]
    fn a_token_names_its_user_or_is_refused() {
        let verifier = Verifier::hs256(Some(KEY), false).unwrap();
        let good = |claims: Value| token(Algorithm::HS256, KEY, &claims);
        let unsigned = format!(
            "{}.",
            good(json!({"sub": "ann"})).rsplit_once('.').unwrap().0
        );
        let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.";
        let ann = |expires| {
            Ok(Identity {
                user: "ann".into(),
                expires,
            })
        };
        for (name, token, expected) in [
            (
                "valid",
                good(json!({"sub": "ann", "exp": 1100})),
                ann(Some(1100)),
            ),
            ("without an end", good(json!({"sub": "ann"})), ann(None)),
            (
                "fraction of a second",
                good(json!({"sub": "ann", "exp": 1100.9})),
                ann(Some(1100)),
            ),
            (
                "audience is not ours to judge",
                good(json!({"sub": "ann", "aud": "x"})),
                ann(None),
            ),
            (
                "within the leeway",
                good(json!({"sub": "ann", "exp": 996})),
                ann(Some(996)),
            ),
            (
                "expired",
                good(json!({"sub": "ann", "exp": 995})),
                Err(TokenError::Expired),
            ),
            (
                "negative end",
                good(json!({"sub": "ann", "exp": -1})),
                Err(TokenError::Expired),
            ),
            (
                "not yet",
                good(json!({"sub": "ann", "nbf": 1006})),
                Err(TokenError::NotYet),
            ),
            (
                "other key",
                token(Algorithm::HS256, &[b'x'; 32], &json!({"sub": "ann"})),
                Err(TokenError::Invalid),
            ),
            (
                "other algorithm",
                token(Algorithm::HS512, KEY, &json!({"sub": "ann"})),
                Err(TokenError::Invalid),
            ),
            ("no algorithm", none.into(), Err(TokenError::Invalid)),
            ("no signature", unsigned, Err(TokenError::Invalid)),
            ("not a token", "x".into(), Err(TokenError::Invalid)),
            ("too long", "x".repeat(9000), Err(TokenError::TooLong)),
            (
                "no user",
                good(json!({"exp": 1100})),
                Err(TokenError::BadUser("is missing".into())),
            ),
            (
                "empty user",
                good(json!({"sub": ""})),
                Err(TokenError::BadUser("is empty".into())),
            ),
            (
                "user that looks like a connection",
                good(json!({"sub": "~a.1"})),
                Err(TokenError::BadUser(
                    "begins with `~`, as only connections do".into(),
                )),
            ),
            (
                "unprintable user",
                good(json!({"sub": "a\n"})),
                Err(TokenError::BadUser(
                    "has a character that cannot be printed at byte 6".into(),
                )),
            ),
        ] {
            assert_eq!(verifier.verify(&token, 1000), expected, "{name}");
        }
    }

    #[test]
    fn without_a_key_no_token_counts_and_a_short_key_is_none() {
        let verifier = Verifier::hs256(None, true).unwrap();
        assert_eq!(
            verifier.verify(&token(Algorithm::HS256, KEY, &json!({"sub": "a"})), 0),
            Err(TokenError::NoKey)
        );
        assert!(Verifier::hs256(Some(&KEY[1..]), true).is_err());
    }
}
