//! Waits before `exec`, so that queued spans are sent before another program replaces this one.
//!
//! `exec` runs no `atexit` handlers and ends all other threads, the sender thread with them. In an executable
//! with glibc, `symbols` therefore defines `execv`, `execve` and `execvp` (which std's `CommandExt::exec`
//! calls): they wait until the sender thread has sent what is queued, about 20 ms, and then call the C
//! library's function. This does not cover `fexecve`, `execvpe`, direct system calls, other C libraries, or
//! this crate in a library that another program loads: there the program must call `Handle::flush`.
//!
//! POSIX allows `execv` and `execve` in signal handlers. So once a layer has been built, this code takes no
//! lock, and allocates and frees no memory: it reads atomics and sleeps. (Without a layer, the first call
//! looks the C library's function up.) `wait` is the wait for the sender thread.

#[cfg(all(target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod symbols;
mod wait;

/// Makes `exec` wait for what this process queues from now on.
pub(super) fn watch() {
    let is_first = wait::begin();
    // Only the first time: in a forked child, a lock of the dynamic loader may be held for good.
    #[cfg(all(
        target_os = "linux",
        target_env = "gnu",
        any(target_arch = "x86_64", target_arch = "aarch64")
    ))]
    if is_first {
        symbols::find();
    }
    let _ = is_first;
}
