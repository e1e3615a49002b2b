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
        assert!(!self.channels.confirmed(&key(text), link));
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
    assert!(!rig.channels.unsubscribed(&key("a"), 1), "it was asked for");
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
    assert!(rig.channels.confirmed(&key("a"), 1));
    // Wanted again before the farewell: subscribed anew after it, and only then live.
    assert!(!rig.subscribe("a"));
    assert_eq!(rig.last(), None);
    assert!(!rig.channels.unsubscribed(&key("a"), 1));
    assert_eq!(rig.homeless(), [key("a")]);
    assert!(rig.channels.place(&key("a"), Some(1)));
    rig.channels.confirmed(&key("a"), 1);
    assert_eq!(rig.last(), Some(Ok(())));
    assert_eq!(rig.channels.missing(), 0);
}

#[test]
fn a_slot_moves() {
    let mut rig = Rig::new();
    rig.live("a", 1);
    rig.live("b", 1);
    assert!(rig.channels.unsubscribed(&key("a"), 1), "nobody asked");
    assert_eq!(rig.channels.missing(), 1);
    assert!(!rig.hears("a", 1));
    assert!(rig.hears("b", 1), "another slot");
    assert_eq!(rig.homeless(), [key("a")]);
    // The topology is not known yet: the old place refuses, it is homeless again.
    assert!(rig.channels.place(&key("a"), Some(1)));
    let slot = rig.channels.slot(&key("a"));
    assert!(!rig.channels.slot_moved(slot, 1));
    assert_eq!(rig.homeless(), [key("a")]);
    assert!(!rig.channels.place(&key("a"), None), "nowhere to go");
    assert_eq!(rig.homeless(), [key("a")]);
    assert!(rig.channels.place(&key("a"), Some(2)));
    rig.channels.confirmed(&key("a"), 2);
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
    assert!(rig.channels.link_ended(1));
    assert_eq!(rig.channels.len(), 3, "nobody wants c");
    assert_eq!(rig.channels.missing(), 1, "d was not live yet");
    assert_eq!(rig.homeless(), [key("a"), key("d")]);
    assert!(rig.hears("b", 2));
    // A late confirmation of the connection that is gone means nothing.
    assert!(!rig.channels.confirmed(&key("a"), 1));
    assert!(!rig.hears("a", 1));
    // Who is no more wanted is no more missing.
    assert_eq!(rig.channels.unsubscribe(&name("a")), None);
    assert_eq!(rig.channels.missing(), 0);
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
