//! What the exchanges of keys and passwords have in common: the one to come and the one from before, as entries of the
//! generated Secret. Pure.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use sha1::{Digest, Sha1};

/// What gateways said before a key was made must not pass for what they say of it.
pub const SETTLES: SignedDuration = SignedDuration::from_secs(15);
/// A gateway that cannot be asked is not waited for longer than a kubelet may take to bring it a changed Secret.
pub const PATIENCE: SignedDuration = SignedDuration::from_secs(300);

/// Entries of the generated Secret; None: there is no Secret yet.
pub type Entries<'a> = Option<&'a BTreeMap<String, ByteString>>;

/// A key or a password, and a moment that matters to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dated {
    pub key: String,
    pub at: Timestamp,
}

impl Dated {
    /// Those that there are, each as the two entries of its names.
    pub fn written(
        pairs: [([&'static str; 2], &Option<Dated>); 2],
    ) -> impl Iterator<Item = (&'static str, String)> {
        let written = |([key, at], dated): ([&'static str; 2], &Option<Dated>)| {
            let dated = dated.clone()?;
            Some([(key, dated.key), (at, dated.at.to_string())])
        };
        pairs.into_iter().filter_map(written).flatten()
    }

    /// Half of a pair is none.
    pub fn read(entries: Entries<'_>, names: [&str; 2]) -> Option<Dated> {
        Some(Dated {
            key: value(entries, names[0])?,
            at: value(entries, names[1])?.parse().ok()?,
        })
    }
}

/// The entry of that name.
pub fn value(entries: Entries<'_>, name: &str) -> Option<String> {
    let bytes = entries?.get(name)?;
    String::from_utf8(bytes.0.clone()).ok()
}

/// All that count while one is exchanged for another, `current` first.
pub fn counting<'a>(
    current: &'a str,
    others: [&'a Option<Dated>; 2],
) -> impl Iterator<Item = &'a str> {
    let others = others.into_iter().flatten().map(|dated| &*dated.key);
    [current].into_iter().chain(others)
}

/// Of an annotation's value, which may be as long as an annotation may be.
pub fn hash(asked: &str) -> String {
    let digest = Sha1::digest(asked);
    digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
