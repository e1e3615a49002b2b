//! The key of the HTTP API, exchanged while backends and gateways go on. Pure; what there is between two steps stands in
//! the generated Secret.
//!
//! ```text
//! an annotation with another value ─▶ next: gateways learn it, nobody uses it yet
//! every gateway knows it           ─▶ it is the key that backends read; the one from before still counts
//! the overlap has passed           ─▶ that one counts no more
//! ```
//! The order is what matters: a key that backends read before the last gateway knows it would be refused there.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::exchange::{self, Dated, Entries, PATIENCE, SETTLES, hash};
use super::observe::{Keys, Observed};

/// The annotation of a PushCluster that asks for another key, by any value that is not the one from before.
pub const ANNOTATION: &str = "pushcluster.io/rotate-api-key";

/// How far it has got; the default: it was never asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rotation {
    /// What was asked for last, as a hash.
    pub asked: Option<String>,
    /// The key to come, and since when it has been.
    pub next: Option<Dated>,
    /// The key from before, and until when it counts.
    pub before: Option<Dated>,
}

/// What a step is decided on.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// The annotation's value.
    pub asked: Option<&'a str>,
    pub overlap_seconds: i32,
    /// Whether every gateway was seen to know the newest key.
    pub known_to_all: bool,
    pub now: Timestamp,
}

impl Rotation {
    /// The key that backends read, after this step. `generate` makes another one.
    pub fn step(
        &mut self,
        key: String,
        around: Circumstances<'_>,
        generate: impl FnOnce() -> String,
    ) -> String {
        let Circumstances { now, .. } = around;
        if self.before.as_ref().is_some_and(|before| before.at <= now) {
            self.before = None;
        }
        if let Some(next) = self.next.take() {
            let waited = now.duration_since(next.at);
            if !(waited >= PATIENCE || around.known_to_all && waited >= SETTLES) {
                self.next = Some(next);
                return key;
            }
            let overlap = SignedDuration::from_secs(around.overlap_seconds.into());
            let until = now.checked_add(overlap).unwrap_or(Timestamp::MAX);
            self.before = (until > now).then_some(Dated { key, at: until });
            return next.key;
        }
        let asked = around.asked.map(hash);
        // One after the other: a third key would end the first one's overlap.
        if asked.is_some() && asked != self.asked && self.before.is_none() {
            self.asked = asked;
            self.next = Some(Dated {
                key: generate(),
                at: now,
            });
        }
        key
    }

    /// Nothing to rotate: what is asked for at the beginning is there.
    pub fn begun(asked: Option<&str>) -> Rotation {
        Rotation {
            asked: asked.map(hash),
            ..Rotation::default()
        }
    }

    /// The one that a gateway does not know which has not read the Secret since it changed.
    pub fn newest<'a>(&'a self, key: &'a str) -> &'a str {
        self.next.as_ref().map_or(key, |next| &next.key)
    }

    /// How many keys count.
    pub fn count(&self) -> usize {
        1 + usize::from(self.next.is_some()) + usize::from(self.before.is_some())
    }

    /// What gateways read: every key that counts, one a line.
    pub fn file(&self, key: &str) -> String {
        let keys = exchange::counting(key, [&self.next, &self.before]);
        keys.map(|key| format!("{key}\n")).collect()
    }

    /// As it is written into the Secret.
    pub fn entries(&self) -> Vec<(&'static str, String)> {
        let asked = self.asked.iter().map(|asked| (ASKED, asked.clone()));
        let dated = Dated::written([(NEXT, &self.next), (BEFORE, &self.before)]);
        asked.chain(dated).collect()
    }

    /// As it was read from there.
    pub fn of(entries: Entries<'_>) -> Rotation {
        Rotation {
            asked: exchange::value(entries, ASKED),
            next: Dated::read(entries, NEXT),
            before: Dated::read(entries, BEFORE),
        }
    }
}

/// The keys after this step. What is there is kept, and only the key of the HTTP API is ever exchanged.
pub fn keys(observed: &Observed, now: Timestamp, mut generate: impl FnMut() -> String) -> Keys {
    let mut keys = observed.keys.or_generate(&mut generate);
    let cluster = &observed.cluster;
    let asked = cluster.annotations().get(ANNOTATION).map(String::as_str);
    if observed.keys.api_key.is_none() {
        keys.rotation = Rotation::begun(asked);
        return keys;
    }
    let config = cluster.status.as_ref().and_then(|s| s.config.as_ref());
    let around = Circumstances {
        asked,
        overlap_seconds: cluster.spec.gateway.api_key_overlap_seconds,
        known_to_all: config.is_some_and(|c| c.outdated.is_empty() && c.unknown.is_empty()),
        now,
    };
    let key = std::mem::take(&mut keys.api_key);
    keys.api_key = keys.rotation.step(key, around, generate);
    keys
}

const ASKED: &str = "api-key-asked-for";
const NEXT: [&str; 2] = ["api-key-next", "api-key-next-since"];
const BEFORE: [&str; 2] = ["api-key-before", "api-key-before-until"];

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// One rotation after another, second by second: what was done, the key, the file.
    #[test]
    fn a_key_is_used_when_all_know_it_and_counts_until_the_overlap_has_passed() {
        let mut rotation = Rotation::begun(None);
        let mut key = "one".to_owned();
        for (second, asked, known_to_all, expected, file) in [
            (0, None, true, "one", "one\n"),
            (1, Some("x"), true, "one", "one\ntwo\n"),
            // What the status says is from before.
            (2, Some("x"), true, "one", "one\ntwo\n"),
            (20, Some("x"), false, "one", "one\ntwo\n"),
            (21, Some("x"), true, "two", "two\none\n"),
            (22, Some("x"), true, "two", "two\none\n"),
            // Asked for again before the first is over: later.
            (30, Some("y"), true, "two", "two\none\n"),
            (80, Some("y"), true, "two", "two\none\n"),
            (81, Some("y"), true, "two", "two\nthree\n"),
            (100, Some("y"), true, "three", "three\ntwo\n"),
            (160, Some("y"), true, "three", "three\n"),
            // Nobody asks for anything any more.
            (170, None, true, "three", "three\n"),
            (180, Some("y"), true, "three", "three\n"),
            // A gateway that never answers is not waited for without end.
            (200, Some("z"), false, "three", "three\nfour\n"),
            (499, Some("z"), false, "three", "three\nfour\n"),
            (500, Some("z"), false, "four", "four\nthree\n"),
        ] {
            let around = Circumstances {
                asked,
                overlap_seconds: 60,
                known_to_all,
                now: at(second),
            };
            let made = match key.as_str() {
                "one" => "two",
                "two" => "three",
                _ => "four",
            };
            key = rotation.step(key, around, || made.to_owned());
            assert_eq!(key, expected, "second {second}");
            assert_eq!(rotation.file(&key), file, "second {second}");
            let entries = rotation.entries().into_iter();
            let stored = entries.map(|(name, value)| (name.to_owned(), ByteString(value.into())));
            assert_eq!(Rotation::of(Some(&stored.collect())), rotation, "as stored");
        }
    }

    #[test]
    fn without_an_overlap_the_key_from_before_ends_at_once() {
        let mut rotation = Rotation::default();
        let around = |second| Circumstances {
            asked: Some("stolen"),
            overlap_seconds: 0,
            known_to_all: true,
            now: at(second),
        };
        let key = rotation.step("one".into(), around(0), || "two".into());
        let key = rotation.step(key, around(15), || unreachable!("it is there"));
        assert_eq!(
            (key.as_str(), rotation.file(&key).as_str()),
            ("two", "two\n")
        );
    }

    #[test]
    fn what_was_asked_for_before_there_was_a_key_rotates_nothing() {
        let mut rotation = Rotation::begun(Some("x"));
        let around = Circumstances {
            asked: Some("x"),
            overlap_seconds: 60,
            known_to_all: true,
            now: at(0),
        };
        let key = rotation.step("one".into(), around, || unreachable!("nobody asks"));
        assert_eq!(rotation.file(&key), "one\n");
    }
}
