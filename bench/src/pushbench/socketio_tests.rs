use super::*;
use crate::pushbench::judge::Position;
use crate::pushbench::spoken::Message;
use crate::wire;

const OPEN: &str =
    r#"0{"sid":"e","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;

/// What the server of this client does to it, and what it makes of it.
struct Told {
    socketio: SocketIo,
    now: Instant,
}

impl Told {
    fn new() -> Told {
        let mut told = Told {
            socketio: SocketIo::default(),
            now: Instant::now(),
        };
        told.socketio.begin(None);
        told
    }

    fn hears(&mut self, packet: &str) -> Vec<Heard> {
        let mut heard = Vec::new();
        self.socketio
            .packet(packet.as_bytes(), self.now, &mut heard);
        heard
    }

    /// Another connection, up to what it asks for with CONNECT.
    fn connects(&mut self, token: Option<&str>) -> String {
        self.socketio.begin(token);
        asked(&self.hears(OPEN))
    }

    /// What it is told when it is there.
    fn is_there(&mut self, pid: &str) -> Vec<Heard> {
        assert_eq!(self.hears(&format!(r#"40{{"sid":"s","pid":"{pid}"}}"#)), []);
        self.hears(r#"42["welcome",{"connection":"s","node":"gw-a"},"w"]"#)
    }
}

/// The text that is sent at once.
fn asked(heard: &[Heard]) -> String {
    let [Heard::Asked(frame)] = heard else {
        panic!("{heard:?}")
    };
    let (mut frame, mut texts) = (frame.clone(), Vec::new());
    wire::take_masked(&mut frame, |opcode, payload| {
        assert_eq!(opcode, wire::TEXT);
        texts.push(String::from_utf8(payload.to_vec()).unwrap());
    });
    texts.pop().unwrap()
}

fn said(said: Said) -> Vec<Heard> {
    vec![Heard::Said(said)]
}

fn welcome(is_resumed: bool) -> Heard {
    Heard::Said(Said::Welcome {
        node: "gw-a".to_owned(),
        silence: Duration::from_secs(45),
        is_resumed,
    })
}

fn chat(offset: u64) -> (String, Message) {
    let message = Message {
        offset: Some(offset),
        payload: None,
    };
    ("a".to_owned(), message)
}

fn live(offset: u64) -> Heard {
    let (channel, message) = chat(offset);
    Heard::Said(Said::Message { channel, message })
}

fn missed(offset: u64) -> Heard {
    let (channel, message) = chat(offset);
    Heard::Said(Said::Missed { channel, message })
}

const OTHER: Heard = Heard::Said(Said::Other);

#[test]
fn a_connection_opens_and_is_there_with_its_welcome() {
    let mut told = Told::new();
    assert_eq!(asked(&told.hears(OPEN)), "40");
    assert_eq!(told.hears(r#"42["chat",{"channel":"a","offset":1}]"#), []);
    assert_eq!(told.hears(r#"40{"sid":"s"}"#), []);
    assert_eq!(told.hears(r#"42["chat",{"channel":"a","offset":2}]"#), []);
    let heard = told.hears(r#"42["welcome",{"node":"gw-a"}]"#);
    assert_eq!(heard, [welcome(false), missed(1), live(2), OTHER]);
    // Once.
    assert_eq!(told.hears(r#"42["welcome",{"node":"gw-b"}]"#), [OTHER]);
    assert_eq!(
        told.hears(r#"42["chat",{"channel":"a","offset":3}]"#),
        [live(3)]
    );
}

#[test]
fn events_and_answers_are_the_native_ones() {
    let mut told = Told::new();
    told.connects(None);
    told.is_there("p");
    let channel = || "a".to_owned();
    let at = Position {
        epoch: 2,
        offset: 5,
    };
    for (packet, expected) in [
        (
            r#"430[{"type":"subscribed","channel":"a","timestamp":1,"epoch":2,"offset":5,"recovered":true,"messages":[]}]"#,
            said(Said::Subscribed {
                channel: channel(),
                at: Some(at),
                recovered: Some(true),
                missed: vec![],
            }),
        ),
        (
            r#"4312[{"type":"error","code":"denied","message":"no"}]"#,
            said(Said::Error {
                code: "denied".to_owned(),
                message: "no".to_owned(),
            }),
        ),
        (
            r#"42["position",{"channel":"a","epoch":2,"offset":5,"recovered":false},"o"]"#,
            said(Said::Moved {
                channel: channel(),
                at,
                recovered: false,
            }),
        ),
        (
            r#"427["chat",{"type":"chat","channel":"a","offset":6}]"#,
            vec![live(6)],
        ),
        (
            r#"42["chat",{"channel":"a","offset":7},"o"]"#,
            vec![live(7)],
        ),
        // Its own Manager decides when it comes back.
        (r#"42["reconnect",{"after_ms":70}]"#, vec![OTHER]),
        (r#"42["hello"]"#, vec![OTHER]),
        (r#"42["hello","you",[1]]"#, vec![OTHER]),
        (r#"42/else,["chat",{}]"#, vec![]),
        ("6", vec![]),
    ] {
        assert_eq!(told.hears(packet), expected, "{packet}");
    }
}

#[test]
fn ends_are_told_apart() {
    let mut told = Told::new();
    told.connects(None);
    let reason = String::new();
    for (packet, expected) in [
        ("1", End::Closed { code: 1005, reason }),
        ("41", End::Disconnected),
        (
            r#"44{"message":"not \"you\"","data":{}}"#,
            End::Denied(r#"not "you""#.to_owned()),
        ),
    ] {
        assert_eq!(told.hears(packet), [Heard::Ended(expected)], "{packet}");
    }
}

#[test]
fn what_is_no_packet_is_strange() {
    for packet in [
        "",
        "5",
        "0",
        r#"0{"sid":"e"}"#,
        "4",
        "40",
        r#"40{"pid":"p"}"#,
        "42",
        "42[]",
        "42[1]",
        r#"42["chat",1]"#,
        r#"42["chat",{}]"#,
        "43",
        "430[]",
        r#"430[{"channel":"a"}]"#,
        "44",
        r#"451-["chat",{"_placeholder":true,"num":0}]"#,
        "49",
    ] {
        let mut told = Told::new();
        let heard = told.hears(packet);
        let [Heard::Strange(why)] = &heard[..] else {
            panic!("{packet}: {heard:?}")
        };
        assert!(why.ends_with(&format!(": {packet}")), "{why}");
    }
}

#[test]
fn only_a_ping_says_that_the_server_is_alive() {
    let mut told = Told::new();
    assert_eq!(told.socketio.pinged(), None);
    told.connects(None);
    let opened = told.now;
    assert_eq!(told.socketio.pinged(), Some(opened));
    told.now += Duration::from_secs(20);
    told.is_there("p");
    told.hears(r#"42["chat",{"channel":"a"}]"#);
    assert_eq!(told.socketio.pinged(), Some(opened));
    assert_eq!(asked(&told.hears("2")), "3");
    assert_eq!(told.socketio.pinged(), Some(told.now));
    told.socketio.begin(None);
    assert_eq!(told.socketio.pinged(), None, "of this connection");
}

#[test]
fn waits_grow_until_a_connection_is_open() {
    let mut told = Told::new();
    let ms = |ms| Next::Comes(Duration::from_millis(ms));
    for expected in [1_000, 2_000, 4_000, 5_000, 5_000] {
        assert_eq!(told.socketio.next(&End::Unreachable, 0.0), ms(expected));
    }
    told.connects(None);
    assert_eq!(told.socketio.next(&End::Cut, 0.0), ms(1_000));
    assert_eq!(told.socketio.next(&End::Disconnected, 0.0), Next::Stays);
}

#[test]
fn a_session_is_resumed_from_where_the_client_was() {
    let mut told = Told::new();
    assert_eq!(told.connects(Some("t")), r#"40{"token":"t"}"#);
    assert_eq!(told.is_there("p"), [welcome(false), OTHER]);
    told.hears(r#"42["chat",{"channel":"a","offset":1},"one"]"#);
    let resumes = r#"40{"offset":"one","pid":"p","token":"t"}"#;
    assert_eq!(told.connects(Some("t")), resumes);
    // It ends before anything was understood, so nothing of it counts.
    told.hears(r#"42["chat",{"channel":"a","offset":2},"two"]"#);
    told.hears(r#"40{"sid":"s","pid":"else"}"#);
    assert_eq!(told.connects(Some("t")), resumes);
    assert_eq!(
        told.hears(r#"42["chat",{"channel":"a","offset":2},"two"]"#),
        []
    );
    assert_eq!(told.hears(r#"42["welcome",{"node":"gw-old"},"three"]"#), []);
    let heard = told.is_there("p");
    assert_eq!(heard, [welcome(true), missed(2), OTHER, OTHER]);
    assert_eq!(told.connects(None), r#"40{"offset":"w","pid":"p"}"#);
    // The server has forgotten it.
    assert_eq!(told.is_there("q"), [welcome(false), OTHER]);
    assert_eq!(told.connects(None), r#"40{"offset":"w","pid":"q"}"#);
    told.socketio.give_up_session();
    assert_eq!(told.connects(None), "40");
}

#[test]
fn without_recovery_there_is_nothing_to_resume() {
    let mut told = Told::new();
    for _ in 0..2 {
        assert_eq!(told.connects(None), "40");
        assert_eq!(told.hears(r#"40{"sid":"s"}"#), []);
        let heard = told.hears(r#"42["welcome",{"node":"gw-a"}]"#);
        assert_eq!(heard, [welcome(false), OTHER]);
    }
}
