//! Events that find no room in their queue.

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
