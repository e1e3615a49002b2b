//! What a shard tells of those who come and go, with this file in the place of the table.

use std::time::Duration;

use gateway_config::ChannelPolicy;

use super::super::command::Disconnect;
use super::super::pace::Pace;
use super::*;
use crate::presence::{Change, Changed};

fn open() -> ChannelName {
    ChannelName::parse("open:a").unwrap()
}

fn node(settings: &Settings) -> Node {
    let policy = ChannelPolicy {
        prefix: Some("open:".into()),
        presence: true,
        ..ChannelPolicy::default()
    };
    Node::with(settings, true, &[policy])
}

/// The next event, which must be of presence in the channel: whose, and what.
fn changed(node: &mut Node) -> (u64, Change) {
    match node.event() {
        Event::Presence(Changed {
            channel,
            number,
            change,
            ..
        }) => {
            assert_eq!(channel, open());
            (number, change)
        }
        other => panic!("{other:?}"),
    }
}

/// A client that has the channel, and of which that is known.
fn present(node: &mut Node) -> Client {
    let mut client = node.client();
    client.say(r#"{"type":"subscribe","channel":"open:a"}"#);
    node.live_in(open());
    assert_eq!(client.text()["type"], "subscribed");
    assert_eq!(changed(node), (1, Change::Join { user: None }));
    client
}

#[test]
fn whoever_ends_in_whatever_way_has_left() {
    let impatient = Settings {
        ping_ms: 200,
        ..SETTINGS
    };
    let pace = Pace {
        every: Duration::ZERO,
        phase: Duration::ZERO,
        spread: Duration::ZERO,
    };
    let disconnect = || {
        Command::Disconnect(Arc::new(Disconnect {
            channel: open(),
            only: None,
            except: None,
        }))
    };
    type Way<'a> = &'a dyn Fn(&mut Node, &mut Client);
    let ways: [(&str, &Settings, Way<'_>); 10] = [
        ("unsubscribes", &SETTINGS, &|_, client| {
            client.say(r#"{"type":"unsubscribe","channel":"open:a"}"#);
        }),
        ("says goodbye", &SETTINGS, &|_, client| {
            client.frame(0x88, &1_000_u16.to_be_bytes());
        }),
        ("is killed", &SETTINGS, &|_, client| {
            client.socket.shutdown(Shutdown::Both).unwrap();
        }),
        ("breaks the protocol", &SETTINGS, &|_, client| {
            client.frame(0xf1, b"");
        }),
        ("answers no ping", &impatient, &|_, _| {}),
        ("reads too slowly", &SETTINGS, &|node, _| {
            let text = "x".repeat(32 * 1024);
            // Far more than the kernel's buffers and the outbox hold together.
            for _ in 0..40 {
                node.deliver(delivery(open(), &text));
            }
        }),
        ("is disconnected", &SETTINGS, &|node, _| {
            node.send(disconnect());
        }),
        ("is evicted", &SETTINGS, &|node, _| {
            node.send(Command::EvictOldest { percent: 100 });
        }),
        ("is drained", &SETTINGS, &|node, _| {
            node.send(Command::Drain { round: 1, pace });
        }),
        ("is there when all ends", &SETTINGS, &|node, _| {
            node.send(Command::Stop);
        }),
    ];
    for (what, settings, way) in ways {
        let mut node = node(settings);
        let mut client = present(&mut node);
        way(&mut node, &mut client);
        assert_eq!(changed(&mut node), (1, Change::Leave), "{what}");
        let last = node.event();
        assert!(
            matches!(&last, Event::Disinterest { channel, .. } if *channel == open()),
            "{what}: {last:?}"
        );
    }
}

#[test]
fn a_channel_without_presence_tells_nothing() {
    let mut node = node(&SETTINGS);
    let mut client = node.client();
    client.subscribe();
    node.live();
    assert_eq!(client.text()["type"], "subscribed");
    client.say(r#"{"type":"unsubscribe","channel":"news"}"#);
    assert!(matches!(node.event(), Event::Disinterest { .. }));
}

#[test]
fn one_that_was_never_acknowledged_has_not_come() {
    let mut node = node(&SETTINGS);
    let mut client = node.client();
    client.say(r#"{"type":"subscribe","channel":"open:a","id":1}"#);
    let round = node.interest();
    node.send(Command::Refused {
        channel: open(),
        round,
        refusal: Refusal {
            code: ErrorCode::Unavailable,
            message: "away".into(),
        },
    });
    assert_eq!(client.text()["code"], "unavailable");
    client.say(r#"{"type":"subscribe","channel":"open:a"}"#);
    let late = node.interest();
    assert_ne!(round, late, "nothing was told in between");
    client.socket.shutdown(Shutdown::Both).unwrap();
    // Harmless: the table knows of none.
    assert_eq!(changed(&mut node), (1, Change::Leave));
}
