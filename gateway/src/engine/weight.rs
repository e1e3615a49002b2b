//! How many bytes a shard's clients have published that the broker has not answered. What waits is bounded in number
//! elsewhere; that many messages of the largest size would be gigabytes, while a broker does not answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::room::Bell;

/// What one shard's clients have under way.
#[derive(Debug)]
pub struct Scale {
    /// Rings when there is less than `most` again.
    bell: Arc<Bell>,
    bytes: AtomicUsize,
    most: usize,
}

/// One message's part of it, for as long as this lives.
#[derive(Debug)]
pub struct Weight {
    scale: Arc<Scale>,
    bytes: usize,
}

impl Scale {
    pub fn new(bell: Arc<Bell>, most: usize) -> Arc<Scale> {
        let bytes = AtomicUsize::new(0);
        Arc::new(Scale { bell, bytes, most })
    }

    /// What is heard is not refused: it may become more than `most` by what was read at once.
    pub fn put(self: &Arc<Self>, bytes: usize) -> Weight {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        let scale = self.clone();
        Weight { scale, bytes }
    }

    /// Whether no more should be heard.
    pub fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Acquire) >= self.most
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        let Scale { bell, bytes, most } = &*self.scale;
        let before = bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        if before >= *most && before - self.bytes < *most {
            bell.ring();
        }
    }
}
