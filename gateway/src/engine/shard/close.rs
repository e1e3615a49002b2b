//! Writing, and the ways in which a connection ends.

use super::*;
use crate::allocator;
use crate::engine::replies::Replies;

/// How long the end of a shard waits for room for its last events.
const LAST_EVENTS: Duration = Duration::from_secs(1);

impl Shard {
    pub(super) fn reply(&mut self, key: ConnectionKey, frame: Bytes, now: Now) {
        self.reply_together(key, frame, 1, now);
    }

    /// Answers that came together. Each is compressed by itself: they are messages of their own.
    pub(super) fn replies(&mut self, replies: &Replies, now: Now) {
        let key = replies.key;
        let deflates = self.connection(key).is_some_and(|c| c.deflate.is_some());
        if !deflates {
            return self.reply_together(key, replies.all().clone(), replies.count(), now);
        }
        for frame in replies.each() {
            self.reply(key, frame, now);
        }
    }

    /// `frame`: one, or where nothing is compressed so many.
    fn reply_together(&mut self, key: ConnectionKey, frame: Bytes, count: usize, now: Now) {
        let Shard {
            connections,
            deflater,
            shared,
            ..
        } = self;
        let Some(connection) = live(connections, key) else {
            return;
        };
        if connection.closing.is_some() {
            return;
        }
        let frame = match connection.deflate {
            Some(window) => deflater.deflate(&frame, window),
            None => frame,
        };
        let pushed = connection
            .outbox
            .push(frame, Tag::KEPT, shared.settings.max_outbox_bytes);
        if !connection.session.is_self_test() {
            self.metrics.replied(count);
        }
        self.mark_dirty(key);
        match pushed {
            Ok(dropped) => self.metrics.dropped(dropped),
            Err(Full) => self.begin_close(key, CloseCode::Slow, now),
        }
    }

    pub(super) fn mark_dirty(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connection(key) else {
            return;
        };
        if !std::mem::replace(&mut connection.dirty, true) {
            self.dirty.push(key);
        }
    }

    pub(super) fn flush(&mut self, now: Now) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for key in dirty.drain(..) {
            let Some(connection) = self.connection(key) else {
                continue;
            };
            connection.dirty = false;
            let closing = connection.closing;
            match (connection.flush(), closing) {
                (Err(_), _) => self.lost(key, now),
                (Ok(Flushed::All), Some(closing)) if closing.peer_is_done => {
                    self.end(key, closing.code, now);
                }
                (Ok(Flushed::All), Some(closing)) if closing.deaf => {
                    // Section 7.1.7: there is no answer to wait for. The peer sees the end and closes.
                    if let Err(error) = connection.wire().shutdown() {
                        tracing::debug!(%error, "shutting a socket down failed");
                        self.lost(key, now);
                    }
                }
                (Ok(_), _) => {}
            }
        }
        // The list keeps its memory for the next round.
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
    }

    /// Sends the close frame; the peer has a while to answer.
    pub(super) fn begin_close(&mut self, key: ConnectionKey, code: CloseCode, now: Now) {
        self.close_with(key, frame::close(code), now, |deadline_ms| Closing {
            code,
            deadline_ms,
            peer_is_done: false,
            deaf: false,
        });
    }

    /// The peer broke the protocol: the decoder has lost its place.
    pub(super) fn fail(&mut self, key: ConnectionKey, code: CloseCode, now: Now) {
        self.begin_close(key, code, now);
        if let Some(closing) = self.connection(key).and_then(|c| c.closing.as_mut()) {
            closing.deaf = true;
        }
    }

    pub(super) fn peer_closed(&mut self, key: ConnectionKey, code: Option<u16>, now: Now) {
        let Some(connection) = self.connection(key) else {
            return;
        };
        if let Some(closing) = &mut connection.closing {
            closing.peer_is_done = true;
            return self.mark_dirty(key);
        }
        let echo = code.map_or(Vec::new(), |code| code.to_be_bytes().to_vec());
        self.close_with(
            key,
            frame::frame(Opcode::Close, &echo),
            now,
            |deadline_ms| Closing {
                code: CloseCode::Normal,
                deadline_ms,
                peer_is_done: true,
                deaf: false,
            },
        );
    }

    pub(super) fn close_with(
        &mut self,
        key: ConnectionKey,
        frame: Bytes,
        now: Now,
        closing: impl Fn(u64) -> Closing,
    ) {
        let Some(connection) = self.connection(key) else {
            return;
        };
        if connection.closing.is_some() {
            return;
        }
        connection.closing = Some(closing(now.monotonic_ms + CLOSE_DEADLINE_MS));
        connection.outbox.push_control(frame);
        self.mark_dirty(key);
        self.schedule(key, now);
        // One that was never welcomed may say goodbye too.
        self.listen(key, now);
    }

    /// Nobody is here: what the last crowd needed is given back. A slab cannot move those who stay, and the lists of
    /// a round are in use while connections end, so this is the moment for all of them.
    pub(super) fn rest(&mut self) {
        self.connections = Slab::new();
        self.wheel.clear();
        self.unread.shrink_to_fit();
        self.dirty.shrink_to_fit();
        self.staged.shrink_to_fit();
        allocator::let_go();
    }

    /// Nobody hears of those who left at the end, unless the queue of events takes all of it.
    pub(super) fn tell_the_rest(&mut self) {
        // Who waits for room among the commands would keep the other side from taking events.
        self.queues.commands.close();
        // For half a queue of it there is no time.
        self.room = Room::default();
        let end = Instant::now() + LAST_EVENTS;
        self.send_backlog();
        while !self.backlog.is_empty() && Instant::now() < end {
            // The bell rings in epoll, and this thread goes there no more.
            std::thread::sleep(Duration::from_millis(1));
            self.room = Room::default();
            self.send_backlog();
        }
    }

    /// The one place where a connection ends.
    pub(super) fn end(&mut self, key: ConnectionKey, code: CloseCode, now: Now) {
        if self.connection(key).is_none() {
            return;
        }
        let mut connection = self.connections.remove(key.slot as usize);
        connection.wire().goodbye();
        if let Err(error) = self.poll.registry().deregister(&mut connection.socket) {
            tracing::debug!(%error, "deregistering a socket failed");
        }
        let channels = connection.session.take_channels();
        for channel in &channels {
            self.left(connection.session.number(), channel, now);
            self.give_up(channel, key);
        }
        self.gone(&connection.session, channels);
        self.by_number.remove(&connection.session.number());
        slack::release(&mut self.by_number);
        let lived_ms = now
            .monotonic_ms
            .saturating_sub(connection.session.opened_ms());
        if !connection.session.is_self_test() {
            self.metrics.closed(code, lived_ms);
        }
        self.report_drained();
    }
}
