//! What waits for one socket: frames shared with other sockets, sent with one system call.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use bytes::{Buf, Bytes};
use gateway_config::SlowConsumer;

/// Most buffers given to one `writev`; Linux takes up to 1024, but beyond a few dozen nothing is gained.
const MAX_SLICES: usize = 64;

/// Room for so many frames stays with an idle socket: a quarter of a kilobyte.
const KEPT_SLICES: usize = 8;

/// When a frame may be dropped for the sake of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tag {
    pub slow: SlowConsumer,
    /// How many messages it is, for what is counted.
    pub messages: u16,
    /// Which channel of this shard.
    pub channel: u32,
}

impl Tag {
    /// Part of the protocol: never dropped.
    pub const KEPT: Tag = Tag {
        slow: SlowConsumer::Disconnect,
        messages: 0,
        channel: 0,
    };
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Bytes,
    tag: Tag,
}

/// Messages that were dropped, by the rule that allowed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    pub oldest: u64,
    pub latest: u64,
}

impl Dropped {
    pub fn add(&mut self, tag: Tag, messages: u64) {
        match tag.slow {
            SlowConsumer::Disconnect => {}
            SlowConsumer::DropOldest => self.oldest += messages,
            SlowConsumer::Latest => self.latest += messages,
        }
    }

    pub fn and(&mut self, other: Dropped) {
        self.oldest += other.oldest;
        self.latest += other.latest;
    }
}

/// Frames in order. Most sockets have none or one; only more than one takes memory beyond this struct.
#[derive(Debug, Default)]
pub struct Outbox {
    first: Waiting,
    more: VecDeque<Waiting>,
    /// Bytes that wait in all.
    len: usize,
    /// Part of the first frame has been written: without its rest the client could make nothing of what follows.
    begun: bool,
    /// The kernel took no more at the last flush: the client is behind.
    blocked: bool,
}

/// The client reads too slowly: what waits for it would exceed the cap.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

/// What a flush came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Flushed {
    All,
    /// The kernel takes no more now; it will say when it does.
    Blocked,
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the client is behind.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Appends a frame. One frame always fits an empty outbox, whatever its size; a message was within the limit.
    /// In a full one, frames that may be dropped make room, the oldest first; if that is not enough, a frame that may
    /// be dropped is, and for one that may not the outbox is full.
    pub fn push(&mut self, bytes: Bytes, tag: Tag, cap: usize) -> Result<Dropped, Full> {
        let mut dropped = Dropped::default();
        if self.blocked && tag.slow == SlowConsumer::Latest {
            dropped.and(self.give_way(0, |other| {
                other
                    == (Tag {
                        messages: other.messages,
                        ..tag
                    })
            }));
        }
        if self.exceeds(bytes.len(), cap) {
            // More than is needed, or every further frame would walk through all that wait.
            let enough = cap.saturating_sub(bytes.len().max(cap / 8));
            dropped.and(self.give_way(enough, |other| other.slow != SlowConsumer::Disconnect));
        }
        if !self.exceeds(bytes.len(), cap) {
            self.append(Waiting { bytes, tag });
        } else if tag.slow == SlowConsumer::Disconnect {
            return Err(Full);
        } else {
            dropped.add(tag, tag.messages.into());
        }
        Ok(dropped)
    }

    /// Appends a close frame, which must find room also in a full outbox.
    pub fn push_control(&mut self, bytes: Bytes) {
        self.append(Waiting {
            bytes,
            tag: Tag::KEPT,
        });
    }

    fn exceeds(&self, more: usize, cap: usize) -> bool {
        self.len > 0 && self.len + more > cap
    }

    fn append(&mut self, frame: Waiting) {
        self.len += frame.bytes.len();
        if self.first.bytes.is_empty() {
            self.first = frame;
        } else {
            self.more.push_back(frame);
        }
    }

    /// Drops frames whose tags are `meant`, oldest first, until no more than `enough` bytes wait. A frame that has
    /// been begun stays.
    fn give_way(&mut self, enough: usize, meant: impl Fn(Tag) -> bool) -> Dropped {
        let mut dropped = Dropped::default();
        while self.len > enough && !self.begun && meant(self.first.tag) {
            let gone =
                std::mem::replace(&mut self.first, self.more.pop_front().unwrap_or_default());
            self.len -= gone.bytes.len();
            dropped.add(gone.tag, gone.tag.messages.into());
        }
        let len = &mut self.len;
        self.more.retain(|frame| {
            let stays = *len <= enough || !meant(frame.tag);
            if !stays {
                *len -= frame.bytes.len();
                dropped.add(frame.tag, frame.tag.messages.into());
            }
            stays
        });
        dropped
    }

    /// Drops what waits, but for the rest of a frame that has been begun.
    pub fn discard(&mut self) {
        self.more = VecDeque::new();
        if !self.begun {
            self.first = Waiting::default();
        }
        self.len = self.first.bytes.len();
    }

    /// Writes until all is written or the kernel takes no more.
    pub fn flush(&mut self, socket: &mut impl Write) -> io::Result<Flushed> {
        while self.len > 0 {
            let result = if self.more.is_empty() {
                socket.write(&self.first.bytes)
            } else {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                slices[0] = IoSlice::new(&self.first.bytes);
                let mut count = 1;
                for (slice, frame) in slices[1..].iter_mut().zip(&self.more) {
                    *slice = IoSlice::new(&frame.bytes);
                    count += 1;
                }
                socket.write_vectored(&slices[..count])
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Ok(Flushed::Blocked);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // What is between here and the socket (TLS) may hold some of it back.
        match socket.flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.blocked = true;
                Ok(Flushed::Blocked)
            }
            flushed => {
                self.blocked = false;
                flushed.map(|()| Flushed::All)
            }
        }
    }

    fn advance(&mut self, mut written: usize) {
        self.len -= written;
        while written > 0 {
            if written < self.first.bytes.len() {
                self.first.bytes.advance(written);
                self.begun = true;
                return;
            }
            written -= self.first.bytes.len();
            self.first = self.more.pop_front().unwrap_or_default();
            self.begun = false;
        }
        if self.more.is_empty() && self.more.capacity() > KEPT_SLICES {
            // A client that was slow once, or had one busy round, must not keep the memory of that hour.
            self.more = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes at most `room` bytes, `step` at a time.
    struct Socket {
        room: usize,
        step: usize,
        calls: usize,
        taken: Vec<u8>,
    }

    impl Write for Socket {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.write_vectored(&[IoSlice::new(bytes)])
        }
        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            self.calls += 1;
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            let count = all.len().min(self.room).min(self.step);
            if count == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.room -= count;
            self.taken.extend_from_slice(&all[..count]);
            Ok(count)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn filled() -> Outbox {
        let mut outbox = Outbox::default();
        for frame in ["one", "two", "three", "four"] {
            outbox
                .push(Bytes::from_static(frame.as_bytes()), Tag::KEPT, 100)
                .unwrap();
        }
        outbox
    }

    #[test]
    fn what_waits_leaves_in_order_however_the_kernel_cuts_it() {
        for step in 1..=16 {
            let mut socket = Socket {
                room: 100,
                step,
                calls: 0,
                taken: vec![],
            };
            assert_eq!(filled().flush(&mut socket).unwrap(), Flushed::All);
            assert_eq!(socket.taken, b"onetwothreefour", "step {step}");
        }
    }

    #[test]
    fn all_that_waits_is_one_system_call() {
        let mut socket = Socket {
            room: 100,
            step: 100,
            calls: 0,
            taken: vec![],
        };
        filled().flush(&mut socket).unwrap();
        assert_eq!(socket.calls, 1);
    }

    #[test]
    fn a_blocked_outbox_goes_on_where_it_stopped() {
        for room in 1..15 {
            let mut outbox = filled();
            let mut socket = Socket {
                room,
                step: 100,
                calls: 0,
                taken: vec![],
            };
            assert_eq!(outbox.flush(&mut socket).unwrap(), Flushed::Blocked);
            assert_eq!(outbox.len, 15 - room);
            socket.room = 100;
            assert_eq!(outbox.flush(&mut socket).unwrap(), Flushed::All);
            assert_eq!(socket.taken, b"onetwothreefour", "room {room}");
            assert!(outbox.is_empty());
        }
    }

    #[test]
    fn what_is_dropped_leaves_whole_frames() {
        // Frames are of 3, 3, 5 and 4 bytes.
        for (room, left) in [
            (0, ""),
            (1, "one"),
            (3, "one"),
            (4, "onetwo"),
            (6, "onetwo"),
        ] {
            let mut outbox = filled();
            let mut socket = Socket {
                room,
                step: 100,
                calls: 0,
                taken: vec![],
            };
            assert_eq!(outbox.flush(&mut socket).unwrap(), Flushed::Blocked);
            outbox.discard();
            outbox.push_control(Bytes::from_static(b"."));
            socket.room = 100;
            outbox.flush(&mut socket).unwrap();
            assert_eq!(socket.taken, format!("{left}.").as_bytes(), "room {room}");
            assert!(outbox.is_empty());
        }
    }

    #[test]
    fn the_cap_counts_what_waits_but_never_refuses_the_first_frame() {
        let mut outbox = Outbox::default();
        let kept = |bytes: &'static [u8]| (Bytes::from_static(bytes), Tag::KEPT);
        let mut push = |(bytes, tag)| outbox.push(bytes, tag, 10);
        assert_eq!(push(kept(&[0; 20])), Ok(Dropped::default()));
        assert_eq!(push(kept(&[0; 1])), Err(Full));
        assert_eq!(outbox.len, 20);
    }

    /// `rule`: `k`eep, `o`ldest, or the number of a channel of which only the latest counts.
    fn tag(rule: char) -> Tag {
        let slow = match rule {
            'k' => SlowConsumer::Disconnect,
            'o' => SlowConsumer::DropOldest,
            _ => SlowConsumer::Latest,
        };
        Tag {
            slow,
            messages: 1,
            channel: rule.into(),
        }
    }

    #[test]
    #[expect(clippy::type_complexity, reason = "a table")]
    fn what_gives_way_to_what() {
        // Frames of four bytes, the first letter their rule, into an outbox of 16. What is there before the kernel
        // blocks, how much of it the kernel takes, what comes then; what waits in the end, and drops by rule.
        #[rustfmt::skip]
        let table: [(&[&str], usize, &[&str], &str, (u64, u64)); 12] = [
            (&["o--1", "o--2", "o--3", "o--4"], 0, &["o--5"], "o--2o--3o--4o--5", (1, 0)),
            (&["k--1", "o--2", "k--3", "o--4"], 0, &["o--5"], "k--1k--3o--4o--5", (1, 0)),
            // A frame that has been begun stays.
            (&["o--1", "o--2", "o--3", "o--4"], 1, &["o--5", "o--6"], "--1o--4o--5o--6", (2, 0)),
            // What may not be dropped takes the place of what may.
            (&["o--1", "o--2", "k--3", "k--4"], 0, &["k--5"], "o--2k--3k--4k--5", (1, 0)),
            // There is nothing to drop but itself.
            (&["k--1", "k--2", "k--3", "k--4"], 0, &["o--5"], "k--1k--2k--3k--4", (1, 0)),
            (&["k--1", "k--2", "k--3", "k--4"], 0, &["k--5"], "full", (0, 0)),
            // Only the newest of each channel, as soon as the client is behind.
            (&["1--a", "2--a"], 0, &["1--b"], "2--a1--b", (0, 1)),
            (&["1--a", "2--a"], 0, &["1--b", "2--b", "1--c"], "2--b1--c", (0, 3)),
            (&["1--a", "k--x"], 2, &["1--b", "1--c"], "-ak--x1--c", (0, 1)),
            (&["1--a", "1--b", "1--c"], 0, &[], "1--a1--b1--c", (0, 0)),
            (&["1--a", "1--b", "1--c"], 0, &["1--d"], "1--d", (0, 3)),
            (&["k--1", "k--2", "k--3", "1--a"], 0, &["2--a"], "k--1k--2k--32--a", (0, 1)),
        ];
        for (before, room, after, waits, dropped) in table {
            let mut outbox = Outbox::default();
            let push = |outbox: &mut Outbox, frame: &&'static str| {
                let bytes = Bytes::from_static(frame.as_bytes());
                outbox.push(bytes, tag(frame.chars().next().unwrap()), 16)
            };
            let mut socket = Socket {
                room,
                step: 100,
                calls: 0,
                taken: vec![],
            };
            for frame in before {
                assert_eq!(push(&mut outbox, frame), Ok(Dropped::default()));
            }
            assert_eq!(outbox.flush(&mut socket).unwrap(), Flushed::Blocked);
            let mut all = Dropped::default();
            let mut full = false;
            for frame in after {
                match push(&mut outbox, frame) {
                    Ok(dropped) => all.and(dropped),
                    Err(Full) => full = true,
                }
            }
            (socket.room, socket.taken) = (100, vec![]);
            outbox.flush(&mut socket).unwrap();
            let waited = String::from_utf8(socket.taken).unwrap();
            let waited = if full { "full" } else { &waited };
            let name = format!("{before:?} {room} {after:?}");
            assert_eq!(
                (waited, (all.oldest, all.latest)),
                (waits, dropped),
                "{name}"
            );
            assert!(outbox.is_empty() && !outbox.is_blocked(), "{name}");
        }
    }
}
