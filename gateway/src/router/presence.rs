//! Presence: what shards tell, to the node's table and to the others.

use super::*;
use crate::presence::Changed;

impl<B: Broker> ShardTask<B> {
    /// Takes down what became of a connection. What the others are told of it takes its place in the channel's order
    /// now; nobody waits for an answer.
    pub(super) fn tell_others(
        &self,
        changed: Changed,
    ) -> impl Iterator<Item = impl Future<Output = Option<(ShardId, Command)>> + Send + 'static>
    {
        let node = &self.node;
        // Where a policy has ended it, the table is cleared and nobody is told.
        let wanted = node.rules.load().has_presence(&changed.channel);
        let told = node.present.change(changed, |channel, news| {
            let call = wanted.then(|| node.publish(channel, news));
            let metrics = node.metrics.clone();
            async move {
                if let Some(call) = call
                    && let Err(error) = call.await
                {
                    tracing::debug!("a join or a leave was not told: {error}");
                    metrics.publish_failed(PublishFailure::of(&error));
                }
                None
            }
        });
        told.into_iter().flatten()
    }

    pub(super) fn members(&self, channel: &ChannelName, id: Option<&RequestId>) -> Bytes {
        let scope = self.node.rules.load().presence;
        let reply = Reply::Presence {
            channel: channel.as_str(),
            list: &self.node.present.list(channel, scope),
        };
        encode_reply(&reply, id)
    }
}
