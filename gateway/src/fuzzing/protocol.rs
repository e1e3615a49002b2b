//! What a client says in JSON, line by line to one session: every line has an answer or an effect, every answer is JSON
//! that a client can read, and every refusal says what was wrong.

use std::sync::Arc;

use gateway_config::ChannelPolicy;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Bytes;
use super::tokens::{NOW_SECONDS, Nowhere, signed, verifier};
use crate::auth::Identity;
use crate::limits::bucket::Pace;
use crate::message::{Delivery, Message, Position};
use crate::name::ChannelName;
use crate::policy::Policies;
use crate::presence::Scope;
use crate::protocol::native::{
    Decoded, ErrorCode, Refusal, Reply, RequestId, TYPES, decode, delivery_text, reply_text,
};
use crate::session::{Context, Effect, Now, Rules, Session};
use crate::sse::format;

const MAX_CHANNELS: usize = 3;

fn rules(anonymous: bool) -> Rules {
    let policy = ChannelPolicy {
        prefix: Some("kept:".into()),
        history_messages: 50,
        history_seconds: 60,
        messages_per_second: 2,
        message_burst: 2,
        max_message_bytes: 100,
        presence: true,
        ..ChannelPolicy::default()
    };
    Rules {
        verifier: verifier(anonymous),
        keys: Arc::new(Nowhere),
        node: "gw-0".into(),
        max_channels: MAX_CHANNELS,
        auth_deadline_ms: 10_000,
        ping_seconds: 30,
        message_pace: Pace::new(5, 5),
        policies: Policies::new(&[policy]),
        max_history_bytes: 1_000,
        presence: Scope::default(),
        registers: false,
    }
}

/// First byte: who the client is. Then requests, a line each. `$` in a request stands for a good token.
pub fn protocol(input: &[u8]) {
    let mut input = Bytes(input);
    let how = input.byte();
    let Ok(text) = std::str::from_utf8(input.0) else {
        return;
    };
    let rules = rules(how & 1 == 0);
    let identity = (how & 2 != 0).then(|| Identity {
        user: "ann".into(),
        expires: Some(NOW_SECONDS + 60),
        grants: None,
    });
    let now = |line: usize| Now {
        monotonic_ms: line as u64 * 100,
        unix_ms: NOW_SECONDS * 1000 + line as u64 * 100,
    };
    let mut session = Session::new(31, identity, now(0));
    let mut effects = vec![session.open()];
    for (line, text) in text.split('\n').enumerate() {
        let text = if how & 4 != 0 {
            text.replace('$', &signed(r#"{"alg":"HS256"}"#, r#"{"sub":"ann"}"#))
        } else {
            text.to_owned()
        };
        let cx = Context {
            rules: &rules,
            now: now(line),
        };
        session.arrives(cx);
        let Decoded { kind, id, request } = decode(&text);
        is_named_rightly(&text, kind, request.as_ref().err());
        match request {
            Ok(request) => session.handle(request, id.clone(), cx, &mut effects),
            Err(refusal) => effects.push(Effect::Refuse {
                refusal,
                id: id.clone(),
            }),
        }
        assert!(
            !effects.is_empty(),
            "neither an answer nor an effect: {text}"
        );
        for effect in effects.drain(..) {
            carried_out(effect, id.as_ref());
        }
        session.tick(cx);
        session.next_tick_ms(cx);
    }
    let own = usize::from(session.user().is_some());
    assert!(session.take_channels().len() <= MAX_CHANNELS + own);
}

/// A general parser must see the same object, and the same name in it.
fn is_named_rightly(text: &str, kind: usize, refusal: Option<&Refusal>) {
    let invalid = TYPES.len() - 1;
    assert!(kind < TYPES.len());
    assert!(
        kind != invalid || refusal.is_some(),
        "taken without a type: {text}"
    );
    let bad_json = refusal.is_some_and(|refusal| refusal.code == ErrorCode::BadJson);
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(object)) if !bad_json => {
            let said = object.get("type").and_then(Value::as_str);
            assert!(kind == invalid || said == Some(TYPES[kind]), "{text}");
        }
        // A member that is there twice is refused here, and the last one counts there.
        Ok(Value::Object(_)) => {}
        Ok(_) => assert!(bad_json, "taken, and no object: {text}"),
        // It also has limits: 128 deep, and numbers as large as a double's.
        Err(_) if serde_json::from_str::<&RawValue>(text).is_ok() => {}
        Err(_) => assert!(bad_json, "taken, and no JSON: {text}"),
    }
    if let Some(refusal) = refusal {
        is_clear(refusal);
    }
}

fn is_clear(refusal: &Refusal) {
    let message = &refusal.message;
    let begins = match refusal.code {
        ErrorCode::BadJson => "message is not a JSON object",
        ErrorCode::BadField => "`",
        ErrorCode::UnknownType => "type \"",
        _ => "",
    };
    assert!(message.starts_with(begins), "{message:?}");
    assert!((10..=1_000).contains(&message.len()), "{message:?}");
    assert!(
        refusal.code != ErrorCode::BadField || message[1..].contains("` "),
        "names no field: {message}"
    );
}

fn carried_out(effect: Effect, asked: Option<&RequestId>) {
    match effect {
        Effect::Refuse { refusal, id } => {
            is_clear(&refusal);
            let message = &refusal.message;
            let code = refusal.code;
            is_answer(&Reply::Error { code, message }, id.as_ref(), asked);
        }
        Effect::Pong(id) => is_answer(&Reply::Pong, id.as_ref(), asked),
        Effect::Left { room, id } => {
            let room = room.as_str();
            is_answer(&Reply::Left { room }, id.as_ref(), asked);
        }
        Effect::Unsubscribed { channel, id } => {
            let channel = channel.as_str();
            let asked = id.as_ref().and(asked);
            is_answer(&Reply::Unsubscribed { channel }, id.as_ref(), asked);
        }
        Effect::Authenticated { identity, id } => {
            let (user, expires) = (&*identity.user, identity.expires);
            is_answer(&Reply::Authenticated { user, expires }, id.as_ref(), asked);
        }
        Effect::Publish {
            channel,
            message,
            id,
        } => {
            assert_eq!(id.as_ref(), asked);
            arrives_as_it_was_sent(channel, &message);
        }
        Effect::Subscribe { ack, .. } | Effect::Again { ack, .. } => {
            assert!(ack.is_own() || ack.id() == asked);
        }
        Effect::History { range, id, .. } => {
            assert_eq!(id.as_ref(), asked);
            assert!(range.limit <= range.keep.messages);
        }
        Effect::Presence { id, .. } => assert_eq!(id.as_ref(), asked),
        Effect::Welcome
        | Effect::Unsubscribe { .. }
        | Effect::TokenRefused(_)
        | Effect::AwaitKeys { .. }
        | Effect::AwaitPlace { .. }
        | Effect::Close(_) => {}
    }
}

/// JSON, of a type, with the `id` that was asked with, written as it was.
fn is_answer(reply: &Reply<'_>, id: Option<&RequestId>, asked: Option<&RequestId>) {
    #[derive(serde::Deserialize)]
    struct Answer<'a> {
        #[serde(rename = "type")]
        kind: String,
        #[serde(borrow)]
        id: Option<&'a RawValue>,
    }
    assert_eq!(id, asked, "the id of another request");
    let text = String::from_utf8(reply_text(reply, id)).expect("JSON is UTF-8");
    let answer: Answer<'_> = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
    assert!(!answer.kind.is_empty());
    let asked = asked.map(|id| serde_json::to_string(id).expect("an id is JSON"));
    assert_eq!(answer.id.map(RawValue::get), asked.as_deref());
}

/// On every node, whatever the broker: as JSON through Redis, and as JSON to a subscriber.
pub(super) fn arrives_as_it_was_sent(channel: ChannelName, message: &Message) {
    let json = serde_json::to_vec(message).expect("a message is JSON");
    let again: Message = serde_json::from_slice(&json).expect("what we write we read");
    assert_eq!(again.data.get(), message.data.get());
    assert_eq!(
        (&again.from, &again.except, &again.only),
        (&message.from, &message.except, &message.only)
    );
    let delivery = Delivery {
        channel,
        message: again,
        position: Some(Position {
            epoch: 1,
            offset: 2,
        }),
    };
    let text = String::from_utf8(delivery_text(&delivery)).expect("JSON is UTF-8");
    serde_json::from_str::<&RawValue>(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
    let event = String::from_utf8(format::delivery(&delivery)).expect("JSON is UTF-8");
    assert_eq!(
        read_event(&event),
        text.replace("\r\n", "\n").replace('\r', "\n")
    );
}

/// The one event in a stream, as a browser reads it (WHATWG HTML section 9.2.6).
fn read_event(stream: &str) -> String {
    let lines = stream.replace("\r\n", "\n").replace('\r', "\n");
    let event = lines.strip_suffix("\n\n").expect("an empty line ends it");
    let data = event.split('\n').map(|line| {
        let data = line
            .strip_prefix("data:")
            .unwrap_or_else(|| panic!("not data: {line:?}"));
        data.strip_prefix(' ').unwrap_or(data)
    });
    data.collect::<Vec<_>>().join("\n")
}
