//! Bytes from a socket to what they ask for, and the asking carried out.

use super::*;
use crate::auth::Identity;
use crate::engine::command::Purpose;
use crate::message::Message;

impl Shard {
    /// Begins to read a socket; what came with the handshake first.
    pub(super) fn listen(&mut self, key: ConnectionKey, now: Now) {
        let Some(connection) = self.connection(key) else {
            return;
        };
        let Some(early) = connection.early.take() else {
            return;
        };
        // The edge that told of waiting bytes may have passed.
        connection.unread = true;
        self.unread.push(key);
        if !early.is_empty() {
            self.take_bytes(key, &mut early.to_vec(), now);
        }
    }

    pub(super) fn may_read(&self) -> bool {
        self.backlog.is_empty() && !self.published.is_full()
    }

    pub(super) fn read(&mut self, now: Now) {
        for key in std::mem::take(&mut self.unread) {
            if !self.may_read() {
                // The rest of the gateway is behind: leave the bytes with the kernel, whose window tells the client.
                self.unread.push(key);
            } else if self.read_one(key, now) {
                self.unread.push(key);
            } else if let Some(connection) = self.connection(key) {
                connection.unread = false;
            }
        }
    }

    /// Reads once; whether there may be more.
    pub(super) fn read_one(&mut self, key: ConnectionKey, now: Now) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let Some(connection) = self.connection(key) else {
            self.buffer = buffer;
            return false;
        };
        // TLS hands its records over one by one.
        let again = connection.read_closed || connection.tls.is_some();
        let result = connection.wire().read(&mut buffer);
        let owes = connection.wire().owes();
        let more = match result {
            Ok(0) => {
                self.lost(key, now);
                false
            }
            Ok(count) => {
                self.take_bytes(key, &mut buffer[..count], now);
                count == buffer.len() || again
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(_) => {
                self.lost(key, now);
                false
            }
        };
        self.buffer = buffer;
        if owes {
            // TLS has an answer of its own.
            self.mark_dirty(key);
        }
        more
    }

    /// The peer's socket has ended, with a goodbye or without.
    pub(super) fn lost(&mut self, key: ConnectionKey, now: Now) {
        let code = self
            .connection(key)
            .and_then(|c| c.closing)
            .map_or(CloseCode::Abnormal, |closing| closing.code);
        self.end(key, code, now);
    }

    pub(super) fn take_bytes(&mut self, key: ConnectionKey, bytes: &mut [u8], now: Now) {
        let Shard {
            connections,
            shared,
            metrics,
            inflater,
            ..
        } = self;
        let Some(connection) = live(connections, key) else {
            return;
        };
        let Connection {
            decoder,
            deflate,
            session,
            heartbeat,
            closing,
            ..
        } = connection;
        heartbeat.heard();
        if closing.is_some_and(|closing| closing.deaf) {
            return;
        }
        let cx = Context {
            rules: &shared.rules,
            now,
        };
        let (mut acts, mut effects) = (Vec::new(), Vec::new());
        let mut reading = Reading {
            max_message_bytes: shared.settings.max_message_bytes,
            inflater: deflate.map(|_| inflater),
        };
        let result = decoder.feed(bytes, &mut reading, &mut |frame| {
            match frame {
                Frame::Close(code) => {
                    acts.push(Act::PeerClosed(code));
                    return Next::Stop;
                }
                // After our close frame only the peer's counts (RFC 6455 section 5.5.1).
                _ if closing.is_some() => {}
                Frame::Text(_) | Frame::Binary(_) if shared.settings.echo => {
                    acts.extend(frame::same(&frame).map(Act::Answer));
                }
                Frame::Text(text) => {
                    heartbeat.spoke(now.monotonic_ms);
                    if hear(text, (session, cx), metrics, &mut effects) == bucket::Verdict::Abuse {
                        acts.push(Act::Abuse);
                        return Next::Stop;
                    }
                    acts.extend(effects.drain(..).map(Act::Session));
                }
                Frame::Binary(_) => {
                    // What follows a refusal must not be carried out.
                    acts.push(Act::Fail(CloseCode::NotText));
                    return Next::Stop;
                }
                Frame::Ping(payload) => {
                    if session.arrives(cx) == bucket::Verdict::Abuse {
                        acts.push(Act::Abuse);
                        return Next::Stop;
                    }
                    acts.push(Act::Answer(frame::frame(Opcode::Pong, payload)));
                }
                Frame::Pong(_) => {}
            }
            Next::Go
        });
        self.act_together(key, acts, now);
        if let Err(code) = result {
            self.fail(key, code, now);
        }
    }

    /// What events come of it are handed over in one piece.
    fn act_together(&mut self, key: ConnectionKey, acts: Vec<Act>, now: Now) {
        let _held = (acts.len() > 1).then(|| self.queues.gate.hold());
        for act in acts {
            self.act(key, act, now);
        }
    }

    pub(super) fn act(&mut self, key: ConnectionKey, act: Act, now: Now) {
        match act {
            Act::Session(effect) => self.effect(key, effect, now),
            Act::Answer(frame) => self.reply(key, frame, now),
            Act::Fail(code) => self.fail(key, code, now),
            Act::Abuse => {
                self.metrics.refused(Limit::MessagesPerSecond);
                self.fail(key, CloseCode::Policy, now);
            }
            Act::PeerClosed(code) => self.peer_closed(key, code, now),
        }
    }

    pub(super) fn effect(&mut self, key: ConnectionKey, effect: Effect, now: Now) {
        let shard = self.id;
        match effect {
            Effect::Pong(id) => {
                self.reply(key, native::encode_reply(&Reply::Pong, id.as_ref()), now);
            }
            Effect::Welcome => self.welcome(key, now),
            Effect::Authenticated { identity, id } => {
                self.authenticated(key, &identity, id.as_ref(), now);
            }
            Effect::Subscribe { channel, ack } => {
                if !self.take_share(key, &ack, now) {
                    return;
                }
                self.deliver_waiting(&channel, now);
                match self.subscriptions.subscribe(&channel, key, ack) {
                    Asked::Live(ack) => self.joined(key, &channel, &ack, now),
                    Asked::Waits => {}
                    Asked::First(round) => self.tell(Event::Interest {
                        shard,
                        channel,
                        round,
                    }),
                }
            }
            Effect::Again { channel, ack } => self.subscribe_again(key, &channel, &ack, now),
            Effect::Unsubscribe { channel } => self.leave(key, &channel, now),
            Effect::Unsubscribed { channel, id } => {
                let reply = Reply::Unsubscribed {
                    channel: channel.as_str(),
                };
                self.reply(key, native::encode_reply(&reply, id.as_ref()), now);
            }
            Effect::Left { room, id } => {
                let room = room.as_str().strip_prefix("room:").unwrap_or(room.as_str());
                let reply = native::encode_reply(&Reply::Left { room }, id.as_ref());
                self.reply(key, reply, now);
            }
            Effect::Publish {
                channel,
                message,
                id,
            } => self.publish(key, channel, message, id),
            Effect::History { channel, range, id } => {
                self.ask_history(key, channel, range, Purpose::Answer(id));
            }
            Effect::Presence { channel, id } => self.tell(Event::Members {
                shard,
                key,
                channel,
                id,
            }),
            Effect::Refuse { refusal, id } => self.refuse(key, &refusal, id.as_ref(), now),
            Effect::TokenRefused(error) => self.shared.rules.keys.refused(&error),
            Effect::AwaitKeys { token, id } => self.tell(Event::AwaitKeys {
                shard,
                key,
                token,
                id,
            }),
            Effect::AwaitPlace { identity, id } => self.await_place(key, identity, id, now),
            Effect::Close(code) => self.begin_close(key, code, now),
        }
    }

    fn publish(
        &mut self,
        key: ConnectionKey,
        channel: ChannelName,
        message: Message,
        id: Option<native::RequestId>,
    ) {
        let weight = self.published.put(message.data.get().len());
        self.tell(Event::Publish {
            shard: self.id,
            key,
            channel,
            message,
            id,
            weight,
        });
    }

    pub(super) fn refuse(
        &mut self,
        key: ConnectionKey,
        refusal: &Refusal,
        id: Option<&native::RequestId>,
        now: Now,
    ) {
        let told = self.connection(key).is_some_and(|connection| {
            connection.closing.is_none() && !connection.session.is_self_test()
        });
        if told {
            self.metrics.error(refusal.code);
        }
        self.reply(key, native::encode_refusal(refusal, id), now);
    }

    /// Tells a client that deliveries of the channel follow.
    pub(super) fn acknowledge(
        &mut self,
        key: ConnectionKey,
        channel: &ChannelName,
        ack: &Ack,
        now: Now,
    ) {
        let name = channel.as_str();
        let timestamp = now.unix_ms;
        let reply = match ack {
            Ack::Welcome => return self.welcome(key, now),
            Ack::Authenticated { identity, id } => {
                self.authenticated(key, identity, id.as_ref(), now);
                self.register(key, now);
                self.became(key, &identity.user, now);
                return self.begin_named(key, now);
            }
            Ack::Subscribed { .. } => Reply::Subscribed {
                channel: name,
                timestamp,
                log: None,
            },
            Ack::Joined(_) => Reply::Joined {
                room: name.strip_prefix("room:").unwrap_or(name),
                timestamp,
            },
        };
        self.reply(key, native::encode_reply(&reply, ack.id()), now);
        self.came(key, channel, now);
    }

    fn authenticated(
        &mut self,
        key: ConnectionKey,
        identity: &Identity,
        id: Option<&native::RequestId>,
        now: Now,
    ) {
        let reply = Reply::Authenticated {
            user: &identity.user,
            expires: identity.expires,
        };
        self.reply(key, native::encode_reply(&reply, id), now);
        // The new end may be earlier than the entry in the wheel.
        self.schedule(key, now);
    }

    fn subscribe_again(&mut self, key: ConnectionKey, channel: &ChannelName, ack: &Ack, now: Now) {
        if self.subscriptions.is_live(channel) {
            return self.joined(key, channel, ack, now);
        }
        let refusal = Refusal {
            code: ErrorCode::InProgress,
            message: format!("subscribe to {channel} refused: it is under way already"),
        };
        self.refuse(key, &refusal, ack.id(), now);
    }

    fn leave(&mut self, key: ConnectionKey, channel: &ChannelName, now: Now) {
        if let Some(ack) = self.unsubscribe(channel, key, now) {
            let refusal = Refusal {
                code: ErrorCode::Cancelled,
                message: format!("subscribe to {channel} cancelled: you left it meanwhile"),
            };
            self.refuse(key, &refusal, ack.id(), now);
        }
    }

    /// Returns the acknowledgement that will never come, if one was waited for.
    pub(super) fn unsubscribe(
        &mut self,
        channel: &ChannelName,
        key: ConnectionKey,
        now: Now,
    ) -> Option<Ack> {
        if let Some(number) = self.connection(key).map(|c| c.session.number()) {
            self.left(number, channel, now);
            self.deregistered(key, channel);
        }
        self.give_up(channel, key)
    }

    /// Of a connection that is no more.
    pub(super) fn give_up(&mut self, channel: &ChannelName, key: ConnectionKey) -> Option<Ack> {
        let Left { last, unanswered } = self.subscriptions.unsubscribe(channel, key);
        if last {
            self.tell(Event::Disinterest {
                shard: self.id,
                channel: channel.clone(),
            });
        }
        unanswered
    }

    pub(super) fn tell(&mut self, event: Event) {
        if !self.backlog.is_empty() {
            return self.backlog.push_back(event);
        }
        match self.queues.events.try_send(event) {
            Ok(()) => {}
            Err(TrySendError::Full(event)) => self.backlog.push_back(event),
            // Nobody listens any more: the gateway is ending, and `Stop` is on its way.
            Err(TrySendError::Closed(_)) => {}
        }
    }

    pub(super) fn send_backlog(&mut self) {
        while let Some(event) = self.backlog.pop_front() {
            if let Err(TrySendError::Full(event)) = self.queues.events.try_send(event) {
                self.backlog.push_front(event);
                if !self.room.is_there(&self.queues.events, &self.queues.bell) {
                    return;
                }
            }
        }
    }
}

/// One text message: what it brings about. Nothing when it is abuse.
fn hear(
    text: &str,
    (session, cx): (&mut Session, Context<'_>),
    metrics: &mut ShardMetrics,
    effects: &mut Vec<Effect>,
) -> bucket::Verdict {
    let decoded = native::decode(text);
    if !session.is_self_test() {
        metrics.received(decoded.kind);
    }
    let verdict = session.arrives(cx);
    // After decoding, so that the answer carries the request's id.
    let request = match verdict {
        bucket::Verdict::Pass => decoded.request,
        bucket::Verdict::Over => Err(Refusal {
            code: ErrorCode::RateLimited,
            message: "refused: too many messages; slow down".into(),
        }),
        bucket::Verdict::Abuse => return verdict,
    };
    match request {
        Ok(request) => session.handle(request, decoded.id, cx, effects),
        Err(refusal) => effects.push(Effect::Refuse {
            refusal,
            id: decoded.id,
        }),
    }
    verdict
}
