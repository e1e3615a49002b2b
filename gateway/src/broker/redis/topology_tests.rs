use bytes::BytesMut;

use super::*;
use crate::broker::redis::wire::next_frame;

fn at(text: &str) -> Endpoint {
    let (host, port) = text.rsplit_once(':').unwrap();
    Endpoint {
        host: host.to_owned(),
        port: port.parse().unwrap(),
    }
}

fn read(answer: &str) -> Vec<Node> {
    nodes(answer, &at("asked:7000"))
}

/// Each slot's owner, in ranges.
fn shape(topology: &Topology) -> Vec<String> {
    let mut ranges: Vec<(usize, usize, String)> = Vec::new();
    for slot in 0..SLOTS {
        let owner = topology.owner(u16::try_from(slot).unwrap());
        let name = owner.map_or("-".to_owned(), ToString::to_string);
        match ranges.last_mut() {
            Some((_, last, before)) if *before == name => *last = slot,
            _ => ranges.push((slot, slot, name)),
        }
    }
    let one = |(first, last, name): (usize, usize, String)| format!("{first}-{last} {name}");
    ranges.into_iter().map(one).collect()
}

const HEALTHY: &str = "\
a 127.0.0.1:7001@17001 myself,master - 0 0 1 connected 0-5460
b 127.0.0.1:7002@17002,host-b master - 0 0 2 connected 5461-10922
c 127.0.0.1:7003@17003,,shard-id=x master - 0 0 3 connected 10923-16383
d 127.0.0.1:7004@17004 slave a 0 0 1 connected
";

#[test]
fn who_has_which_slot() {
    let table: &[(&str, &[&str], &[&str])] = &[
        ("nobody", &[""], &["0-16383 -"]),
        (
            "three masters",
            &[HEALTHY],
            &[
                "0-5460 127.0.0.1:7001",
                "5461-10922 host-b:7002",
                "10923-16383 127.0.0.1:7003",
            ],
        ),
        (
            "a node that does not know its own address yet",
            &["a :7001@17001 myself,master - 0 0 1 connected 0-16383"],
            &["0-16383 asked:7001"],
        ),
        (
            "one slot alone, and one on its way",
            &["a h:1@2 myself,master - 0 0 1 connected 7 9-10 [9->-b]"],
            &["0-6 -", "7-7 h:1", "8-8 -", "9-10 h:1", "11-16383 -"],
        ),
        (
            "after a failover the old master is listed, without slots",
            &[
                "a h:1@2 master,fail - 0 0 1 disconnected\nd h:4@5 myself,master - 0 0 8 connected 0-16383",
            ],
            &["0-16383 h:4"],
        ),
        (
            "an old master that was cut off claims what it had",
            &[
                "a h:1@2 myself,master - 0 0 1 connected 0-16383\nd h:4@5 slave a 0 0 1 connected",
                "a h:1@2 master,fail - 0 0 1 disconnected\nd h:4@5 myself,master - 0 0 8 connected 0-16383",
            ],
            &["0-16383 h:4"],
        ),
        (
            "a slot that moved, and a node that has not heard",
            &[
                "a h:1@2 master - 0 0 1 connected 0-100\nb h:2@3 master - 0 0 2 connected 101-16383",
                "a h:1@2 master - 0 0 1 connected 0-99\nb h:2@3 myself,master - 0 0 9 connected 100-16383",
            ],
            &["0-99 h:1", "100-16383 h:2"],
        ),
        (
            "a slot that moved to who had the highest epoch already",
            &[
                "a h:1@2 myself,master - 0 0 1 connected 0-100\nb h:2@3 master - 0 0 9 connected 101-16383",
                "a h:1@2 master - 0 0 1 connected 0-100\nb h:2@3 myself,master - 0 0 9 connected 100-16383",
            ],
            &["0-99 h:1", "100-16383 h:2"],
        ),
        (
            "nodes that nobody has met, and lines that are none",
            &[
                "a :0@0 master,noaddr - 0 0 1 disconnected 0-5\nb h:1@2 handshake - 0 0 0 connected 0-5\nnonsense\nc h:3@4 master - 0 0 1 connected 9-3 20000 5-99999",
            ],
            &["0-16383 -"],
        ),
    ];
    for (what, answers, expected) in table {
        let answers: Vec<_> = answers.iter().map(|answer| read(answer)).collect();
        let topology = cluster(&answers);
        assert_eq!(shape(&topology), *expected, "{what}");
        // In any order of the answers.
        let turned: Vec<_> = answers.into_iter().rev().collect();
        assert_eq!(cluster(&turned), topology, "{what}");
    }
}

#[test]
fn masters_and_holes() {
    let whole = cluster(&[read(HEALTHY)]);
    assert_eq!(whole.masters().len(), 3);
    assert_eq!(whole.unclaimed(), 0);
    assert_eq!(cluster(&[]).unclaimed(), SLOTS);
    assert_eq!(Topology::Unknown.masters(), []);
    let one = Topology::One(at("h:1"));
    assert_eq!((one.masters(), one.unclaimed()), (&[at("h:1")][..], 0));
}

#[test]
fn a_sentinel_names_the_master() {
    let array = |words: &[&str]| {
        let mut text = format!("*{}\r\n", words.len());
        for word in words {
            text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        next_frame(&mut BytesMut::from(text.as_str()))
            .unwrap()
            .unwrap()
    };
    let state = ["ip", "10.0.0.1", "port", "6379", "config-epoch", "4"];
    // The address is the other answer's: while a failover goes on they differ.
    for (state, address, expected) in [
        (
            &state[..],
            &["10.0.0.2", "6380"][..],
            Some((at("10.0.0.2:6380"), 4)),
        ),
        (&state[..4], &["10.0.0.2", "6380"], None),
        (&state, &["10.0.0.2"], None),
        (&state, &["10.0.0.2", "x"], None),
        (&state, &["10.0.0.2", "0"], None),
        (&[], &[], None),
    ] {
        assert_eq!(
            sentinel_master(&array(state), &array(address)),
            expected,
            "{address:?}"
        );
    }
    assert_eq!(sentinel_master(&array(&state), &BytesFrame::Null), None);
}

#[test]
fn slots_in_refusals() {
    for (reason, expected) in [
        ("MOVED 3999 127.0.0.1:6381", Some(3_999)),
        ("ASK 3999 127.0.0.1:6381", None),
        ("MOVED", None),
        ("MOVED x h:1", None),
        ("NOPERM no", None),
    ] {
        assert_eq!(moved_slot(reason), expected, "{reason}");
    }
}

#[test]
fn addresses_in_messages() {
    for (endpoint, expected) in [(at("redis:1"), "redis:1"), (at("::1:2"), "[::1]:2")] {
        assert_eq!(endpoint.to_string(), expected);
    }
}

#[test]
fn who_has_just_begun_knows_nobody() {
    for (answer, expected) in [
        ("", true),
        (
            "z 127.0.0.1:7009@17009 myself,master - 0 0 0 connected",
            true,
        ),
        (HEALTHY, false),
        // A replica that was told of its master.
        (
            "d h:4@5 myself,slave a 0 0 1 connected\na h:1@2 master - 0 0 1 connected 0-16383",
            false,
        ),
    ] {
        assert_eq!(are_strangers(&read(answer)), expected, "{answer}");
    }
}
