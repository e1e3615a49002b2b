//! Tokens: any text, and any header and claims under a good signature.

use std::future::ready;
use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Bytes;
use crate::auth::keys::{Asked, KeySet, KeySource, Remote};
use crate::auth::signature::{Algorithm, Key};
use crate::auth::{Policy, TokenError, Verifier};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
pub(super) const NOW_SECONDS: u64 = 1_800_000_000;
const LEEWAY_SECONDS: u64 = 5;

/// There are no other keys than those of the beginning.
pub(super) struct Nowhere;

impl KeySource for Nowhere {
    fn refused(&self, _: &TokenError) {}

    fn ask(&self) -> Asked {
        Box::pin(ready(false))
    }
}

fn policy(anonymous: bool, named: bool) -> Policy {
    let list = |name: &str| Vec::from_iter(named.then(|| name.to_owned()));
    Policy {
        anonymous,
        issuers: list("https://issuer.example"),
        audiences: list("gateway"),
        leeway_seconds: LEEWAY_SECONDS,
    }
}

fn key_set() -> KeySet {
    let key = Key::secret(Algorithm::Hs256, None, SECRET).expect("it is long enough");
    KeySet::new(vec![key], Remote::None).expect("one is not too many")
}

pub(super) fn verifier(anonymous: bool) -> Verifier {
    let keys = Arc::new(ArcSwap::from_pointee(key_set()));
    Verifier::new(policy(anonymous, false), keys)
}

/// What is written as header and claims, signed.
pub(super) fn signed(header: &str, claims: &str) -> String {
    let signed = [header, claims]
        .map(|part| URL_SAFE_NO_PAD.encode(part))
        .join(".");
    let signature = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, SECRET),
        signed.as_bytes(),
    );
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// First byte: how. Then a token; or the lines of a header and of claims, to be signed.
pub fn tokens(input: &[u8]) {
    let mut input = Bytes(input);
    let how = input.byte();
    let Ok(text) = std::str::from_utf8(input.0) else {
        return;
    };
    let (policy, keys) = (policy(false, how & 2 != 0), key_set());
    if how & 1 == 0 {
        // Nobody guesses a signature, so this one must have a good one: it is among the seeds.
        let verified = policy.verify(&keys, text, NOW_SECONDS);
        assert!(
            verified.is_err() || text.ends_with(good_signature(text).as_str()),
            "{text}"
        );
        return;
    }
    let (header, claims) = text.split_once('\n').unwrap_or(("", text));
    let token = signed(header, claims);
    let Ok(identity) = policy.verify(&keys, &token, NOW_SECONDS) else {
        return;
    };
    // A general parser must see the same in it.
    let (header, claims) = (value(header), value(claims));
    assert!(header["alg"] == "HS256" || header.is_null());
    if claims.is_null() {
        return;
    }
    assert_eq!(claims["sub"], *identity.user);
    assert!(!identity.user.is_empty() && !identity.user.starts_with('~'));
    if let Some(end) = claims["exp"].as_f64() {
        assert!(
            end + LEEWAY_SECONDS as f64 + 1.0 > NOW_SECONDS as f64,
            "expired: {claims}"
        );
        assert!(identity.expires.is_some());
    }
    if let Some(begin) = claims["nbf"].as_f64() {
        assert!(
            begin < (NOW_SECONDS + LEEWAY_SECONDS) as f64 + 1.0,
            "not yet: {claims}"
        );
    }
    if !policy.issuers.is_empty() {
        assert_eq!(claims["iss"], "https://issuer.example");
        let named = |value: &Value| value == "gateway";
        let aud = &claims["aud"];
        assert!(named(aud) || aud.as_array().is_some_and(|all| all.iter().any(named)));
    }
}

/// Null for JSON that only a general parser refuses: too deep, or with a number that no double holds.
fn value(json: &str) -> Value {
    let taken = serde_json::from_str::<&RawValue>(json);
    assert!(taken.is_ok(), "taken, and no JSON: {json}");
    serde_json::from_str(json).unwrap_or_default()
}

fn good_signature(token: &str) -> String {
    let signed = token.rsplit_once('.').map_or("", |(signed, _)| signed);
    let signature = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, SECRET),
        signed.as_bytes(),
    );
    format!(".{}", URL_SAFE_NO_PAD.encode(signature))
}
