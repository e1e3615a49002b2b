//! Presence: what shards tell, to the node's table and to the others, or to the table of all nodes.

use super::*;
use crate::presence::{Changed, List};
use crate::registry::ReadError;
use crate::registry::fact::Told;

impl<B: Broker> Router<B> {
    /// Who is in a channel on all nodes.
    pub fn members(
        &self,
        channel: ChannelName,
    ) -> impl Future<Output = Result<List, ReadError>> + Send + 'static {
        let node = self.node.clone();
        async move { node.members(&channel).await }
    }
}

impl<B: Broker> Node<B> {
    async fn members(&self, channel: &ChannelName) -> Result<List, ReadError> {
        let scope = self.rules.load().presence;
        match &self.registry {
            Some(registry) => registry.members(channel, scope).await,
            None => Ok(self.present.list(channel, scope)),
        }
    }
}

impl<B: Broker> ShardTask<B> {
    /// Takes down what became of a connection. On a node alone, what the others are told of it takes its place in the
    /// channel's order now; nobody waits for an answer. Otherwise Redis tells them when it takes it down.
    pub(super) fn tell_others(
        &self,
        changed: Changed,
    ) -> impl Iterator<Item = impl Future<Output = Option<(ShardId, Command)>> + Send + 'static>
    {
        let node = &self.node;
        // Where a policy has ended it, the table is cleared and nobody is told.
        let aloud = node.rules.load().has_presence(&changed.channel);
        let told = if let Some(registry) = &node.registry {
            registry.tell(Told::Presence { changed, aloud });
            [None, None]
        } else {
            node.present.change(changed, |channel, news| {
                let call = aloud.then(|| node.publish(channel, news));
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
            })
        };
        told.into_iter().flatten()
    }

    /// The answer to who has a channel. Whoever asked is counted among the calls under way.
    pub(super) fn members(
        &self,
        (shard, key): (ShardId, ConnectionKey),
        channel: ChannelName,
        id: Option<RequestId>,
    ) -> BoxFuture<'static, Option<(ShardId, Command)>> {
        let node = self.node.clone();
        let answer = async move {
            let frame = match node.members(&channel).await {
                Ok(list) => {
                    let channel = channel.as_str();
                    let list = &list;
                    encode_reply(&Reply::Presence { channel, list }, id.as_ref())
                }
                Err(error) => not_listed(&channel, &error, id.as_ref()),
            };
            Some((shard, Command::Reply { key, frame }))
        };
        answer.boxed()
    }
}
