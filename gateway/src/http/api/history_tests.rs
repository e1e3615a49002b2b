use serde_json::value::to_raw_value;

use super::*;
use crate::message::{ConnectionId, Message, Sender};

#[test]
fn queries() {
    for (uri, expected) in [
        ("/api/history?channel=room%3Aa", Ok(("room:a", None, 100))),
        (
            "/api/history?channel=a&since=7:12&limit=1000",
            Ok(("a", Some((7, 12)), 1_000)),
        ),
        (
            "/api/history?channel=a&since=9999999999999999999%3A0&limit=1",
            Ok(("a", Some((9_999_999_999_999_999_999, 0)), 1)),
        ),
        ("/api/history", Err("channel")),
        ("/api/history?channel=", Err("channel")),
        ("/api/history?channel=a&since=", Err("since")),
        ("/api/history?channel=a&since=7", Err("since")),
        ("/api/history?channel=a&since=7:", Err("since")),
        ("/api/history?channel=a&since=7:-1", Err("since")),
        ("/api/history?channel=a&since=%2B7:1", Err("since")),
        ("/api/history?channel=a&since=7:1:2", Err("since")),
        (
            "/api/history?channel=a&since=7:99999999999999999999",
            Err("since"),
        ),
        ("/api/history?channel=a&since=1:1&since=1:2", Err("since")),
        ("/api/history?channel=a&limit=0", Err("limit")),
        ("/api/history?channel=a&limit=1001", Err("limit")),
        ("/api/history?channel=a&offset=1", Err("offset")),
    ] {
        let found = query(&uri.parse().unwrap());
        let found = match &found {
            Ok(query) => Ok((
                query.channel.as_str(),
                query.since.map(|since| (since.epoch, since.offset)),
                query.limit,
            )),
            Err(problem) => Err(problem.field.as_deref().unwrap_or("")),
        };
        assert_eq!(found, expected, "{uri}");
    }
}

fn kept(offset: u64, from: Option<Sender>) -> Kept {
    let message = Message {
        kind: MessageKind::Room,
        data: to_raw_value(&offset).unwrap().into(),
        from,
        timestamp: 5,
        except: None,
        only: None,
    };
    Kept { offset, message }
}

#[test]
fn answers() {
    let connection = ConnectionId::new("gw", 31);
    let ann = Sender {
        connection: connection.clone(),
        user: Some("ann".into()),
    };
    let nobody = Sender {
        connection,
        user: None,
    };
    let top = Position {
        epoch: 7,
        offset: 9,
    };
    let three = vec![kept(1, None), kept(2, Some(ann)), kept(3, Some(nobody))];
    let said = r#"[{"offset":1,"type":"room","data":1,"timestamp":5},{"offset":2,"type":"room","data":2,"from":"ann","timestamp":5},{"offset":3,"type":"room","data":3,"from":"~gw.1f","timestamp":5}]"#;
    for (since, messages, (whole, complete), expected) in [
        // The newest: there may be older ones, but nothing comes next.
        (
            None,
            vec![],
            (true, false),
            r#""whole":true,"messages":[]"#.to_owned(),
        ),
        (
            Some(0),
            three,
            (true, false),
            format!(r#""whole":true,"messages":{said},"next":"7:3""#),
        ),
        (
            Some(8),
            vec![kept(9, None)],
            (false, true),
            r#""whole":false,"messages":[{"offset":9,"type":"room","data":9,"timestamp":5}]"#
                .to_owned(),
        ),
    ] {
        let query = Query {
            channel: ChannelName::parse("room:a").unwrap(),
            since: since.map(|offset| Position { epoch: 7, offset }),
            limit: 3,
        };
        let page = Page {
            top,
            messages: messages.into(),
            past: [].into(),
            shared: since.and(Some(top.offset)),
            whole,
            complete,
            more: !complete,
        };
        let found = serde_json::to_string(&answer(&query, &page, "gw")).unwrap();
        let head = r#""node":"gw","channel":"room:a","epoch":7,"offset":9"#;
        assert_eq!(found, format!("{{{head},{expected}}}"), "{since:?}");
    }
}
