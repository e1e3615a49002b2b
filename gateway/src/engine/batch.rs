//! Messages that wait for others of their channel, where a policy trades latency for fewer writes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use super::command::EncodedDelivery;
use crate::name::ChannelName;
use crate::policy::Window;

/// A batch goes as soon as it has so many bytes: they are held for all, and a window must not become a memory.
const FULL_BYTES: usize = 64 << 10;

/// All batches of a shard.
#[derive(Default)]
pub struct Batches {
    by_channel: HashMap<ChannelName, Batch>,
    /// When each is due. One that went before its time leaves its entry behind until then.
    due: BinaryHeap<Reverse<(Instant, u64, ChannelName)>>,
    number: u64,
}

struct Batch {
    /// Tells it from a later one of the same channel.
    number: u64,
    bytes: usize,
    deliveries: Vec<Arc<EncodedDelivery>>,
}

impl Batches {
    /// Adds deliveries of one channel; returns the batch when that has filled it.
    pub fn add(
        &mut self,
        deliveries: &[Arc<EncodedDelivery>],
        window: Window,
        now: Instant,
    ) -> Option<Vec<Arc<EncodedDelivery>>> {
        let channel = &deliveries.first()?.delivery.channel;
        let Batches {
            by_channel,
            due,
            number,
        } = self;
        let batch = by_channel.entry(channel.clone()).or_insert_with(|| {
            *number += 1;
            due.push(Reverse((now + window.time, *number, channel.clone())));
            Batch {
                number: *number,
                bytes: 0,
                deliveries: Vec::new(),
            }
        });
        batch.bytes += deliveries.iter().map(|d| d.native().len()).sum::<usize>();
        batch.deliveries.extend(deliveries.iter().cloned());
        let full = batch.deliveries.len() >= window.messages || batch.bytes >= FULL_BYTES;
        full.then(|| self.take(channel))
    }

    /// What waits for this channel.
    pub fn take(&mut self, channel: &ChannelName) -> Vec<Arc<EncodedDelivery>> {
        let batch = self.by_channel.remove(channel);
        batch.map_or_else(Vec::new, |batch| batch.deliveries)
    }

    /// The next batch whose time has come.
    pub fn take_due(&mut self, now: Instant) -> Option<Vec<Arc<EncodedDelivery>>> {
        while self.next_due().is_some_and(|at| at <= now) {
            let Reverse((_, number, channel)) = self.due.pop()?;
            let waits = self.by_channel.get(&channel);
            if waits.is_some_and(|batch| batch.number == number) {
                return Some(self.take(&channel));
            }
        }
        None
    }

    /// Any batch, whether its time has come or not.
    pub fn take_any(&mut self) -> Option<Vec<Arc<EncodedDelivery>>> {
        let channel = self.by_channel.keys().next()?.clone();
        Some(self.take(&channel))
    }

    pub fn next_due(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((at, ..))| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::value::to_raw_value;

    use super::*;
    use crate::message::{Delivery, Message, MessageKind};

    fn delivery(channel: &str, data: &str) -> Arc<EncodedDelivery> {
        Arc::new(EncodedDelivery::new(Delivery {
            channel: ChannelName::parse(channel).unwrap(),
            message: Message {
                kind: MessageKind::Chat,
                data: Arc::from(to_raw_value(data).unwrap()),
                from: None,
                timestamp: 0,
                except: None,
                only: None,
            },
            position: None,
        }))
    }

    fn shown(batch: Option<Vec<Arc<EncodedDelivery>>>) -> String {
        let shown = |d: &Arc<EncodedDelivery>| d.delivery.message.data.get().replace('"', "");
        batch.map_or_else(
            || "-".to_owned(),
            |batch| batch.iter().map(shown).collect::<Vec<_>>().join(" "),
        )
    }

    #[test]
    fn a_batch_goes_when_its_time_has_come_or_it_is_full() {
        let window = Window {
            time: Duration::from_millis(10),
            messages: 3,
        };
        let (mut batches, began) = (Batches::default(), Instant::now());
        let at = |ms| began + Duration::from_millis(ms);
        let add = |batches: &mut Batches, channel, data, ms| {
            shown(batches.add(&[delivery(channel, data)], window, at(ms)))
        };
        assert_eq!(add(&mut batches, "a", "1", 0), "-");
        assert_eq!(add(&mut batches, "b", "2", 3), "-");
        assert_eq!(add(&mut batches, "a", "3", 9), "-");
        assert_eq!(batches.next_due(), Some(at(10)));
        assert_eq!(shown(batches.take_due(at(9))), "-");
        assert_eq!(shown(batches.take_due(at(10))), "1 3");
        assert_eq!(add(&mut batches, "b", "4", 11), "-");
        assert_eq!(add(&mut batches, "b", "5", 11), "2 4 5", "full");
        // What the full one has left behind is not the next one's time.
        assert_eq!(add(&mut batches, "b", "6", 12), "-");
        assert_eq!(shown(batches.take_due(at(13))), "-");
        assert_eq!(
            shown(Some(batches.take(&ChannelName::parse("b").unwrap()))),
            "6"
        );
        assert_eq!(shown(batches.take_due(at(30))), "-");
        assert_eq!((batches.due.len(), batches.by_channel.len()), (0, 0));
    }

    #[test]
    fn a_batch_is_no_memory() {
        let window = Window {
            time: Duration::from_secs(1),
            messages: 1_000,
        };
        let large = "x".repeat(40_000);
        let (mut batches, now) = (Batches::default(), Instant::now());
        assert!(batches.add(&[delivery("a", &large)], window, now).is_none());
        let full = batches.add(&[delivery("a", &large)], window, now);
        assert_eq!(full.map(|batch| batch.len()), Some(2));
    }
}
