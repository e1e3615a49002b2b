//! Which of a shard's connections have which channel. A channel is here while somebody has it or waits for it.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;

use super::census::{self, Page, Query};
use super::command::{ConnectionKey, EncodedDelivery, Round};
use super::members::Members;
use super::recovering::{Reach, Recovering};
use crate::name::ChannelName;
use crate::session::Ack;
use crate::slack;

#[derive(Default)]
pub struct Subscriptions {
    channels: HashMap<ChannelName, Channel>,
    round: Round,
    /// The number of the channel that came last.
    number: u32,
}

struct Channel {
    /// Tells it from others for as long as it is here.
    number: u32,
    members: Members,
    /// Some while the node does not yet receive the channel. Boxed, as what follows: there for a moment only, and
    /// every user has a channel.
    waiting: Option<Box<Waiting>>,
    /// Some while somebody is told what was missed.
    recovering: Option<Box<Recovering>>,
}

impl Channel {
    fn is_empty(&self) -> bool {
        self.members.is_empty()
            && self.waiting.as_ref().is_none_or(|w| w.waiters.is_empty())
            && self.recovering.as_ref().is_none_or(|r| r.is_empty())
    }
}

struct Waiting {
    round: Round,
    /// One place a connection: a client that asks again and again while the broker is slow takes no more.
    waiters: IndexMap<ConnectionKey, Ack>,
}

/// What leaving a channel came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// It was the last connection here: tell the hub.
    pub last: bool,
    /// It still waited: this acknowledgement will never come.
    pub unanswered: Option<Ack>,
}

/// What asking for a channel came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// Subscribed; acknowledge now.
    Live(Ack),
    /// Somebody asked before; acknowledge when the answer comes.
    Waits,
    /// The first on this shard: tell the hub.
    First(Round),
}

impl Subscriptions {
    pub fn subscribe(&mut self, channel: &ChannelName, key: ConnectionKey, ack: Ack) -> Asked {
        match self.channels.get_mut(channel) {
            Some(Channel {
                members,
                waiting: None,
                ..
            }) => {
                members.insert(key);
                Asked::Live(ack)
            }
            Some(Channel {
                waiting: Some(waiting),
                ..
            }) => {
                waiting.waiters.insert(key, ack);
                Asked::Waits
            }
            None => {
                self.round = self.round.wrapping_add(1);
                let waiting = Waiting {
                    round: self.round,
                    waiters: IndexMap::from([(key, ack)]),
                };
                self.number = self.number.wrapping_add(1);
                let entry = Channel {
                    number: self.number,
                    members: Members::default(),
                    waiting: Some(Box::new(waiting)),
                    recovering: None,
                };
                self.channels.insert(channel.clone(), entry);
                Asked::First(self.round)
            }
        }
    }

    /// Whether deliveries of the channel reach this shard.
    pub fn is_live(&self, channel: &ChannelName) -> bool {
        self.channels
            .get(channel)
            .is_some_and(|entry| entry.waiting.is_none())
    }

    pub fn unsubscribe(&mut self, channel: &ChannelName, key: ConnectionKey) -> Left {
        let Some(entry) = self.channels.get_mut(channel) else {
            return Left::default();
        };
        entry.members.swap_remove(&key);
        let waited = entry
            .waiting
            .as_mut()
            .and_then(|waiting| waiting.waiters.swap_remove(&key));
        let unanswered = waited.or_else(|| entry.recovering.as_mut().and_then(|r| r.remove(key)));
        let last = entry.is_empty();
        if last {
            self.channels.remove(channel);
            slack::release(&mut self.channels);
        }
        Left { last, unanswered }
    }

    /// The node receives the channel: everybody who waited is subscribed, and returned to be told.
    /// Nobody, when the answer belongs to an earlier round.
    pub fn live(&mut self, channel: &ChannelName, round: Round) -> Vec<(ConnectionKey, Ack)> {
        let Some(entry) = self.channels.get_mut(channel) else {
            return Vec::new();
        };
        let Some(waiting) = entry.waiting.take_if(|waiting| waiting.round == round) else {
            return Vec::new();
        };
        entry.members.extend(waiting.waiters.keys().copied());
        waiting.waiters.into_iter().collect()
    }

    /// Takes a member out until [`Subscriptions::recovered`], which the acknowledgement waits for. False if that is
    /// under way already.
    pub fn recover(&mut self, channel: &ChannelName, key: ConnectionKey, ack: &Ack) -> bool {
        let Some(entry) = self.channels.get_mut(channel) else {
            return false;
        };
        entry.members.swap_remove(&key) && {
            let recovering = entry.recovering.get_or_insert_default();
            recovering.begin(key, ack.clone());
            true
        }
    }

    /// What came since [`Subscriptions::recover`] and is not on the page whose top this is. The connection is a
    /// member again. None: it has gone meanwhile.
    pub fn recovered(
        &mut self,
        channel: &ChannelName,
        key: ConnectionKey,
        page: Reach,
    ) -> Option<(Ack, Vec<Arc<EncodedDelivery>>)> {
        let entry = self.channels.get_mut(channel)?;
        let recovering = entry.recovering.as_mut()?;
        let owed = recovering.end(key, page)?;
        entry.members.insert(key);
        Some(owed)
    }

    /// Those who are told what they missed, and those who were told more than has been delivered here.
    pub fn recovering(&mut self, channel: &ChannelName) -> Option<&mut Recovering> {
        let entry = self.channels.get_mut(channel)?;
        // Most channels of most times have nobody there.
        entry.recovering.take_if(|recovering| recovering.is_done());
        entry.recovering.as_deref_mut()
    }

    /// The node cannot receive the channel: everybody who waited is returned, and forgotten.
    pub fn refused(&mut self, channel: &ChannelName, round: Round) -> Vec<(ConnectionKey, Ack)> {
        match self.channels.get(channel) {
            Some(Channel {
                waiting: Some(waiting),
                ..
            }) if waiting.round == round => self
                .channels
                .remove(channel)
                .and_then(|c| c.waiting)
                .map_or_else(Vec::new, |w| w.waiters.into_iter().collect()),
            _ => Vec::new(),
        }
    }

    /// See [`census::page`].
    pub fn page(&self, query: &Query) -> Page {
        let channels = self.channels.iter();
        census::page(
            channels.map(|(name, channel)| (name, channel.members.len())),
            query,
        )
    }

    /// A channel's number on this shard; 0 when it is not here.
    pub fn number(&self, channel: &ChannelName) -> u32 {
        self.channels.get(channel).map_or(0, |entry| entry.number)
    }

    pub fn members(&self, channel: &ChannelName) -> impl Iterator<Item = ConnectionKey> + '_ {
        self.channels
            .get(channel)
            .into_iter()
            .flat_map(|entry| entry.members.iter().copied())
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.channels.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_s_row_is_small() {
        // Every user has a channel, and the table up to twice as many rows as channels.
        assert!(
            size_of::<(ChannelName, Channel)>() <= 56,
            "{}",
            size_of::<(ChannelName, Channel)>()
        );
    }

    fn key(slot: u32) -> ConnectionKey {
        ConnectionKey {
            slot,
            generation: 0,
        }
    }

    fn subscribed() -> Ack {
        Ack::Subscribed {
            id: None,
            recover: None,
        }
    }

    fn name() -> ChannelName {
        ChannelName::parse("news").unwrap()
    }

    #[test]
    fn the_first_asks_the_others_wait_and_all_are_told_together() {
        let mut subscriptions = Subscriptions::default();
        let Asked::First(round) = subscriptions.subscribe(&name(), key(1), Ack::Welcome) else {
            panic!("first")
        };
        assert_eq!(
            subscriptions.subscribe(&name(), key(2), subscribed()),
            Asked::Waits
        );
        assert_eq!(
            subscriptions.members(&name()).count(),
            0,
            "nobody is subscribed before the channel is live"
        );
        assert_eq!(
            subscriptions.live(&name(), round),
            [(key(1), Ack::Welcome), (key(2), subscribed())]
        );
        assert_eq!(subscriptions.live(&name(), round), [], "told once");
        assert_eq!(
            subscriptions.subscribe(&name(), key(3), Ack::Welcome),
            Asked::Live(Ack::Welcome)
        );
        assert_eq!(
            subscriptions.members(&name()).collect::<Vec<_>>(),
            [key(1), key(2), key(3)]
        );
        for (slot, last) in [(2, false), (2, false), (1, false), (3, true)] {
            let left = subscriptions.unsubscribe(&name(), key(slot));
            assert_eq!(
                left,
                Left {
                    last,
                    unanswered: None
                },
                "{slot}"
            );
        }
        assert_eq!(subscriptions.len(), 0);
    }

    #[test]
    fn an_answer_to_an_earlier_round_subscribes_nobody() {
        let mut subscriptions = Subscriptions::default();
        let Asked::First(early) = subscriptions.subscribe(&name(), key(1), Ack::Welcome) else {
            panic!("first")
        };
        let left = subscriptions.unsubscribe(&name(), key(1));
        let unanswered = Some(Ack::Welcome);
        assert_eq!(
            left,
            Left {
                last: true,
                unanswered
            },
            "the only waiter left"
        );
        let Asked::First(late) = subscriptions.subscribe(&name(), key(2), Ack::Welcome) else {
            panic!("first again")
        };
        assert_eq!(subscriptions.live(&name(), early), []);
        assert_eq!(subscriptions.refused(&name(), early), []);
        assert_eq!(
            subscriptions.refused(&name(), late),
            [(key(2), Ack::Welcome)]
        );
        assert_eq!(subscriptions.len(), 0);
    }
}
