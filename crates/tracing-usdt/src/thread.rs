//! What each thread keeps to itself: who it is, its own random generator, and buffers to use again.
//!
//! A forked child starts with a copy of the forking thread's block: the same generator state would
//! draw the same ids in both processes, and the thread id would be the parent's. So every fork
//! bumps a generation, and a block of an older generation is made anew.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::clock::Monotonic;
use crate::fields::{Fields, MAX_NAME_BYTES, floor_char_boundary};
use crate::identity::Identity;
use crate::process;
use crate::span::OpenSpan;

/// The thread as a span names it.
pub(crate) struct Thread {
    /// The kernel's id of the thread where it has one, `tid` in bpftrace; else 0.
    pub(crate) id: u64,
    /// Empty: it has none.
    pub(crate) name: String,
}

struct Block {
    forks: u32,
    /// Two, because one has 64 bits of state, and a trace id is to have 128.
    random: [fastrand::Rng; 2],
    thread: Arc<Thread>,
    #[allow(clippy::vec_box)] // it is the boxes that are to be used again
    boxes: Vec<Box<OpenSpan>>,
    fields: Fields,
    text: Vec<u8>,
}

/// How many boxes a thread keeps: as many spans begin and end in a row without the allocator.
const MAX_BOXES: usize = 32;

/// A text's buffer that has grown beyond this is not kept.
const MAX_TEXT_BYTES: usize = 16 * 1024;

impl Block {
    #[cold]
    fn new(forks: u32) -> Self {
        Self {
            forks,
            random: [(); 2].map(|()| fastrand::Rng::with_seed(seed())),
            thread: Arc::new(this_thread()),
            boxes: Vec::new(),
            fields: Fields::default(),
            text: Vec::new(),
        }
    }
}

fn this_thread() -> Thread {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or_default();
    Thread { id: kernel_id(), name: name[..floor_char_boundary(name, MAX_NAME_BYTES)].to_owned() }
}

thread_local! {
    static BLOCK: RefCell<Option<Block>> = const { RefCell::new(None) };
}

/// Runs `f` on this thread's block; `None` while the thread is being torn down, and in code that
/// comes back into the layer from here, which only a tracing allocator does.
#[inline]
fn with_block<T>(f: impl FnOnce(&mut Block) -> T) -> Option<T> {
    let forks = process::forks();
    BLOCK
        .try_with(|block| {
            let mut block = block.try_borrow_mut().ok()?;
            let block = match &mut *block {
                Some(block) if block.forks == forks => block,
                stale => stale.insert(Block::new(forks)),
            };
            Some(f(block))
        })
        .ok()
        .flatten()
}

/// 64 random bits.
#[inline]
pub(crate) fn random() -> u64 {
    with_block(|block| block.random[0].u64(..)).unwrap_or_else(seed)
}

/// 128 random bits, and 64 others.
#[inline]
pub(crate) fn random_ids() -> (u128, u64) {
    let drawn = with_block(|block| {
        let [high, low] = block.random.each_mut().map(|half| half.u64(..));
        [high, low, block.random[0].u64(..)]
    });
    let [high, low, other] = drawn.unwrap_or_else(|| [seed(), seed(), seed()]);
    (u128::from(high) << 64 | u128::from(low), other)
}

/// A number of the calling thread's own, from 0 on.
#[inline]
pub(crate) fn number() -> usize {
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    #[cold]
    fn next() -> usize {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        NUMBER.set(number);
        number
    }
    match NUMBER.get() {
        usize::MAX => next(),
        number => number,
    }
}

/// A box for a span that begins on the calling thread.
#[inline]
pub(crate) fn open_span(identity: Identity) -> Box<OpenSpan> {
    let taken = with_block(|block| {
        let mut span = block.boxes.pop().unwrap_or_else(|| Box::new(OpenSpan::new(identity)));
        span.identity = identity;
        span.record.set_thread(&block.thread);
        span
    });
    taken.unwrap_or_else(|| {
        let mut span = Box::new(OpenSpan::new(identity));
        span.record.set_thread(&Arc::new(this_thread()));
        span
    })
}

/// Gives a box back, for another span.
#[inline]
pub(crate) fn give_back(mut span: Box<OpenSpan>) {
    span.clear();
    with_block(|block| {
        if block.boxes.len() < MAX_BOXES {
            block.boxes.push(span);
        }
    });
}

/// Runs `f` with an empty set of fields.
pub(crate) fn with_fields<T>(f: impl FnOnce(&mut Fields) -> T) -> T {
    // Taken out, because `f` may come back here.
    let mut fields = with_block(|block| std::mem::take(&mut block.fields)).unwrap_or_default();
    let result = f(&mut fields);
    fields.clear();
    with_block(|block| block.fields = fields);
    result
}

/// Runs `f` with an empty buffer.
pub(crate) fn with_text<T>(f: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut text = with_block(|block| std::mem::take(&mut block.text)).unwrap_or_default();
    let result = f(&mut text);
    text.clear();
    if text.capacity() <= MAX_TEXT_BYTES {
        with_block(|block| block.text = text);
    }
    result
}

/// 64 bits from the operating system's randomness, which `RandomState` is keyed with. The keys are
/// per thread and survive a fork: process id and time tell parent and children apart.
#[cold]
fn seed() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.write_u64(Monotonic::of_kernel().as_ns());
    hasher.finish()
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn kernel_id() -> u64 {
    u64::try_from(nix::unistd::gettid().as_raw()).unwrap_or(0)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn kernel_id() -> u64 {
    0
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
    fn a_new_generation_draws_anew() {
        let state = |block: &mut Block| block.random.each_ref().map(fastrand::Rng::get_seed);
        let before = with_block(state);
        process::tests::pretend_to_be_a_child();
        assert_ne!(with_block(state), before);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn names_the_thread_as_the_kernel_does() {
        std::thread::Builder::new()
            .name("worker-7".into())
            .spawn(|| {
                let thread = this_thread();
                let task = format!("/proc/self/task/{}/comm", thread.id);
                let comm = std::fs::read_to_string(task).expect("the running thread");
                assert_eq!(comm.trim(), "worker-7");
                assert_eq!(thread.name, "worker-7");
            })
            .expect("a thread")
            .join()
            .expect("the assertions inside");
    }
}
