//! Which channels this node receives from the broker, and for which shards. Pure: what happened in, what to do out.
//!
//! ```text
//!              first interest              broker: yes
//!   (absent) ───────────────▶ Subscribing ─────────────▶ Live
//!       ▲                        │  ▲  │ broker: yes, but      │
//!       │           broker: no   │  │  │ nobody is left        │ last one left
//!       ├────────────────────────┘  │  ▼                       ▼
//!       └─────────────────────── Unsubscribing ◀───────────────┘
//!            done, nobody came      │ done, somebody came meanwhile: Subscribing again
//! ```
//!
//! At any time at most one call for a channel is under way at the broker. Without this, an `UNSUBSCRIBE` of the
//! last one that left can overtake the `SUBSCRIBE` of the first one that came: the channel then looks live here
//! and receives nothing, until somebody complains.

use std::collections::HashMap;

use crate::engine::command::{Round, ShardId};
use crate::few::Few;
use crate::name::ChannelName;
use crate::slack;

use super::track::Track;

/// See the module. A channel is here while somebody wants it or a call for it is under way.
#[derive(Default)]
pub struct Channels {
    entries: HashMap<ChannelName, Entry>,
}

struct Entry {
    phase: Phase,
    /// At most one row a shard, with the round that its answer must carry.
    interested: Few<(ShardId, Round)>,
    /// The node itself wants it, for as long as it runs.
    pinned: bool,
    /// On a channel with history, while the node receives it. Boxed: most channels are a user's own and have none.
    track: Option<Box<Track>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Subscribing,
    Live,
    Unsubscribing,
}

/// What the hub must do now, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Call the broker, and report with [`Channels::subscribed`] or [`Channels::failed`].
    Subscribe(ChannelName),
    /// Call the broker, and report with [`Channels::unsubscribed`].
    Unsubscribe(ChannelName),
    /// Tell the shard, before any delivery of the channel that comes from now on.
    Live(ShardId, ChannelName, Round),
    Refused(ShardId, ChannelName, Round),
    /// [`Channels::pin`] again after a while: the node cannot do without it.
    PinLater(ChannelName),
}

impl Entry {
    fn wanted(&self) -> bool {
        self.pinned || !self.interested.as_slice().is_empty()
    }

    fn leave(&mut self) {
        self.phase = Phase::Unsubscribing;
        self.track = None;
    }
}

impl Channels {
    /// A shard has its first subscriber.
    pub fn interest(
        &mut self,
        channel: &ChannelName,
        shard: ShardId,
        round: Round,
        actions: &mut Vec<Action>,
    ) {
        let entry = self.entry(channel, actions);
        match entry
            .interested
            .as_mut_slice()
            .iter_mut()
            .find(|(other, _)| *other == shard)
        {
            Some(row) => row.1 = round,
            None => entry.interested.push((shard, round)),
        }
        if entry.phase == Phase::Live {
            actions.push(Action::Live(shard, channel.clone(), round));
        }
    }

    /// A shard has lost its last subscriber. Of a channel that was refused meanwhile, nothing is known any more.
    pub fn disinterest(
        &mut self,
        channel: &ChannelName,
        shard: ShardId,
        actions: &mut Vec<Action>,
    ) {
        let Some(entry) = self.entries.get_mut(channel) else {
            return;
        };
        entry.interested.retain(|(other, _)| *other != shard);
        if entry.phase == Phase::Live && !entry.wanted() {
            entry.leave();
            actions.push(Action::Unsubscribe(channel.clone()));
        }
    }

    /// The node wants the channel for as long as it runs.
    pub fn pin(&mut self, channel: &ChannelName, actions: &mut Vec<Action>) {
        self.entry(channel, actions).pinned = true;
    }

    /// The broker has subscribed: deliveries follow.
    pub fn subscribed(&mut self, channel: &ChannelName, actions: &mut Vec<Action>) {
        let Some(entry) = self.entries.get_mut(channel) else {
            return;
        };
        debug_assert_eq!(entry.phase, Phase::Subscribing, "{channel}");
        if !entry.wanted() {
            entry.leave();
            actions.push(Action::Unsubscribe(channel.clone()));
            return;
        }
        entry.phase = Phase::Live;
        let live = |&(shard, round)| Action::Live(shard, channel.clone(), round);
        actions.extend(entry.interested.as_slice().iter().map(live));
    }

    /// The broker could not subscribe. Everybody who waits is told, and the next one who comes tries anew.
    pub fn failed(&mut self, channel: &ChannelName, actions: &mut Vec<Action>) {
        let Some(entry) = self.entries.remove(channel) else {
            return;
        };
        debug_assert_eq!(entry.phase, Phase::Subscribing, "{channel}");
        let refused = |(shard, round)| Action::Refused(shard, channel.clone(), round);
        actions.extend(entry.interested.into_vec().into_iter().map(refused));
        if entry.pinned {
            actions.push(Action::PinLater(channel.clone()));
        }
    }

    /// The broker has unsubscribed.
    pub fn unsubscribed(&mut self, channel: &ChannelName, actions: &mut Vec<Action>) {
        let Some(entry) = self.entries.get_mut(channel) else {
            return;
        };
        debug_assert_eq!(entry.phase, Phase::Unsubscribing, "{channel}");
        if entry.wanted() {
            entry.phase = Phase::Subscribing;
            actions.push(Action::Subscribe(channel.clone()));
        } else {
            self.entries.remove(channel);
            slack::release(&mut self.entries);
        }
    }

    /// The shards that were told that the channel is live.
    pub fn live(&self, channel: &ChannelName) -> impl Iterator<Item = ShardId> + '_ {
        let live = self
            .entries
            .get(channel)
            .filter(|entry| entry.phase == Phase::Live);
        live.into_iter()
            .flat_map(|entry| entry.interested.as_slice().iter().map(|(shard, _)| *shard))
    }

    /// How far the subscribers of a channel have got, if it has history as far as is known.
    pub fn track(&mut self, channel: &ChannelName) -> Option<&mut Track> {
        self.entries.get_mut(channel)?.track.as_deref_mut()
    }

    /// The same of a channel that has history. None: the node does not receive it.
    pub fn track_kept(&mut self, channel: &ChannelName) -> Option<&mut Track> {
        let entry = self.entries.get_mut(channel)?;
        let receives = entry.phase != Phase::Unsubscribing;
        receives.then(|| &mut **entry.track.get_or_insert_default())
    }

    /// Whether the broker has yet to say that it delivers the channel.
    pub fn is_subscribing(&self, channel: &ChannelName) -> bool {
        let entry = self.entries.get(channel);
        entry.is_some_and(|entry| entry.phase == Phase::Subscribing)
    }

    /// The channel has no history any more.
    pub fn untrack(&mut self, channel: &ChannelName) -> Option<Box<Track>> {
        self.entries.get_mut(channel)?.track.take()
    }

    /// Whether nobody wants anything and no call is under way.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn entry(&mut self, channel: &ChannelName, actions: &mut Vec<Action>) -> &mut Entry {
        self.entries.entry(channel.clone()).or_insert_with(|| {
            actions.push(Action::Subscribe(channel.clone()));
            Entry {
                phase: Phase::Subscribing,
                interested: Few::None,
                pinned: false,
                track: None,
            }
        })
    }
}

#[cfg(test)]
#[path = "channels_tests.rs"]
#[expect(clippy::too_many_lines, reason = "tables")]
mod tests;
