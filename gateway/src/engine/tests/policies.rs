//! What policies do to deliveries: slow clients, and messages that wait for each other.

use gateway_config::{ChannelPolicy, SlowConsumer};

use super::*;

fn policy(prefix: &str) -> ChannelPolicy {
    ChannelPolicy {
        prefix: Some(prefix.into()),
        ..ChannelPolicy::default()
    }
}

/// Far larger than what the kernel's buffers and the outbox hold together.
const MESSAGES: u64 = 60;

/// A window that is not over before a test is.
const NEVER_MS: u32 = 600_000;

fn numbered(number: u64) -> String {
    format!("{number}{}", "x".repeat(30_000))
}

fn number(text: &Value) -> u64 {
    let text = text["message"].as_str().unwrap();
    text.trim_end_matches('x').parse().unwrap()
}

#[test]
fn a_client_that_does_not_read_loses_messages_and_not_its_connection() {
    for slow_consumer in [SlowConsumer::DropOldest, SlowConsumer::Latest] {
        let mut node = Node::with_policy(ChannelPolicy {
            slow_consumer,
            ..policy("news")
        });
        let (mut slow, mut fast) = (node.client(), node.client());
        slow.subscribe();
        node.live();
        assert_eq!(slow.text()["type"], "subscribed");
        fast.subscribe();
        assert_eq!(fast.text()["type"], "subscribed");
        for sent in 0..MESSAGES {
            node.deliver(delivery(news(), &numbered(sent)));
            assert_eq!(number(&fast.text()), sent, "the fast one gets everything");
        }
        // Now it reads: in order, with gaps, and the newest is there.
        let mut heard = vec![number(&slow.text())];
        while heard.last() != Some(&(MESSAGES - 1)) {
            heard.push(number(&slow.text()));
        }
        assert!(heard.is_sorted(), "{heard:?}");
        let lost = MESSAGES - heard.len() as u64;
        assert!(lost > MESSAGES / 2, "{slow_consumer:?}: {heard:?}");
        node.wait_for_sum("pushcluster_messages_dropped_total", lost as f64);
        if slow_consumer == SlowConsumer::Latest {
            // What the kernel had, what had been begun, and the newest.
            let kernel = heard.len() - 1;
            let gap = heard[kernel] - heard[kernel - 1];
            assert_eq!(gap, lost + 1, "one gap, before the newest: {heard:?}");
        }
        // It is a client like any other again.
        slow.say(r#"{"type":"ping"}"#);
        assert_eq!(slow.text()["type"], "pong");
        node.deliver(delivery(news(), &numbered(MESSAGES)));
        assert_eq!(number(&slow.text()), MESSAGES);
        assert_eq!(node.metrics.connected(), 2);
    }
}

#[test]
fn messages_wait_for_others_for_their_time_or_until_there_are_enough() {
    let waiting = |batch_milliseconds| {
        let mut node = Node::with_policy(ChannelPolicy {
            batch_milliseconds,
            batch_messages: 3,
            ..policy("news")
        });
        let mut client = node.client();
        client.subscribe();
        node.live();
        assert_eq!(client.text()["type"], "subscribed");
        (node, client)
    };
    let (node, mut client) = waiting(200);
    let began = Instant::now();
    node.deliver(delivery(news(), "one"));
    assert_eq!(client.text()["message"], "one");
    assert!(began.elapsed() >= Duration::from_millis(200));

    let (node, mut client) = waiting(NEVER_MS);
    node.deliver(delivery(news(), "one"));
    client.say(r#"{"type":"ping"}"#);
    assert_eq!(client.text()["type"], "pong", "what waits delays no answer");
    for text in ["two", "three"] {
        node.deliver(delivery(news(), text));
    }
    // Three are enough: they come before the answer to what is asked after them.
    client.say(r#"{"type":"ping"}"#);
    for text in ["one", "two", "three"] {
        assert_eq!(client.text()["message"], text);
    }
    assert_eq!(client.text()["type"], "pong");
}

#[test]
fn what_waits_is_not_for_those_who_subscribe_meanwhile_and_not_lost_at_the_end() {
    let mut node = Node::with_policy(ChannelPolicy {
        batch_milliseconds: NEVER_MS,
        ..policy("news")
    });
    let (mut early, mut late) = (node.client(), node.client());
    early.subscribe();
    node.live();
    assert_eq!(early.text()["type"], "subscribed");
    node.deliver(delivery(news(), "before"));
    late.subscribe();
    assert_eq!(late.text()["type"], "subscribed");
    node.deliver(delivery(news(), "after"));
    assert_eq!(early.text()["message"], "before");
    // Nothing but the end can send it.
    drop(node.engine);
    for client in [&mut early, &mut late] {
        assert_eq!(client.text()["message"], "after");
        assert_eq!(client.closed(), 1001);
    }
}

#[test]
fn messages_of_a_room_go_out_together_and_each_sender_misses_only_its_own() {
    let mut node = Node::with_policy(ChannelPolicy {
        batch_milliseconds: NEVER_MS,
        batch_messages: 4,
        ..policy("room:")
    });
    let room = ChannelName::room("a").unwrap();
    let mut clients = [node.client(), node.client(), node.client()];
    for (index, client) in clients.iter_mut().enumerate() {
        client.say(r#"{"type":"join","room":"a"}"#);
        if index == 0 {
            node.live_in(room.clone());
        }
        assert_eq!(client.text()["type"], "joined");
    }
    for (text, node_name, sender) in [
        ("1", "gw-0", 1),
        ("2", "gw-0", 2),
        ("3", "gw-0", 1),
        // Somebody else with the same number, on another node.
        ("4", "gw-1", 3),
    ] {
        let mut message = delivery(room.clone(), text);
        message.message.except = Some(ConnectionId::new(node_name, sender));
        node.deliver(message);
    }
    for (client, expected) in clients.iter_mut().zip(["24", "134", "1234"]) {
        for text in expected.chars() {
            assert_eq!(client.text()["data"], text.to_string(), "{expected}");
        }
        client.say(r#"{"type":"ping"}"#);
        assert_eq!(client.text()["type"], "pong");
    }
    // Three acknowledgements, three welcomes and three pongs are answers; the rest are messages.
    node.wait_for_sum("websocket_messages_sent_total", 9.0 + 9.0);
}
