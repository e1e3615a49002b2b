//! What shards tell of their connections, to the registry; and what is asked of the connections of all nodes.

use std::sync::Weak;

use super::*;
use crate::auth::Identity;
use crate::message::ConnectionId;
use crate::registry::fact::{Page, Round};
use crate::registry::{Connections, Listed, ReadError};

/// What joins this node with the others.
pub struct Cluster<B> {
    pub broker: Arc<B>,
    /// The broker's.
    pub events: Events,
    /// None: there are no others.
    pub registry: Option<(Registry, mpsc::Receiver<Round>)>,
}

/// Has every shard tell all it holds, whenever the registry wants it.
pub(super) async fn ask(mut asked: mpsc::Receiver<Round>, shards: Weak<Shards>) {
    while let Some(round) = asked.recv().await {
        let Some(shards) = shards.upgrade() else {
            return;
        };
        for shard in shards.all() {
            if let Err(error) = shards.send(shard, Command::Hold { round, from: 0 }).await {
                tracing::debug!(%error, "a shard that has ended holds nothing");
            }
        }
    }
}

impl<B: Broker> ShardTask<B> {
    /// Takes a page; the next one is asked for as soon as there is room for it.
    pub(super) fn held(
        &self,
        shard: ShardId,
        page: Page,
    ) -> Option<BoxFuture<'static, (ShardId, Command)>> {
        let registry = self.node.registry.clone()?;
        let (round, next) = (page.round, page.next);
        let wanted = registry.page(shard, page);
        let from = next.filter(|_| wanted)?;
        let answer = async move {
            registry.room().await;
            (shard, Command::Hold { round, from })
        };
        Some(answer.boxed())
    }

    /// A place for one more connection of a user, of whom there may be `cap` on all nodes.
    pub(super) fn place(
        &self,
        (shard, key): (ShardId, ConnectionKey),
        identity: Identity,
        id: Option<RequestId>,
        cap: u32,
    ) -> BoxFuture<'static, (ShardId, Command)> {
        let registry = self.node.registry.clone();
        let answer = async move {
            let place = match &registry {
                Some(registry) => registry.take_place(&identity.user, cap).await,
                None => Ok(None),
            };
            let came = Command::PlaceCame {
                key,
                identity,
                id,
                place,
            };
            (shard, came)
        };
        answer.boxed()
    }
}

impl<B: Broker> Router<B> {
    /// The user's connections on all nodes.
    pub async fn connections_of(&self, user: &str) -> Result<Connections, ReadError> {
        if let Some(registry) = &self.node.registry {
            return registry.connections(user).await;
        }
        let failed = |cause: String| ReadError {
            what: format!("connections of {user}"),
            cause,
        };
        let channel = ChannelName::user(user).map_err(|e| failed(format!("the name {e}")))?;
        let mut named = Vec::new();
        for shard in self.node.shards.all() {
            let (answer, answered) = oneshot::channel();
            let channel = channel.clone();
            let who = Command::Who { channel, answer };
            let sent = self.node.shards.send(shard, who).await;
            sent.map_err(|e| failed(e.to_string()))?;
            let came = answered
                .await
                .map_err(|_| failed(ShardEnded(shard).to_string()))?;
            named.extend(came);
        }
        let node = self.node.rules.load().node.clone();
        let named = named.into_iter().map(|came| Listed {
            connection: ConnectionId::new(&node, came.number),
            node: node.to_string(),
            ip: came.ip,
            connected_at: came.connected_ms,
        });
        Ok(Connections::new(named.collect()))
    }

    /// What this node shares with the others. None: there are no others.
    #[must_use]
    pub fn registry(&self) -> Option<&Registry> {
        self.node.registry.as_ref()
    }
}
