//! The table of all callsites seen so far. Finds a callsite by its metadata or by its id.

use std::sync::atomic::{AtomicU32, Ordering};

use once_cell::race::{OnceBox, OnceRef};
use tracing_core::Metadata;

use super::Callsite;

/// A lock-free hash table. Its lists only grow, so neither a lookup nor an insertion takes a lock, which
/// could stay locked for ever in a forked child. If two threads insert into the same list at once, one of the
/// two new entries is discarded.
static TABLE: [Slot; 1 << TABLE_BITS] = [const { Slot::new() }; 1 << TABLE_BITS];
const TABLE_BITS: u32 = 10;

type Slot = OnceBox<Entry>;

struct Entry {
    callsite: &'static Callsite,
    next: Slot,
}

/// The callsite of `metadata`. Inserts it at its first use.
#[inline]
pub(crate) fn of(metadata: &'static Metadata<'static>) -> &'static Callsite {
    // Fibonacci hashing: the upper bits of the product depend on all bits of the address.
    let address = std::ptr::from_ref(metadata) as u64;
    let hash = address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - TABLE_BITS);
    let mut slot = &TABLE[hash as usize];
    loop {
        let entry = match slot.get() {
            Some(entry) => entry,
            None => {
                let _ = slot.set(Box::new(Entry { callsite: add(metadata), next: Slot::new() }));
                continue;
            }
        };
        if std::ptr::eq(entry.callsite.metadata, metadata) {
            return entry.callsite;
        }
        slot = &entry.next;
    }
}

/// The callsites by id, in parts of 256, 512, 1024 and so on: a part never moves once it is allocated.
static BY_ID: [OnceBox<Vec<OnceRef<'static, Callsite>>>; 25] = [const { OnceBox::new() }; 25];
const FIRST_PART: u32 = 256;

/// The part of [`BY_ID`] that holds `id`, and the position in it.
fn place(id: u32) -> (usize, usize) {
    let part = (id / FIRST_PART + 1).ilog2();
    (part as usize, (id - FIRST_PART * ((1 << part) - 1)) as usize)
}

/// Creates a callsite under the next id.
#[cold]
fn add(metadata: &'static Metadata<'static>) -> &'static Callsite {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let id = COUNT.fetch_add(1, Ordering::Relaxed);
    let callsite: &'static Callsite = Box::leak(Box::new(Callsite::new(id, metadata)));
    let (part, at) = place(id);
    if BY_ID[part].get().is_none() {
        let _ = BY_ID[part].set(Box::new((0..FIRST_PART << part).map(|_| OnceRef::new()).collect()));
    }
    if let Some(slots) = BY_ID[part].get() {
        let _ = slots[at].set(callsite);
    }
    callsite
}

/// The callsite with this id, if there is one.
pub(crate) fn by_id(id: u32) -> Option<&'static Callsite> {
    let (part, at) = place(id);
    BY_ID.get(part)?.get()?.get(at)?.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_distinct_places() {
        let places: Vec<_> = [0, 255, 256, 767, 768].map(place).to_vec();
        assert_eq!(places, [(0, 0), (0, 255), (1, 0), (1, 511), (2, 0)]);
    }
}
