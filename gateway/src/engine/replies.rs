//! Answers to one connection that came together: one piece of memory and one slice to write, however many they are.

use bytes::Bytes;

use super::command::ConnectionKey;

/// Complete frames, in order. At least one.
#[derive(Debug)]
pub struct Replies {
    pub key: ConnectionKey,
    frames: Bytes,
    /// Where each of them ends.
    ends: Vec<usize>,
}

/// [`Replies`] of several connections, in the making: neighbours of one connection become one.
#[derive(Debug, Default)]
pub struct Gathered {
    done: Vec<Replies>,
    key: Option<ConnectionKey>,
    frames: Vec<u8>,
    ends: Vec<usize>,
}

impl Replies {
    /// All of them, as they follow each other.
    pub fn all(&self) -> &Bytes {
        &self.frames
    }

    pub fn count(&self) -> usize {
        self.ends.len()
    }

    pub fn each(&self) -> impl Iterator<Item = Bytes> + '_ {
        let mut begin = 0;
        self.ends.iter().map(move |end| {
            let frame = self.frames.slice(begin..*end);
            begin = *end;
            frame
        })
    }
}

impl Gathered {
    /// `append` appends a frame.
    pub fn add(&mut self, key: ConnectionKey, append: impl FnOnce(&mut Vec<u8>)) {
        if self.key != Some(key) {
            self.finish();
            self.key = Some(key);
        }
        append(&mut self.frames);
        self.ends.push(self.frames.len());
    }

    /// What has been gathered.
    pub fn take(&mut self) -> Vec<Replies> {
        self.finish();
        std::mem::take(&mut self.done)
    }

    fn finish(&mut self) {
        if let Some(key) = self.key.take() {
            self.done.push(Replies {
                key,
                frames: std::mem::take(&mut self.frames).into(),
                ends: std::mem::take(&mut self.ends),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_one_and_can_be_told_apart() {
        let key = |slot| ConnectionKey {
            slot,
            generation: 1,
        };
        let mut gathered = Gathered::default();
        for (slot, frame) in [(1, "a"), (1, "bc"), (2, "d"), (1, "e")] {
            gathered.add(key(slot), |out| out.extend_from_slice(frame.as_bytes()));
        }
        let shown = |replies: &Replies| {
            let each: Vec<_> = replies.each().collect();
            let all = replies.all().clone();
            assert_eq!(each.len(), replies.count());
            (replies.key.slot, each, all)
        };
        let taken: Vec<_> = gathered.take().iter().map(shown).collect();
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        assert_eq!(
            taken,
            [
                (1, vec![bytes("a"), bytes("bc")], bytes("abc")),
                (2, vec![bytes("d")], bytes("d")),
                (1, vec![bytes("e")], bytes("e")),
            ]
        );
        assert!(gathered.take().is_empty());
    }
}
