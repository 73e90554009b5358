//! `execv`, `execve` and `execvp` as weak symbols, so a program's own definitions take precedence.
#![allow(unsafe_code)] // calls functions of the C library with the pointers of the caller

use std::arch::global_asm;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use nix::libc;

use super::wait::wait_for_sender;

/// Looks up the functions that these symbols replace. Called when a layer is built, because a signal handler
/// may not do it.
///
/// The call also keeps the symbols in the program: a linker takes an object out of a library only if
/// something refers to it.
#[inline(never)]
pub(super) fn find() {
    for next in [&EXECV, &EXECVE, &EXECVP] {
        next.find();
    }
}

/// The function that this symbol replaces: the C library's, or that of a library which is loaded before it.
struct Next {
    name: &'static CStr,
    function: AtomicPtr<c_void>,
}

static EXECV: Next = Next::new(c"execv");
static EXECVE: Next = Next::new(c"execve");
static EXECVP: Next = Next::new(c"execvp");

impl Next {
    const fn new(name: &'static CStr) -> Self {
        Self { name, function: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// Null in a static executable, which has no such function.
    fn find(&self) -> *mut c_void {
        let known = self.function.load(Ordering::Relaxed);
        if !known.is_null() {
            return known;
        }
        // SAFETY: the name ends with a NUL.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        self.function.store(found, Ordering::Relaxed);
        found
    }
}

type Strings = *const *const c_char;

unsafe extern "C" {
    static environ: Strings;
}

unsafe extern "C" fn execv(path: *const c_char, argv: Strings) -> c_int {
    wait_for_sender();
    let next = EXECV.find();
    if next.is_null() {
        // SAFETY: the caller's promise is that of the system call, which sets `errno`; `environ` is the C
        // library's.
        return unsafe { libc::syscall(libc::SYS_execve, path, argv, environ) as c_int };
    }
    // SAFETY: a function of this name has this type.
    let next: unsafe extern "C" fn(*const c_char, Strings) -> c_int = unsafe { std::mem::transmute(next) };
    // SAFETY: the caller's promise.
    unsafe { next(path, argv) }
}

unsafe extern "C" fn execve(path: *const c_char, argv: Strings, envp: Strings) -> c_int {
    wait_for_sender();
    let next = EXECVE.find();
    if next.is_null() {
        // SAFETY: the caller's promise is that of the system call, which sets `errno`.
        return unsafe { libc::syscall(libc::SYS_execve, path, argv, envp) as c_int };
    }
    // SAFETY: a function of this name has this type.
    let next: unsafe extern "C" fn(*const c_char, Strings, Strings) -> c_int =
        unsafe { std::mem::transmute(next) };
    // SAFETY: the caller's promise.
    unsafe { next(path, argv, envp) }
}

unsafe extern "C" fn execvp(file: *const c_char, argv: Strings) -> c_int {
    wait_for_sender();
    let next = EXECVP.find();
    if next.is_null() {
        // SAFETY: the caller's promise; glibc's `execvp` is this call.
        return unsafe { libc::execvpe(file, argv, environ) };
    }
    // SAFETY: a function of this name has this type.
    let next: unsafe extern "C" fn(*const c_char, Strings) -> c_int = unsafe { std::mem::transmute(next) };
    // SAFETY: the caller's promise.
    unsafe { next(file, argv) }
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

/// Defines a weak symbol that jumps to a function. Stable Rust has no way to declare one.
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
