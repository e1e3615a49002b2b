//! permessage-deflate through a shard.

use flate2::{Compress, Compression, FlushCompress};

use super::*;
use crate::engine::command::EncodedDelivery;
use crate::protocol::deflate::{Deflater, Window};

/// Longer than the threshold of [`SETTINGS`], and it shrinks.
fn long() -> String {
    "push ".repeat(100)
}

/// The payload of a compressed message (RFC 7692 section 7.2.1).
fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 100);
    Compress::new(Compression::best(), false)
        .compress_vec(payload, &mut out, FlushCompress::Sync)
        .unwrap();
    out.truncate(out.len() - 4);
    out
}

#[test]
fn a_delivery_is_compressed_once_for_all_who_can_read_it() {
    let delivery = EncodedDelivery::new(delivery(news(), &long()));
    // Two shards have a compressor each.
    let (mut one, mut other) = (Deflater::new(100), Deflater::new(100));
    let first = delivery.deflated(Window::Full, &mut one).clone();
    let second = delivery.deflated(Window::Full, &mut other).clone();
    assert_eq!(first.as_ptr(), second.as_ptr());
    assert!(first.len() < delivery.native().len());
}

#[test]
fn each_subscriber_gets_what_it_agreed_on() {
    let mut node = Node::new(&SETTINGS);
    let mut plain = node.client();
    plain.subscribe();
    node.live();
    assert_eq!(plain.text()["type"], "subscribed");
    let mut deflating = [Window::Full, Window::Narrow].map(|window| {
        let mut client = node.deflating_client(window);
        client.subscribe();
        assert_eq!(client.text()["type"], "subscribed", "short: as it is");
        client
    });
    // Together, so that they are joined; one of them is short.
    for text in [&long(), "short", &long()] {
        node.deliver(delivery(news(), text));
    }
    for expected in [&long(), "short", &long()] {
        assert_eq!(plain.text()["message"], *expected);
        for client in &mut deflating {
            let message = match client.hear() {
                Heard::Deflated(message) if expected == long() => message,
                Heard::Text(message) if expected == "short" => message,
                other => panic!("{other:?}"),
            };
            assert_eq!(message["message"], *expected);
        }
    }
}

#[test]
fn what_a_client_compressed_is_understood_and_a_long_answer_is_compressed() {
    let mut node = Node::new(&SETTINGS);
    let mut client = node.deflating_client(Window::Full);
    let ask = format!(r#"{{"type":"nonsense","id":"{}"}}"#, "i".repeat(60));
    client.frame(0xc1, &deflated(ask.as_bytes()));
    let Heard::Deflated(answer) = client.hear() else {
        panic!("the answer is not compressed");
    };
    assert_eq!(answer["type"], "error");
    // Not compressed is allowed as before.
    client.say(r#"{"type":"ping"}"#);
    assert_eq!(client.text()["type"], "pong");
}

#[test]
fn a_bomb_closes_its_sender_alone() {
    let mut node = Node::new(&SETTINGS);
    let mut honest = node.deflating_client(Window::Full);
    let mut hostile = node.deflating_client(Window::Full);
    let bomb = deflated(&vec![b' '; 200_000]);
    assert!(bomb.len() < SETTINGS.max_message_bytes as usize);
    hostile.frame(0xc1, &bomb);
    assert_eq!(hostile.closed(), 1009);
    let mut liar = node.deflating_client(Window::Full);
    liar.frame(0xc1, &[0x07]);
    assert_eq!(liar.closed(), 1002);
    let mut stranger = node.client();
    stranger.frame(0xc1, &deflated(br#"{"type":"ping"}"#));
    assert_eq!(stranger.closed(), 1002, "never agreed on");
    honest.frame(0xc1, &deflated(br#"{"type":"ping"}"#));
    assert_eq!(honest.text()["type"], "pong");
}
