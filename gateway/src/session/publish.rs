//! What a client publishes: to whom, and whether it may.

use serde_json::value::RawValue;

use super::*;
use crate::message::{MessageKind, Sender};
use crate::protocol::native::Recipient;

impl Session {
    pub(super) fn publish(
        &self,
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
            | Request::Unsubscribe { .. }
            | Request::Join { .. }
            | Request::Leave { .. } => unreachable!("handle() carries these out itself"),
        };
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

fn shared(json: &RawValue) -> Arc<RawValue> {
    json.to_owned().into()
}
