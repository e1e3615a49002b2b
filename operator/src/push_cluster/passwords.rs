//! The password with which gateways come to a Redis of ours, exchanged while all go on. Pure; what there is between two
//! steps stands in the generated Secret, so whoever goes on with it knows how far it has got.
//!
//! ```text
//! an annotation with another value ─▶ next: Redis and Sentinels accept it too, running and after a restart
//! every one of them accepts it     ─▶ it is what gateways read; the one from before is accepted still
//! every gateway has it             ─▶ that one is accepted no more
//! ```
//! The order is what matters: who restarts or connects anew at any moment of it, gateway or Redis, finds what fits.

use crds::RedisMode;
use gateway_config::password_print;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::exchange::{self, Dated, Entries, PATIENCE, SETTLES, hash};
use super::observe::{Keys, Observed};
use super::users::{self, RedisUser};
use crate::reason::Told;

/// The annotation of a PushCluster that asks for another password, by any value that is not the one from before.
pub const ANNOTATION: &str = "pushcluster.io/rotate-redis-password";

/// How far it has got; the default: it was never asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Passwords {
    /// What was asked for last, as a hash.
    pub asked: Option<String>,
    /// The password to come, and since when it has been.
    pub next: Option<Dated>,
    /// The password from before, and since when it is that.
    pub before: Option<Dated>,
    /// The first of all, which counts no more. It stands in the hashes by which pods are made anew: with the one that
    /// counts in its place, each rotation would replace all of them. None: it is the one that counts.
    pub first: Option<String>,
}

/// Whether gateways show the password that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    ToAll,
    /// To all that answered.
    Unsure,
    NotToAll,
}

/// What a step is decided on.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// The annotation's value.
    pub asked: Option<&'a str>,
    /// Whether every Redis and Sentinel was seen to accept all that count.
    pub accepted: bool,
    pub known: Known,
    pub now: Timestamp,
}

impl Passwords {
    /// Nothing to rotate: what is asked for at the beginning is there.
    fn begun(asked: Option<&str>) -> Passwords {
        Passwords {
            asked: asked.map(hash),
            ..Passwords::default()
        }
    }

    /// The password that gateways read, after this step. `generate` makes another one.
    pub fn step(
        &mut self,
        password: String,
        around: Circumstances<'_>,
        generate: impl FnMut() -> String,
    ) -> String {
        let Circumstances { now, .. } = around;
        let waited = |since: &Dated| now.duration_since(since.at);
        if let Some(next) = self.next.take() {
            // What was seen may be of a Redis that a kubelet has not brought the new file yet.
            if !around.accepted || waited(&next) < SETTLES {
                self.next = Some(next);
                return password;
            }
            self.first.get_or_insert_with(|| password.clone());
            self.before = Some(Dated {
                key: password,
                at: now,
            });
            return next.key;
        }
        if let Some(before) = &self.before {
            let ends = match around.known {
                Known::ToAll => waited(before) >= SETTLES,
                Known::Unsure => waited(before) >= PATIENCE,
                // Who has the old one and no other would never come back to Redis.
                Known::NotToAll => false,
            };
            if ends {
                self.before = None;
            }
            return password;
        }
        let asked = around.asked.map(hash);
        if asked.is_some() && asked != self.asked {
            self.asked = asked;
            self.next = Some(Dated {
                key: another(&password, generate),
                at: now,
            });
        }
        password
    }

    /// Every password that Redis is to accept, the one that counts first.
    pub fn accepted<'a>(&'a self, password: &'a str) -> Vec<&'a str> {
        exchange::counting(password, [&self.next, &self.before]).collect()
    }

    pub fn is_at_rest(&self) -> bool {
        self.next.is_none() && self.before.is_none()
    }

    /// What has just begun or ended, for an Event. `self`: before.
    pub fn told(&self, after: &Passwords) -> Option<(Told, &'static str)> {
        if self.next.is_none() && after.next.is_some() {
            return Some((
                Told::RedisPasswordChanging,
                "another password of the gateways at Redis was made; Redis learns it, then the gateways",
            ));
        }
        (self.before.is_some() && after.before.is_none()).then_some((
            Told::RedisPasswordChanged,
            "every gateway has the new password at Redis; the one from before is accepted no more",
        ))
    }

    /// As it is written into the Secret.
    pub fn entries(&self) -> Vec<(&'static str, String)> {
        let one = |name, value: &Option<String>| value.clone().map(|value| (name, value));
        let plain = [one(ASKED, &self.asked), one(FIRST, &self.first)];
        let dated = Dated::written([(NEXT, &self.next), (BEFORE, &self.before)]);
        plain.into_iter().flatten().chain(dated).collect()
    }

    /// As it was read from there.
    pub fn of(entries: Entries<'_>) -> Passwords {
        Passwords {
            asked: exchange::value(entries, ASKED),
            next: Dated::read(entries, NEXT),
            before: Dated::read(entries, BEFORE),
            first: exchange::value(entries, FIRST),
        }
    }
}

/// One that gateways tell from this one.
fn another(password: &str, mut generate: impl FnMut() -> String) -> String {
    loop {
        let made = generate();
        if password_print(&made) != password_print(password) {
            return made;
        }
    }
}

/// `keys` after this step. Nothing is ever exchanged that is not the operator's.
pub fn rotate(
    keys: &mut Keys,
    observed: &Observed,
    now: Timestamp,
    generate: impl FnMut() -> String,
) {
    let cluster = &observed.cluster;
    let asked = cluster.annotations().get(ANNOTATION).map(String::as_str);
    if observed.keys.redis_password.is_none() {
        keys.passwords = Passwords::begun(asked);
        return;
    }
    if cluster.spec.redis.mode == RedisMode::External {
        return;
    }
    let config = cluster.status.as_ref().and_then(|s| s.config.as_ref());
    let known = match config {
        Some(config) if !config.outdated.is_empty() => Known::NotToAll,
        Some(config) if config.unknown.is_empty() => Known::ToAll,
        _ => Known::Unsure,
    };
    let around = Circumstances {
        asked,
        accepted: !observed.redis_users.is_empty() && lacking(observed).is_empty(),
        known,
        now,
    };
    let password = std::mem::take(&mut keys.redis_password);
    keys.redis_password = keys.passwords.step(password, around, generate);
}

/// Every Redis and Sentinel that does not accept what it should, and why.
pub fn lacking(observed: &Observed) -> Vec<String> {
    let Some(password) = &observed.keys.redis_password else {
        return Vec::new();
    };
    let wanted = users::hashes(&observed.keys.passwords.accepted(password));
    let say = |user: &RedisUser| match &user.accepts {
        Ok(accepts) => {
            (!wanted.is_subset(accepts)).then(|| format!("{user} has not learned it yet"))
        }
        Err(why) => Some(format!("{user} cannot be asked: {why}")),
    };
    observed.redis_users.iter().filter_map(say).collect()
}

const ASKED: &str = "redis-password-asked-for";
const FIRST: &str = "redis-password-first";
const NEXT: [&str; 2] = ["redis-password-next", "redis-password-next-since"];
const BEFORE: [&str; 2] = ["redis-password-before", "redis-password-before-since"];

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn another_of(password: &str) -> &'static str {
        match password {
            "one" => "two",
            "two" => "three",
            _ => "four",
        }
    }

    /// One rotation after another, second by second: what was seen, what gateways read, what Redis is to accept.
    #[test]
    fn redis_learns_a_password_before_gateways_have_it_and_forgets_one_after_they_have() {
        use Known::{NotToAll, ToAll, Unsure};
        let mut passwords = Passwords::begun(None);
        let mut password = "one".to_owned();
        for (second, asked, accepted, known, expected, redis) in [
            (0, None, true, ToAll, "one", &["one"][..]),
            (1, Some("x"), true, ToAll, "one", &["one", "two"]),
            // Seen before it was told, or told and not yet in the pod's file.
            (2, Some("x"), true, ToAll, "one", &["one", "two"]),
            // One Redis hangs: gateways would not come in there.
            (900, Some("x"), false, ToAll, "one", &["one", "two"]),
            (901, Some("x"), true, ToAll, "two", &["two", "one"]),
            // What the status says of gateways is from before.
            (902, Some("x"), true, ToAll, "two", &["two", "one"]),
            (960, Some("x"), true, NotToAll, "two", &["two", "one"]),
            // Asked for again before the first is over: later.
            (9000, Some("y"), false, NotToAll, "two", &["two", "one"]),
            // What a Redis accepts matters no more: gateways have the other one.
            (9001, Some("y"), false, ToAll, "two", &["two"]),
            (9002, Some("y"), true, ToAll, "two", &["two", "three"]),
            (9020, Some("y"), true, ToAll, "three", &["three", "two"]),
            // A gateway that never answers is not waited for without end.
            (9319, Some("y"), true, Unsure, "three", &["three", "two"]),
            (9320, Some("y"), true, Unsure, "three", &["three"]),
            (9400, None, true, ToAll, "three", &["three"]),
            (9401, Some("y"), true, ToAll, "three", &["three"]),
        ] {
            let around = Circumstances {
                asked,
                accepted,
                known,
                now: at(second),
            };
            let made = another_of(&password);
            password = passwords.step(password, around, || made.to_owned());
            assert_eq!(password, expected, "second {second}");
            assert_eq!(passwords.accepted(&password), redis, "second {second}");
            assert_eq!(passwords.is_at_rest(), redis.len() == 1, "second {second}");
            // In the hashes of pods the first one stands for ever.
            let hashed = passwords.first.as_ref().unwrap_or(&password);
            assert_eq!(hashed, "one", "second {second}");
            let entries = passwords.entries().into_iter();
            let stored = entries.map(|(name, value)| (name.to_owned(), ByteString(value.into())));
            assert_eq!(Passwords::of(Some(&stored.collect())), passwords, "stored");
        }
    }

    #[test]
    fn what_was_asked_for_before_there_was_a_password_rotates_nothing() {
        let mut passwords = Passwords::begun(Some("x"));
        let around = Circumstances {
            asked: Some("x"),
            accepted: true,
            known: Known::ToAll,
            now: at(0),
        };
        let password = passwords.step("one".into(), around, || unreachable!("nobody asks"));
        assert_eq!(passwords.accepted(&password), ["one"]);
    }

    #[test]
    fn the_next_password_is_told_from_the_one_that_counts() {
        let mut made = ["one", "two"].into_iter();
        assert_eq!(another("one", || made.next().unwrap().to_owned()), "two");
    }

    #[test]
    fn its_beginning_and_its_end_are_told_once() {
        let dated = Some(Dated {
            key: "k".into(),
            at: at(0),
        });
        let rest = Passwords::default();
        let next = Passwords {
            next: dated.clone(),
            ..Passwords::default()
        };
        let before = Passwords {
            before: dated,
            ..Passwords::default()
        };
        for (one, then, expected) in [
            (&rest, &rest, None),
            (&rest, &next, Some(Told::RedisPasswordChanging)),
            (&next, &next, None),
            (&next, &before, None),
            (&before, &before, None),
            (&before, &rest, Some(Told::RedisPasswordChanged)),
        ] {
            let told = one.told(then).map(|(reason, _)| reason);
            assert_eq!(told, expected, "{one:?} {then:?}");
        }
    }
}
