//! What of a channel's log a client may read.

use super::*;

impl Rules {
    /// All that one answer can hold of the channel's log; None if nothing of it is kept.
    #[must_use]
    pub fn range(&self, channel: &ChannelName, since: Option<Position>) -> Option<Range> {
        let keep = self.policies.of(channel.as_str()).history?;
        Some(Range {
            since,
            limit: keep.messages,
            bytes: self.max_history_bytes,
            keep,
        })
    }
}

impl Session {
    /// Who may subscribe may read what was kept.
    pub(super) fn history(
        &self,
        channel: &ChannelName,
        since: Option<Position>,
        limit: Option<u32>,
        rules: &Rules,
    ) -> Result<Range, Refusal> {
        let own = matches!(channel.kind(), ChannelKind::User(_));
        if !channel.may_subscribe(self.user.as_deref()) {
            return Err(denied(&format!("history of {channel}: it is not yours")));
        }
        if !own && !self.is_allowed(Act::Subscribe, channel, rules) {
            return Err(denied(&format!("history of {channel}")));
        }
        let Some(range) = rules.range(channel, since) else {
            return Err(Refusal {
                code: ErrorCode::NoHistory,
                message: format!("history of {channel} refused: nothing of it is kept"),
            });
        };
        let limit = limit.unwrap_or(range.limit).min(range.limit);
        Ok(Range { limit, ..range })
    }
}
