//! A coarse timer wheel (Varghese and Lauck, 1987): a deadline costs a few bytes and one visit per turn of the wheel.

use super::command::ConnectionKey;

/// How late a deadline may be noticed, in milliseconds.
pub const TICK_MS: u64 = 128;
/// One turn is about half a minute: a ping interval.
const SLOTS: usize = 256;

/// One entry for each connection; an entry that is no longer wanted is recognised by its owner when it comes up.
pub struct Wheel {
    slots: Vec<Vec<(u64, ConnectionKey)>>,
    /// The last tick whose entries were taken.
    tick: u64,
}

impl Wheel {
    pub fn new() -> Self {
        Wheel {
            slots: vec![Vec::new(); SLOTS],
            tick: 0,
        }
    }

    /// Returns the tick at which the entry will come up: at `due_ms` or up to a tick later.
    pub fn insert(&mut self, due_ms: u64, key: ConnectionKey) -> u64 {
        let tick = self.tick_of(due_ms);
        self.slot(tick).push((tick, key));
        tick
    }

    /// Where `insert` would put a deadline.
    pub fn tick_of(&self, due_ms: u64) -> u64 {
        due_ms.div_ceil(TICK_MS).max(self.tick + 1)
    }

    /// Whether an entry of this tick is still to come up.
    pub fn is_pending(&self, tick: u64) -> bool {
        tick > self.tick
    }

    /// Moves what is due at `now_ms` to `due`, with the tick that `insert` returned.
    pub fn take_due(&mut self, now_ms: u64, due: &mut Vec<(u64, ConnectionKey)>) {
        let now = now_ms / TICK_MS;
        // After a long stall every slot is visited once, not once for each tick that was missed.
        self.tick = self.tick.max(now.saturating_sub(SLOTS as u64));
        while self.tick < now {
            self.tick += 1;
            let tick = self.tick;
            let slot = self.slot(tick);
            let mut index = 0;
            while index < slot.len() {
                // Later turns of the wheel stay.
                if slot[index].0 <= now {
                    due.push(slot.swap_remove(index));
                } else {
                    index += 1;
                }
            }
        }
    }

    /// Forgets every entry, and the room that they had.
    pub fn clear(&mut self) {
        self.slots.iter_mut().for_each(|slot| *slot = Vec::new());
    }

    /// Milliseconds until the next tick.
    pub fn next_tick_ms(&self, now_ms: u64) -> u64 {
        ((self.tick + 1) * TICK_MS).saturating_sub(now_ms)
    }

    fn slot(&mut self, tick: u64) -> &mut Vec<(u64, ConnectionKey)> {
        let slots = self.slots.len() as u64;
        let index =
            usize::try_from(tick % slots).expect("the remainder is less than the number of slots");
        &mut self.slots[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(slot: u32) -> ConnectionKey {
        ConnectionKey {
            slot,
            generation: 0,
        }
    }

    fn due(wheel: &mut Wheel, now_ms: u64) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.take_due(now_ms, &mut due);
        let mut slots: Vec<u32> = due.into_iter().map(|(_, key)| key.slot).collect();
        slots.sort_unstable();
        slots
    }

    #[test]
    fn deadlines_come_up_once_never_early_and_at_most_a_tick_late() {
        let mut wheel = Wheel::new();
        let deadlines = [0, 1, 127, 128, 129, 5_000, 32_768, 40_000, 300_000];
        for (slot, deadline) in deadlines.iter().enumerate() {
            wheel.insert(*deadline, key(u32::try_from(slot).unwrap()));
        }
        let mut came = vec![None; deadlines.len()];
        for now in (0..310_000).step_by(50) {
            for slot in due(&mut wheel, now) {
                assert!(
                    came[slot as usize].replace(now).is_none(),
                    "{slot} came twice"
                );
            }
        }
        for (deadline, came) in deadlines.iter().zip(came) {
            let came = came.expect("every deadline comes up");
            assert!(
                came >= *deadline && came <= deadline + 2 * TICK_MS + 50,
                "{deadline} came at {came}"
            );
        }
    }

    #[test]
    fn a_stall_loses_no_deadline() {
        let mut wheel = Wheel::new();
        for slot in 0..1000 {
            wheel.insert(u64::from(slot) * 100, key(slot));
        }
        assert_eq!(due(&mut wheel, 3_600_000).len(), 1000);
    }
}
