//! A map that forgets what was inserted long ago.

use std::collections::HashMap;
use std::hash::Hash;

/// A map in two generations: when `recent` is full, it replaces `older`, which is forgotten. So the map has at least the
/// last `most` entries, and at most twice as many.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    recent: HashMap<K, V>,
    older: HashMap<K, V>,
    /// How much is in `recent`. A value may count as several.
    count: usize,
    most: usize,
}

impl<K: Hash + Eq, V> Recent<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self { recent: HashMap::new(), older: HashMap::new(), count: 0, most }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.recent.get(key).or_else(|| self.older.get(key))
    }

    /// The values of a key, which may be two: one from each generation. `size` is the number of calls of
    /// [`entry`](Self::entry) that a value stands for.
    pub(super) fn remove(&mut self, key: &K, size: impl Fn(&V) -> usize) -> [Option<V>; 2] {
        let recent = self.recent.remove(key);
        self.count -= recent.as_ref().map_or(0, size).min(self.count);
        [self.older.remove(key), recent]
    }

    /// The entry of a key in the newer generation, to change it. Returns what this forgets, too.
    pub(super) fn entry(&mut self, key: K) -> (&mut V, HashMap<K, V>)
    where
        V: Default,
    {
        let mut forgotten = HashMap::new();
        if self.count >= self.most {
            let full = std::mem::take(&mut self.recent);
            forgotten = std::mem::replace(&mut self.older, full);
            self.count = 0;
        }
        self.count += 1;
        (self.recent.entry(key).or_default(), forgotten)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.older.values().chain(self.recent.values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let mut map: Recent<u32, Vec<u32>> = Recent::new(3);
        let mut forgotten = Vec::new();
        for number in 0..10 {
            let (value, gone) = map.entry(number);
            value.push(number);
            forgotten.extend(gone.into_keys());
        }
        forgotten.sort_unstable();
        assert_eq!(forgotten, [0, 1, 2, 3, 4, 5]);
        assert_eq!(map.get(&6), Some(&vec![6]));
        assert_eq!(map.remove(&9, Vec::len), [None, Some(vec![9])]);
        assert_eq!(map.values().map(|of| of.len()).sum::<usize>(), 3);
    }

    #[test]
    fn what_was_removed_takes_no_room() {
        let mut map: Recent<u32, Vec<u32>> = Recent::new(3);
        map.entry(7).0.push(7);
        for number in 10..100 {
            let (value, gone) = map.entry(number);
            value.push(number);
            assert!(gone.is_empty());
            map.remove(&number, Vec::len);
        }
        assert!(map.get(&7).is_some());
    }

    #[test]
    fn many_values_of_one_key_are_forgotten_as_well() {
        let mut map: Recent<u32, Vec<u32>> = Recent::new(3);
        let mut forgotten = 0;
        for number in 0..10 {
            let (value, gone) = map.entry(7);
            value.push(number);
            forgotten += gone.into_values().map(|of| of.len()).sum::<usize>();
        }
        assert_eq!(forgotten, 6);
        assert_eq!(map.remove(&7, Vec::len), [Some(vec![6, 7, 8]), Some(vec![9])]);
    }
}
