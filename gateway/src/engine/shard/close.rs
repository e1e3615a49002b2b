//! Writing, and the ways in which a connection ends.

use super::*;

impl Shard {
    pub(super) fn reply(&mut self, key: ConnectionKey, frame: Bytes, now: Now) {
        let cap = self.shared.settings.max_outbox_bytes;
        let Some(connection) = self.connection(key) else {
            return;
        };
        if connection.closing.is_some() {
            return;
        }
        let pushed = connection.outbox.push(frame, cap);
        self.mark_dirty(key);
        if pushed.is_err() {
            self.begin_close(key, CloseCode::Slow, now);
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
        for key in std::mem::take(&mut self.dirty) {
            let Some(connection) = self.connection(key) else {
                continue;
            };
            connection.dirty = false;
            let done = connection.closing.filter(|closing| closing.peer_is_done);
            match (connection.outbox.flush(&mut connection.socket), done) {
                (Err(_), _) => self.lost(key, now),
                (Ok(Flushed::All), Some(closing)) => self.end(key, closing.code, now),
                (Ok(_), _) => {}
            }
        }
    }

    /// Sends the close frame; the peer has a while to answer.
    pub(super) fn begin_close(&mut self, key: ConnectionKey, code: CloseCode, now: Now) {
        self.close_with(key, frame::close(code), now, |deadline_ms| Closing {
            code,
            deadline_ms,
            peer_is_done: false,
        });
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
    }

    /// The one place where a connection ends.
    pub(super) fn end(&mut self, key: ConnectionKey, code: CloseCode, now: Now) {
        if self.connection(key).is_none() {
            return;
        }
        let mut connection = self.connections.remove(key.slot as usize);
        if let Err(error) = self.poll.registry().deregister(&mut connection.socket) {
            tracing::debug!(%error, "deregistering a socket failed");
        }
        for channel in connection.session.take_channels() {
            self.unsubscribe(&channel, key);
        }
        self.by_number.remove(&connection.session.number());
        let lived = Duration::from_millis(
            now.monotonic_ms
                .saturating_sub(connection.session.opened_ms()),
        );
        self.shared.metrics.closed(code, lived);
        self.report_drained();
    }
}
