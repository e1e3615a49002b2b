//! Texts that are no requests, requests that are not granted, and the error that names each.

use serde_json::{Value, json};

use super::{MAX_CHANNELS, MAX_MESSAGE_BYTES};

/// What one connection says, and is answered.
pub struct Script {
    /// None: nobody in particular.
    pub user: Option<&'static str>,
    pub lines: Vec<Line>,
}

pub struct Line {
    pub text: String,
    /// As it is counted.
    pub kind: &'static str,
    /// The error's code, or the type of an answer that is none.
    pub answer: Result<&'static str, &'static str>,
}

fn refused(kind: &'static str, text: impl Into<String>, code: &'static str) -> Line {
    let text = text.into();
    let answer = Err(code);
    Line { text, kind, answer }
}

fn granted(kind: &'static str, request: &Value, answer: &'static str) -> Line {
    let text = request.to_string();
    let answer = Ok(answer);
    Line { text, kind, answer }
}

pub fn scripts() -> Vec<Script> {
    let anybody = |lines| Script { user: None, lines };
    let mut scripts: Vec<_> = FIELDS.iter().map(|row| anybody(fields(row))).collect();
    scripts.extend([anybody(not_json()), anybody(not_known()), anybody(ids())]);
    scripts.extend([anybody(names()), anybody(rights()), anybody(sizes())]);
    scripts.push(anybody(channels()));
    scripts.push(Script {
        user: Some("mallory"),
        lines: own(),
    });
    scripts
}

/// A type of request and its members: text, any JSON, position, or number.
type Fields = (&'static str, &'static [(&'static str, char)]);

const FIELDS: [Fields; 11] = [
    ("auth", &[("token", 't')]),
    ("subscribe", &[("channel", 't'), ("recover", 'p')]),
    ("unsubscribe", &[("channel", 't')]),
    (
        "history",
        &[("channel", 't'), ("since", 'p'), ("limit", 'n')],
    ),
    ("presence", &[("channel", 't')]),
    ("chat", &[("channel", 't'), ("message", 'a')]),
    ("join", &[("room", 't')]),
    ("leave", &[("room", 't')]),
    ("room", &[("room", 't'), ("data", 'a')]),
    ("broadcast", &[("data", 'a')]),
    ("private", &[("to", 't'), ("data", 'a')]),
];

/// Each member missing, and of every type that it must not have, while all others are as they should be.
fn fields((kind, members): &Fields) -> Vec<Line> {
    let good = |class: char| match class {
        'p' => json!({"epoch": 1, "offset": 1}),
        'n' => json!(1),
        _ => json!("a"),
    };
    let mut lines = Vec::new();
    for (name, class) in *members {
        let mut request = json!({"type": kind, "id": name});
        for (other, class) in *members {
            request[*other] = good(*class);
        }
        let bad: &[&str] = match class {
            't' => &["null", "7", "true", "[]", "[\"a\"]", "{}", r#""\ud800""#],
            'p' => &[
                "7",
                "\"1:1\"",
                "[1,1]",
                "{}",
                r#"{"epoch":1}"#,
                r#"{"epoch":-1,"offset":1}"#,
            ],
            'n' => &["-1", "1.5", "\"1\"", "4294967296", "1e3", "[1]"],
            _ => &[],
        };
        for bad in bad {
            request[*name] = json!("INSTEAD");
            let text = request.to_string().replace("\"INSTEAD\"", bad);
            lines.push(refused(kind, text, "bad_field"));
        }
        if matches!(class, 't' | 'a') {
            request.as_object_mut().unwrap().remove(*name);
            lines.push(refused(kind, request.to_string(), "bad_field"));
        }
    }
    lines
}

fn not_json() -> Vec<Line> {
    let deep = |close| format!("{}{close}", "[".repeat(MAX_MESSAGE_BYTES / 2 - 20));
    let texts = [
        String::new(),
        " ".to_owned(),
        "{".to_owned(),
        "}".to_owned(),
        "nul".to_owned(),
        "null".to_owned(),
        "7".to_owned(),
        "\"ping\"".to_owned(),
        "[\"ping\"]".to_owned(),
        "{'type':'ping'}".to_owned(),
        "{\"type\":\"ping\",}".to_owned(),
        "{\"type\":\"ping\"} {}".to_owned(),
        "{\"type\":\"ping\"\u{0}}".to_owned(),
        "\u{feff}{\"type\":\"ping\"}".to_owned(),
        "{\"type\":\"pi\nng\"}".to_owned(),
        r#"{"type":"ping","type":"ping"}"#.to_owned(),
        r#"{"type":"chat","channel":"a","channel":"b","message":1}"#.to_owned(),
        r#"{"type":"ping","id":1,"id":2}"#.to_owned(),
        r#"{"type":"broadcast","data":NaN}"#.to_owned(),
        r#"{"type":"broadcast","data":01}"#.to_owned(),
        r#"{"type":"broadcast","data":"\x"}"#.to_owned(),
        deep(""),
        format!(r#"{{"type":"broadcast","data":{}"#, deep("}")),
    ];
    texts
        .map(|text| refused("invalid", text, "bad_json"))
        .into()
}

fn not_known() -> Vec<Line> {
    let mut lines = Vec::new();
    for kind in [
        "",
        "PING",
        "ping ",
        "ping\0",
        "invalid",
        "welcome",
        "reconnect",
        "__proto__",
    ] {
        lines.push(refused(
            "invalid",
            json!({"type": kind, "id": 1}).to_string(),
            "unknown_type",
        ));
    }
    let long = json!({"type": "x".repeat(MAX_MESSAGE_BYTES / 2)}).to_string();
    lines.push(refused("invalid", long, "unknown_type"));
    for bad in ["null", "7", "[\"ping\"]", "{}"] {
        lines.push(refused(
            "invalid",
            format!(r#"{{"type":{bad}}}"#),
            "bad_field",
        ));
    }
    lines.push(refused("invalid", r#"{"id":1}"#, "bad_field"));
    lines
}

fn ids() -> Vec<Line> {
    let bad = ["true", "{}", "[]", "[1]"].map(str::to_owned);
    let long = [format!("\"{}\"", "x".repeat(63)), "1".repeat(65)];
    bad.into_iter()
        .chain(long)
        .map(|id| {
            refused(
                "invalid",
                format!(r#"{{"type":"ping","id":{id}}}"#),
                "bad_field",
            )
        })
        .collect()
}

/// Of channels, rooms and users.
fn names() -> Vec<Line> {
    let mut lines = Vec::new();
    for name in [
        "",
        "tab\t",
        "nul\0",
        "a\u{202e}b",
        "a\u{200b}",
        &"x".repeat(256),
        &"x".repeat(9_000),
    ] {
        for (kind, request) in [
            ("subscribe", json!({"type": "subscribe", "channel": name})),
            ("join", json!({"type": "join", "room": name})),
            ("private", json!({"type": "private", "to": name, "data": 1})),
        ] {
            lines.push(refused(kind, request.to_string(), "bad_field"));
        }
    }
    let room = "x".repeat(251);
    lines.push(refused(
        "join",
        json!({"type": "join", "room": room}).to_string(),
        "bad_field",
    ));
    lines
}

fn rights() -> Vec<Line> {
    let mut lines = Vec::new();
    for name in [
        "broadcast",
        "node:x",
        "node:x:self-test",
        "user:ann",
        "user:",
        "closed.a",
    ] {
        for kind in ["subscribe", "history"] {
            let request = json!({"type": kind, "channel": name}).to_string();
            lines.push(refused(kind, request, "denied"));
        }
        let chat = json!({"type": "chat", "channel": name, "message": 1}).to_string();
        lines.push(refused("chat", chat, "denied"));
    }
    let chat = json!({"type": "chat", "channel": "system:notifications", "message": 1});
    lines.push(refused("chat", chat.to_string(), "denied"));
    let history = json!({"type": "history", "channel": "numbers"}).to_string();
    lines.push(refused("history", history, "no_history"));
    let presence = json!({"type": "presence", "channel": "numbers"}).to_string();
    lines.push(refused("presence", presence, "denied"));
    let room = json!({"type": "room", "room": "lobby", "data": 1}).to_string();
    lines.push(refused("room", room, "not_in_room"));
    lines
}

/// The size that a channel's policy allows.
fn sizes() -> Vec<Line> {
    let chat = |channel: &str, data: &str| json!({"type": "chat", "channel": channel, "message": data, "id": 1});
    vec![
        refused("chat", chat("small.a", "123456789").to_string(), "too_big"),
        granted("chat", &chat("small.a", "12345678"), "published"),
    ]
}

fn channels() -> Vec<Line> {
    let subscribe = |n: usize| json!({"type": "subscribe", "channel": format!("many.{n}")});
    let room = json!({"type": "join", "room": "many"});
    let mut lines: Vec<_> = (0..MAX_CHANNELS)
        .map(|n| granted("subscribe", &subscribe(n), "subscribed"))
        .collect();
    let more = subscribe(MAX_CHANNELS).to_string();
    lines.push(refused("subscribe", more, "too_many_channels"));
    lines.push(refused("join", room.to_string(), "too_many_channels"));
    let presence = json!({"type": "presence", "channel": "many.0"}).to_string();
    lines.push(refused("presence", presence, "no_presence"));
    // What it has, it may ask for again.
    lines.push(granted("subscribe", &subscribe(0), "subscribed"));
    lines
}

/// Of somebody who is somebody.
fn own() -> Vec<Line> {
    let other = crate::program::token("ann", 3_600);
    let auth = json!({"type": "auth", "token": other}).to_string();
    let leave = json!({"type": "unsubscribe", "channel": "user:mallory"}).to_string();
    let chat = json!({"type": "chat", "channel": "user:mallory", "message": 1}).to_string();
    let spy = json!({"type": "subscribe", "channel": "user:ann"}).to_string();
    vec![
        refused("auth", auth, "denied"),
        refused("unsubscribe", leave, "denied"),
        refused("chat", chat, "denied"),
        refused("subscribe", spy, "denied"),
    ]
}
