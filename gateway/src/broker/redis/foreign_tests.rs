use super::*;

/// Longer records are too big.
const MAX: usize = 2_000;

/// The deliveries as `channel[ only id][ except id]: kind data`, or `outcome: what`.
fn said(source: Source, payload: &str) -> Vec<String> {
    let room = ChannelName::room("lobby").unwrap();
    let place = Place {
        source,
        room: (source == Source::Rooms).then_some(&room),
    };
    match read(place, payload.as_bytes(), MAX, 7) {
        Err(fault) => {
            let outcome = Outcome::LABELS[fault.outcome as usize];
            vec![format!("{outcome}: {}", fault.what)]
        }
        Ok(deliveries) => deliveries
            .iter()
            .map(|delivery| {
                assert_eq!(delivery.position, None);
                let message = &delivery.message;
                assert_eq!((message.timestamp, &message.from), (7, &None));
                let only = message.only.as_ref().map(|id| format!(" only {id}"));
                let except = message.except.as_ref().map(|id| format!(" except {id}"));
                format!(
                    "{}{}{}: {} {}",
                    delivery.channel,
                    only.unwrap_or_default(),
                    except.unwrap_or_default(),
                    message.kind.label(),
                    message.data,
                )
            })
            .collect(),
    }
}

#[test]
fn what_clients_get() {
    use Source::{Broadcast, Notifications, Private, Rooms};
    for (source, payload, expected) in [
        (
            Broadcast,
            r#"{"data":{"x": 1}}"#,
            r#"broadcast: broadcast {"x": 1}"#,
        ),
        (
            Broadcast,
            r#" {"type":"broadcast","data":1.50} "#,
            "broadcast: broadcast 1.50",
        ),
        (
            Broadcast,
            r#"{"event":"sold","data":1}"#,
            r#"broadcast: broadcast {"data":1,"event":"sold"}"#,
        ),
        (
            Broadcast,
            r#"{"type":"sold","data":1}"#,
            r#"broadcast: broadcast {"data":1,"type":"sold"}"#,
        ),
        (
            Broadcast,
            r#"{"text":"hi"}"#,
            r#"broadcast: broadcast {"text":"hi"}"#,
        ),
        (Broadcast, r#"{"data":null}"#, "broadcast: broadcast null"),
        (
            Broadcast,
            r#"{"to":"ann","data":1}"#,
            r#"broadcast: broadcast {"data":1,"to":"ann"}"#,
        ),
        (Broadcast, r#""hi""#, r#"broadcast: broadcast "hi""#),
        (Broadcast, "[1, 2]", "broadcast: broadcast [1, 2]"),
        (
            Broadcast,
            r#"{"data":1,"exclude":"~gw-0.a"}"#,
            "broadcast except ~gw-0.a: broadcast 1",
        ),
        (
            Broadcast,
            r#"{"data":1,"exclude":null}"#,
            "broadcast: broadcast 1",
        ),
        (
            Notifications,
            r#"{"type":"notification","data":"down at 8"}"#,
            r#"system:notifications: chat "down at 8""#,
        ),
        (
            Notifications,
            r#"{"title":"t","body":"b"}"#,
            r#"system:notifications: chat {"body":"b","title":"t"}"#,
        ),
        (Rooms, r#"{"data":1}"#, "room:lobby: room 1"),
        (
            Rooms,
            r#"{"type":"room","room":"lobby","data":1}"#,
            "room:lobby: room 1",
        ),
        (Rooms, r#"{"room":null,"data":1}"#, "room:lobby: room 1"),
        (
            Rooms,
            r#"{"roomId":5,"data":1}"#,
            r#"room:lobby: room {"data":1,"roomId":5}"#,
        ),
        (Private, r#"{"to":"ann","data":1}"#, "user:ann: private 1"),
        (
            Private,
            r#"{"type":"private","userId":42,"data":1}"#,
            "user:42: private 1",
        ),
        (
            Private,
            r#"{"user_id":"ann","event":"paid","data":1}"#,
            r#"user:ann: private {"data":1,"event":"paid"}"#,
        ),
        (
            Private,
            r#"{"to":null,"user":"ann","data":1}"#,
            "user:ann: private 1",
        ),
        (
            Private,
            r#"{"to":"ann","user":"bob","data":1}"#,
            r#"user:ann: private {"data":1,"user":"bob"}"#,
        ),
        (
            Private,
            r#"{"to":"~gw-0.a","data":1}"#,
            "node:gw-0 only ~gw-0.a: private 1",
        ),
        (
            Private,
            r#"{"to":["ann",7,"ann"],"data":1}"#,
            "user:ann: private 1|user:7: private 1",
        ),
    ] {
        assert_eq!(said(source, payload).join("|"), expected, "{payload}");
    }
}

#[test]
fn what_is_wrong_and_where() {
    use Source::{Broadcast, Private, Rooms};
    let many = serde_json::json!({"to": vec![1; MAX_RECEIVERS + 1], "data": 1}).to_string();
    let long = format!("\"{}\"", "x".repeat(MAX));
    for (source, payload, expected) in [
        (
            Broadcast,
            "hello",
            "not_json: it is no JSON: expected value at line 1 column 1",
        ),
        (
            Broadcast,
            "",
            "not_json: it is no JSON: EOF while parsing a value at line 1 column 0",
        ),
        (
            Broadcast,
            r#"{"data":1} {}"#,
            "not_json: it is no JSON: trailing characters at line 1 column 12",
        ),
        (
            Broadcast,
            "{\"data\":\n1",
            "not_json: it is no JSON: EOF while parsing an object at line 2 column 1",
        ),
        (
            Broadcast,
            &long,
            "too_big: it is 2002 bytes long, longer than limits.maxMessageBytes (2000)",
        ),
        (
            Broadcast,
            "{}",
            "no_data: it has no data, and nothing else that clients could get",
        ),
        (
            Broadcast,
            r#"{"type":"broadcast"}"#,
            "no_data: it has no data, and nothing else that clients could get",
        ),
        (
            Broadcast,
            r#"{"data":1,"exclude":"ann"}"#,
            "bad_exclude: `exclude` is no connection",
        ),
        (
            Broadcast,
            r#"{"data":1,"exclude":7}"#,
            "bad_exclude: `exclude` is no connection",
        ),
        (
            Rooms,
            r#"{"room":"other","data":1}"#,
            "other_room: `room` is another than that of its channel",
        ),
        (Private, "1", "no_receiver: it is no object with `to`"),
        (Private, r#"{"data":1}"#, "no_receiver: `to` is missing"),
        (
            Private,
            r#"{"to":[],"data":1}"#,
            "no_receiver: `to` is empty",
        ),
        (
            Private,
            r#"{"to":"","data":1}"#,
            "bad_receiver: `to` is no user: the name is empty",
        ),
        (
            Private,
            r#"{"userId":-1,"data":1}"#,
            "bad_receiver: `userId` is neither a text nor a whole number",
        ),
        (
            Private,
            r#"{"to":{"id":1},"data":1}"#,
            "bad_receiver: `to` is neither a text nor a whole number",
        ),
        (
            Private,
            r#"{"to":["ann",true],"data":1}"#,
            "bad_receiver: `to` is neither a text nor a whole number",
        ),
        (
            Private,
            r#"{"to":"~ann","data":1}"#,
            "bad_receiver: `to` begins with ~ and is no connection",
        ),
        (
            Private,
            &many,
            "too_many_receivers: `to` names 101 receivers, more than 100",
        ),
    ] {
        assert_eq!(said(source, payload), [expected], "{payload}");
    }
    let place = Place {
        source: Broadcast,
        room: None,
    };
    let fault = read(place, b"\"\xff\"", MAX, 7).unwrap_err();
    assert_eq!(fault.outcome, Outcome::NotJson, "{fault:?}");
}

#[test]
fn the_same_mistake_is_told_once_a_minute() {
    let (start, mut complaints) = (Instant::now(), Complaints::default());
    for (source, outcome, seconds, news) in [
        (Source::Private, Outcome::NotJson, 0, true),
        (Source::Private, Outcome::NotJson, 59, false),
        (Source::Private, Outcome::TooBig, 59, true),
        (Source::Rooms, Outcome::NotJson, 59, true),
        (Source::Private, Outcome::NotJson, 60, true),
        (Source::Private, Outcome::NotJson, 61, false),
    ] {
        let now = start + Duration::from_secs(seconds);
        assert_eq!(complaints.is_news(source, outcome, now), news, "{seconds}");
    }
}

#[test]
fn names() {
    for source in Source::ALL {
        assert_eq!(Source::named(source.name()), Some(source));
    }
    assert_eq!(Source::named("ws:room:lobby"), None);
    assert_eq!(room_key("app:", "a:b"), "app:ws:room:a:b");
}
