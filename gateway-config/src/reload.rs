//! What of a changed file a running gateway takes, and what waits for a restart. Pure: two configurations in, a
//! decision out. The gateway acts by it; who rolls gateways out can ask the same table.

use serde::Serialize;
use serde_json::Value;

use crate::keys::values;
use crate::problem::{Place, Problem};
use crate::{Config, rules};

/// When a changed value of a key counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// As soon as the gateway has read it, for those who are connected too.
    Live,
    /// When the process starts again. Until then the whole key stays as it was.
    Restart,
}

use Reload::{Live, Restart};

/// Every key; a list of entries is one. `Restart` is for what would need a new socket (ours, or one to Redis), new
/// threads, or another name.
const KEYS: [(&str, Reload); 67] = [
    ("api.idempotencyBytes", Live),
    ("api.idempotencySeconds", Live),
    ("api.keyFile", Live),
    ("api.maxBatchMessages", Live),
    ("auth.anonymous", Live),
    ("auth.audiences", Live),
    ("auth.hs256KeyFile", Live),
    ("auth.hs384KeyFile", Live),
    ("auth.hs512KeyFile", Live),
    ("auth.issuers", Live),
    ("auth.jwksCaFile", Live),
    ("auth.jwksRefreshSeconds", Live),
    ("auth.jwksTimeoutSeconds", Live),
    ("auth.jwksUrl", Live),
    ("auth.keyFiles", Live),
    ("auth.leewaySeconds", Live),
    ("broker.kind", Restart),
    ("broker.redis.caFile", Restart),
    ("broker.redis.certificateFile", Restart),
    ("broker.redis.keyFile", Restart),
    ("broker.redis.keyPrefix", Restart),
    ("broker.redis.leaseSeconds", Restart),
    ("broker.redis.listen", Restart),
    ("broker.redis.listenPrefix", Restart),
    ("broker.redis.masterName", Restart),
    ("broker.redis.maxPendingFacts", Restart),
    ("broker.redis.mode", Restart),
    ("broker.redis.passwordFile", Restart),
    ("broker.redis.probeSeconds", Restart),
    ("broker.redis.sentinelPasswordFile", Restart),
    ("broker.redis.sentinelUsername", Restart),
    ("broker.redis.timeoutSeconds", Restart),
    ("broker.redis.url", Restart),
    ("broker.redis.username", Restart),
    ("channels", Live),
    ("compression.enabled", Live),
    ("compression.minMessageBytes", Live),
    ("drain.connectionsPerSecond", Live),
    ("drain.deadlineSeconds", Live),
    ("engine.shards", Restart),
    ("heartbeat.idleSeconds", Live),
    ("heartbeat.pingSeconds", Live),
    ("limits.handshakeTimeoutSeconds", Live),
    ("limits.handshakesPerSecond", Live),
    ("limits.maxChannelsPerConnection", Live),
    ("limits.maxConnections", Live),
    ("limits.maxConnectionsPerAddress", Live),
    ("limits.maxConnectionsPerUser", Live),
    ("limits.maxHandshakes", Live),
    ("limits.maxHistoryBytes", Live),
    ("limits.maxMemoryBytes", Live),
    ("limits.maxMessageBytes", Live),
    ("limits.maxOutboxBytes", Live),
    ("limits.maxPresenceMembers", Live),
    ("limits.maxRequestBytes", Live),
    ("limits.messageBurst", Live),
    ("limits.messagesPerSecond", Live),
    ("listen.admin", Restart),
    ("listen.allowedOrigins", Live),
    ("listen.clients", Restart),
    ("listen.page", Live),
    ("listen.tls.certificateFile", Restart),
    ("listen.tls.keyFile", Restart),
    ("listen.trustedProxies", Live),
    ("log.filter", Live),
    ("log.format", Live),
    ("node.name", Restart),
];

/// When a changed value of this key counts; `channels` and `channels[].prefix` are the same key. What is no key needs
/// a restart: a gateway must not be said to have taken what it has not.
#[must_use]
pub fn reload(path: &str) -> Reload {
    let list = path.split("[]").next().unwrap_or(path);
    KEYS.iter()
        .find(|(key, _)| *key == list)
        .map_or(Restart, |(_, reload)| *reload)
}

/// The keys in which two configurations differ, by when the new value counts; each in alphabetical order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// A gateway that runs takes these.
    pub taken: Vec<String>,
    /// These stay as they are until it starts again.
    pub needs_restart: Vec<String>,
}

/// What it means to a gateway with the configuration `old` that it is to have `new`.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Change {
    let mut change = Change::default();
    for ((path, before), (_, after)) in values(old).into_iter().zip(values(new)) {
        if before == after {
            continue;
        }
        match reload(&path) {
            Live => change.taken.push(path),
            Restart => change.needs_restart.push(path),
        }
    }
    change.taken.sort_unstable();
    change.needs_restart.sort_unstable();
    change
}

/// What of `config` a gateway reads at its start only, as keys and values in JSON: gateways for which this differs are
/// different processes, and gateways for which it is the same can become each other by a reload. Without what is as by
/// default, so that a key which a later version adds is no difference where nobody uses it.
#[must_use]
pub fn read_at_start(config: &Config) -> Vec<(String, String)> {
    let mut keys = config.differences();
    keys.retain(|(path, _)| reload(path) == Restart);
    keys
}

/// What a gateway with the configuration `running` has after it has taken what it can of `wanted`. An error when that
/// breaks a rule, as one that binds two keys of which only one can be taken.
pub fn take(running: &Config, wanted: &Config) -> Result<Config, Vec<Problem>> {
    kept(
        merged(running, wanted),
        &diff(running, wanted).needs_restart,
    )
}

fn kept(taken: Config, stay: &[String]) -> Result<Config, Vec<Problem>> {
    let broken = rules::broken(&taken);
    if broken.is_empty() {
        return Ok(taken);
    }
    let stay = stay.join(", ");
    let problem = |broken: rules::Broken| Problem {
        path: broken.paths.into_iter().next().unwrap_or_default(),
        place: Place::Default,
        message: format!(
            "{}; so it is as long as what needs a restart stays: {stay}",
            broken.message
        ),
    };
    Err(broken.into_iter().map(problem).collect())
}

/// `wanted`, with what needs a restart as in `running`.
fn merged(running: &Config, wanted: &Config) -> Config {
    let mut tree = serde_json::to_value(wanted).expect("a configuration is JSON");
    for (path, value) in values(running) {
        if reload(&path) == Restart {
            put(&mut tree, &path, value);
        }
    }
    serde_json::from_value(tree).expect("made of two configurations")
}

fn put(tree: &mut Value, path: &str, value: Value) {
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    let words = section.split('.').filter(|word| !word.is_empty());
    let section = words.fold(tree, |at, word| &mut at[word]);
    match (value, section.as_object_mut()) {
        // A key that is unset is not there at all.
        (Value::Null, Some(section)) => drop(section.remove(name)),
        (value, _) => section[name] = value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, keys, parse};

    #[test]
    fn every_key_says_when_it_counts_and_nothing_else_does() {
        let paths: Vec<String> = keys()
            .into_iter()
            .filter(|key| key.kind != Kind::Section)
            .map(|key| key.path)
            .collect();
        for path in &paths {
            let rows = KEYS.iter().filter(|(key, _)| key == path).count();
            assert_eq!(
                rows, 1,
                "{path} needs one row in gateway-config/src/reload.rs"
            );
        }
        for (key, _) in KEYS {
            assert!(paths.iter().any(|path| path == key), "{key} is no key");
        }
        assert!(
            KEYS.is_sorted_by_key(|(key, _)| key),
            "in alphabetical order"
        );
    }

    /// A configuration from what stands in the file.
    fn of(text: &str) -> Config {
        parse(text, &[]).unwrap_or_else(|problems| panic!("{text}: {problems:?}"))
    }

    #[test]
    fn what_is_taken_and_what_waits() {
        for (old, new, taken, needs_restart) in [
            ("", "", &[][..], &[][..]),
            ("", "limits: {maxConnections: 10000}", &[], &[]),
            (
                "",
                "limits: {maxConnections: 5, maxHandshakes: 5}",
                &["limits.maxConnections", "limits.maxHandshakes"],
                &[],
            ),
            ("", "listen: {page: true}", &["listen.page"], &[]),
            ("listen: {page: true}", "", &["listen.page"], &[]),
            (
                "node: {name: a}\nlog: {filter: warn}",
                "node: {name: b}\nengine: {shards: 2}",
                &["log.filter"],
                &["engine.shards", "node.name"],
            ),
            (
                "channels: [{prefix: a}]",
                "channels: [{prefix: a, subscribe: nobody}]\nlisten: {clients: 'h:1'}",
                &["channels"],
                &["listen.clients"],
            ),
        ] {
            let (old, new) = (of(old), of(new));
            let change = diff(&old, &new);
            assert_eq!(change.taken, taken, "{new:?}");
            assert_eq!(change.needs_restart, needs_restart, "{new:?}");
            // What waits stays as a whole, and what is taken is there as a whole.
            let running = take(&old, &new).unwrap();
            assert_eq!(diff(&old, &running).taken, taken);
            assert_eq!(diff(&old, &running).needs_restart, [""; 0]);
            assert_eq!(diff(&running, &new).taken, [""; 0]);
            assert_eq!(diff(&running, &new).needs_restart, needs_restart);
        }
    }

    #[test]
    fn each_key_by_itself_is_taken_or_waits() {
        let old = Config::default();
        for key in keys() {
            let other = match &key.kind {
                Kind::Section => continue,
                Kind::Number(_) => serde_json::json!(7),
                // A key that is unset is neither.
                Kind::Flag => (key.default != true).into(),
                Kind::Text => "other".into(),
                Kind::Texts => serde_json::json!(["other"]),
                Kind::OneOf(words) => words[1].clone().into(),
                Kind::Entries(_) => serde_json::json!([{"prefix": "other"}]),
            };
            let mut tree = serde_json::to_value(&old).unwrap();
            put(&mut tree, &key.path, other);
            let new: Config = serde_json::from_value(tree).unwrap();
            let change = diff(&old, &new);
            let running = merged(&old, &new);
            match reload(&key.path) {
                Live => {
                    assert_eq!(
                        (change.taken, change.needs_restart),
                        (vec![key.path], vec![])
                    );
                    assert_eq!(running, new);
                }
                Restart => {
                    assert_eq!(
                        (change.taken, change.needs_restart),
                        (vec![], vec![key.path])
                    );
                    assert_eq!(running, old);
                }
            }
        }
    }

    #[test]
    fn what_is_read_at_the_start_is_what_waits_for_it() {
        for (old, new) in [
            ("", "limits: {maxConnections: 5}\nchannels: [{prefix: a}]"),
            ("", "engine: {shards: 2}"),
            ("broker: {redis: {url: 'redis://a/0'}}", ""),
            (
                "broker: {redis: {timeoutSeconds: 5}}\nlog: {filter: warn}",
                "broker: {redis: {timeoutSeconds: 6}}",
            ),
        ] {
            let (old, new) = (of(old), of(new));
            assert_eq!(
                read_at_start(&old) != read_at_start(&new),
                !diff(&old, &new).needs_restart.is_empty(),
                "{new:?}"
            );
        }
        assert_eq!(read_at_start(&Config::default()), []);
        assert_eq!(
            read_at_start(&of("engine: {shards: 2}\nlog: {filter: warn}")),
            [("engine.shards".to_owned(), "2".to_owned())]
        );
    }

    #[test]
    fn a_rule_that_binds_what_is_taken_to_what_waits() {
        // No rule does yet, so this is what one would leave behind.
        let mut taken = Config::default();
        taken.auth.anonymous = false;
        let problems = kept(taken, &["engine.shards".to_owned()]).unwrap_err();
        assert_eq!(problems[0].path, "auth.anonymous");
        let why = "so it is as long as what needs a restart stays: engine.shards";
        assert!(problems[0].message.ends_with(why), "{problems:?}");
    }
}
