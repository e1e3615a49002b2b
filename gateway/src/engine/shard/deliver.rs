//! Fan-out: the hot path. What came together for one channel is joined once and shared by every outbox.

use bytes::{Bytes, BytesMut};

use super::*;
use crate::engine::command::EncodedDelivery;
use crate::message::ConnectionId;
use crate::name::ChannelKind;

/// Frames are joined up to this size: a small copy, made once, saves a `writev` of many slices for every socket.
const JOIN_BYTES: usize = 16 * 1024;

impl Shard {
    /// Hands the staged deliveries out, in order; neighbours on one channel together.
    pub(super) fn deliver_staged(&mut self, now: Now) {
        if self.staged.is_empty() {
            return;
        }
        let staged = std::mem::take(&mut self.staged);
        let mut rest = staged.as_slice();
        while !rest.is_empty() {
            let count = joinable(rest);
            let (together, after) = rest.split_at(count);
            self.fan_out(together, now);
            rest = after;
        }
        // The list keeps its memory for the next round.
        self.staged = staged;
        self.staged.clear();
    }

    /// `together`: one delivery, or several to all subscribers of one channel.
    fn fan_out(&mut self, together: &[Arc<EncodedDelivery>], now: Now) {
        let first = &together[0].delivery;
        let except = first.message.except.as_ref().and_then(|id| self.here(id));
        let only = first.message.only.as_ref().and_then(|id| self.here(id));
        let Shard {
            connections,
            subscriptions,
            dirty,
            shared,
            deflater,
            ..
        } = self;
        let mut pushed = Pushed {
            frames: Frames {
                together,
                deflater,
                native: None,
                deflated: [const { None }; WINDOWS.len()],
            },
            cap: shared.settings.max_outbox_bytes,
            except,
            sent: 0,
            slow: Vec::new(),
        };
        match first.channel.kind() {
            ChannelKind::Broadcast | ChannelKind::Notifications => {
                for (slot, connection) in connections.iter_mut() {
                    // Nothing comes before the welcome.
                    if connection.is_heard() && connection.session.may_receive(&shared.rules) {
                        pushed.push(key_of(slot, connection), connection, dirty);
                    }
                }
            }
            // A message to a single connection names it; whoever else has the channel does not get it.
            _ if first.message.only.is_some() => {
                if let Some((key, connection)) =
                    only.and_then(|key| Some((key, live(connections, key)?)))
                {
                    pushed.push(key, connection, dirty);
                }
            }
            _ => {
                for key in subscriptions.members(&first.channel) {
                    if let Some(connection) = live(connections, key) {
                        pushed.push(key, connection, dirty);
                    }
                }
            }
        }
        let Pushed { sent, slow, .. } = pushed;
        for delivery in together {
            let message = &delivery.delivery.message;
            self.metrics
                .delivered(message.kind, sent, message.timestamp);
        }
        for key in slow {
            self.begin_close(key, CloseCode::Slow, now);
        }
    }

    /// The connection, if this shard holds it.
    pub(super) fn here(&self, id: &ConnectionId) -> Option<ConnectionKey> {
        let key = self.by_number.get(&id.number()?)?;
        (id.node() == &*self.shared.rules.node).then_some(*key)
    }
}

/// The same bytes into many outboxes.
struct Pushed<'a> {
    frames: Frames<'a>,
    cap: usize,
    except: Option<ConnectionKey>,
    sent: u64,
    slow: Vec<ConnectionKey>,
}

impl Pushed<'_> {
    fn push(
        &mut self,
        key: ConnectionKey,
        connection: &mut Connection,
        dirty: &mut Vec<ConnectionKey>,
    ) {
        if Some(key) == self.except || connection.closing.is_some() {
            return;
        }
        let frames = self.frames.of(connection.deflate).clone();
        match connection.outbox.push(frames, self.cap) {
            Ok(()) => self.sent += u64::from(!connection.session.is_self_test()),
            Err(_) => self.slow.push(key),
        }
        if !std::mem::replace(&mut connection.dirty, true) {
            dirty.push(key);
        }
    }
}

/// How many of the first deliveries go to the same connections.
fn joinable(staged: &[Arc<EncodedDelivery>]) -> usize {
    let first = &staged[0];
    if !first.is_for_all() {
        return 1;
    }
    let mut bytes = 0;
    let same = staged.iter().take_while(|delivery| {
        bytes += delivery.native().len();
        delivery.is_for_all()
            && delivery.delivery.channel == first.delivery.channel
            && bytes <= JOIN_BYTES
    });
    same.count().max(1)
}

/// What goes out together, in each wire format: joined when the first client wants it, then shared by all.
struct Frames<'a> {
    together: &'a [Arc<EncodedDelivery>],
    deflater: &'a mut Deflater,
    native: Option<Bytes>,
    /// By [`Window`].
    deflated: [Option<Bytes>; WINDOWS.len()],
}

impl Frames<'_> {
    fn of(&mut self, deflate: Option<Window>) -> &Bytes {
        let Frames {
            together, deflater, ..
        } = self;
        match deflate {
            None => self
                .native
                .get_or_insert_with(|| join(together, EncodedDelivery::native)),
            Some(window) => self.deflated[window as usize].get_or_insert_with(|| {
                join(together, |delivery| delivery.deflated(window, deflater))
            }),
        }
    }
}

fn join<'a>(
    together: &'a [Arc<EncodedDelivery>],
    mut encode: impl FnMut(&'a EncodedDelivery) -> &'a Bytes,
) -> Bytes {
    if let [one] = together {
        return encode(one).clone();
    }
    let frames: Vec<&Bytes> = together.iter().map(|delivery| encode(delivery)).collect();
    let mut joined = BytesMut::with_capacity(frames.iter().map(|frame| frame.len()).sum());
    for frame in frames {
        joined.extend_from_slice(frame);
    }
    joined.freeze()
}
