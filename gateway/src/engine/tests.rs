//! The engine on real sockets, with this file in the place of the hub.

mod backlog;
mod deflate;
mod policies;
mod presence;
mod recover;
mod rig;

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use futures::FutureExt;
use serde_json::Value;

use super::command::Event;
use super::pace::Pace;
use super::*;
use crate::message::ConnectionId;
use crate::name::ChannelName;
use crate::protocol::close::CloseCode;
use crate::protocol::native::{ErrorCode, Refusal};

use rig::*;

#[test]
fn the_acknowledgement_comes_before_the_first_delivery() {
    let mut node = Node::new(&SETTINGS);
    let mut client = node.client();
    client.say(r#"{"type":"subscribe","channel":"news","id":7}"#);
    let round = node.interest();
    node.deliver(delivery(news(), "too early"));
    node.send(Command::Live {
        channel: news(),
        round,
    });
    node.deliver(delivery(news(), "one"));
    node.deliver(delivery(news(), "two"));
    let subscribed = client.text();
    assert_eq!(
        (&subscribed["type"], &subscribed["id"]),
        (&"subscribed".into(), &7.into())
    );
    assert_eq!(client.text()["message"], "one");
    assert_eq!(client.text()["message"], "two");
}

#[test]
fn asking_again_while_the_broker_is_slow_takes_no_more_room_and_leaving_answers() {
    let mut node = Node::new(&SETTINGS);
    let mut client = node.client();
    client.say(r#"{"type":"subscribe","channel":"news","id":1}"#);
    client.say(r#"{"type":"subscribe","channel":"news","id":2}"#);
    client.say(r#"{"type":"unsubscribe","channel":"news","id":3}"#);
    let answers: Vec<(Value, Value)> = (0..3)
        .map(|_| client.text())
        .map(|answer| {
            (
                answer["id"].clone(),
                answer.get("code").unwrap_or(&answer["type"]).clone(),
            )
        })
        .collect();
    let expected = [(2, "in_progress"), (1, "cancelled"), (3, "unsubscribed")];
    assert_eq!(answers, expected.map(|(id, what)| (id.into(), what.into())));
    let late = node.interest();
    assert!(matches!(node.event(), Event::Disinterest { .. }));
    // The answer that was under way finds nobody.
    node.send(Command::Live {
        channel: news(),
        round: late,
    });
    node.deliver(delivery(news(), "lost"));
    client.say(r#"{"type":"ping"}"#);
    assert_eq!(client.text()["type"], "pong");
}

#[test]
fn a_slow_reader_is_closed_and_delays_nobody() {
    let mut node = Node::new(&SETTINGS);
    let (mut slow, mut fast) = (node.client(), node.client());
    slow.subscribe();
    node.live();
    assert_eq!(slow.text()["type"], "subscribed");
    fast.subscribe();
    assert_eq!(fast.text()["type"], "subscribed");
    let text = "x".repeat(32 * 1024);
    // Far more than the kernel's buffers and the outbox hold together.
    for _ in 0..40 {
        node.deliver(delivery(news(), &text));
        assert_eq!(
            fast.text()["message"],
            text.as_str(),
            "the fast one gets everything"
        );
    }
    assert_eq!(slow.closed(), 3008);
    node.wait_for(1);
}

#[test]
fn a_flood_delays_the_others_by_a_bounded_time() {
    let mut node = Node::new(&SETTINGS);
    let (flooder, mut other) = (node.client(), node.client());
    let mut flood = flooder.socket.try_clone().unwrap();
    let flooding = thread::spawn(move || {
        let pings = masked(0x89, b"").repeat(10_000);
        // Ends when the gateway has had enough: it never reads its pongs.
        while flood.write_all(&pings).is_ok() {}
    });
    let began = Instant::now();
    let mut pongs = 0;
    while !flooding.is_finished() {
        let asked = Instant::now();
        other.say(r#"{"type":"ping"}"#);
        assert_eq!(other.text()["type"], "pong");
        assert!(
            asked.elapsed() < Duration::from_secs(2),
            "{:?}",
            asked.elapsed()
        );
        pongs += 1;
        assert!(began.elapsed() < 6 * SOON, "the flooder is never closed");
    }
    flooding.join().unwrap();
    assert!(pongs > 0);
    drop(flooder.socket.shutdown(Shutdown::Both));
    node.wait_for(1);
}

#[test]
fn a_silent_client_is_closed_after_one_missed_ping_and_one_that_answers_is_not() {
    let mut node = Node::new(&Settings {
        ping_ms: 400,
        ..SETTINGS
    });
    let (mut silent, mut alive) = (node.client(), node.client());
    let answering = thread::spawn(move || {
        let mut pings = 0;
        while pings < 6 {
            assert_eq!(alive.hear(), Heard::Ping);
            alive.frame(0x8a, b"");
            pings += 1;
        }
        alive
    });
    assert_eq!(silent.hear(), Heard::Ping);
    assert_eq!(silent.closed(), CloseCode::PingTimeout.code());
    let _alive = answering.join().expect("a client that answers lives on");
    node.wait_for(1);
}

#[test]
fn idle_is_who_says_nothing_and_has_no_channel() {
    let mut node = Node::new(&Settings {
        idle_ms: 400,
        ..SETTINGS
    });
    let (mut idle, mut subscriber) = (node.client(), node.client());
    subscriber.subscribe();
    node.live();
    assert_eq!(subscriber.text()["type"], "subscribed");
    assert_eq!(idle.closed(), CloseCode::Idle.code());
    node.wait_for(1);
    subscriber.say(r#"{"type":"ping"}"#);
    assert_eq!(subscriber.text()["type"], "pong");
}

#[test]
fn nobody_in_particular_hears_nothing_and_is_closed() {
    let mut node = Node::with_rules(&SETTINGS, false);
    let mut client = node.client();
    node.deliver(delivery(ChannelName::broadcast(), "for those who may"));
    assert_eq!(client.hear(), Heard::Close(3000, "Unauthorized".into()));
}

#[test]
fn everyone_but_the_sender_and_only_the_one_who_is_meant() {
    let mut node = Node::new(&SETTINGS);
    let (mut one, mut two) = (node.client(), node.client());
    let mut broadcast = delivery(ChannelName::broadcast(), "all");
    broadcast.message.except = Some(ConnectionId::new("gw-0", 1));
    node.deliver(broadcast);
    let mut private = delivery(ChannelName::node("gw-0").unwrap(), "you");
    private.message.only = Some(ConnectionId::new("gw-0", 2));
    node.deliver(private);
    let mut elsewhere = delivery(ChannelName::node("gw-0").unwrap(), "not here");
    elsewhere.message.only = Some(ConnectionId::new("gw-1", 2));
    node.deliver(elsewhere);
    node.deliver(delivery(ChannelName::notifications(), "both"));
    assert_eq!(two.text()["data"], "all");
    assert_eq!(two.text()["data"], "you");
    assert_eq!(two.text()["message"], "both");
    assert_eq!(one.text()["message"], "both");
}

#[test]
fn a_full_event_queue_stops_reading_and_loses_nothing() {
    let mut node = Node::new(&SETTINGS);
    let client = node.client();
    let total = 4 * QUEUE_CAPACITY;
    let mut writer = client.socket.try_clone().unwrap();
    // More than the queue and one read hold, so it waits in the kernel until somebody takes the events.
    let writing = thread::spawn(move || {
        for number in 0..total {
            let text = format!(r#"{{"type":"chat","channel":"news","message":{number}}}"#);
            writer.write_all(&masked(0x81, text.as_bytes())).unwrap();
        }
    });
    let mut other = node.client();
    let deadline = Instant::now() + SOON;
    // One more than the queue takes: from now on the shard has an event that it cannot hand over.
    while node.received() <= QUEUE_CAPACITY as f64 {
        assert!(Instant::now() < deadline, "{} received", node.received());
        thread::yield_now();
    }
    other.say(r#"{"type":"ping"}"#);
    other
        .socket
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let heard = other.socket.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(heard, Err(io::ErrorKind::WouldBlock), "no socket is read");
    other.socket.set_read_timeout(Some(SOON)).unwrap();
    node.deliver(delivery(ChannelName::notifications(), "still here"));
    assert_eq!(
        other.text()["message"],
        "still here",
        "but deliveries go on"
    );
    for number in 0..total {
        match node.event() {
            Event::Publish { message, .. } => assert_eq!(message.data.get(), number.to_string()),
            event => panic!("{event:?}"),
        }
    }
    writing.join().unwrap();
    assert_eq!(other.text()["type"], "pong");
    drop(client);
}

#[test]
fn a_drain_closes_at_its_pace_and_says_when_it_is_done() {
    let mut node = Node::new(&SETTINGS);
    let clients: Vec<Client> = (0..4).map(|_| node.client()).collect();
    let began = Instant::now();
    let pace = |every_ms| Command::Drain {
        round: 7,
        pace: Pace {
            every: Duration::from_millis(every_ms),
            phase: Duration::ZERO,
            spread: Duration::from_millis(50),
        },
    };
    // An hour between two, until the pace is changed.
    node.send(pace(3_600_000));
    node.send(pace(100));
    let clients = clients.into_iter().map(|mut client| {
        thread::spawn(move || {
            let reconnect = client.text();
            assert_eq!(reconnect["type"], "reconnect");
            assert!(reconnect["after_ms"].as_u64().unwrap() < 50);
            assert_eq!(client.closed(), 1012);
            assert_eq!(client.hear(), Heard::End);
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.join().unwrap();
    }
    assert!(
        began.elapsed() >= Duration::from_millis(300),
        "{:?}",
        began.elapsed()
    );
    assert!(matches!(node.event(), Event::Drained { round: 7, .. }));
    node.wait_for(0);

    node.send(Command::Readmit);
    let mut late = node.client();
    late.say(r#"{"type":"ping"}"#);
    assert_eq!(late.text()["type"], "pong");
}

#[test]
fn a_broken_protocol_is_answered_with_its_code_and_an_end() {
    let mut node = Node::new(&SETTINGS);
    for (name, bytes, code) in [
        ("not masked", vec![0x81, 1, b'x'], 1002),
        ("reserved bit", masked(0xc1, b"x"), 1002),
        ("invalid text", masked(0x81, &[0xff]), 1007),
        ("too big", masked(0x81, &[b'x'; 1_001]), 1009),
        ("binary", masked(0x82, b"x"), 1003),
    ] {
        let mut client = node.client();
        // Unread bytes must not turn the end into a reset that swallows the close frame.
        client
            .socket
            .write_all(&[bytes, vec![0x55; 20_000]].concat())
            .unwrap();
        match client.hear() {
            Heard::Close(seen, _) => assert_eq!(seen, code, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
        let began = Instant::now();
        assert_eq!(client.hear(), Heard::End, "{name}");
        let waited = began.elapsed();
        // Not only when the time for an answer is over: there is none to wait for.
        assert!(
            waited < Duration::from_millis(connection::CLOSE_DEADLINE_MS / 2),
            "{name}: {waited:?}"
        );
    }
    node.wait_for(0);
}

#[test]
fn what_follows_a_refused_message_is_not_carried_out() {
    let mut node = Node::new(&SETTINGS);
    let mut client = node.client();
    let chat = br#"{"type":"chat","channel":"news","message":1}"#;
    let bytes = [masked(0x82, b"x"), masked(0x81, chat)].concat();
    client.socket.write_all(&bytes).unwrap();
    assert_eq!(client.closed(), 1003);
    drop(client);
    node.wait_for(0);
    assert!(
        node.events.recv().now_or_never().is_none(),
        "published after the close"
    );
}

#[test]
fn bytes_may_come_one_by_one_and_before_the_socket() {
    let mut node = Node::new(&SETTINGS);
    // The beginning of a ping frame whose rest comes later.
    let mut client = node.client_after(&[0x89]);
    assert_eq!(client.text()["type"], "welcome");
    for byte in &masked(0x89, b"p")[1..] {
        client.socket.write_all(&[*byte]).unwrap();
    }
    assert_eq!(client.hear(), Heard::Pong(b"p".to_vec()));
}

#[test]
fn a_user_is_welcome_when_private_messages_arrive() {
    let mut node = Node::new(&SETTINGS);
    let own = ChannelName::user("ann").unwrap();
    let early = masked(0x81, br#"{"type":"ping"}"#);
    let mut ann = node.client_of(Some("ann"), &early);
    let round = node.interest();
    node.deliver(delivery(ChannelName::broadcast(), "before the welcome"));
    node.send(Command::Live {
        channel: own.clone(),
        round,
    });
    node.deliver(delivery(own, "private"));
    assert_eq!(ann.text()["type"], "welcome");
    assert_eq!(ann.text()["type"], "pong");
    assert_eq!(ann.text()["data"], "private");
}

#[test]
fn a_user_who_cannot_be_reached_is_told_to_try_again() {
    let mut node = Node::new(&SETTINGS);
    let refused = |channel, round| Command::Refused {
        channel,
        round,
        refusal: Refusal {
            code: ErrorCode::Unavailable,
            message: "the broker is away".into(),
        },
    };
    let own = ChannelName::user("ann").unwrap();
    let mut ann = node.client_of(Some("ann"), b"");
    let round = node.interest();
    node.send(refused(own, round));
    assert_eq!(ann.closed(), 1013);
    node.wait_for(0);
}

#[test]
fn a_close_is_echoed_and_an_end_without_one_is_noticed() {
    let mut node = Node::new(&SETTINGS);
    let (mut polite, rude, mut half) = (node.client(), node.client(), node.client());
    polite.frame(0x88, b"\x0f\xa0bye");
    assert_eq!(polite.hear(), Heard::Close(4000, String::new()));
    assert_eq!(polite.hear(), Heard::End);
    drop(rude);
    half.socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(half.hear(), Heard::End);
    node.wait_for(0);
}

#[test]
fn the_oldest_tenth_makes_room_and_what_waited_for_it_is_gone() {
    let mut node = Node::new(&SETTINGS);
    let mut clients: Vec<Client> = (0..11).map(|_| node.client()).collect();
    clients[0].subscribe();
    node.live();
    assert_eq!(clients[0].text()["type"], "subscribed");
    node.send(Command::EvictOldest { percent: 10 });
    for client in &mut clients[..2] {
        let overloaded = Heard::Close(1001, "Server overloaded".into());
        assert_eq!(client.hear(), overloaded, "11 connections: a tenth is 2");
    }
    for client in &mut clients[2..] {
        client.say(r#"{"type":"ping"}"#);
        assert_eq!(client.text()["type"], "pong");
    }
    clients.drain(..2);
    node.wait_for(9);
}

#[test]
fn who_comes_while_memory_is_short_is_told_to_try_later() {
    let mut node = Node::new(&SETTINGS);
    node.turned_away = Some(CloseCode::TryAgainLater);
    let mut client = node.client_after(b"");
    assert_eq!(client.hear(), Heard::Close(1013, "Try again later".into()));
    drop(client);
    node.wait_for(0);
}

#[test]
fn the_end_of_the_engine_is_told() {
    let mut node = Node::new(&SETTINGS);
    let mut client = node.client();
    let Node {
        engine, metrics, ..
    } = node;
    drop(engine);
    assert_eq!(
        client.hear(),
        Heard::Close(1001, "Server going away".into())
    );
    assert_eq!(client.hear(), Heard::End);
    assert_eq!(metrics.connected(), 0);
}
