//! All shards of this node: the threads that own sockets, and the task that is the shard of event streams.

use crate::engine::command::{Command, ShardId};
use crate::engine::{Engine, ShardEnded};
use crate::hub;
use crate::sse::{Streams, is_stream};

pub struct Shards {
    engine: Engine,
    streams: Streams,
}

impl Shards {
    pub fn new(engine: Engine, streams: Streams) -> Shards {
        Shards { engine, streams }
    }

    pub fn all(&self) -> impl Iterator<Item = ShardId> + use<> {
        self.threads().chain([self.streams.id()])
    }

    /// Those that take sockets.
    pub fn threads(&self) -> impl Iterator<Item = ShardId> + use<> {
        self.engine.shards()
    }

    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// The shard that a connection's number belongs to.
    pub fn of(&self, number: u64) -> ShardId {
        if is_stream(number) {
            self.streams.id()
        } else {
            self.engine.shard_of(number)
        }
    }

    /// Waits for room in the shard's queue.
    pub async fn send(&self, shard: ShardId, command: Command) -> Result<(), ShardEnded> {
        if shard == self.streams.id() {
            return self.streams.send(command).await;
        }
        self.engine.send(shard, command).await
    }

    /// A shard that has ended while the others live, if there is one.
    pub fn ended(&self) -> Option<ShardId> {
        let streams = self.streams.has_ended().then(|| self.streams.id());
        self.engine.ended().or(streams)
    }
}

impl hub::Shards for Shards {
    fn ids(&self) -> Vec<ShardId> {
        self.all().collect()
    }

    fn of(&self, number: u64) -> ShardId {
        Shards::of(self, number)
    }

    async fn queue(&self, shard: ShardId, command: Command) -> Result<(), ShardEnded> {
        if shard == self.streams.id() {
            return self.streams.send(command).await;
        }
        self.engine.queue(shard, command).await
    }

    /// The task of the streams wakes by itself.
    fn wake(&self, shard: ShardId) {
        if shard != self.streams.id() {
            self.engine.wake(shard);
        }
    }
}
