//! Fan-out: the hot path. What came together for one channel is joined once and shared by every outbox.

use bytes::{Bytes, BytesMut};
use gateway_config::SlowConsumer;

use super::*;
use crate::engine::command::EncodedDelivery;
use crate::engine::outbox::Dropped;
use crate::message::ConnectionId;
use crate::name::ChannelKind;
use crate::policy::{Policy, Window};
use crate::protocol::deflate;

/// Frames are joined up to this size: a small copy, made once, saves a `writev` of many slices for every socket.
const JOIN_BYTES: usize = 32 * 1024;

impl Shard {
    /// Hands the staged deliveries out, in order; neighbours on one channel together.
    pub(super) fn deliver_staged(&mut self, now: Now) {
        if self.staged.is_empty() {
            return;
        }
        let staged = std::mem::take(&mut self.staged);
        for together in runs(&staged) {
            match self.window(together) {
                None => self.fan_out(together, now),
                Some(window) => {
                    if let Some(batch) = self.batches.add(together, window, Instant::now()) {
                        self.deliver_batch(&batch, now);
                    }
                }
            }
        }
        // The list keeps its memory for the next round.
        self.staged = staged;
        self.staged.clear();
    }

    /// Whether these wait for others. What goes to everyone does not: clients that come meanwhile would get it too.
    fn window(&self, together: &[Arc<EncodedDelivery>]) -> Option<Window> {
        let first = &together[0].delivery;
        match first.channel.kind() {
            ChannelKind::Room(_) | ChannelKind::User(_) | ChannelKind::Free => {
                self.policy(&first.channel).batch
            }
            _ => None,
        }
    }

    fn policy(&self, channel: &ChannelName) -> &Policy {
        self.shared.rules.policies.of(channel.as_str())
    }

    pub(super) fn deliver_batch(&mut self, batch: &[Arc<EncodedDelivery>], now: Now) {
        for together in runs(batch) {
            self.fan_out(together, now);
        }
    }

    /// Batches whose time has come.
    pub(super) fn deliver_due(&mut self, now: Now) {
        while let Some(batch) = self.batches.take_due(Instant::now()) {
            self.deliver_batch(&batch, now);
        }
    }

    /// Before somebody subscribes: what came before is not for them.
    pub(super) fn deliver_waiting(&mut self, channel: &ChannelName, now: Now) {
        let batch = self.batches.take(channel);
        self.deliver_batch(&batch, now);
    }

    /// `together`: a run of deliveries. While somebody is told what was missed, one at a time: some hold it, and
    /// some have it.
    fn fan_out(&mut self, together: &[Arc<EncodedDelivery>], now: Now) {
        let channel = &together[0].delivery.channel;
        if self.subscriptions.recovering(channel).is_none() {
            return self.fan_out_to_all_but(&[], together, now);
        }
        for delivery in together {
            let have = self.hold(delivery, now);
            self.fan_out_to_all_but(&have, std::slice::from_ref(delivery), now);
        }
    }

    fn fan_out_to_all_but(
        &mut self,
        have: &[ConnectionKey],
        together: &[Arc<EncodedDelivery>],
        now: Now,
    ) {
        let first = &together[0].delivery;
        let only = first.message.only.as_ref().and_then(|id| self.here(id));
        let tag = Tag {
            slow: self.policy(&first.channel).slow,
            messages: u16::try_from(together.len()).unwrap_or(u16::MAX),
            channel: self.subscriptions.number(&first.channel),
        };
        let excepts = self.excepts(together);
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
            tag,
            now: units(now.monotonic_ms),
            tally: Tally {
                apart: vec![
                    0;
                    if excepts.is_empty() {
                        0
                    } else {
                        together.len()
                    }
                ],
                ..Tally::default()
            },
            excepts,
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
                    if have.contains(&key) {
                        continue;
                    }
                    if let Some(connection) = live(connections, key) {
                        pushed.push(key, connection, dirty);
                    }
                }
            }
        }
        let tally = pushed.tally;
        self.account(together, tally, now);
    }

    fn account(&mut self, together: &[Arc<EncodedDelivery>], tally: Tally, now: Now) {
        for (index, delivery) in together.iter().enumerate() {
            let message = &delivery.delivery.message;
            let apart = tally.apart.get(index).copied().unwrap_or(0);
            self.metrics
                .delivered(message.kind, tally.sent + apart, message.timestamp);
        }
        self.metrics.dropped(tally.dropped);
        for key in tally.slow {
            self.begin_close(key, CloseCode::Slow, now);
        }
    }

    /// Who of this shard does not get which message of a run: their senders. Sorted.
    fn excepts(&self, together: &[Arc<EncodedDelivery>]) -> Vec<(ConnectionKey, usize)> {
        let ids = together.iter().map(|d| d.delivery.message.except.as_ref());
        let keys = ids.map(|id| id.and_then(|id| self.here(id))).enumerate();
        let mut excepts: Vec<_> = keys.filter_map(|(i, key)| Some((key?, i))).collect();
        excepts.sort_unstable();
        excepts
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
    tag: Tag,
    /// Of the heartbeat.
    now: u32,
    /// Those who do not get all of the messages, and which they do not get; sorted.
    excepts: Vec<(ConnectionKey, usize)>,
    tally: Tally,
}

/// What came of it.
#[derive(Default)]
struct Tally {
    /// Clients that get all of them.
    sent: u64,
    /// For each message, clients that get it but not all. Empty when there are none such.
    apart: Vec<u64>,
    dropped: Dropped,
    slow: Vec<ConnectionKey>,
}

impl Pushed<'_> {
    fn push(
        &mut self,
        key: ConnectionKey,
        connection: &mut Connection,
        dirty: &mut Vec<ConnectionKey>,
    ) {
        if connection.closing.is_some() {
            return;
        }
        if !self.excepts.is_empty() && self.is_except(key, None) {
            return self.push_apart(key, connection, dirty);
        }
        let (frames, tag) =
            if self.tag.slow == SlowConsumer::Latest && connection.outbox.is_blocked() {
                let older = u64::from(self.tag.messages.saturating_sub(1));
                self.tally.dropped.add(self.tag, older);
                let last = self.frames.together.len() - 1;
                (self.frames.one(last, connection.deflate), self.one())
            } else {
                (self.frames.all(connection.deflate).clone(), self.tag)
            };
        if self.enter(frames, tag, key, connection) {
            self.tally.sent += u64::from(!connection.session.is_self_test());
        }
        mark(key, connection, dirty);
    }

    /// Whether the connection does not get this message, or any.
    fn is_except(&self, key: ConnectionKey, index: Option<usize>) -> bool {
        let found = (key, index.unwrap_or(0));
        let at = self.excepts.partition_point(|except| *except < found);
        let except = self.excepts.get(at);
        except.is_some_and(|(k, i)| *k == key && index.is_none_or(|index| index == *i))
    }

    /// Every message but those that this connection sent.
    fn push_apart(
        &mut self,
        key: ConnectionKey,
        connection: &mut Connection,
        dirty: &mut Vec<ConnectionKey>,
    ) {
        for index in 0..self.frames.together.len() {
            if self.is_except(key, Some(index)) {
                continue;
            }
            let frame = self.frames.one(index, connection.deflate);
            if self.enter(frame, self.one(), key, connection) {
                self.tally.apart[index] += 1;
            }
            mark(key, connection, dirty);
        }
    }

    fn one(&self) -> Tag {
        Tag {
            messages: 1,
            ..self.tag
        }
    }

    fn enter(
        &mut self,
        frames: Bytes,
        tag: Tag,
        key: ConnectionKey,
        connection: &mut Connection,
    ) -> bool {
        match connection.outbox.push(frames, tag, self.cap) {
            Ok(dropped) => self.tally.dropped.and(dropped),
            Err(Full) => {
                self.tally.slow.push(key);
                return false;
            }
        }
        connection.heartbeat.given(self.now);
        true
    }
}

fn mark(key: ConnectionKey, connection: &mut Connection, dirty: &mut Vec<ConnectionKey>) {
    if !std::mem::replace(&mut connection.dirty, true) {
        dirty.push(key);
    }
}

/// The deliveries in runs that go out together: of one channel, and not so large that joining them costs more than it
/// saves. A message to a single connection is a run of its own.
fn runs(staged: &[Arc<EncodedDelivery>]) -> impl Iterator<Item = &[Arc<EncodedDelivery>]> {
    let mut rest = staged;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let mut bytes = 0;
        let same = rest.iter().take_while(|next| {
            bytes += next.native().len();
            next.delivery.message.only.is_none()
                && next.delivery.channel == first.delivery.channel
                && bytes <= JOIN_BYTES
        });
        let (together, after) = rest.split_at(same.count().max(1));
        rest = after;
        Some(together)
    })
}

/// What goes out together, in each wire format: joined when the first client wants it, then shared by all.
struct Frames<'a> {
    together: &'a [Arc<EncodedDelivery>],
    deflater: &'a mut Deflater,
    native: Option<Bytes>,
    /// By [`deflate::Window`].
    deflated: [Option<Bytes>; WINDOWS.len()],
}

impl Frames<'_> {
    /// One of them.
    fn one(&mut self, index: usize, deflate: Option<deflate::Window>) -> Bytes {
        let delivery = &self.together[index];
        match deflate {
            None => delivery.native().clone(),
            Some(window) => delivery.deflated(window, self.deflater).clone(),
        }
    }

    /// All of them.
    fn all(&mut self, deflate: Option<deflate::Window>) -> &Bytes {
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
