//! Events that find no room in their queue.

use futures::FutureExt;
use futures::executor::block_on;

use super::*;

#[test]
fn what_found_no_room_is_sent_when_there_is_some() {
    let mut node = Node::new(&SETTINGS);
    let mut client = node.client();
    let chat = |number: usize| {
        let json = format!(r#"{{"type":"chat","channel":"news","message":{number}}}"#);
        masked(0x81, json.as_bytes())
    };
    // The last ones and the goodbye together, so that they are read in one round: after it nobody is here, and nothing
    // but room can wake the shard.
    let (full, count) = (QUEUE_CAPACITY - 10, QUEUE_CAPACITY + 10);
    for number in 0..full {
        client.socket.write_all(&chat(number)).unwrap();
    }
    node.wait_for_sum("websocket_messages_received_total", full as f64);
    let mut last: Vec<u8> = (full..count).flat_map(chat).collect();
    last.extend(masked(0x88, &1000u16.to_be_bytes()));
    client.socket.write_all(&last).unwrap();
    assert_eq!(client.closed(), 1000);
    node.wait_for_sum("pushcluster_connections_closed_total", 1.0);
    for number in 0..count {
        match node.event() {
            Event::Publish { message, .. } => assert_eq!(message.data.get(), number.to_string()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_no_broker_answers_is_bounded_in_bytes() {
    const COUNT: usize = 1_000;
    const DATA: usize = 900;
    let mut node = Node::new(&SETTINGS);
    let mut client = node.client();
    let writer = thread::spawn(move || {
        for _ in 0..COUNT {
            let data = "x".repeat(DATA - 2);
            client.say(&format!(
                r#"{{"type":"chat","channel":"news","message":"{data}"}}"#
            ));
        }
        client
    });
    let most = LARGEST_UNDER_WAY * SETTINGS.max_message_bytes as usize;
    let mut held = Vec::new();
    while held.len() * DATA < most {
        held.push(node.event());
    }
    // In each of these rounds the shard could read on.
    for _ in 0..50 {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let query = Arc::new(census::Query {
            prefix: String::new(),
            after: None,
            limit: 1,
        });
        node.send(Command::Count { query, answer });
        block_on(answered).unwrap();
        held.extend(std::iter::from_fn(|| {
            node.events.recv().now_or_never().flatten()
        }));
    }
    // And what one read had brought.
    assert!(
        held.len() * DATA < most + (64 << 10) + DATA,
        "{}",
        held.len()
    );
    let mut count = held.len();
    drop(held);
    while count < COUNT {
        drop(node.event());
        count += 1;
    }
    writer.join().unwrap();
}
