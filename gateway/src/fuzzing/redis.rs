//! What Redis says to a subscriber, which is what any other node wrote, or whoever else has its password.

use super::protocol::arrives_as_it_was_sent;
use super::{Bytes, pieces};
use crate::broker::redis::fuzzing::{Heard, foreign, hear, published};
use crate::message::Message;
use crate::name::ChannelName;

/// First byte: how. Second byte: how the network cuts. Then RESP2, or the payload of one message.
pub fn redis(input: &[u8]) {
    let mut input = Bytes(input);
    let (how, cut) = (input.byte(), input.byte());
    if how & 1 == 0 {
        payload(input.0);
        return;
    }
    let whole = hear([input.0]);
    let cut = hear(pieces(input.0, cut));
    assert_eq!(cut, whole, "how the network cuts must not matter");
    for heard in whole {
        if let Heard::Message(bytes) = heard {
            payload(&bytes);
        }
    }
}

fn payload(payload: &[u8]) {
    for delivery in foreign(payload, 1_000) {
        // Only what was left out makes it another length than it came in.
        assert!(payload.len() <= 1_000 && delivery.position.is_none());
        arrives_as_it_was_sent(delivery.channel, &delivery.message);
    }
    let (position, json) = published(payload);
    assert!(payload.ends_with(json));
    let head = &payload[..payload.len() - json.len()];
    assert_eq!(head.is_empty(), position.is_none());
    assert!(
        head.iter()
            .all(|byte| byte.is_ascii_digit() || *byte == b':'),
        "two numbers: {head:?}"
    );
    if let Ok(message) = serde_json::from_slice::<Message>(json) {
        let channel = ChannelName::parse("room:lobby").expect("a name");
        arrives_as_it_was_sent(channel, &message);
    }
}
