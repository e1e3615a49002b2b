//! What enters and leaves a shard: the two bounded queues between tokio and the threads that own sockets.

use std::sync::Arc;

use bytes::Bytes;

use crate::message::{ConnectionId, Delivery, Message};
use crate::name::ChannelName;
use crate::protocol::close::CloseCode;

/// Which shard of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// A connection inside its shard. The generation makes a key that outlived its connection match nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionKey {
    pub slot: u32,
    pub generation: u32,
}

/// tokio → shard. Executed in the order in which they were sent.
#[derive(Debug)]
pub enum Command {
    /// A socket whose handshake is done. `leftover` are bytes the client sent after it.
    Adopt { socket: mio::net::TcpStream, leftover: Bytes, connection: NewConnection },
    /// The hub has the channel live: subscribe the connection, then acknowledge, in this order and with
    /// nothing in between. `ack` is a complete frame.
    Subscribe { key: ConnectionKey, channel: ChannelName, ack: Option<Arc<[u8]>> },
    /// A frame for one connection: the answer to something it asked.
    Reply { key: ConnectionKey, frame: Arc<[u8]> },
    /// To every subscriber of its channel on this shard.
    Deliver(Arc<EncodedDelivery>),
    /// Close this node's connections at this pace, each with a `reconnect` message and code 1012.
    Drain { connections_per_second: u32, deadline: std::time::Instant },
    Close { key: ConnectionKey, code: CloseCode },
    /// End the thread: whatever is still open is closed with 1001.
    Stop,
}

/// shard → tokio. A shard whose event queue is full stops reading its sockets until there is room.
#[derive(Debug)]
pub enum Event {
    Opened { shard: ShardId, key: ConnectionKey, id: ConnectionId, user: Option<Arc<str>> },
    /// Wants in; the answer is `Command::Subscribe` or an error `Command::Reply`.
    Subscribe { shard: ShardId, key: ConnectionKey, channel: ChannelName, request_id: Option<Arc<str>> },
    /// The shard has already removed the connection from the channel.
    Unsubscribed { shard: ShardId, channel: ChannelName },
    Publish { shard: ShardId, key: ConnectionKey, channel: ChannelName, message: Message, request_id: Option<Arc<str>> },
    /// Its socket is gone; `channels` are those it was subscribed to.
    Closed { shard: ShardId, id: ConnectionId, user: Option<Arc<str>>, channels: Vec<ChannelName>, code: CloseCode },
}

/// A delivery and its frames, one per wire format, each encoded when first wanted and then shared.
#[derive(Debug)]
pub struct EncodedDelivery {
    pub delivery: Delivery,
    pub native: std::sync::OnceLock<Arc<[u8]>>,
}

/// What the handshake already knows.
#[derive(Debug, Clone)]
pub struct NewConnection {
    pub id: ConnectionId,
    pub user: Option<Arc<str>>,
    /// When the token ends, in seconds since the Unix epoch.
    pub expires: Option<u64>,
}
