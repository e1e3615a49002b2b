//! What waits for one socket: frames shared with other sockets, sent with one system call.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use bytes::{Buf, Bytes};

/// Most buffers given to one `writev`; Linux takes up to 1024, but beyond a few dozen nothing is gained.
const MAX_SLICES: usize = 64;

/// Room for so many frames stays with an idle socket: a quarter of a kilobyte.
const KEPT_SLICES: usize = 8;

/// Frames in order. Most sockets have none or one; only more than one takes memory beyond this struct.
#[derive(Debug, Default)]
pub struct Outbox {
    first: Bytes,
    more: VecDeque<Bytes>,
    /// Bytes that wait in all.
    len: usize,
    /// Part of the first frame has been written: without its rest the client could make nothing of what follows.
    begun: bool,
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

    /// Appends a frame. One frame always fits an empty outbox, whatever its size; a message was within the limit.
    pub fn push(&mut self, frame: Bytes, cap: usize) -> Result<(), Full> {
        if self.len > 0 && self.len + frame.len() > cap {
            return Err(Full);
        }
        self.push_control(frame);
        Ok(())
    }

    /// Appends a close frame, which must find room also in a full outbox.
    pub fn push_control(&mut self, frame: Bytes) {
        self.len += frame.len();
        if self.first.is_empty() {
            self.first = frame;
        } else {
            self.more.push_back(frame);
        }
    }

    /// Drops what waits, but for the rest of a frame that has been begun.
    pub fn discard(&mut self) {
        self.more = VecDeque::new();
        if !self.begun {
            self.first = Bytes::new();
        }
        self.len = self.first.len();
    }

    /// Writes until all is written or the kernel takes no more.
    pub fn flush(&mut self, socket: &mut impl Write) -> io::Result<Flushed> {
        while self.len > 0 {
            let result = if self.more.is_empty() {
                socket.write(&self.first)
            } else {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                slices[0] = IoSlice::new(&self.first);
                let mut count = 1;
                for (slice, frame) in slices[1..].iter_mut().zip(&self.more) {
                    *slice = IoSlice::new(frame);
                    count += 1;
                }
                socket.write_vectored(&slices[..count])
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Flushed::Blocked);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Flushed::All)
    }

    fn advance(&mut self, mut written: usize) {
        self.len -= written;
        while written > 0 {
            if written < self.first.len() {
                self.first.advance(written);
                self.begun = true;
                return;
            }
            written -= self.first.len();
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
                .push(Bytes::from_static(frame.as_bytes()), 100)
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
        assert_eq!(outbox.push(Bytes::from_static(&[0; 20]), 10), Ok(()));
        assert_eq!(outbox.push(Bytes::from_static(&[0; 1]), 10), Err(Full));
        assert_eq!(outbox.len, 20);
    }
}
