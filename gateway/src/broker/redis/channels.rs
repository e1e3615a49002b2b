//! Pure: the channels of this node, and how far each has come at Redis.
//!
//! A channel has at most one command under way, so every push of Redis has one meaning: a farewell that nobody asked for is
//! a slot that has moved.

use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::link::LinkId;
use super::names::Names;
use crate::name::ChannelName;

/// Answered when Redis has confirmed, or with the cause when it has not by then.
pub(super) type Live = (oneshot::Sender<Result<(), String>>, Instant);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At no connection: new, or the one it was at is gone.
    Homeless,
    Subscribing(LinkId),
    Live(LinkId),
    Unsubscribing(LinkId),
}

struct Channel {
    name: ChannelName,
    /// False once it was unsubscribed, while an answer for it is still on its way.
    wanted: bool,
    state: State,
    /// Whether it was live and is to be again: until then messages may be missed.
    missing: bool,
    waiting: Vec<Live>,
}

/// What a confirmation of Redis means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Confirmed {
    /// It is live, and was not before.
    First,
    /// It is live again.
    Restored(ChannelName),
    /// Nobody wants it any more: to be taken back.
    Unwanted,
    /// Nothing: it was asked for on a connection that is gone.
    Stale,
}

/// By slot, since that is how they move.
pub(super) struct Channels {
    names: Names,
    slots: HashMap<u16, HashMap<Bytes, Channel>>,
    missing: usize,
    /// To be subscribed somewhere; some may have found a home since, or be wanted no more.
    homeless: Vec<Bytes>,
    /// Whether anybody waits for a confirmation.
    awaited: bool,
}

impl Channels {
    pub(super) fn new(names: Names) -> Channels {
        Channels {
            names,
            slots: HashMap::new(),
            missing: 0,
            homeless: Vec::new(),
            awaited: false,
        }
    }

    pub(super) fn slot(&self, key: &[u8]) -> u16 {
        self.names.slot(key)
    }

    /// Channels that were live and are not now.
    pub(super) fn missing(&self) -> usize {
        self.missing
    }

    pub(super) fn len(&self) -> usize {
        self.slots.values().map(HashMap::len).sum()
    }

    /// Who may take a message for the channel that came on this connection.
    pub(super) fn receiver(&self, key: &Bytes, link: LinkId) -> Option<&ChannelName> {
        let channel = self.slots.get(&self.slot(key))?.get(key)?;
        (channel.wanted && channel.state == State::Live(link)).then_some(&channel.name)
    }

    /// Whether it is homeless now.
    pub(super) fn subscribe(&mut self, name: ChannelName, live: Live) -> Option<Bytes> {
        let key = self.names.channel(&name);
        let slot = self.slot(&key);
        let of_slot = self.slots.entry(slot).or_default();
        let channel = of_slot.entry(key.clone()).or_insert_with(|| Channel {
            name,
            wanted: true,
            state: State::Homeless,
            missing: false,
            waiting: Vec::new(),
        });
        channel.wanted = true;
        if matches!(channel.state, State::Live(_)) {
            let _ = live.0.send(Ok(()));
            return None;
        }
        channel.waiting.push(live);
        self.awaited = true;
        if channel.state != State::Homeless {
            return None;
        }
        self.homeless.push(key.clone());
        Some(key)
    }

    /// The connection at which it is to be unsubscribed.
    pub(super) fn unsubscribe(&mut self, name: &ChannelName) -> Option<(LinkId, Bytes)> {
        let key = self.names.channel(name);
        self.forget(&key).map(|link| (link, key))
    }

    fn forget(&mut self, key: &Bytes) -> Option<LinkId> {
        let slot = self.slot(key);
        let channel = self.slots.get_mut(&slot)?.get_mut(key)?;
        channel.wanted = false;
        channel.waiting.clear();
        self.missing -= usize::from(std::mem::take(&mut channel.missing));
        match channel.state {
            State::Live(link) => {
                channel.state = State::Unsubscribing(link);
                Some(link)
            }
            State::Homeless => {
                self.remove(slot, key);
                None
            }
            // Its answer comes first.
            State::Subscribing(_) | State::Unsubscribing(_) => None,
        }
    }

    fn remove(&mut self, slot: u16, key: &Bytes) {
        if let Some(of_slot) = self.slots.get_mut(&slot) {
            of_slot.remove(key);
            if of_slot.is_empty() {
                self.slots.remove(&slot);
            }
        }
    }

    pub(super) fn take_homeless(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.homeless)
    }

    /// It is being subscribed at this connection, or, without one, stays homeless. Returns whether a command is due.
    pub(super) fn place(&mut self, key: &Bytes, link: Option<LinkId>) -> bool {
        let slot = self.slot(key);
        let channel = self
            .slots
            .get_mut(&slot)
            .and_then(|of_slot| of_slot.get_mut(key));
        let Some(channel) = channel.filter(|channel| channel.state == State::Homeless) else {
            return false;
        };
        match link {
            Some(link) => channel.state = State::Subscribing(link),
            None => self.homeless.push(key.clone()),
        }
        link.is_some()
    }

    /// Redis confirmed a subscription.
    pub(super) fn confirmed(&mut self, key: &Bytes, link: LinkId) -> Confirmed {
        let slot = self.slot(key);
        let channel = self
            .slots
            .get_mut(&slot)
            .and_then(|of_slot| of_slot.get_mut(key));
        let Some(channel) = channel.filter(|channel| channel.state == State::Subscribing(link))
        else {
            return Confirmed::Stale;
        };
        if !channel.wanted {
            channel.state = State::Unsubscribing(link);
            return Confirmed::Unwanted;
        }
        channel.state = State::Live(link);
        for (live, _) in channel.waiting.drain(..) {
            let _ = live.send(Ok(()));
        }
        if std::mem::take(&mut channel.missing) {
            self.missing -= 1;
            return Confirmed::Restored(channel.name.clone());
        }
        Confirmed::First
    }

    /// Redis took a subscription away. Returns the channel if nobody had asked for that.
    pub(super) fn unsubscribed(&mut self, key: &Bytes, link: LinkId) -> Option<ChannelName> {
        let slot = self.slot(key);
        let state = self.slots.get(&slot)?.get(key)?.state;
        if state != State::Live(link) && state != State::Unsubscribing(link) {
            return None;
        }
        self.unhouse(slot, |other, _| other == key).pop()
    }

    /// Redis refused a command for the slot at this connection: another node has it. Returns those that were live.
    pub(super) fn slot_moved(&mut self, slot: u16, link: LinkId) -> Vec<ChannelName> {
        self.unhouse(slot, |_, state| {
            matches!(state, State::Subscribing(at) | State::Live(at) | State::Unsubscribing(at) if at == link)
        })
    }

    /// The connection has ended. Returns the channels that were live there.
    pub(super) fn link_ended(&mut self, link: LinkId) -> Vec<ChannelName> {
        let slots: Vec<u16> = self.slots.keys().copied().collect();
        let ended = slots.into_iter().map(|slot| self.slot_moved(slot, link));
        ended.flatten().collect()
    }

    /// Takes their homes from those of the slot that `which` names; what nobody wants is forgotten. Returns those that
    /// were live and are wanted.
    fn unhouse(&mut self, slot: u16, which: impl Fn(&Bytes, State) -> bool) -> Vec<ChannelName> {
        let Some(of_slot) = self.slots.get_mut(&slot) else {
            return Vec::new();
        };
        let mut were_live = Vec::new();
        of_slot.retain(|key, channel| {
            if !which(key, channel.state) {
                return true;
            }
            if matches!(channel.state, State::Live(_)) && channel.wanted {
                were_live.push(channel.name.clone());
                channel.missing = true;
                self.missing += 1;
            }
            channel.state = State::Homeless;
            if channel.wanted {
                self.homeless.push(key.clone());
            }
            channel.wanted
        });
        if of_slot.is_empty() {
            self.slots.remove(&slot);
        }
        were_live
    }

    /// Refuses what has waited too long for its confirmation.
    pub(super) fn sweep(&mut self, now: Instant, cause: &str) {
        if !self.awaited {
            return;
        }
        self.awaited = false;
        let mut overdue = Vec::new();
        for (key, channel) in self.slots.values_mut().flatten() {
            if channel.waiting.iter().any(|(_, until)| *until <= now) {
                for (live, _) in channel.waiting.drain(..) {
                    let _ = live.send(Err(cause.to_owned()));
                }
                overdue.push(key.clone());
            }
            self.awaited |= !channel.waiting.is_empty();
        }
        for key in overdue {
            self.forget(&key);
        }
    }
}

#[cfg(test)]
#[path = "channels_tests.rs"]
mod tests;
