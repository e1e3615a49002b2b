//! Pure: what a channel is called in Redis.
//!
//! In a Cluster the channel's name is a hash tag, `{channel:name}`, so that the Pub/Sub channel and the log share a slot.
//! What is in the braces begins with a word, so that no name, as `}`, empties the tag.

use std::sync::Arc;

use bytes::Bytes;
use redis_protocol::redis_keyslot;

use super::Mode;
use crate::name::ChannelName;

/// How channels, users and nodes are called in Redis. Cloning shares the prefix.
#[derive(Debug, Clone)]
pub struct Names {
    prefix: Arc<str>,
    sharded: bool,
}

/// Where a channel's messages go and are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Redis's name of the Pub/Sub channel.
    pub(super) channel: Bytes,
    /// 0 where there are no slots.
    pub(super) slot: u16,
    /// Keys of the log.
    pub(super) meta: String,
    pub(super) stream: String,
}

impl Names {
    pub(crate) fn new(prefix: &str, mode: Mode) -> Names {
        Names {
            prefix: prefix.into(),
            sharded: mode == Mode::Cluster,
        }
    }

    pub(super) fn channel(&self, name: &ChannelName) -> Bytes {
        self.heard(name).into()
    }

    /// What is published here, its subscribers hear.
    pub(crate) fn heard(&self, name: &ChannelName) -> String {
        let (open, close) = self.braces();
        [&*self.prefix, open, "channel:", name.as_str(), close].concat()
    }

    pub(super) fn place(&self, name: &ChannelName) -> Place {
        let (open, close) = self.braces();
        let channel = self.channel(name);
        // Without a Cluster as they have always been: logs outlive a new version.
        let key = |part: &str| match self.sharded {
            true => format!("{}log:{open}channel:{name}{close}:{part}", self.prefix),
            false => format!("{}log:{name}:{part}", self.prefix),
        };
        Place {
            slot: self.slot(&channel),
            meta: key("meta"),
            stream: key("stream"),
            channel,
        }
    }

    /// For messages to oneself. Names of channels begin differently, so none of them reaches it.
    pub(super) fn probe(&self, secret: u64) -> Place {
        let (open, close) = self.braces();
        let base = format!("{}{open}probe:{secret:016x}{close}", self.prefix);
        let channel = Bytes::from(base.clone());
        Place {
            slot: self.slot(&channel),
            meta: format!("{base}:meta"),
            stream: format!("{base}:stream"),
            channel,
        }
    }

    /// A key of what is known of a user.
    pub(crate) fn of_user(&self, user: &str, part: &str) -> String {
        let (open, close) = self.braces();
        format!("{}{open}user:{user}{close}:{part}", self.prefix)
    }

    /// A key of what is known of a channel; its slot is that of the Pub/Sub channel.
    pub(crate) fn of_channel(&self, name: &ChannelName, part: &str) -> String {
        let (open, close) = self.braces();
        format!("{}{open}channel:{name}{close}:{part}", self.prefix)
    }

    /// A key of what is known of a node's lease.
    pub(crate) fn of_lease(&self, lease: &str, part: &str) -> String {
        let (open, close) = self.braces();
        format!("{}{open}node:{lease}{close}:{part}", self.prefix)
    }

    /// The key of all leases.
    pub(crate) fn nodes(&self) -> String {
        format!("{}nodes", self.prefix)
    }

    /// The slot of what [`Names`] named.
    pub(super) fn slot(&self, channel: &[u8]) -> u16 {
        if self.sharded {
            redis_keyslot(channel)
        } else {
            0
        }
    }

    pub(crate) fn publish(&self) -> &'static str {
        if self.sharded { "SPUBLISH" } else { "PUBLISH" }
    }

    pub(super) fn subscribe(&self) -> &'static str {
        if self.sharded {
            "SSUBSCRIBE"
        } else {
            "SUBSCRIBE"
        }
    }

    pub(super) fn unsubscribe(&self) -> &'static str {
        if self.sharded {
            "SUNSUBSCRIBE"
        } else {
            "UNSUBSCRIBE"
        }
    }

    fn braces(&self) -> (&'static str, &'static str) {
        if self.sharded { ("{", "}") } else { ("", "") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_slots() {
        let names = Names::new("p:", Mode::Sentinel);
        let place = names.place(&ChannelName::parse("room:a").unwrap());
        let expected = Place {
            channel: "p:channel:room:a".into(),
            slot: 0,
            meta: "p:log:room:a:meta".into(),
            stream: "p:log:room:a:stream".into(),
        };
        assert_eq!(place, expected);
    }

    #[test]
    fn state_without_slots() {
        let names = Names::new("p:", Mode::Standalone);
        assert_eq!(
            names.of_user("ann", "connections"),
            "p:user:ann:connections"
        );
        let channel = ChannelName::parse("room:a").unwrap();
        let key = names.of_channel(&channel, "subscribers");
        assert_eq!(key, "p:channel:room:a:subscribers");
        assert_eq!(names.of_lease("gw.1", "lease"), "p:node:gw.1:lease");
        assert_eq!(names.nodes(), "p:nodes");
    }

    #[test]
    fn what_belongs_together_shares_a_slot() {
        let names = Names::new("p:", Mode::Cluster);
        for name in ["a", "room:a", "}", "}{", "{}", "{a}b", "a}b", "{", "ä"] {
            let place = names.place(&ChannelName::parse(name).unwrap());
            let channel = ChannelName::parse(name).unwrap();
            let subscribers = names.of_channel(&channel, "subscribers");
            for key in [&place.meta, &place.stream, &subscribers] {
                assert_eq!(redis_keyslot(key.as_bytes()), place.slot, "{name}: {key}");
            }
        }
        let slot = |key: String| redis_keyslot(key.as_bytes());
        assert_eq!(
            slot(names.of_user("}", "connections")),
            slot(names.of_user("}", "subscriptions"))
        );
        assert_eq!(
            slot(names.of_lease("gw.1", "lease")),
            slot(names.of_lease("gw.1", "facts"))
        );
        let slots: std::collections::BTreeSet<u16> =
            (0..64).map(|secret| names.probe(secret).slot).collect();
        assert!(slots.len() > 50, "spread over the slots: {slots:?}");
    }
}
