//! Maps that grew with a crowd give the memory back when it has gone: a table never shrinks by itself.

use std::collections::HashMap;
use std::hash::Hash;

/// Room for so many entries is kept always.
const KEPT: usize = 256;

/// To be called after a removal. A table shrinks when seven eighths of it are empty, to twice of what is in it:
/// a crowd that comes and goes does not make it move all the time.
pub fn release<K: Hash + Eq, V>(map: &mut HashMap<K, V>) {
    if map.capacity() > KEPT && map.len() < map.capacity() / 8 {
        map.shrink_to(map.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_follows_its_crowd_down_and_stays_where_few_come_and_go() {
        let mut map: HashMap<u32, ()> = (0..10_000).map(|key| (key, ())).collect();
        for key in 0..5_000 {
            map.remove(&key);
            release(&mut map);
        }
        assert!(map.capacity() > 8_000, "half full: {}", map.capacity());
        for key in 5_000..9_999 {
            map.remove(&key);
            release(&mut map);
        }
        assert!(map.capacity() <= KEPT, "{}", map.capacity());
        assert!(map.contains_key(&9_999));
        for key in 0..10 {
            let before = map.capacity();
            map.insert(key, ());
            map.remove(&key);
            release(&mut map);
            assert_eq!(map.capacity(), before);
        }
    }
}
