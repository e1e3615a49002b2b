//! Whether somebody may know who has a channel, and be told of to the others.

use super::*;

impl Rules {
    /// Whether subscribers of the channel are told who comes and goes. What the gateway subscribes by itself is
    /// somebody's own, or everybody's: there is nobody to tell, or nothing to say.
    #[must_use]
    pub fn has_presence(&self, channel: &ChannelName) -> bool {
        matches!(channel.kind(), ChannelKind::Room(_) | ChannelKind::Free)
            && self.policies.of(channel.as_str()).presence
    }
}

/// What becomes of a channel's presence when the rules change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    On,
    Off,
}

impl Turned {
    /// None: nothing.
    #[must_use]
    pub fn of(channel: &ChannelName, before: &Rules, after: &Rules) -> Option<Turned> {
        match (before.has_presence(channel), after.has_presence(channel)) {
            (false, true) => Some(Turned::On),
            (true, false) => Some(Turned::Off),
            _ => None,
        }
    }
}

impl Session {
    /// Its channels of which presence is turned so.
    #[must_use]
    pub fn turned(&self, how: Turned, before: &Rules, after: &Rules) -> Vec<ChannelName> {
        let turned = |channel: &&ChannelName| Turned::of(channel, before, after) == Some(how);
        self.channels.iter().filter(turned).cloned().collect()
    }

    /// Only who is there may ask who else is: whoever looks is seen, too.
    pub(super) fn may_see(&self, channel: &ChannelName, rules: &Rules) -> Result<(), Refusal> {
        if !self.channels.contains(channel) {
            return Err(denied(&format!(
                "presence of {channel}: subscribe to it first"
            )));
        }
        if !rules.has_presence(channel) {
            return Err(Refusal {
                code: ErrorCode::NoPresence,
                message: format!("presence of {channel} refused: nobody is told who has it"),
            });
        }
        Ok(())
    }

    /// A join is a message to everybody who is there: a client that comes and goes all the time is held to the pace
    /// of those who talk. The leave that follows is paid for with it, since nobody can be made to stay.
    pub(super) fn may_come(
        &mut self,
        channel: &ChannelName,
        cx: Context<'_>,
    ) -> Result<(), Refusal> {
        if !cx.rules.has_presence(channel) {
            return Ok(());
        }
        let policy = cx.rules.policies.of(channel.as_str());
        let now_ns = cx.now.monotonic_ms.saturating_mul(1_000_000);
        match policy.pace {
            Some(pace) if !self.bucket(policy.number).take(pace, now_ns) => Err(Refusal {
                code: ErrorCode::RateLimited,
                message: format!("subscribe to {channel} refused: too many messages; slow down"),
            }),
            _ => Ok(()),
        }
    }
}
