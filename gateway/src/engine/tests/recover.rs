//! Subscribing to a channel with history, with this file in the place of the broker.

use gateway_config::ChannelPolicy;
use serde_json::json;

use super::super::command::{ConnectionKey, Purpose};
use super::*;
use crate::history::{Kept, Page, Range};
use crate::message::{Delivery, Position};

const EPOCH: u64 = 7;

/// Of channels whose names begin with `kept:`, something is kept.
fn node() -> Node {
    let policy = ChannelPolicy {
        prefix: Some("kept:".into()),
        history_messages: 50,
        history_seconds: 60,
        ..ChannelPolicy::default()
    };
    Node::with_policy(policy)
}

fn kept() -> ChannelName {
    ChannelName::parse("kept:a").unwrap()
}

fn at(offset: u64) -> Position {
    Position {
        epoch: EPOCH,
        offset,
    }
}

fn message_at(offset: u64) -> Delivery {
    Delivery {
        position: Some(at(offset)),
        ..delivery(kept(), &offset.to_string())
    }
}

fn page(top: u64, offsets: std::ops::Range<u64>) -> Page {
    let messages = offsets.map(|offset| Kept {
        offset,
        message: message_at(offset).message,
    });
    Page {
        top: at(top),
        messages: messages.collect(),
        past: [].into(),
        shared: Some(top),
        whole: true,
        complete: true,
        more: false,
    }
}

/// The question about the log, and who asked.
fn asked(node: &mut Node) -> (ConnectionKey, Range) {
    match node.event() {
        Event::History { key, range, .. } => (key, range),
        other => panic!("{other:?}"),
    }
}

fn found(node: &Node, key: ConnectionKey, found: Result<Page, Refusal>) {
    node.send(Command::History {
        key,
        channel: kept(),
        purpose: Purpose::Subscribe,
        found,
    });
}

fn live(node: &mut Node) {
    let round = node.interest();
    node.send(Command::Live {
        channel: kept(),
        round,
    });
}

#[test]
fn what_was_missed_comes_with_the_acknowledgement_and_each_message_once() {
    let mut node = node();
    let mut client = node.client();
    client
        .say(r#"{"type":"subscribe","channel":"kept:a","recover":{"epoch":7,"offset":2},"id":1}"#);
    live(&mut node);
    let (key, range) = asked(&mut node);
    assert_eq!(range.since, Some(at(2)));
    node.deliver(message_at(4));
    node.deliver(message_at(5));
    // The log was read after 4 and before 5 came here, and again further than what has come: 4 is on the page.
    found(&node, key, Ok(page(4, 3..5)));
    node.deliver(message_at(6));
    let subscribed = client.text();
    assert_eq!(
        (&subscribed["type"], &subscribed["recovered"]),
        (&"subscribed".into(), &true.into()),
        "{subscribed}"
    );
    assert_eq!(subscribed["offset"], 4);
    assert_eq!(subscribed["messages"][0]["message"], "3");
    assert_eq!(subscribed["messages"][1]["offset"], 4);
    assert_eq!(client.text()["offset"], 5);
    assert_eq!(client.text()["offset"], 6);
}

#[test]
fn one_who_recovers_late_does_not_disturb_those_who_are_there() {
    let mut node = node();
    let (mut early, mut late) = (node.client(), node.client());
    early.say(r#"{"type":"subscribe","channel":"kept:a"}"#);
    live(&mut node);
    let (key, range) = asked(&mut node);
    assert_eq!(
        (range.since, range.limit),
        (None, 0),
        "only where it stands"
    );
    found(&node, key, Ok(page(0, 1..1)));
    let subscribed = early.text();
    assert_eq!(subscribed["offset"], 0, "{subscribed}");
    assert!(subscribed.get("recovered").is_none(), "{subscribed}");

    late.say(r#"{"type":"subscribe","channel":"kept:a","recover":{"epoch":7,"offset":0}}"#);
    let (key, _) = asked(&mut node);
    node.deliver(message_at(1));
    assert_eq!(early.text()["offset"], 1);
    // The page has what has yet to be delivered here.
    found(&node, key, Ok(page(3, 1..4)));
    for offset in 2..5 {
        node.deliver(message_at(offset));
        assert_eq!(early.text()["offset"], offset);
    }
    assert_eq!(late.text()["offset"], 3, "the acknowledgement");
    assert_eq!(late.text()["offset"], 4);
}

#[test]
fn what_comes_while_the_log_is_read_is_held_up_to_the_size_of_an_outbox() {
    let mut node = node();
    let mut client = node.client();
    let large = "x".repeat(3_000);
    let fit = u64::try_from(SETTINGS.max_outbox_bytes / (large.len() + 300)).unwrap();
    let message = |offset| Delivery {
        position: Some(at(offset)),
        ..delivery(kept(), &large)
    };
    for (id, count) in [(1, fit), (2, 2 * fit)] {
        let say = json!({"type": "subscribe", "channel": "kept:a", "id": id});
        client.say(&say.to_string());
        live(&mut node);
        let (key, _) = asked(&mut node);
        for offset in 1..=count {
            node.deliver(message(offset));
        }
        found(&node, key, Ok(page(0, 1..1)));
        let answer = client.text();
        assert_eq!(answer["id"], id, "{answer}");
        if count == fit {
            assert_eq!(answer["type"], "subscribed");
            for offset in 1..=count {
                assert_eq!(client.text()["offset"], offset);
            }
            client.say(r#"{"type":"unsubscribe","channel":"kept:a"}"#);
            assert_eq!(client.text()["type"], "unsubscribed");
        } else {
            assert_eq!(answer["code"], "unavailable", "{answer}");
            node.wait_for_sum("pushcluster_refusals_total", 1.0);
        }
        assert!(matches!(node.event(), Event::Disinterest { .. }));
    }
    // It is a client like any other, and nothing of the channel follows.
    client.say(r#"{"type":"ping"}"#);
    assert_eq!(client.text()["type"], "pong");
}

#[test]
fn a_log_that_cannot_be_read_leaves_no_subscription() {
    let mut node = node();
    let mut client = node.client();
    client.say(r#"{"type":"subscribe","channel":"kept:a","id":1}"#);
    live(&mut node);
    let (key, _) = asked(&mut node);
    let refusal = Refusal {
        code: ErrorCode::Unavailable,
        message: "away".into(),
    };
    found(&node, key, Err(refusal));
    let refused = client.text();
    assert_eq!(
        (&refused["code"], &refused["id"]),
        (&"unavailable".into(), &1.into())
    );
    assert!(matches!(node.event(), Event::Disinterest { .. }));
    // It may ask again, and leave while the log is read.
    client.say(r#"{"type":"subscribe","channel":"kept:a","id":2}"#);
    live(&mut node);
    let (key, _) = asked(&mut node);
    client.say(r#"{"type":"unsubscribe","channel":"kept:a","id":3}"#);
    let answers = [client.text(), client.text()].map(|a| a["id"].clone());
    assert_eq!(answers, [2, 3], "cancelled, and unsubscribed");
    found(&node, key, Ok(page(0, 1..1)));
    client.say(r#"{"type":"ping"}"#);
    assert_eq!(client.text()["type"], "pong");
}
