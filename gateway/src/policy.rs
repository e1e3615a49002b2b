//! What holds for a channel, by the beginning of its name: the longest prefix wins. Pure.

use std::time::Duration;

use gateway_config::{ChannelPolicy, Right, SlowConsumer};
use serde::Deserialize;

use crate::history::Keep;
use crate::limits::bucket::Pace;

/// All policies of a gateway.
#[derive(Debug, Default)]
pub struct Policies {
    /// The longest prefix first, so that the first that fits is the one.
    by_prefix: Vec<(String, Policy)>,
    /// For a channel that no prefix fits.
    other: Policy,
}

/// What holds for a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Which of the policies it is, for what a session counts by policy.
    pub number: u16,
    pub subscribe: Right,
    pub publish: Right,
    /// None: no limit of its own.
    pub max_message_bytes: Option<usize>,
    /// Of one connection. None: no limit of its own.
    pub pace: Option<Pace>,
    pub slow: SlowConsumer,
    /// None: nothing waits.
    pub batch: Option<Window>,
    /// None: nothing is kept, and delivery is at most once.
    pub history: Option<Keep>,
    /// Whether subscribers are told who comes and goes.
    pub presence: bool,
}

/// How long messages wait for others, and how many of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub time: Duration,
    pub messages: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Policy::new(&ChannelPolicy::default(), 0)
    }
}

impl Policy {
    fn new(policy: &ChannelPolicy, number: usize) -> Self {
        Policy {
            number: u16::try_from(number).unwrap_or(u16::MAX),
            subscribe: policy.subscribe,
            publish: policy.publish,
            max_message_bytes: (policy.max_message_bytes > 0)
                .then_some(policy.max_message_bytes as usize),
            pace: Pace::new(policy.messages_per_second, policy.message_burst),
            slow: policy.slow_consumer,
            batch: (policy.batch_milliseconds > 0).then(|| Window {
                time: Duration::from_millis(policy.batch_milliseconds.into()),
                messages: policy.batch_messages as usize,
            }),
            history: (policy.history_messages > 0 && policy.history_seconds > 0).then_some(Keep {
                messages: policy.history_messages,
                age_ms: u64::from(policy.history_seconds) * 1_000,
            }),
            presence: policy.presence,
        }
    }
}

impl Policies {
    pub fn new(policies: &[ChannelPolicy]) -> Self {
        let named = |(number, policy): (usize, &ChannelPolicy)| {
            let prefix = policy.prefix.clone().unwrap_or_default();
            // 0 is the policy of channels that have none.
            (prefix, Policy::new(policy, number + 1))
        };
        let mut by_prefix: Vec<_> = policies.iter().enumerate().map(named).collect();
        by_prefix.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Policies {
            by_prefix,
            other: Policy::default(),
        }
    }

    /// The policy of the channel with this name.
    pub fn of(&self, channel: &str) -> &Policy {
        let mut all = self.by_prefix.iter();
        all.find(|(prefix, _)| channel.starts_with(prefix))
            .map_or(&self.other, |(_, policy)| policy)
    }
}

/// The channels that a token names: its claim `pushcluster`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Grants {
    /// To subscribe and to publish.
    #[serde(default)]
    channels: Vec<String>,
    #[serde(default)]
    subscribe: Vec<String>,
    #[serde(default)]
    publish: Vec<String>,
    /// To be subscribed to from the beginning: whole names, not patterns.
    #[serde(default, rename = "autoSubscribe")]
    auto_subscribe: Vec<String>,
}

/// What a client wants to do with a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Subscribe,
    Publish,
}

impl Grants {
    /// As the token has them, unchecked.
    pub fn auto_subscribe(&self) -> &[String] {
        &self.auto_subscribe
    }

    fn name(&self, channel: &str, act: Act) -> bool {
        let own = match act {
            Act::Subscribe => &self.subscribe,
            Act::Publish => &self.publish,
        };
        let mut patterns = self.channels.iter().chain(own);
        patterns.any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => channel.starts_with(prefix),
            None => channel == pattern,
        })
    }
}

/// Whether somebody may do this; `authenticated` is whether a token was shown.
pub fn allows(
    policy: &Policy,
    act: Act,
    channel: &str,
    authenticated: bool,
    grants: Option<&Grants>,
) -> bool {
    let right = match act {
        Act::Subscribe => policy.subscribe,
        Act::Publish => policy.publish,
    };
    match right {
        Right::Anyone => true,
        Right::Authenticated => authenticated,
        Right::Granted => grants.is_some_and(|grants| grants.name(channel, act)),
        Right::Nobody => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policies(prefixes: &[(&str, Right)]) -> Policies {
        let entry = |(prefix, subscribe): &(&str, Right)| ChannelPolicy {
            prefix: Some((*prefix).to_owned()),
            subscribe: *subscribe,
            ..ChannelPolicy::default()
        };
        Policies::new(&prefixes.iter().map(entry).collect::<Vec<_>>())
    }

    #[test]
    fn the_longest_prefix_wins_in_whatever_order_they_are_written() {
        use Right::*;
        let all = policies(&[
            ("room:", Authenticated),
            ("room:admin", Nobody),
            ("room:admin-guests", Granted),
        ]);
        for (channel, right) in [
            ("room:a", Authenticated),
            ("room:", Authenticated),
            ("room", Anyone),
            ("room:admin", Nobody),
            ("room:admins", Nobody),
            ("room:admin-guests", Granted),
            ("news", Anyone),
        ] {
            assert_eq!(all.of(channel).subscribe, right, "{channel}");
        }
        let all = policies(&[("", Nobody), ("news", Anyone)]);
        assert_eq!(all.of("other").subscribe, Nobody);
        assert_eq!(all.of("news.today").subscribe, Anyone);
        assert_ne!(all.of("other").number, all.of("news").number);
    }

    #[test]
    fn rights() {
        let grants: Grants = serde_json::from_str(
            r#"{"channels":["room:a","prices.*"],"publish":["log"],"subscribe":["*.public"],"more":1}"#,
        )
        .unwrap();
        for (right, act, channel, token, expected) in [
            (Right::Anyone, Act::Publish, "x", false, true),
            (Right::Authenticated, Act::Subscribe, "x", false, false),
            (Right::Authenticated, Act::Subscribe, "x", true, true),
            (Right::Nobody, Act::Publish, "room:a", true, false),
            (Right::Granted, Act::Publish, "room:a", false, false),
            (Right::Granted, Act::Publish, "room:a", true, true),
            (Right::Granted, Act::Subscribe, "room:a", true, true),
            (Right::Granted, Act::Subscribe, "room:ab", true, false),
            (Right::Granted, Act::Subscribe, "prices.eur", true, true),
            (Right::Granted, Act::Subscribe, "prices.", true, true),
            (Right::Granted, Act::Subscribe, "price", true, false),
            (Right::Granted, Act::Publish, "log", true, true),
            (Right::Granted, Act::Subscribe, "log", true, false),
            // A star counts at the end only.
            (Right::Granted, Act::Subscribe, "a.public", true, false),
        ] {
            let policy = Policy {
                subscribe: right,
                publish: right,
                ..Policy::default()
            };
            let grants = token.then_some(&grants);
            assert_eq!(
                allows(&policy, act, channel, token, grants),
                expected,
                "{right:?} {act:?} {channel} {token}"
            );
        }
    }
}
