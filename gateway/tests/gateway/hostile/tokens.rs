//! Tokens that must not be believed, and why.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::program::{HS256_KEY, token};

/// A token and the cause under which its refusal is counted.
pub struct Row {
    pub name: &'static str,
    pub token: String,
    pub cause: &'static str,
}

pub fn rows() -> Vec<Row> {
    let row = |(name, token, cause)| Row { name, token, cause };
    forged().into_iter().chain(badly_said()).map(row).collect()
}

type Said = (&'static str, String, &'static str);

/// Not signed, or not by whom it counts.
fn forged() -> Vec<Said> {
    let good = token("mallory", 3_600);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let admin = part(&claims_of("admin"));
    let unsigned = |alg: &str| {
        let header = part(&json!({"alg": alg, "typ": "JWT"}));
        format!("{header}.{admin}.")
    };
    let by = |algorithm, key: &[u8]| sign(&Header::new(algorithm), &claims_of("admin"), key);
    let renamed = format!("{}.{claims}.{signature}", part(&json!({"alg": "RS256"})));
    vec![
        ("no token", "nonsense".to_owned(), "malformed"),
        ("two dots", "..".to_owned(), "malformed"),
        ("three letters", "a.b.c".to_owned(), "malformed"),
        ("six parts", format!("{good}.{good}"), "signature"),
        ("no signature", signed.to_owned(), "malformed"),
        ("alg none", unsigned("none"), "algorithm"),
        ("alg None", unsigned("None"), "algorithm"),
        ("no alg at all", unsigned(""), "algorithm"),
        ("an empty signature", format!("{signed}."), "signature"),
        (
            "another user",
            format!("{header}.{admin}.{signature}"),
            "signature",
        ),
        ("another key", by(Algorithm::HS256, &[7; 32]), "signature"),
        (
            "our key, another algorithm",
            by(Algorithm::HS512, HS256_KEY),
            "algorithm",
        ),
        ("another algorithm is claimed", renamed, "algorithm"),
        (
            "too long",
            format!("{header}.{}.{signature}", "A".repeat(9_000)),
            "too_long",
        ),
    ]
}

/// Signed as it should be.
fn badly_said() -> Vec<Said> {
    let by = |claims: Value| sign(&Header::default(), &claims, HS256_KEY);
    let with = |name: &str, value: Value| {
        let mut claims = claims_of("mallory");
        claims[name] = value;
        by(claims)
    };
    let critical = json!({"alg": "HS256", "crit": ["b64"]});
    let critical = format!("{}.{}.AAAA", part(&critical), part(&claims_of("admin")));
    vec![
        ("expired", token("mallory", -60), "expired"),
        ("expired in 1970", with("exp", json!(0)), "expired"),
        ("not yet", with("nbf", json!(u32::MAX)), "not_yet"),
        (
            "an end that is no number",
            with("exp", json!("never")),
            "malformed",
        ),
        ("a user that is no text", with("sub", json!(7)), "malformed"),
        ("nobody", with("sub", Value::Null), "user"),
        ("an empty user", with("sub", json!("")), "user"),
        ("a connection as a user", with("sub", json!("~x.1")), "user"),
        (
            "an invisible user",
            with("sub", json!("ann\u{200b}")),
            "user",
        ),
        ("a long user", with("sub", json!("x".repeat(251))), "user"),
        (
            "claims that are no object",
            by(json!(["mallory"])),
            "malformed",
        ),
        ("critical extensions", critical, "malformed"),
    ]
}

fn claims_of(user: &str) -> Value {
    json!({"sub": user, "exp": u32::MAX})
}

fn part(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

fn sign(header: &Header, claims: &Value, key: &[u8]) -> String {
    jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(key)).unwrap()
}
