//! Texts of all kinds, and the keys in them.

use serde_json::{Value, json};

use super::*;
use crate::auth::signers::*;

/// What a server's text says is what a file's does.
const SAME: &str = "";
const OTHER_USE: &str = "is for something else: `use` or `key_ops` leave out signatures";
const KIND: &str =
    "holds a key of a kind that signs no tokens here: RSA, P-256, P-384 and Ed25519 do";
const UNKNOWN: &str = "is neither PEM nor a JWK nor a JWK set";
const SHARED: &str = "is a secret that comes over the network";
const PRIVATE: &str = "holds a private key; verifying takes the public one only";

/// What keys say of themselves, and what is said of them.
#[test]
fn keys_are_read_or_refused_with_the_reason() {
    let changed = |mut jwk: Value, name: &str, value: Value| {
        jwk[name] = value;
        jwk
    };
    let oct = |alg: Value, bytes: usize| {
        let k = URL_SAFE_NO_PAD.encode(vec![7; bytes]);
        json!({"kty": "oct", "alg": alg, "k": k, "kid": "s"})
    };
    let weak = {
        // Any odd number of 1024 bits looks like a modulus.
        let n = URL_SAFE_NO_PAD.encode([0xff; 128]);
        json!({"kty": "RSA", "n": n, "e": "AQAB", "kid": "weak"})
    };
    let huge = json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode([0xff; 1025]), "e": "AQAB"});
    let rsa = || RSA.jwk("a");
    let p256 = || P256.jwk("b");
    let no_alg = {
        let mut jwk = rsa();
        jwk.as_object_mut().unwrap().remove("alg");
        jwk
    };
    #[rustfmt::skip]
    let table = [
        ("RSA", rsa(), "RS256", SAME),
        ("RSA without alg", no_alg, "RS256", SAME),
        ("P-256", p256(), "ES256", SAME),
        ("P-384", P384.jwk("x"), "ES384", SAME),
        ("Ed25519", ED.jwk("x"), "EdDSA", SAME),
        ("Ed25519 by its new name", changed(ED.jwk("x"), "alg", "Ed25519".into()), "EdDSA", SAME),
        ("for signatures", changed(rsa(), "use", "sig".into()), "RS256", SAME),
        ("for verifying", changed(rsa(), "key_ops", json!(["verify"])), "RS256", SAME),
        ("unknown members", changed(rsa(), "x5t", "x".into()), "RS256", SAME),
        ("a secret", oct("HS512".into(), 64), "HS512", SHARED),
        ("a short secret", oct("HS512".into(), 63), "the key has 63 bytes, fewer than 64", SHARED),
        ("a secret for anything", oct(Value::Null, 64), "does not say its `alg`, as a secret must", SHARED),
        ("for encryption", changed(rsa(), "use", "enc".into()), OTHER_USE, SAME),
        ("for signing only", changed(rsa(), "key_ops", json!(["sign"])), OTHER_USE, SAME),
        ("an algorithm for encryption", changed(rsa(), "alg", "RSA-OAEP".into()), "names `alg` RSA-OAEP, which does not go with its kind", SAME),
        ("a public key as a secret", changed(rsa(), "alg", "HS256".into()), "names `alg` HS256, which does not go with its kind", SAME),
        ("another curve's algorithm", changed(p256(), "alg", "ES384".into()), "names `alg` ES384, which does not go with its kind", SAME),
        ("private", changed(rsa(), "d", "AQAB".into()), PRIVATE, SAME),
        ("weak", weak, "the RSA key has 1024 bits, fewer than 2048", SAME),
        ("huge", huge, "the RSA key has 8200 bits, more than 8192", SAME),
        ("exponent 1", changed(rsa(), "e", "AQ".into()), "its RSA modulus or exponent cannot be read", SAME),
        ("no modulus", changed(rsa(), "n", Value::Null), "lacks `n`, or it is not base64url", SAME),
        ("a short point", changed(p256(), "x", "AQ".into()), "its point is not one of P256", SAME),
        ("an unknown curve", changed(p256(), "crv", "secp256k1".into()), KIND, SAME),
        ("an unknown type", json!({"kty": "AKP"}), KIND, SAME),
    ];
    for (name, jwk, file, server) in table {
        let server = if server == SAME { file } else { server };
        for (origin, expected) in [(Origin::File, file), (Origin::Server, server)] {
            let said = match keys(jwk.to_string().as_bytes(), origin) {
                Ok(read) => read.keys[0].algorithm().name().to_owned(),
                Err(error) => error.to_string(),
            };
            assert_eq!(said, expected, "{name}, {origin:?}");
            // In a set it is left out, and the others count.
            let set = json!({"keys": [jwk, ED.jwk("good")]}).to_string();
            let read = keys(set.as_bytes(), origin).unwrap();
            assert_eq!(read.keys.last().unwrap().id.as_deref(), Some("good"));
            let skipped = read.keys.len() == 1;
            assert_eq!(skipped, Algorithm::named(expected).is_none(), "{name}");
            assert_eq!(read.skipped.len(), usize::from(skipped), "{name}");
        }
    }
}

#[test]
fn texts_that_hold_no_keys() {
    let rsa = std::str::from_utf8(key_file!("rsa.public.pem")).unwrap();
    let two = format!("words before\n{rsa}{rsa}");
    #[rustfmt::skip]
    let table = [
        ("PEM", rsa, "1 key", UNKNOWN),
        ("PEM twice", &two, "2 key", UNKNOWN),
        ("a private key", std::str::from_utf8(key_file!("rsa.pem")).unwrap(), PRIVATE, UNKNOWN),
        ("a weak key", std::str::from_utf8(key_file!("rsa-1024.public.pem")).unwrap(), "the RSA key has 1024 bits, fewer than 2048", UNKNOWN),
        ("another curve", std::str::from_utf8(key_file!("ec-secp256k1.public.pem")).unwrap(), KIND, UNKNOWN),
        ("another section", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "holds a PEM section X509 CRL, which is no public key", UNKNOWN),
        ("nothing", "", UNKNOWN, SAME),
        ("an error page", "<html>", UNKNOWN, SAME),
        ("an empty set", r#"{"keys":[]}"#, "holds no key that can be used", SAME),
        ("no set", r#"{"keys":7}"#, "holds no key that can be used", SAME),
        ("cut", r#"{"keys":["#, "is not JSON of a JWK or a JWK set: EOF while parsing a list at line 1 column 9", SAME),
        ("something else", r#"{"error":"no"}"#, "is not JSON of a JWK or a JWK set: missing field `kty`", SAME),
    ];
    for (name, text, file, server) in table {
        let server = if server == SAME { file } else { server };
        for (origin, expected) in [(Origin::File, file), (Origin::Server, server)] {
            let said = match keys(text.as_bytes(), origin) {
                Ok(read) => format!("{} key", read.keys.len()),
                Err(error) => error.to_string(),
            };
            assert_eq!(said, expected, "{name}, {origin:?}");
        }
    }
}

/// A key server is another machine: whatever it sends, reading it ends with keys or with a reason.
#[test]
fn damaged_texts_end_nothing() {
    let set = json!({"keys": [RSA.jwk("a"), P256.jwk("b"), ED.jwk("c")]}).to_string();
    let texts: [&[u8]; 6] = [
        set.as_bytes(),
        key_file!("rsa.public.pem"),
        key_file!("rsa.pkcs1.pem"),
        key_file!("ec-P-256.public.pem"),
        key_file!("ec-P-256.certificate.pem"),
        key_file!("ed25519.public.pem"),
    ];
    for text in texts {
        for at in 0..text.len() {
            let mut changed = text.to_vec();
            for with in [b'A', b'"', b'/', 0] {
                changed[at] = with;
                for origin in [Origin::File, Origin::Server] {
                    let read = keys(&changed, origin);
                    assert!(read.is_err() || !read.is_ok_and(|read| read.keys.is_empty()));
                }
            }
            assert!(keys(&text[..at], Origin::Server).is_err());
        }
    }
    // The same inside the envelope, where base64 no longer hides what is hit.
    for text in &texts[1..] {
        let pem = pem::parse(text).unwrap();
        for at in 0..pem.contents().len() {
            for bit in 0..8 {
                let mut der = pem.contents().to_vec();
                der[at] ^= 1 << bit;
                let damaged = pem::encode(&pem::Pem::new(pem.tag(), der));
                drop(keys(damaged.as_bytes(), Origin::File));
            }
        }
    }
}
