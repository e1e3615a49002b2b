//! What enters and leaves a shard: the two bounded queues between tokio and the threads that own sockets.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::Settings;
use super::census::{Page, Query};
use super::pace::Pace;
use super::replies::Replies;
use super::weight::Weight;
use crate::auth::Identity;
use crate::history::{self, Range};
use crate::limits::Share;
use crate::limits::keyed::AllTaken;
use crate::message::{ConnectionId, Delivery, Message};
use crate::name::ChannelName;
use crate::presence::Changed;
use crate::protocol::close::CloseCode;
use crate::protocol::deflate::{Deflater, WINDOWS, Window};
use crate::protocol::native::{Refusal, RequestId, encode_delivery};
use crate::registry::fact::{Came, Page as Held, Place, Round as Registration, Told};
use crate::session::{Gift, Rules};

/// Which shard of this node. A connection's number modulo the number of shards is its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// A connection inside its shard. The generation makes a key that outlived its connection match nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionKey {
    pub slot: u32,
    pub generation: u32,
}

/// Counts the times a shard became interested in a channel, so that a late answer to an earlier time is told apart.
pub type Round = u32;

/// tokio → shard. Executed in the order in which they were sent.
#[derive(Debug)]
pub enum Command {
    /// A socket whose handshake is done.
    Adopt(NewConnection),
    /// The channel's deliveries reach this node from now on: those who wait are subscribed and told so.
    Live { channel: ChannelName, round: Round },
    /// The broker could not subscribe: those who wait are told, and may ask again.
    Refused {
        channel: ChannelName,
        round: Round,
        refusal: Refusal,
    },
    /// A complete frame for one connection: the answer to something it asked.
    Reply { key: ConnectionKey, frame: Bytes },
    /// The same of many.
    Replies(Vec<Replies>),
    /// Newer keys were asked for: the answer to `AwaitKeys`.
    KeysCame {
        key: ConnectionKey,
        token: String,
        id: Option<RequestId>,
    },
    /// The user's connections on all nodes were counted: the answer to `AwaitPlace`.
    PlaceCame {
        key: ConnectionKey,
        identity: Identity,
        id: Option<RequestId>,
        place: Result<Option<Place>, AllTaken>,
    },
    /// What `Event::History` asked for.
    History {
        key: ConnectionKey,
        channel: ChannelName,
        purpose: Purpose,
        found: Result<history::Page, Refusal>,
    },
    /// To every subscriber of its channel on this shard.
    Deliver(Arc<EncodedDelivery>),
    /// Close connections because a backend said so.
    Disconnect(Arc<Disconnect>),
    /// Subscribe connections, or unsubscribe them, because a backend said so.
    Give(Arc<Give>),
    /// Tell which channels have subscribers here.
    Count {
        query: Arc<Query>,
        answer: oneshot::Sender<Page>,
    },
    /// Tell all that is here, some connections at a time; the answer is `Event::Held`.
    Hold { round: Registration, from: u64 },
    /// Tell which connections have this channel.
    Who {
        channel: ChannelName,
        answer: oneshot::Sender<Vec<Came>>,
    },
    /// Close this shard's connections at this pace, each told to come back. Again: the same drain at another pace.
    Drain { round: u32, pace: Pace },
    /// The drain is over, whoever is left stays.
    Readmit,
    /// Other settings from now on, also for who is connected. The number of shards is not looked at.
    Configure(Configured),
    /// Close so many percent of this shard's connections, the oldest ones: memory is short.
    EvictOldest { percent: usize },
    /// End the thread; whatever is still open is closed with 1001.
    Stop,
}

/// What holds from now on.
#[derive(Clone)]
pub struct Configured {
    pub settings: Arc<Settings>,
    pub rules: Arc<Rules>,
}

impl fmt::Debug for Configured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The rules hold keys.
        let mut shown = f.debug_struct("Configured");
        shown
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Which connections are to be closed.
#[derive(Debug)]
pub struct Disconnect {
    /// All that have this channel, unless `only` names one.
    pub channel: ChannelName,
    pub only: Option<ConnectionId>,
    pub except: Option<ConnectionId>,
}

/// Which connections get or lose which channels.
#[derive(Debug)]
pub struct Give {
    /// All that have this channel.
    pub to: ChannelName,
    pub gift: Gift,
    pub channels: Vec<ChannelName>,
}

/// What the handshake leaves behind.
#[derive(Debug)]
pub struct Arrival {
    pub socket: std::net::TcpStream,
    /// Its TLS, of which the handshake is done. None: none.
    pub tls: Option<Box<rustls::ServerConnection>>,
    /// Bytes that the client sent after its request.
    pub leftover: Bytes,
    pub identity: Option<Identity>,
    /// Its places in the caps that count it for as long as it lives.
    pub share: Share,
    /// The node has become unable to take it since its handshake: it is told so and closed.
    pub turned_away: Option<CloseCode>,
    /// permessage-deflate as it was agreed on.
    pub deflate: Option<Window>,
    /// The gateway's own connection: it counts for nothing.
    pub self_test: bool,
}

/// An arrival with its number on this node.
#[derive(Debug)]
pub struct NewConnection {
    pub number: u64,
    pub arrival: Arrival,
}

/// shard → tokio. A shard whose event queue is full stops reading its sockets until there is room.
#[derive(Debug)]
pub enum Event {
    /// The first subscriber of a channel came; the answer is `Live` or `Refused`.
    Interest {
        shard: ShardId,
        channel: ChannelName,
        round: Round,
    },
    /// The last subscriber of a channel went.
    Disinterest {
        shard: ShardId,
        channel: ChannelName,
    },
    Publish {
        shard: ShardId,
        key: ConnectionKey,
        channel: ChannelName,
        message: Message,
        id: Option<RequestId>,
        /// To be dropped with the broker's answer.
        weight: Weight,
    },
    /// A token of a client wants newer keys; the answer is `KeysCame`. One at a time for each client.
    AwaitKeys {
        shard: ShardId,
        key: ConnectionKey,
        token: String,
        id: Option<RequestId>,
    },
    /// Another connection of a user, of whom there may be `cap` on all nodes; the answer is `PlaceCame`. One at a time
    /// for each client.
    AwaitPlace {
        shard: ShardId,
        key: ConnectionKey,
        identity: Identity,
        id: Option<RequestId>,
        cap: u32,
    },
    /// A part of the channel's log; the answer is `Command::History`.
    History {
        shard: ShardId,
        key: ConnectionKey,
        channel: ChannelName,
        range: Range,
        purpose: Purpose,
    },
    /// A connection has come to a channel with presence, or left it. Told once or more; who was never told to have
    /// come may be told to have left.
    Presence(Changed),
    /// What became of a connection, for those who know all of them. Only where rules want it.
    Told(Told),
    /// What `Command::Hold` asked for, in the order of all else that is told.
    Held { shard: ShardId, page: Held },
    /// Who has a channel; the answer is `Command::Reply`.
    Members {
        shard: ShardId,
        key: ConnectionKey,
        channel: ChannelName,
        id: Option<RequestId>,
    },
    /// A draining shard has closed its last connection; which drain that was.
    Drained { shard: ShardId, round: u32 },
}

/// What a part of a log is read for.
#[derive(Debug)]
pub enum Purpose {
    /// To acknowledge a subscription, with what was missed.
    Subscribe,
    /// A client asked.
    Answer(Option<RequestId>),
}

/// A delivery and its frames: one per wire format, each encoded when first wanted and then shared by all shards.
#[derive(Debug)]
pub struct EncodedDelivery {
    pub delivery: Delivery,
    native: OnceLock<Bytes>,
    /// By [`Window`].
    deflated: [OnceLock<Bytes>; WINDOWS.len()],
}

impl EncodedDelivery {
    pub fn new(delivery: Delivery) -> Self {
        EncodedDelivery {
            delivery,
            native: OnceLock::new(),
            deflated: Default::default(),
        }
    }

    pub fn native(&self) -> &Bytes {
        self.native.get_or_init(|| encode_delivery(&self.delivery))
    }

    /// For every client that agreed on permessage-deflate with this window.
    pub fn deflated(&self, window: Window, deflater: &mut Deflater) -> &Bytes {
        self.deflated[window as usize].get_or_init(|| deflater.deflate(self.native(), window))
    }
}
