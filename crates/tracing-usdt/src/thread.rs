//! What each thread keeps to itself: its ids as the kernel and std name it, and its own random
//! generator.
//!
//! A forked child starts with a copy of the forking thread's block: the same generator state would
//! draw the same ids in both processes, and the thread id would be the parent's. So every fork
//! bumps a generation, and a block of an older generation is made anew.

use std::cell::RefCell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::clock::Monotonic;
use crate::fields::{MAX_NAME_BYTES, floor_char_boundary};

/// The thread as a span names it.
#[derive(Clone, Debug)]
pub(crate) struct ThreadInfo {
    /// The kernel's id of the thread where it has one: `tid` in bpftrace.
    pub(crate) id: Option<u64>,
    pub(crate) name: Option<Arc<str>>,
}

struct Block {
    forks: u32,
    /// Two, because one has 64 bits of state, and a trace id is to have 128.
    random: [fastrand::Rng; 2],
    info: ThreadInfo,
}

impl Block {
    fn new(forks: u32) -> Self {
        Self {
            forks,
            random: [(); 2].map(|()| fastrand::Rng::with_seed(seed())),
            info: ThreadInfo { id: kernel_id(), name: std::thread::current().name().map(cut) },
        }
    }
}

/// Long enough for a name.
fn cut(name: &str) -> Arc<str> {
    name[..floor_char_boundary(name, MAX_NAME_BYTES)].into()
}

thread_local! {
    static BLOCK: RefCell<Option<Block>> = const { RefCell::new(None) };
}

/// Runs `f` on this thread's block; `None` while the thread is being torn down.
fn with_block<T>(f: impl FnOnce(&mut Block) -> T) -> Option<T> {
    let forks = forks();
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
pub(crate) fn random() -> u64 {
    with_block(|block| block.random[0].u64(..)).unwrap_or_else(seed)
}

/// 128 random bits.
pub(crate) fn random_wide() -> u128 {
    let halves = with_block(|block| block.random.each_mut().map(|half| half.u64(..)));
    let [high, low] = halves.unwrap_or_else(|| [seed(), seed()]);
    u128::from(high) << 64 | u128::from(low)
}

/// The calling thread.
pub(crate) fn info() -> ThreadInfo {
    with_block(|block| block.info.clone()).unwrap_or(ThreadInfo { id: kernel_id(), name: None })
}

/// 64 bits from the operating system's randomness, which `RandomState` is keyed with. The keys are
/// per thread and survive a fork: process id and time tell parent and children apart.
fn seed() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.write_u64(Monotonic::now().as_ns());
    hasher.finish()
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn kernel_id() -> Option<u64> {
    u64::try_from(nix::unistd::gettid().as_raw()).ok()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn kernel_id() -> Option<u64> {
    None
}

/// How many forks lie between this process and the one that first watched.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// The fork generation of this process.
pub(crate) fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// Has every fork from now on noticed; called when a layer is built.
#[cfg(unix)]
pub(crate) fn watch_forks() {
    extern "C" fn in_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler only adds to an atomic, which is async-signal-safe, and it lives as
        // long as the image it is in: libc drops the handlers of an image that is unloaded.
        // It fails only for want of memory; a fork would then go unnoticed, as without us.
        #[allow(unsafe_code)]
        unsafe {
            nix::libc::pthread_atfork(None, None, Some(in_child));
        }
    });
}

#[cfg(not(unix))]
pub(crate) fn watch_forks() {}

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
        FORKS.fetch_add(1, Ordering::Relaxed);
        assert_ne!(with_block(state), before);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn names_the_thread_as_the_kernel_does() {
        std::thread::Builder::new()
            .name("worker-7".into())
            .spawn(|| {
                let info = info();
                let task = format!("/proc/self/task/{}/comm", info.id.expect("linux has one"));
                let comm = std::fs::read_to_string(task).expect("the running thread");
                assert_eq!(comm.trim(), "worker-7");
                assert_eq!(info.name.as_deref(), Some("worker-7"));
            })
            .expect("a thread")
            .join()
            .expect("the assertions inside");
    }
}
