use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::*;
use crate::push_cluster::fixture::observed;

const NOW: i64 = 1_800_000_000;
const YEAR: i64 = 365 * DAY;

fn spec(mode: &str) -> Value {
    json!({"redis": {"mode": mode, "tls": {}}})
}

/// One that somebody else's authority has signed for these.
fn signed(hosts: &[String]) -> Held {
    let kind = Kind {
        name: "theirs",
        ..CERTIFICATE
    };
    let made = renewed(None, Due::Everything, (&kind, hosts), NOW).unwrap();
    Held {
        authority_key: String::new(),
        ..made
    }
}

/// With a Secret `mine` that has this.
fn with_theirs(mode: &str, theirs: &Held) -> Observed {
    let mut seen = observed(&json!({"redis": {"mode": mode, "tls": {"secretName": "mine"}}}));
    for (key, value) in theirs.entries() {
        let source = Source::secret("mine", &key);
        seen.referenced.insert(source, Some(value));
    }
    seen
}

fn held(seen: &Observed, now: i64) -> Held {
    step(seen, now).unwrap().unwrap()
}

/// A gateway that began when this was trusted.
fn gateway(bundle: &str) -> Pod {
    serde_json::from_value(json!({"metadata": {
        "name": "demo-gateway-x",
        "labels": {"app.kubernetes.io/component": "gateway"},
        "annotations": {TRUST: hash(bundle)},
    }}))
    .unwrap()
}

#[test]
fn what_is_issued_is_trusted_by_every_name_by_which_somebody_comes() {
    for (mode, names) in [
        ("Standalone", vec!["demo-redis.shop.svc"]),
        (
            "Sentinel",
            vec![
                "demo-redis.shop.svc",
                "demo-redis-0.demo-redis",
                "demo-redis-1.demo-redis",
                "demo-redis-2.demo-redis",
            ],
        ),
        (
            "Cluster",
            vec!["demo-redis.shop.svc", "demo-redis-31-5.demo-redis.shop.svc"],
        ),
    ] {
        let made = held(&observed(&spec(mode)), NOW);
        let names: Vec<String> = names.into_iter().map(String::from).collect();
        assert_eq!(theirs::check(&made, &names, NOW), Ok(()), "{mode}");
        let other = ["other-redis.shop.svc".to_owned()];
        assert!(theirs::check(&made, &other, NOW).is_err(), "{mode}");
    }
    assert_eq!(step(&observed(&json!({})), NOW).unwrap(), None);
}

#[test]
fn a_certificate_is_renewed_in_time_and_nobody_else_is_to_be_trusted_for_it() {
    let mut seen = observed(&spec("Standalone"));
    let first = held(&seen, NOW);
    seen.pods = vec![gateway(&first.bundle)];
    seen.keys.redis_tls = Some(first.clone());
    assert_eq!(held(&seen, NOW + 59 * DAY), first);
    let second = held(&seen, NOW + 61 * DAY);
    assert_ne!(second.leaf, first.leaf);
    assert_eq!(second.bundle, first.bundle);
}

#[test]
fn another_authority_is_trusted_by_all_before_it_signs() {
    let mut seen = observed(&spec("Standalone"));
    let later = NOW + 6 * YEAR;
    let before = held(&seen, NOW);
    seen.pods = vec![gateway(&before.bundle)];
    seen.keys.redis_tls = Some(before.clone());
    let both = held(&seen, later);
    assert!(both.bundle.ends_with(&before.bundle) && both.bundle != before.bundle);
    assert_eq!(both.leaf, before.leaf);
    seen.keys.redis_tls = Some(both.clone());
    assert_eq!(held(&seen, later), both, "a gateway does not trust it yet");
    seen.pods = vec![gateway(&both.bundle)];
    let signed = held(&seen, later);
    assert_ne!(signed.leaf, before.leaf);
    seen.keys.redis_tls = Some(signed.clone());
    let last = held(&seen, later + DAY);
    assert!(!last.bundle.contains(before.bundle.trim()));
    assert_eq!(last.leaf, signed.leaf);
}

#[test]
fn a_certificate_of_the_users_is_shown_when_all_trust_it() {
    let mut seen = observed(&spec("Standalone"));
    let ours = held(&seen, NOW);
    let theirs = signed(&asked_for(&seen.cluster));
    assert_eq!(held(&with_theirs("Standalone", &theirs), NOW), theirs);

    seen = with_theirs("Standalone", &theirs);
    seen.pods = vec![gateway(&ours.bundle)];
    seen.keys.redis_tls = Some(ours.clone());
    let both = held(&seen, NOW);
    assert_eq!(both.bundle, theirs.bundle.clone() + &ours.bundle);
    assert_eq!(both.leaf, ours.leaf);
    assert_eq!(both.authority_key, "");
    seen.keys.redis_tls = Some(both.clone());
    assert_eq!(held(&seen, NOW), both, "a gateway does not trust it yet");
    seen.pods = vec![gateway(&both.bundle)];
    let shown = held(&seen, NOW);
    assert_eq!(
        (&shown.leaf, &shown.leaf_key),
        (&theirs.leaf, &theirs.leaf_key)
    );
    assert_eq!(shown.bundle, both.bundle);
    seen.keys.redis_tls = Some(shown);
    assert_eq!(held(&seen, NOW), theirs, "the other is trusted no more");

    // And back.
    let mut seen = observed(&spec("Standalone"));
    seen.pods = vec![gateway(&theirs.bundle)];
    seen.keys.redis_tls = Some(theirs.clone());
    let back = held(&seen, NOW);
    assert!(back.bundle.ends_with(&theirs.bundle) && back.bundle != theirs.bundle);
    assert_eq!(back.leaf, theirs.leaf);
}

#[test]
fn a_certificate_with_which_nobody_would_reach_redis_is_refused_with_its_fault() {
    let names = |mode| asked_for(&observed(&spec(mode)).cluster);
    let good = signed(&names("Standalone"));
    let other = signed(&names("Standalone"));
    let changed = |change: fn(&mut Held, Held)| {
        let mut held = good.clone();
        change(&mut held, other.clone());
        held
    };
    for (mode, theirs, now, expected) in [
        (
            "Standalone",
            changed(|held, other| held.leaf_key = other.leaf_key),
            NOW,
            "names Secret mine, whose tls.key is not the key of tls.crt",
        ),
        (
            "Standalone",
            changed(|held, other| held.bundle = other.bundle),
            NOW,
            "names Secret mine, whose tls.crt would not be trusted for demo-redis.shop.svc",
        ),
        (
            "Sentinel",
            good.clone(),
            NOW,
            "names Secret mine, whose tls.crt would not be trusted for demo-redis-0.demo-redis",
        ),
        (
            "Cluster",
            good.clone(),
            NOW,
            "names Secret mine, whose tls.crt would not be trusted for *.demo-redis.shop.svc",
        ),
        (
            "Standalone",
            good.clone(),
            NOW + 91 * DAY,
            "names Secret mine, whose tls.crt would not be trusted for demo-redis.shop.svc",
        ),
        (
            "Standalone",
            changed(|held, _| held.leaf = "-----BEGIN CERTIFICATE-----\n?".into()),
            NOW,
            "names Secret mine, whose tls.crt has",
        ),
    ] {
        let problem = step(&with_theirs(mode, &theirs), now).unwrap_err();
        assert_eq!(problem.field, "spec.redis.tls.secretName");
        let message = &problem.message;
        assert!(message.starts_with(expected), "{mode}: {message}");
    }
}

#[test]
fn a_secret_that_is_not_there_leaves_what_there_was() {
    let mut seen = observed(&json!({"redis": {"tls": {"secretName": "mine"}}}));
    assert_eq!(step(&seen, NOW).unwrap(), None);
    let before = signed(&asked_for(&seen.cluster));
    seen.keys.redis_tls = Some(before.clone());
    let source = Source::secret("mine", LEAF);
    seen.referenced.insert(source, Some(ByteString(vec![b'?'])));
    assert_eq!(step(&seen, NOW).unwrap(), Some(before));
}
