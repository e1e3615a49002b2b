//! What a client publishes: to whom, and whether it may.

use serde_json::value::RawValue;

use super::*;
use crate::message::{MessageKind, Sender};
use crate::protocol::native::Recipient;

impl Session {
    pub(super) fn publish(
        &mut self,
        request: Request<'_>,
        id: &Option<RequestId>,
        cx: Context<'_>,
    ) -> Result<Effect, Refusal> {
        let connection = self.id(cx.rules);
        let (channel, kind, data, except, only) = match request {
            Request::Chat { channel, message }
                if channel.may_publish() || self.is_own_test(&channel) =>
            {
                let kind = MessageKind::of(&channel);
                (channel, kind, message, None, None)
            }
            Request::Chat { channel, .. } => {
                return Err(denied(&format!("publish to {channel}: clients may not")));
            }
            Request::Room { room, data } if self.channels.contains(&room) => (
                room,
                MessageKind::Room,
                data,
                Some(connection.clone()),
                None,
            ),
            Request::Room { room, .. } => {
                let room = room.as_str().trim_start_matches("room:");
                return Err(Refusal {
                    code: ErrorCode::NotInRoom,
                    message: format!("publish to room {room} refused: join it first"),
                });
            }
            Request::Broadcast { data } => (
                ChannelName::broadcast(),
                MessageKind::Broadcast,
                data,
                Some(connection.clone()),
                None,
            ),
            Request::Private {
                to: Recipient { channel, only },
                data,
            } => (channel, MessageKind::Private, data, None, only),
            Request::Ping
            | Request::Auth { .. }
            | Request::Subscribe { .. }
            | Request::History { .. }
            | Request::Presence { .. }
            | Request::Unsubscribe { .. }
            | Request::Join { .. }
            | Request::Leave { .. } => unreachable!("handle() carries these out itself"),
        };
        self.check(&channel, data, cx)?;
        let from = Some(Sender {
            connection,
            user: self.user.clone(),
        });
        let message = Message {
            kind,
            data: shared(data),
            from,
            timestamp: cx.now.unix_ms,
            except,
            only,
        };
        Ok(Effect::Publish {
            channel,
            message,
            id: id.clone(),
        })
    }
}

impl Session {
    /// What the channel's policy says to this message.
    fn check(
        &mut self,
        channel: &ChannelName,
        data: &RawValue,
        cx: Context<'_>,
    ) -> Result<(), Refusal> {
        // A message to one connection goes through its node's inbox, but is private like one to a user.
        let private = matches!(channel.kind(), ChannelKind::Node(_));
        let name = if private { "user:" } else { channel.as_str() };
        let policy = cx.rules.policies.of(name);
        let grants = self.grants.as_deref();
        let known = self.user.is_some();
        if !self.self_test && !policy::allows(policy, Act::Publish, name, known, grants) {
            return Err(denied(&format!("publish to {name}")));
        }
        if let Some(most) = policy.max_message_bytes
            && data.get().len() > most
        {
            return Err(Refusal {
                code: ErrorCode::TooBig,
                message: format!("publish to {name} refused: {most} bytes are the limit there"),
            });
        }
        if let Some(pace) = policy.pace
            && !self
                .bucket(policy.number)
                .take(pace, cx.now.monotonic_ms.saturating_mul(1_000_000))
        {
            return Err(Refusal {
                code: ErrorCode::RateLimited,
                message: format!("publish to {name} refused: too many messages; slow down"),
            });
        }
        Ok(())
    }

    /// Full when the policy was not met before.
    pub(super) fn bucket(&mut self, policy: u16) -> &mut Bucket {
        let known = self
            .spent
            .as_slice()
            .iter()
            .position(|(number, _)| *number == policy);
        let index = known.unwrap_or_else(|| {
            self.spent.push((policy, Bucket::default()));
            self.spent.as_slice().len() - 1
        });
        &mut self.spent.as_mut_slice()[index].1
    }
}

fn shared(json: &RawValue) -> Arc<RawValue> {
    json.to_owned().into()
}
