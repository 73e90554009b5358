//! Random numbers for ids. Each thread has its own generator, so that no thread waits for another.
//!
//! A forked child starts with a copy of the forking thread's generator. Both would draw the same ids, so a
//! generator of an older fork generation is replaced by one with a new seed.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};

use fastrand::Rng;

use crate::clock::Monotonic;
use crate::process;

/// The state of this thread's generator, in cells that need no destructor, so that a thread finds them with one load
/// and may draw ids until its end.
struct Generator {
    /// The fork generation in which the generator was seeded; [`UNSEEDED`] if it was not yet.
    forks: Cell<u32>,
    /// Two generators, because one has 64 bits of state and a trace id needs 128.
    halves: [Cell<u64>; 2],
}

/// More forks than there can be.
const UNSEEDED: u32 = u32::MAX;

thread_local! {
    static GENERATOR: Generator =
        const { Generator { forks: Cell::new(UNSEEDED), halves: [const { Cell::new(0) }; 2] } };
}

impl Generator {
    /// Draws 64 bits from one half.
    #[inline]
    fn draw(&self, half: usize) -> u64 {
        let state = &self.halves[half];
        let mut generator = Rng::with_seed(state.get());
        let drawn = generator.u64(..);
        state.set(generator.get_seed());
        drawn
    }

    #[cold]
    fn seed(&self, forks: u32) {
        self.halves.iter().for_each(|half| half.set(seed()));
        self.forks.set(forks);
    }
}

#[inline]
fn with_generator<T>(f: impl FnOnce(&Generator) -> T) -> T {
    let forks = process::forks();
    GENERATOR.with(|generator| {
        if generator.forks.get() != forks {
            generator.seed(forks);
        }
        f(generator)
    })
}

/// 64 random bits.
#[inline]
pub(crate) fn random() -> u64 {
    with_generator(|generator| generator.draw(0))
}

/// 128 random bits for a trace id, and 64 for a span id.
#[inline]
pub(crate) fn random_ids() -> (u128, u64) {
    with_generator(|generator| {
        let [high, low] = [generator.draw(0), generator.draw(1)];
        (u128::from(high) << 64 | u128::from(low), generator.draw(0))
    })
}

/// A 64-bit seed. `RandomState` takes its keys from the operating system's random numbers once per thread, so
/// a forked child has the same keys; the process id and the time make its seed different.
#[cold]
fn seed() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.write_u64(Monotonic::of_kernel().as_ns());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_draw_different_numbers() {
        let here: Vec<u64> = (0..100).map(|_| random()).collect();
        let there = std::thread::spawn(|| (0..100).map(|_| random()).collect::<Vec<u64>>())
            .join()
            .expect("the thread only draws numbers");
        assert!(here.iter().all(|n| !there.contains(n)));
    }

    #[test]
    fn a_forked_child_gets_a_new_seed() {
        let state = |generator: &Generator| generator.halves.each_ref().map(Cell::get);
        let before = with_generator(state);
        process::pretend_to_be_a_child();
        assert_ne!(with_generator(state), before);
    }
}
