//! Channels that the connection did not ask for: a backend gave them to its user, or its token names them.
//!
//! Whoever holds an API key or signs tokens may subscribe anybody to anything that is not somebody else's, whatever the
//! policy says of clients. What was given stays allowed until it is taken back, or the token that named it is
//! replaced. The caps hold as for what a client asks for; the client is told what found no room.

use super::*;
use crate::name::NameError;

/// Channels that were given by a backend, of those that the connection has. Boxed by who holds it: most have none.
#[derive(Debug, Default)]
pub(super) struct Given(Vec<ChannelName>);

/// What a backend wants done with channels of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gift {
    Subscribe,
    Unsubscribe,
}

/// Whether a backend may give or take this channel: not what is somebody's own, or the gateway's.
#[must_use]
pub fn may_be_given(channel: &ChannelName) -> bool {
    match channel.kind() {
        ChannelKind::Room(_) | ChannelKind::Notifications | ChannelKind::Free => true,
        ChannelKind::User(_)
        | ChannelKind::Broadcast
        | ChannelKind::Node(_)
        | ChannelKind::SelfTest => false,
    }
}

impl Session {
    /// Carries out what a backend wants. Again: nothing happens, and the client is not told again.
    pub fn give(
        &mut self,
        gift: Gift,
        channels: &[ChannelName],
        rules: &Rules,
        effects: &mut Vec<Effect>,
    ) {
        for channel in channels.iter().filter(|channel| may_be_given(channel)) {
            match gift {
                Gift::Unsubscribe => self.take_back(channel, effects),
                Gift::Subscribe => match self.receive(channel, rules, effects) {
                    Ok(()) => self.remember(channel),
                    Err(refusal) => effects.push(Effect::Refuse { refusal, id: None }),
                },
            }
        }
    }

    /// Who it is has been acknowledged: the channels that its token names follow.
    pub fn begin_named(&mut self, rules: &Rules, effects: &mut Vec<Effect>) {
        let Some(grants) = self.grants.clone() else {
            return;
        };
        for name in grants.auto_subscribe() {
            let given = named(name).and_then(|channel| self.receive(&channel, rules, effects));
            if let Err(refusal) = given {
                effects.push(Effect::Refuse { refusal, id: None });
            }
        }
    }

    /// Whether the channel is allowed because it was given.
    pub(super) fn is_given(&self, channel: &ChannelName) -> bool {
        let by_backend = self.given.as_ref();
        by_backend.is_some_and(|given| given.0.contains(channel))
            || self.grants.as_ref().is_some_and(|grants| {
                may_be_given(channel)
                    && grants
                        .auto_subscribe()
                        .iter()
                        .any(|name| name == channel.as_str())
            })
    }

    /// The connection has it no more.
    pub(super) fn forget_given(&mut self, channel: &ChannelName) {
        if let Some(given) = &mut self.given {
            given.0.retain(|other| other != channel);
            if given.0.is_empty() {
                self.given = None;
            }
        }
    }

    pub(super) fn has_room(&self, channel: &ChannelName, rules: &Rules) -> Result<(), Refusal> {
        let own = usize::from(self.user.is_some());
        if self.channels.len() < rules.max_channels + own {
            return Ok(());
        }
        Err(Refusal {
            code: ErrorCode::TooManyChannels,
            message: format!(
                "subscribe to {channel} refused: {} channels are the limit",
                rules.max_channels
            ),
        })
    }

    fn receive(
        &mut self,
        channel: &ChannelName,
        rules: &Rules,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        if self.channels.contains(channel) {
            return Ok(());
        }
        self.has_room(channel, rules)?;
        let ack = Ack::Subscribed {
            id: None,
            recover: None,
        };
        self.channels.push(channel.clone());
        effects.push(Effect::Subscribe {
            channel: channel.clone(),
            ack,
        });
        Ok(())
    }

    fn remember(&mut self, channel: &ChannelName) {
        let given = self.given.get_or_insert_default();
        if !given.0.contains(channel) {
            given.0.push(channel.clone());
        }
    }

    fn take_back(&mut self, channel: &ChannelName, effects: &mut Vec<Effect>) {
        if !self.channels.contains(channel) {
            return;
        }
        self.drop_channel(channel, effects);
        effects.push(Effect::Unsubscribed {
            channel: channel.clone(),
            id: None,
        });
    }
}

/// A channel as a token names it.
pub fn named(name: &str) -> Result<ChannelName, Refusal> {
    let channel = ChannelName::parse(name).map_err(|error| bad_name(&error))?;
    if may_be_given(&channel) {
        Ok(channel)
    } else {
        Err(denied(&format!(
            "subscribe to {channel}, which the token names: it cannot be given"
        )))
    }
}

fn bad_name(error: &NameError) -> Refusal {
    Refusal {
        code: ErrorCode::BadField,
        message: format!("subscribe refused: a channel name in the token's autoSubscribe {error}"),
    }
}

#[cfg(test)]
#[path = "given_tests.rs"]
mod tests;
