//! `exec`: the program becomes another one, and the kernel tells nobody before. Handlers of `atexit` don't run, and all
//! threads but the calling one are gone, with what they had still to send.
//!
//! So in an executable with glibc `execv`, `execve` and `execvp` (which is std's `CommandExt::exec`) are ours, in
//! `symbols`: they wait until the thread that sends has sent what is queued, some 20 ms, and then call the function that
//! they stand before. Other ways (`fexecve`, `execvpe`, a system call by hand, the program that loads us as a library,
//! other C libraries) are as before, and their users call `Handle::flush`.
//!
//! POSIX allows `execv` and `execve` in signal handlers. So once a layer has been built, nothing here waits for a lock, or
//! takes or gives back memory: it looks at atomics, and sleeps. (Before that, the first call asks the dynamic loader for
//! the function to go on with.)

#[cfg(all(target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod symbols;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::at_exit::for_each_open;

/// The upper bound of the wait. The thread that sends needs 20 ms where the receiver keeps up.
const AT_MOST: Duration = Duration::from_millis(100);

const LOOK: Duration = Duration::from_millis(1);

/// More layers than this in one program are not waited for.
const MOST_LAYERS: usize = 8;

/// The process that has something to send. A child that has not yet done so executes at once, which matters for those of
/// `vfork`, who share their parent's memory.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// This process has something to send from now on.
pub(super) fn watch() {
    let before = PROCESS.swap(std::process::id(), Ordering::Relaxed);
    // Not in a forked child, which may find locks of the dynamic loader held.
    #[cfg(all(
        target_os = "linux",
        target_env = "gnu",
        any(target_arch = "x86_64", target_arch = "aarch64")
    ))]
    if before == 0 {
        symbols::find();
    }
    let _ = before;
}

#[allow(dead_code)] // where there are no symbols of ours
fn wait_for_sender() {
    if PROCESS.load(Ordering::Relaxed) != std::process::id() {
        return;
    }
    let mut todo = [None; MOST_LAYERS];
    let mut places = todo.iter_mut();
    for_each_open(|carrier| {
        if let (Some(background), Some(place)) = (carrier.background(), places.next()) {
            *place = background.before_exec();
        }
    });
    let end = Instant::now() + AT_MOST;
    loop {
        let (mut is_done, mut todo) = (true, todo.iter());
        for_each_open(|carrier| {
            if let (Some(background), Some(todo)) = (carrier.background(), todo.next()) {
                is_done &= todo.as_ref().is_none_or(|todo| background.is_done(todo));
            }
        });
        if is_done || Instant::now() >= end {
            return;
        }
        std::thread::sleep(LOOK);
    }
}
