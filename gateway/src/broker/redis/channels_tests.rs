use std::time::Duration;

use super::*;
use crate::broker::redis::Mode;

/// A table, and what the callers heard.
struct Rig {
    channels: Channels,
    answers: Vec<oneshot::Receiver<Result<(), String>>>,
    start: Instant,
}

fn name(text: &str) -> ChannelName {
    ChannelName::parse(text).unwrap()
}

fn key(text: &str) -> Bytes {
    Names::new("p:", Mode::Cluster).channel(&name(text))
}

impl Rig {
    fn new() -> Rig {
        Rig {
            channels: Channels::new(Names::new("p:", Mode::Cluster)),
            answers: Vec::new(),
            start: Instant::now(),
        }
    }

    fn subscribe(&mut self, text: &str) -> bool {
        let (live, answer) = oneshot::channel();
        self.answers.push(answer);
        let until = self.start + Duration::from_secs(2);
        self.channels.subscribe(name(text), (live, until)).is_some()
    }

    /// Subscribed, placed at the connection and confirmed.
    fn live(&mut self, text: &str, link: LinkId) {
        assert!(self.subscribe(text));
        assert!(self.channels.place(&key(text), Some(link)));
        assert_eq!(self.channels.confirmed(&key(text), link), Confirmed::First);
        assert_eq!(self.last(), Some(Ok(())));
    }

    fn last(&mut self) -> Option<Result<(), String>> {
        self.answers.last_mut().unwrap().try_recv().ok()
    }

    fn hears(&self, text: &str, link: LinkId) -> bool {
        self.channels.receiver(&key(text), link).is_some()
    }

    fn homeless(&mut self) -> Vec<Bytes> {
        let mut keys = self.channels.take_homeless();
        // One may be in the list twice; it is placed once.
        keys.sort();
        keys.dedup();
        keys.retain(|key| {
            let slot = self.channels.slot(key);
            let of_slot = self.channels.slots.get(&slot);
            of_slot
                .and_then(|of_slot| of_slot.get(key))
                .is_some_and(|channel| channel.state == State::Homeless)
        });
        keys
    }
}

#[test]
fn live_from_the_confirmation_to_the_unsubscribe() {
    let mut rig = Rig::new();
    assert!(rig.subscribe("a"));
    assert!(rig.channels.place(&key("a"), Some(1)));
    assert!(!rig.channels.place(&key("a"), Some(1)), "once");
    assert!(!rig.hears("a", 1));
    assert_eq!(rig.last(), None);
    rig.channels.confirmed(&key("a"), 1);
    assert_eq!(rig.last(), Some(Ok(())));
    assert!(rig.hears("a", 1));
    assert!(!rig.hears("a", 2), "not on another connection");
    assert_eq!(rig.channels.unsubscribe(&name("a")), Some((1, key("a"))));
    assert!(!rig.hears("a", 1));
    let lost = rig.channels.unsubscribed(&key("a"), 1);
    assert_eq!(lost, None, "it was asked for");
    assert_eq!(rig.channels.len(), 0);
    assert!(rig.channels.slots.is_empty(), "nothing is left");
}

#[test]
fn minds_that_change_before_redis_has_answered() {
    let mut rig = Rig::new();
    // Unsubscribed before the confirmation: taken back when it comes.
    rig.subscribe("a");
    rig.channels.place(&key("a"), Some(1));
    assert_eq!(rig.channels.unsubscribe(&name("a")), None);
    assert_eq!(rig.channels.confirmed(&key("a"), 1), Confirmed::Unwanted);
    // Wanted again before the farewell: subscribed anew after it, and only then live.
    assert!(!rig.subscribe("a"));
    assert_eq!(rig.last(), None);
    assert_eq!(rig.channels.unsubscribed(&key("a"), 1), None);
    assert_eq!(rig.homeless(), [key("a")]);
    assert!(rig.channels.place(&key("a"), Some(1)));
    assert_eq!(rig.channels.confirmed(&key("a"), 1), Confirmed::First);
    assert_eq!(rig.last(), Some(Ok(())));
    assert_eq!(rig.channels.missing(), 0);
}

#[test]
fn a_slot_moves() {
    let mut rig = Rig::new();
    rig.live("a", 1);
    rig.live("b", 1);
    let lost = rig.channels.unsubscribed(&key("a"), 1);
    assert_eq!(lost, Some(name("a")), "nobody asked, and b stays");
    assert_eq!(rig.channels.missing(), 1);
    assert!(!rig.hears("a", 1));
    assert!(rig.hears("b", 1), "another slot");
    assert_eq!(rig.homeless(), [key("a")]);
    // The topology is not known yet: the old place refuses, it is homeless again.
    assert!(rig.channels.place(&key("a"), Some(1)));
    let slot = rig.channels.slot(&key("a"));
    let lost = rig.channels.slot_moved(slot, 1);
    assert_eq!(lost, [], "that was said");
    assert_eq!(rig.homeless(), [key("a")]);
    assert!(!rig.channels.place(&key("a"), None), "nowhere to go");
    assert_eq!(rig.homeless(), [key("a")]);
    assert!(rig.channels.place(&key("a"), Some(2)));
    let restored = Confirmed::Restored(name("a"));
    assert_eq!(rig.channels.confirmed(&key("a"), 2), restored);
    assert_eq!(rig.channels.missing(), 0);
    assert!(rig.hears("a", 2));
}

#[test]
fn a_connection_ends() {
    let mut rig = Rig::new();
    rig.live("a", 1);
    rig.live("b", 2);
    rig.live("c", 1);
    rig.channels.unsubscribe(&name("c"));
    rig.subscribe("d");
    rig.channels.place(&key("d"), Some(1));
    assert_eq!(rig.channels.link_ended(1), [name("a")]);
    assert_eq!(rig.channels.len(), 3, "nobody wants c");
    assert_eq!(rig.channels.missing(), 1, "d was not live yet");
    assert_eq!(rig.homeless(), [key("a"), key("d")]);
    assert!(rig.hears("b", 2));
    // A late confirmation of the connection that is gone means nothing.
    assert_eq!(rig.channels.confirmed(&key("a"), 1), Confirmed::Stale);
    assert!(!rig.hears("a", 1));
    // The next one ends before it has confirmed: that they are missing was said.
    assert!(rig.channels.place(&key("a"), Some(3)));
    assert_eq!(rig.channels.link_ended(3), []);
    assert_eq!(
        (rig.homeless(), rig.channels.missing()),
        (vec![key("a")], 1)
    );
    // Who is no more wanted is no more missing.
    assert_eq!(rig.channels.unsubscribe(&name("a")), None);
    assert_eq!(rig.channels.missing(), 0);
    // Wanted anew, it is live for the first time.
    rig.live("a", 2);
}

#[test]
fn all_of_a_slot_are_lost_when_a_command_for_it_is_refused() {
    let mut rig = Rig::new();
    // Names of a kind share a slot now and then; one more than there are slots certainly does.
    let mut of_slots: HashMap<u16, String> = HashMap::new();
    let (first, second) = (0..=16_384)
        .find_map(|number| {
            let text = format!("c{number}");
            let before = of_slots.insert(rig.channels.slot(&key(&text)), text.clone());
            before.map(|before| (before, text))
        })
        .unwrap();
    for text in [&first, &second, "b"] {
        rig.live(text, 1);
    }
    let slot = rig.channels.slot(&key(&first));
    assert_ne!(slot, rig.channels.slot(&key("b")));
    let mut lost = rig.channels.slot_moved(slot, 1);
    lost.sort();
    let mut expected = [name(&first), name(&second)];
    expected.sort();
    assert_eq!(lost, expected);
    assert_eq!(rig.channels.missing(), 2);
    assert!(rig.hears("b", 1));
}

#[test]
fn who_waits_too_long_is_refused() {
    let mut rig = Rig::new();
    rig.subscribe("a");
    rig.channels.sweep(rig.start, "no");
    assert_eq!(rig.last(), None);
    rig.channels.sweep(rig.start + Duration::from_secs(2), "no");
    assert_eq!(rig.last(), Some(Err("no".to_owned())));
    assert_eq!(rig.channels.len(), 0);
}
