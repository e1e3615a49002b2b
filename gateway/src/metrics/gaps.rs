//! What was missing in channels with history, on this node.

use prometheus::{IntCounter, Registry};

use super::family;

/// What reading the log of a channel came to, in which something was, or may have been, missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapFill {
    /// Nothing was missing.
    Whole,
    Filled,
    /// The log did not have all of it, and subscribers were told.
    Lost,
    /// Another log has begun, and subscribers were told.
    NewEpoch,
    /// It could not be read, and is asked again.
    Unread,
}

/// The numbers.
pub struct Gaps {
    fills: Vec<IntCounter>,
    messages: Vec<IntCounter>,
}

impl Gaps {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Gaps> {
        let results = ["whole", "filled", "lost", "new_epoch", "unread"];
        Ok(Gaps {
            fills: family(
                registry,
                "pushcluster_gap_fills_total",
                "Logs read because something was, or may have been, missing in a channel of this node.",
                ("result", &results),
            )?,
            messages: family(
                registry,
                "pushcluster_gap_messages_total",
                "Messages delivered from a log; duplicate: what the broker delivered after that, and was dropped.",
                ("outcome", &["filled", "duplicate"]),
            )?,
        })
    }

    pub fn read(&self, result: GapFill) {
        self.fills[result as usize].inc();
    }

    /// A message that the broker did not deliver came from the log.
    pub fn filled(&self) {
        self.messages[0].inc();
    }

    /// A delivery came after the same message from the log.
    pub fn duplicate(&self) {
        self.messages[1].inc();
    }
}
