//! Starts and joins the layer's own threads, and numbers the threads of the program.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[cfg(unix)]
use nix::sys::signal::{SigSet, SigmaskHow};

/// The calling thread's number. Each thread gets the next one, from 1 on, at its first call.
#[inline]
pub(crate) fn thread_number() -> usize {
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(0) };
    }
    #[cold]
    fn next() -> usize {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
        NUMBER.set(number);
        number
    }
    match NUMBER.get() {
        0 => next(),
        number => number,
    }
}

/// Starts a thread of the layer with all signals blocked, because the program's own threads should receive
/// the program's signals. A thread inherits the mask of its creator: blocking them here leaves no moment at
/// which they are unblocked.
pub(crate) fn spawn(run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    #[cfg(unix)]
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    let thread = std::thread::Builder::new().name("tracing-usdt".into()).spawn(run);
    #[cfg(unix)]
    let _ = before.and_then(|before| before.thread_set_mask());
    thread
}

/// Waits until `thread` has ended or the deadline has passed. Without a deadline it could wait for ever: at
/// the end of the program, the thread may wait for one that no longer runs.
pub(crate) fn join(thread: JoinHandle<()>, deadline: Instant) {
    while !thread.is_finished() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    if thread.is_finished() {
        let _ = thread.join();
    }
}
