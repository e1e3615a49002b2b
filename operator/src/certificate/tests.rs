use super::*;

const HOST: &str = "pushcluster-operator-metrics-api.pushcluster-system.svc";
const NOW: i64 = 1_800_000_000;

const LEAF_LIFE: i64 = 90 * DAY;
const KIND: Kind = Kind {
    name: "pushcluster-test",
    authority_life: 730 * DAY,
    leaf_life: LEAF_LIFE,
    is_shown_by_clients: false,
};

fn due(held: &Held, host: &str, told: bool, now: i64) -> Due {
    super::due(held, &KIND, &[host.to_owned()], told, now)
}

fn renewed(held: Option<&Held>, due: Due, host: &str, now: i64) -> Result<Held, CertificateError> {
    super::renewed(held, due, (&KIND, &[host.to_owned()]), now)
}

fn fresh() -> Held {
    renewed(None, Due::Everything, HOST, NOW).unwrap()
}

/// As a client does that knows nothing but the bundle.
fn is_trusted(leaf: &str, bundle: &str, host: &str, now: i64) -> Result<(), String> {
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::{ServerName, UnixTime};
    let mut roots = rustls::RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(root.unwrap()).unwrap();
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider);
    let leaf = CertificateDer::from_pem_slice(leaf.as_bytes()).unwrap();
    let host = ServerName::try_from(host.to_owned()).unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.unsigned_abs()));
    let verified = verifier.build().unwrap();
    let verified = verified.verify_server_cert(&leaf, &[], &host, &[], now);
    verified.map(drop).map_err(|error| error.to_string())
}

#[test]
fn what_is_issued_is_trusted_by_its_bundle_for_its_host_and_its_time() {
    let (held, other) = (fresh(), fresh());
    for (leaf, host, at, expected) in [
        (&held.leaf, HOST, NOW, true),
        (&held.leaf, HOST, NOW - BACKDATED + 1, true),
        (&held.leaf, HOST, NOW + LEAF_LIFE - 1, true),
        (&held.leaf, HOST, NOW + LEAF_LIFE + 1, false),
        (&held.leaf, "another.svc", NOW, false),
        (&other.leaf, HOST, NOW, false),
    ] {
        let trusted = is_trusted(leaf, &held.bundle, host, at);
        assert_eq!(trusted.is_ok(), expected, "{host} {at}: {trusted:?}");
    }
}

#[test]
fn what_is_due_and_when() {
    let day = |day: i64| NOW + day * DAY;
    let broken = |change: fn(&mut Held)| {
        let mut held = fresh();
        change(&mut held);
        held
    };
    for (held, host, told, now, expected) in [
        (fresh(), HOST, true, NOW, Due::Nothing),
        (fresh(), HOST, false, NOW, Due::Nothing),
        (fresh(), HOST, true, day(59), Due::Nothing),
        (fresh(), HOST, true, day(61), Due::Leaf),
        (fresh(), HOST, false, day(61), Due::Nothing),
        (fresh(), "renamed.svc", true, NOW, Due::Leaf),
        (fresh(), HOST, true, day(366), Due::Authority),
        (fresh(), HOST, true, day(731), Due::Everything),
        (
            broken(|held| held.leaf = String::new()),
            HOST,
            true,
            NOW,
            Due::Everything,
        ),
        (
            broken(|held| held.bundle = "?".into()),
            HOST,
            true,
            NOW,
            Due::Everything,
        ),
        (
            broken(|held| held.leaf_key.clear()),
            HOST,
            true,
            NOW,
            Due::Everything,
        ),
        (
            broken(|held| held.authority_key.clear()),
            HOST,
            true,
            NOW,
            Due::Everything,
        ),
    ] {
        assert_eq!(due(&held, host, told, now), expected, "{host} {told} {now}");
    }
}

/// The steps of a new authority. At each of them what is served, the old and the new, is trusted by what was told before.
#[test]
fn a_new_authority_is_told_before_it_signs_and_the_old_one_goes_last() {
    let first = fresh();
    let step = |held: &Held, due, now| renewed(Some(held), due, HOST, now).unwrap();
    let now = NOW + 366 * DAY;
    // The leaf of that time.
    let first = step(&first, Due::Leaf, now);
    let both = step(&first, due(&first, HOST, true, now), now);
    assert!(both.bundle.ends_with(&first.bundle));
    assert_eq!(both.leaf, first.leaf);
    assert_eq!(
        due(&both, HOST, false, now),
        Due::Nothing,
        "nobody knows the bundle"
    );
    assert_eq!(due(&both, HOST, true, now), Due::Leaf);
    let signed = step(&both, Due::Leaf, now);
    for leaf in [&first.leaf, &signed.leaf] {
        assert_eq!(is_trusted(leaf, &both.bundle, HOST, now), Ok(()));
    }
    assert!(is_trusted(&signed.leaf, &first.bundle, HOST, now).is_err());
    assert_eq!(
        due(&signed, HOST, true, now),
        Due::Nothing,
        "others serve the old one"
    );
    let later = now + READ_BY_ALL + 1;
    assert_eq!(due(&signed, HOST, true, later), Due::Forgetting);
    let last = step(&signed, Due::Forgetting, later);
    assert_eq!(is_trusted(&last.leaf, &last.bundle, HOST, later), Ok(()));
    assert!(is_trusted(&first.leaf, &last.bundle, HOST, later).is_err());
    assert_eq!(due(&last, HOST, true, later), Due::Nothing);
}

#[test]
fn a_secret_holds_all_of_it() {
    let held = fresh();
    let secret = Secret {
        data: Some(held.entries()),
        ..Secret::default()
    };
    assert!(Held::of(&secret) == Some(held));
    assert!(Held::of(&Secret::default()).is_none());
}
