//! Tokens that another library signed, and what is said of them.

use jsonwebtoken as jwt;
use serde_json::{Value, json};

use super::keys::{MAX_KEYS, MAX_TRIES, Remote};
use super::read::{Origin, keys as read_keys, secret};
use super::signature::Key;
use super::signers::*;
use super::*;

fn policy() -> Policy {
    Policy {
        anonymous: false,
        issuers: Vec::new(),
        audiences: Vec::new(),
        leeway_seconds: 5,
    }
}

fn ann() -> Result<Identity, TokenError> {
    Ok(Identity {
        user: "ann".into(),
        expires: None,
        grants: None,
    })
}

fn jwks(jwks: &[Value], origin: Origin) -> Vec<Key> {
    let text = json!({ "keys": jwks }).to_string();
    let read = read_keys(text.as_bytes(), origin).unwrap();
    assert_eq!(read.skipped, [""; 0]);
    read.keys
}

fn set(keys: Vec<Key>, remote: Remote) -> KeySet {
    KeySet::new(keys, remote).unwrap()
}

/// The header as written, whatever it says, over the signature of `token`.
fn with_header(token: &str, header: &Value) -> String {
    let (_, rest) = token.split_once('.').unwrap();
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
}

#[test]
fn every_algorithm_takes_its_own_signatures_and_no_other() {
    use jwt::Algorithm as A;
    let pem = |text: &[u8]| read_keys(text, Origin::File).unwrap().keys.remove(0);
    let of = |signer: Signer, algorithm: &str| {
        let mut jwk = signer.jwk("k");
        jwk["alg"] = algorithm.into();
        jwk.as_object_mut().unwrap().remove("kid");
        read_keys(jwk.to_string().as_bytes(), Origin::File)
            .unwrap()
            .keys
            .remove(0)
    };
    let hmac = |algorithm| secret(algorithm, SECRET).unwrap().keys.remove(0);
    let rows: Vec<(&str, Signer, Key)> = vec![
        ("HS256", HMAC, hmac(Algorithm::Hs256)),
        ("HS384", HMAC.with(A::HS384), hmac(Algorithm::Hs384)),
        ("HS512", HMAC.with(A::HS512), hmac(Algorithm::Hs512)),
        ("RS256", RSA, pem(key_file!("rsa.public.pem"))),
        ("RS256", RSA, pem(key_file!("rsa.pkcs1.pem"))),
        ("RS384", RSA.with(A::RS384), of(RSA, "RS384")),
        ("RS512", RSA.with(A::RS512), of(RSA, "RS512")),
        ("PS256", RSA.with(A::PS256), of(RSA, "PS256")),
        ("PS384", RSA.with(A::PS384), of(RSA, "PS384")),
        ("PS512", RSA.with(A::PS512), of(RSA, "PS512")),
        ("ES256", P256, pem(key_file!("ec-P-256.public.pem"))),
        ("ES256", P256, pem(key_file!("ec-P-256.certificate.pem"))),
        ("ES256", P256, of(P256, "ES256")),
        ("ES384", P384, pem(key_file!("ec-P-384.public.pem"))),
        ("EdDSA", ED, pem(key_file!("ed25519.public.pem"))),
        ("EdDSA", ED, of(ED, "EdDSA")),
    ];
    let others: Vec<(jwt::Algorithm, String)> = [
        HMAC,
        HMAC.with(A::HS384),
        HMAC.with(A::HS512),
        RSA,
        RSA.with(A::RS384),
        RSA.with(A::RS512),
        RSA.with(A::PS256),
        RSA.with(A::PS384),
        RSA.with(A::PS512),
        P256,
        P384,
        ED,
    ]
    // Signing takes long without optimisation.
    .map(|signer| (signer.algorithm, signer.token(None)))
    .into();
    for (name, signer, key) in rows {
        assert_eq!(key.algorithm().name(), name);
        let keys = set(vec![key], Remote::None);
        let verify = |token: &str| policy().verify(&keys, token, 1000);
        let token = signer.token(None);
        assert_eq!(verify(&token), ann(), "{name}");
        assert_eq!(
            verify(&signer.token(Some("any"))),
            ann(),
            "{name}: the key has no id"
        );
        for (other, token) in &others {
            if *other == signer.algorithm {
                continue;
            }
            let name = format!("{name} and {other:?}");
            assert_eq!(verify(token), Err(TokenError::Algorithm), "{name}");
            // The header lies about what the signature is.
            let lie = with_header(token, &json!({"alg": signer.algorithm}));
            assert_eq!(verify(&lie), Err(TokenError::Signature), "{name}");
        }
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        bytes[7] ^= 1;
        let changed = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&bytes));
        assert_eq!(verify(&changed), Err(TokenError::Signature), "{name}");
        bytes.truncate(7);
        for signature in [String::new(), URL_SAFE_NO_PAD.encode(&bytes)] {
            let cut = format!("{signed}.{signature}");
            assert_eq!(verify(&cut), Err(TokenError::Signature), "{name}");
        }
        let none = with_header(&token, &json!({"alg": "none"}));
        assert_eq!(verify(&none), Err(TokenError::Algorithm), "{name}");
        let unsigned = with_header(&format!("{signed}."), &json!({"alg": "none"}));
        assert_eq!(verify(&unsigned), Err(TokenError::Algorithm), "{name}");
    }
}

/// The attack that RFC 8725 section 2.1 begins with: the public key, which everybody has, taken for a secret.
#[test]
fn a_public_key_is_never_a_secret() {
    for public in [
        &key_file!("rsa.public.pem")[..],
        key_file!("rsa.pkcs1.pem"),
        key_file!("ec-P-256.public.pem"),
        key_file!("ed25519.public.pem"),
    ] {
        let keys = read_keys(public, Origin::File).unwrap().keys;
        let keys = set(keys, Remote::None);
        // As it is in the file, without its line end, and as the bytes that are in it.
        let der = pem::parse(public).unwrap().into_contents();
        for bytes in [public, public.trim_ascii_end(), &der] {
            let key = jwt::EncodingKey::from_secret(bytes);
            let claims = json!({"sub": "ann"});
            let token = jwt::encode(&jwt::Header::default(), &claims, &key).unwrap();
            let verified = policy().verify(&keys, &token, 1000);
            assert_eq!(verified, Err(TokenError::Algorithm));
        }
        let refused = secret(Algorithm::Hs256, public).err().unwrap();
        assert_eq!(refused, super::read::ReadError::PemSecret);
    }
}

#[test]
fn a_token_says_what_the_policy_wants() {
    let keys = set(secret(Algorithm::Hs256, SECRET).unwrap().keys, Remote::None);
    let ends = |expires| {
        Ok(Identity {
            user: "ann".into(),
            expires: Some(expires),
            grants: None,
        })
    };
    let strict = Policy {
        issuers: vec!["https://id.example".into(), "https://old.example".into()],
        audiences: vec!["push".into(), "chat".into()],
        ..policy()
    };
    let right = |more: Value| {
        let mut claims = json!({"sub": "ann", "iss": "https://id.example", "aud": "push"});
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    };
    let bad_user = |what: &str| Err(TokenError::BadUser(what.into()));
    #[rustfmt::skip]
    let table = [
        ("bare", false, json!({"sub": "ann"}), ann()),
        ("end", false, json!({"sub": "ann", "exp": 1100}), ends(1100)),
        ("fraction", false, json!({"sub": "ann", "exp": 1100.9}), ends(1100)),
        ("in the leeway", false, json!({"sub": "ann", "exp": 996}), ends(996)),
        ("expired", false, json!({"sub": "ann", "exp": 995}), Err(TokenError::Expired)),
        ("negative", false, json!({"sub": "ann", "exp": -1}), Err(TokenError::Expired)),
        ("endless", false, json!({"sub": "ann", "exp": 1e300}), ends(u64::MAX)),
        ("text as end", false, json!({"sub": "ann", "exp": "2000"}), Err(TokenError::Malformed)),
        ("soon", false, json!({"sub": "ann", "nbf": 1005}), ann()),
        ("not yet", false, json!({"sub": "ann", "nbf": 1006}), Err(TokenError::NotYet)),
        ("any audience", false, json!({"sub": "ann", "aud": "x"}), ann()),
        ("any issuer", false, json!({"sub": "ann", "iss": "x"}), ann()),
        ("right", true, right(json!({})), ann()),
        ("other issuer", true, right(json!({"iss": "https://old.example"})), ann()),
        ("wrong issuer", true, right(json!({"iss": "https://id.example/"})), Err(TokenError::Issuer)),
        ("no issuer", true, right(json!({"iss": null})), Err(TokenError::Issuer)),
        ("several audiences", true, right(json!({"aud": ["x", "chat"]})), ann()),
        ("wrong audience", true, right(json!({"aud": "x"})), Err(TokenError::Audience)),
        ("wrong audiences", true, right(json!({"aud": ["x", "y"]})), Err(TokenError::Audience)),
        ("no audiences", true, right(json!({"aud": []})), Err(TokenError::Audience)),
        ("no audience", true, right(json!({"aud": null})), Err(TokenError::Audience)),
        ("a number as audience", true, right(json!({"aud": 1})), Err(TokenError::Malformed)),
        ("expired first", true, json!({"exp": 1}), Err(TokenError::Expired)),
        ("no user", false, json!({}), bad_user("is missing")),
        ("empty user", false, json!({"sub": ""}), bad_user("is empty")),
        ("a number as user", false, json!({"sub": 7}), Err(TokenError::Malformed)),
        ("user like a connection", false, json!({"sub": "~a.1"}), bad_user("begins with `~`, as only connections do")),
        ("unprintable user", false, json!({"sub": "a\n"}), bad_user("has a character that cannot be printed at byte 6")),
        ("rights by position", false, json!({"sub": "ann", "pushcluster": [["a"], [], []]}), Err(TokenError::Malformed)),
        ("no object", false, json!(["ann"]), Err(TokenError::Malformed)),
        ("members by position", false, json!([null, "ann", null, null, null, null]), Err(TokenError::Malformed)),
    ];
    for (name, strictly, claims, expected) in table {
        let policy = if strictly { strict.clone() } else { policy() };
        let token = HMAC.token_of(None, &claims);
        assert_eq!(policy.verify(&keys, &token, 1000), expected, "{name}");
    }
}

#[test]
fn garbage_is_malformed() {
    let keys = set(secret(Algorithm::Hs256, SECRET).unwrap().keys, Remote::None);
    let good = HMAC.token(None);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let encoded = |json: &str| URL_SAFE_NO_PAD.encode(json);
    #[rustfmt::skip]
    let table = [
        ("empty", String::new()),
        ("a word", "x".into()),
        ("dots", "..".into()),
        ("more dots", "....".into()),
        ("four parts", format!("{good}.x")),
        ("encrypted", "a.b.c.d.e".into()),
        ("padding", format!("{header}=.{claims}.{signature}")),
        ("standard base64", format!("{signed}.{signature}+/")),
        ("space", format!(" {good}")),
        ("line end", format!("{good}\n")),
        ("a header that is no object", format!("{}.{claims}.{signature}", encoded("7"))),
        ("a header by position", format!("{}.{claims}.{signature}", encoded(r#"["HS256",null,null]"#))),
        ("no algorithm", format!("{}.{claims}.{signature}", encoded("{}"))),
        ("a key id that is a number", with_header(&good, &json!({"alg": "HS256", "kid": 1}))),
        ("a critical extension", with_header(&good, &json!({"alg": "HS256", "crit": ["b64"]}))),
        ("the algorithm twice", format!("{}.{claims}.{signature}", encoded(r#"{"alg":"HS256","alg":"HS256"}"#) )),
    ];
    for (name, token) in table {
        let verified = policy().verify(&keys, &token, 1000);
        assert_eq!(verified, Err(TokenError::Malformed), "{name}");
    }
    let long = "x".repeat(8 * 1024 + 1);
    assert_eq!(policy().verify(&keys, &long, 0), Err(TokenError::TooLong));
    for alg in ["hs256", "HS256 ", "NONE", "None", "RS1", "ES512", ""] {
        let token = with_header(&good, &json!({ "alg": alg }));
        assert_eq!(
            policy().verify(&keys, &token, 0),
            Err(TokenError::Algorithm),
            "{alg:?}"
        );
    }
}

#[test]
fn a_token_is_for_the_key_that_it_names() {
    let named = || {
        jwks(
            &[RSA.jwk("a"), P256.jwk("b"), RSA_OTHER.jwk("c")],
            Origin::Server,
        )
    };
    let bare = || secret(Algorithm::Hs256, SECRET).unwrap().keys;
    let present = set(named(), Remote::Present);
    let local = set(named(), Remote::None);
    let both = set([bare(), named()].concat(), Remote::Present);
    let waiting = set(bare(), Remote::Missing);
    let none = KeySet::default();
    let empty = set(Vec::new(), Remote::Missing);
    let pems = set(
        (0..=MAX_TRIES)
            .flat_map(|_| {
                read_keys(key_file!("rsa.public.pem"), Origin::File)
                    .unwrap()
                    .keys
            })
            .collect(),
        Remote::None,
    );
    let stranger = Signer {
        key: OTHER_SECRET,
        ..HMAC
    };
    #[rustfmt::skip]
    let table = [
        ("its own", &present, RSA.token(Some("a")), ann()),
        ("another type", &present, P256.token(Some("b")), ann()),
        ("the wrong one", &present, RSA.token(Some("c")), Err(TokenError::Signature)),
        ("another type's", &present, RSA.token(Some("b")), Err(TokenError::Algorithm)),
        ("none, all that fit are tried", &present, RSA_OTHER.token(None), ann()),
        ("unknown", &present, RSA.token(Some("d")), Err(TokenError::UnknownKey)),
        ("unknown and local", &local, RSA.token(Some("d")), Err(TokenError::UnknownKey)),
        ("unknown, new algorithm", &present, ED.token(Some("d")), Err(TokenError::UnknownKey)),
        ("case counts", &present, RSA.token(Some("A")), Err(TokenError::UnknownKey)),
        ("no key of that kind", &present, ED.token(None), Err(TokenError::Algorithm)),
        ("the one without a name", &both, HMAC.token(Some("d")), ann()),
        ("a name beats none", &both, HMAC.token(Some("a")), Err(TokenError::Algorithm)),
        ("may be newer", &both, stranger.token(Some("d")), Err(TokenError::UnknownKey)),
        ("cannot be newer", &both, stranger.token(None), Err(TokenError::Signature)),
        ("there before the server", &waiting, HMAC.token(None), ann()),
        ("not there yet", &waiting, RSA.token(Some("a")), Err(TokenError::NoKeyYet)),
        ("nothing there yet", &empty, RSA.token(Some("a")), Err(TokenError::NoKeyYet)),
        ("nothing at all", &none, RSA.token(Some("a")), Err(TokenError::NoKey)),
        ("too many to try", &pems, RSA.token(None), Err(TokenError::Unnamed)),
    ];
    for (name, keys, token, expected) in table {
        assert_eq!(policy().verify(keys, &token, 1000), expected, "{name}");
    }
}

#[test]
fn there_is_an_end_to_the_keys() {
    let key = || secret(Algorithm::Hs256, SECRET).unwrap().keys.remove(0);
    let many = |count| KeySet::new((0..count).map(|_| key()).collect(), Remote::None);
    assert!(many(MAX_KEYS).is_ok());
    assert_eq!(
        many(MAX_KEYS + 1).err().unwrap().to_string(),
        "there are 65 keys, more than 64"
    );
}

#[test]
fn a_replaced_set_counts_at_once() {
    let current: Arc<ArcSwap<KeySet>> = Arc::default();
    let verifier = Verifier::new(policy(), current.clone());
    let token = RSA.token(Some("a"));
    assert_eq!(verifier.verify(&token, 0), Err(TokenError::NoKey));
    current.store(Arc::new(set(
        jwks(&[RSA.jwk("a")], Origin::Server),
        Remote::Present,
    )));
    assert_eq!(verifier.verify(&token, 0), ann());
    current.store(Arc::new(set(
        jwks(&[RSA_OTHER.jwk("b")], Origin::Server),
        Remote::Present,
    )));
    assert_eq!(verifier.verify(&token, 0), Err(TokenError::UnknownKey));
}

#[test]
fn causes_are_labels_of_their_own() {
    let mut labels = TokenError::CAUSES.to_vec();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), TokenError::CAUSES.len());
    assert_eq!(
        TokenError::CAUSES[TokenError::BadUser(String::new()).index()],
        "user"
    );
    assert_eq!(
        TokenError::CAUSES[TokenError::UnknownKey.index()],
        "unknown_key"
    );
}

#[test]
fn every_character_of_a_token_counts() {
    let keys = set(secret(Algorithm::Hs256, SECRET).unwrap().keys, Remote::None);
    let good = HMAC.token(None);
    for at in 0..good.len() {
        // Its neighbours in base64 too: bits that a lenient decoder drops would make two tokens of one.
        for other in "ABCDEFabcdef0189-_.=+/ \n".chars() {
            let mut token = good.clone();
            token.replace_range(at..=at, &other.to_string());
            let refused = policy().verify(&keys, &token, 1000).is_err();
            assert_eq!(refused, token != good, "{other:?} at {at}");
        }
    }
}
