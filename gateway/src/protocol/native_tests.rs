use std::sync::Arc;

use serde_json::value::to_raw_value;

use super::*;
use crate::message::{Delivery, Message, MessageKind, Sender};

/// The answer to a request that is refused, or what was understood.
fn outcome(text: &str) -> String {
    let decoded = decode(text);
    match decoded.request {
        Ok(request) => format!("{request:?}"),
        Err(refusal) => json(&encode_refusal(&refusal, decoded.id.as_ref())),
    }
}

/// The text of a server frame.
fn json(frame: &[u8]) -> String {
    let header = if frame[1] == 126 { 4 } else { 2 };
    String::from_utf8(frame[header..].to_vec()).unwrap()
}

#[test]
fn requests_are_understood_or_refused_by_name() {
    let long_id = format!(r#"{{"type":"ping","id":"{}"}}"#, "x".repeat(63));
    let deep = format!(
        r#"{{"type":"broadcast","data":{}1{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    for (text, expected) in [
        (r#"{"type":"ping"}"#, "Ping"),
        (r#"{"type":"ping","unknown":[1]}"#, "Ping"),
        (r#"{"type":"p\u0069ng"}"#, "Ping"),
        (
            r#"{"type":"subscribe","channel":"news"}"#,
            r#"Subscribe { channel: ChannelName("news"), recover: None }"#,
        ),
        (
            r#"{"type":"subscribe","channel":"news","recover":{"epoch":1,"offset":2}}"#,
            r#"Subscribe { channel: ChannelName("news"), recover: Some(Position { epoch: 1, offset: 2 }) }"#,
        ),
        (
            r#"{"type":"subscribe","channel":"news","recover":{"epoch":1}}"#,
            r#"{"type":"error","code":"bad_field","message":"`recover` is not {\"epoch\":number,\"offset\":number}"}"#,
        ),
        (
            r#"{"type":"subscribe","channel":"news","recover":[1,2]}"#,
            r#"{"type":"error","code":"bad_field","message":"`recover` is not {\"epoch\":number,\"offset\":number}"}"#,
        ),
        (
            r#"{"type":"history","channel":"news","since":{"epoch":1,"offset":2},"limit":3}"#,
            r#"History { channel: ChannelName("news"), since: Some(Position { epoch: 1, offset: 2 }), limit: Some(3) }"#,
        ),
        (
            r#"{"type":"history","channel":"news","limit":-1}"#,
            r#"{"type":"error","code":"bad_field","message":"`limit` is not a whole number from 0 to 4294967295"}"#,
        ),
        (
            r#"{"type":"presence","channel":"news"}"#,
            r#"Presence { channel: ChannelName("news") }"#,
        ),
        (
            r#"{"type":"presence","room":"lobby"}"#,
            r#"{"type":"error","code":"bad_field","message":"`channel` is missing"}"#,
        ),
        (
            r#"{"type":"join","room":"lobby"}"#,
            r#"Join { room: ChannelName("room:lobby") }"#,
        ),
        (
            r#"{"type":"chat","channel":"news","message":{"a": 1}}"#,
            r#"Chat { channel: ChannelName("news"), message: RawValue({"a": 1}) }"#,
        ),
        (
            r#"{"type":"broadcast","data":null}"#,
            r#"Broadcast { data: RawValue(null) }"#,
        ),
        (
            r#"{"type":"private","to":"ann","data":1}"#,
            r#"Private { to: Recipient { channel: ChannelName("user:ann"), only: None }, data: RawValue(1) }"#,
        ),
        (
            r#"{"type":"private","to":"john.d","data":1}"#,
            r#"Private { to: Recipient { channel: ChannelName("user:john.d"), only: None }, data: RawValue(1) }"#,
        ),
        (
            r#"{"type":"private","to":"~gw-0.1f","data":1}"#,
            r#"Private { to: Recipient { channel: ChannelName("node:gw-0"), only: Some(ConnectionId("~gw-0.1f")) }, data: RawValue(1) }"#,
        ),
        (
            "",
            r#"{"type":"error","code":"bad_json","message":"message is not a JSON object: EOF while parsing a value at line 1 column 0"}"#,
        ),
        (
            "[]",
            r#"{"type":"error","code":"bad_json","message":"message is not a JSON object"}"#,
        ),
        (
            r#"["ping",null,null,null,null,null,null,null]"#,
            r#"{"type":"error","code":"bad_json","message":"message is not a JSON object"}"#,
        ),
        (
            "7",
            r#"{"type":"error","code":"bad_json","message":"message is not a JSON object"}"#,
        ),
        (
            r#"{"type":"ping","type":"auth"}"#,
            r#"{"type":"error","code":"bad_json","message":"message is not a JSON object: duplicate field `type` at line 1 column 21"}"#,
        ),
        (
            r#"{"id":7}"#,
            r#"{"type":"error","code":"bad_field","message":"`type` is missing","id":7}"#,
        ),
        (
            r#"{"type":1,"id":"a"}"#,
            r#"{"type":"error","code":"bad_field","message":"`type` is not a string","id":"a"}"#,
        ),
        (
            r#"{"type":"ping","id":{}}"#,
            r#"{"type":"error","code":"bad_field","message":"`id` is neither a string nor a number"}"#,
        ),
        (
            &long_id,
            r#"{"type":"error","code":"bad_field","message":"`id` is longer than 64 bytes"}"#,
        ),
        (
            r#"{"type":"subscribe","id":1.5}"#,
            r#"{"type":"error","code":"bad_field","message":"`channel` is missing","id":1.5}"#,
        ),
        (
            r#"{"type":"subscribe","channel":["a"]}"#,
            r#"{"type":"error","code":"bad_field","message":"`channel` is not a string"}"#,
        ),
        (
            r#"{"type":"subscribe","channel":""}"#,
            r#"{"type":"error","code":"bad_field","message":"`channel` is empty"}"#,
        ),
        (
            r#"{"type":"join","room":""}"#,
            r#"{"type":"error","code":"bad_field","message":"`room` is empty"}"#,
        ),
        (
            r#"{"type":"room","room":"a"}"#,
            r#"{"type":"error","code":"bad_field","message":"`data` is missing"}"#,
        ),
        (
            r#"{"type":"shout"}"#,
            r#"{"type":"error","code":"unknown_type","message":"type \"shout\" is not known; known are ping, auth, subscribe, unsubscribe, chat, join, leave, room, broadcast, private, history, presence"}"#,
        ),
    ] {
        assert_eq!(outcome(text), expected, "{text}");
    }
    assert!(
        outcome(&deep).starts_with("Broadcast"),
        "deep nesting must neither be refused nor overflow a stack"
    );
}

#[test]
fn every_error_is_its_own_index_and_documented() {
    assert_eq!(
        serde_json::to_string(&ErrorCode::TooBig).unwrap(),
        r#""too_big""#
    );
    assert_eq!(
        ErrorCode::LABELS.get(ErrorCode::Unanswered as usize),
        ErrorCode::LABELS.last()
    );
    let documented = include_str!("../../../docs/native-protocol.md");
    for label in ErrorCode::LABELS {
        assert!(documented.contains(&format!("`{label}`")), "{label}");
    }
}

#[test]
fn deliveries_have_the_shape_of_their_kind() {
    let message = |kind, user: Option<&str>| Message {
        kind,
        data: to_raw_value(&serde_json::json!({"a": 1})).unwrap().into(),
        from: Some(Sender {
            connection: ConnectionId::new("gw-0", 31),
            user: user.map(Arc::from),
        }),
        timestamp: 7,
        except: None,
        only: None,
    };
    for (channel, kind, user, position, expected) in [
        (
            "news",
            MessageKind::Chat,
            Some("ann"),
            None,
            r#"{"type":"chat","channel":"news","message":{"a":1},"from":"ann","timestamp":7}"#,
        ),
        (
            "news",
            MessageKind::Chat,
            None,
            Some(9),
            r#"{"type":"chat","channel":"news","message":{"a":1},"from":"~gw-0.1f","timestamp":7,"offset":9}"#,
        ),
        (
            "room:lobby",
            MessageKind::Room,
            Some("ann"),
            None,
            r#"{"type":"room","room":"lobby","data":{"a":1},"from":"ann","timestamp":7}"#,
        ),
        (
            "broadcast",
            MessageKind::Broadcast,
            Some("ann"),
            None,
            r#"{"type":"broadcast","data":{"a":1},"from":"ann","timestamp":7}"#,
        ),
        (
            "user:bob",
            MessageKind::Private,
            Some("ann"),
            None,
            r#"{"type":"private","data":{"a":1},"from":"ann","timestamp":7}"#,
        ),
        (
            "room:lobby",
            MessageKind::Presence,
            Some("ann"),
            None,
            r#"{"type":"presence","channel":"room:lobby","event":{"a":1},"user":"ann","timestamp":7}"#,
        ),
        (
            "news",
            MessageKind::Presence,
            None,
            None,
            r#"{"type":"presence","channel":"news","event":{"a":1},"connection":"~gw-0.1f","timestamp":7}"#,
        ),
    ] {
        let delivery = Delivery {
            channel: ChannelName::parse(channel).unwrap(),
            message: message(kind, user),
            position: position.map(|offset| Position { epoch: 1, offset }),
        };
        assert_eq!(json(&encode_delivery(&delivery)), expected);
    }
}

#[test]
fn subscribers_are_told_where_they_go_on() {
    let told = Delivery {
        channel: ChannelName::parse("room:lobby").unwrap(),
        message: Message {
            kind: MessageKind::Position,
            data: to_raw_value(&false).unwrap().into(),
            from: None,
            timestamp: 7,
            except: None,
            only: None,
        },
        position: Some(Position {
            epoch: 7,
            offset: 9,
        }),
    };
    let expected =
        r#"{"type":"position","channel":"room:lobby","epoch":7,"offset":9,"recovered":false}"#;
    assert_eq!(json(&encode_delivery(&told)), expected);
    let claimed = r#"{"kind":"position","data":true,"timestamp":1}"#;
    assert!(
        serde_json::from_str::<Message>(claimed).is_err(),
        "nobody else says so"
    );
}

#[test]
fn replies_carry_the_id_of_their_request() {
    let id = decode(r#"{"type":"ping","id":"a\"b"}"#).id;
    assert_eq!(
        json(&encode_reply(&Reply::Pong, id.as_ref())),
        r#"{"type":"pong","id":"a\"b"}"#
    );
    let welcome = Reply::Welcome {
        connection: &ConnectionId::new("gw-0", 1),
        node: "gw-0",
        ping_seconds: 30,
    };
    assert_eq!(
        json(&encode_reply(&welcome, None)),
        r#"{"type":"welcome","connection":"~gw-0.1","node":"gw-0","ping":30}"#
    );
}

#[test]
fn a_publish_is_answered_as_everything_else() {
    let at = |epoch, offset| Some(Position { epoch, offset });
    for (id, position) in [
        ("1", None),
        (r#""a\"b""#, at(0, 0)),
        ("-7", at(1_700_000_000_000, 12)),
        (&format!("\"{}\"", "x".repeat(62)), at(u64::MAX, u64::MAX)),
    ] {
        let id = RequestId(id.into());
        let mut frames = b"before".to_vec();
        append_published(position, &id, &mut frames);
        let expected = encode_reply(&Reply::Published { position }, Some(&id));
        assert_eq!(
            frames.strip_prefix(b"before"),
            Some(&expected[..]),
            "{id:?}"
        );
    }
}
