//! `exec`: the program becomes another one, and the kernel tells nobody before. Handlers of `atexit` don't run, and all
//! threads but the calling one are gone, with what they had still to send.
//!
//! So where the C library is glibc, `execv`, `execve` and `execvp` (which is std's `CommandExt::exec`) are ours: they
//! wait until the thread that sends has sent what is queued, some 20 ms, and then do what they always do. They are
//! weak symbols: a program that defines its own has its own. Other ways (`fexecve`, `execvpe`, a system call by hand,
//! other C libraries) are as before, and their users call `Handle::flush`.
//!
//! POSIX allows `execv` and `execve` in signal handlers. So nothing here takes a lock that could be held for long, or
//! memory: it looks at atomics, and sleeps.
#![allow(unsafe_code)] // of symbols of the C library and what their callers promise

use std::arch::global_asm;
use std::ffi::{c_char, c_int};
use std::time::{Duration, Instant};

use nix::libc;

use super::at_exit::for_each_open;

/// The thread that sends needs 20 ms where the receiver keeps up. Longer than this, nobody's `exec` waits.
const AT_MOST: Duration = Duration::from_millis(100);

const LOOK: Duration = Duration::from_millis(1);

/// Keeps the symbols in the program: a linker takes no object out of a library that nothing refers to.
#[inline(never)]
pub(super) fn watch() {}

fn wait_for_sender() {
    let end = Instant::now() + AT_MOST;
    let mut waits = true;
    while waits && Instant::now() < end {
        waits = false;
        for_each_open(|carrier| waits |= carrier.is_sending());
        if waits {
            std::thread::sleep(LOOK);
        }
    }
}

/// `execve`, past the C library's.
///
/// # Safety
///
/// As of `execve`.
unsafe fn system_call(path: *const c_char, argv: *const *const c_char, envp: *const *const c_char) -> c_int {
    // SAFETY: the caller's promise is that of the system call. It sets `errno`.
    unsafe { libc::syscall(libc::SYS_execve, path, argv, envp) as c_int }
}

unsafe extern "C" {
    static environ: *const *const c_char;
}

unsafe extern "C" fn execv(path: *const c_char, argv: *const *const c_char) -> c_int {
    wait_for_sender();
    // SAFETY: the caller's promise; `environ` is the C library's.
    unsafe { system_call(path, argv, environ) }
}

unsafe extern "C" fn execve(
    path: *const c_char,
    argv: *const *const c_char,
    envp: *const *const c_char,
) -> c_int {
    wait_for_sender();
    // SAFETY: the caller's promise.
    unsafe { system_call(path, argv, envp) }
}

unsafe extern "C" fn execvp(file: *const c_char, argv: *const *const c_char) -> c_int {
    wait_for_sender();
    // SAFETY: the caller's promise; glibc's `execvp` is this call.
    unsafe { libc::execvpe(file, argv, environ) }
}

#[cfg(target_arch = "x86_64")]
macro_rules! jump {
    () => {
        "jmp"
    };
}
#[cfg(target_arch = "aarch64")]
macro_rules! jump {
    () => {
        "b"
    };
}

/// A weak symbol that leads to a function of ours. Rust has no stable way to declare one.
macro_rules! weak {
    ($name:literal, $function:ident) => {
        global_asm!(
            concat!(".pushsection .text.tracing_usdt.", $name, ",\"ax\",@progbits"),
            concat!(".weak ", $name),
            concat!(".type ", $name, ",@function"),
            concat!($name, ": ", jump!(), " {function}"),
            concat!(".size ", $name, ", . - ", $name),
            ".popsection",
            function = sym $function,
        );
    };
}

weak!("execv", execv);
weak!("execve", execve);
weak!("execvp", execvp);
