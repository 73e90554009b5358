//! The thread-local variable `otel_thread_ctx_v1`, in which other programs find a thread's innermost span: OpenTelemetry's
//! OTEP 4947.
//!
//! Stable Rust has no thread-local variable with a name of its own, so it is written in assembly. It is reached through a
//! descriptor (TLSDESC), which works in executables and in libraries: the linker replaces it by a constant where it can.
//!
//! It has a second, hidden symbol, by which the layer reaches it: GNU ld leaves the place of an exported variable to the
//! dynamic loader, which static executables don't have. That has the crate's version in its name, so that two versions in a
//! program don't write to one variable. Both are weak, because another crate of the program may define
//! `otel_thread_ctx_v1`, too. Profilers see the first definition only.

#![allow(unsafe_code)] // no attribute of `global_asm!` allows it

use std::sync::atomic::AtomicPtr;

#[cfg(all(target_os = "linux", target_pointer_width = "64", not(miri)))]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! hidden {
    ($before:literal, $behind:literal) => {
        concat!(
            $before,
            "tracing_usdt_thread_ctx_",
            env!("CARGO_PKG_VERSION_MAJOR"),
            "_",
            env!("CARGO_PKG_VERSION_MINOR"),
            "_",
            env!("CARGO_PKG_VERSION_PATCH"),
            $behind
        )
    };
}

/// The calling thread's variable. `None` on platforms for which there is no assembly.
pub(super) fn own() -> Option<&'static AtomicPtr<u8>> {
    let [thread_pointer, distance] = place()?;
    // A linker that left the distance to a loader that isn't there.
    if distance == 0 {
        return None;
    }
    let address = thread_pointer.wrapping_add(distance) as *const AtomicPtr<u8>;
    // SAFETY: it is a variable of 8 bytes, aligned to 8, which begins as null. It lives as long as the thread, which is
    // the only one that gets the reference: the context that keeps it is forgotten when the thread ends.
    unsafe { address.as_ref() }
}

/// Whether other programs find the variable: the reason if they don't.
pub(super) fn check() -> Result<(), &'static str> {
    if own().is_none() {
        return Err("not on this platform, or not with this linker");
    }
    // In a static executable there is no loader to ask.
    #[cfg(all(target_os = "linux", not(target_feature = "crt-static"), not(miri)))]
    // SAFETY: the name ends with a NUL. The address is not used.
    if unsafe { nix::libc::dlsym(nix::libc::RTLD_DEFAULT, c"otel_thread_ctx_v1".as_ptr()) }.is_null() {
        return Err("the program does not export otel_thread_ctx_v1; link it with \
                    -Wl,--export-dynamic-symbol=otel_thread_ctx_v1");
    }
    Ok(())
}

// SAFETY: it only defines a variable.
#[cfg(all(target_os = "linux", target_pointer_width = "64", not(miri)))]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
std::arch::global_asm!(
    ".pushsection .tbss.otel_thread_ctx_v1, \"awT\", %nobits",
    ".balign 8",
    hidden!(".weak otel_thread_ctx_v1, ", ""),
    ".protected otel_thread_ctx_v1",
    hidden!(".hidden ", ""),
    ".type otel_thread_ctx_v1, %object",
    hidden!(".type ", ", %object"),
    ".size otel_thread_ctx_v1, 8",
    hidden!(".size ", ", 8"),
    "otel_thread_ctx_v1:",
    hidden!("", ":"),
    ".zero 8",
    ".popsection",
);

/// The thread pointer, and how far from it the variable is.
#[cfg(all(target_os = "linux", target_pointer_width = "64", target_arch = "x86_64", not(miri)))]
fn place() -> Option<[usize; 2]> {
    let (thread_pointer, distance);
    // SAFETY: by the ABI of descriptors, the call takes the descriptor in rax and returns the distance there. It should keep
    // all other registers, but in glibc before 2.40 it changes those of vectors (bug 31372), so that it counts as a
    // usual call here. The thread pointer is at %fs:0.
    unsafe {
        std::arch::asm!(
            hidden!("leaq ", "@tlsdesc(%rip), %rax"),
            hidden!("call *", "@tlscall(%rax)"),
            "movq %fs:0, %rcx",
            out("rax") distance,
            out("rcx") thread_pointer,
            clobber_abi("C"),
            options(att_syntax),
        );
    }
    Some([thread_pointer, distance])
}

#[cfg(all(target_os = "linux", target_pointer_width = "64", target_arch = "aarch64", not(miri)))]
fn place() -> Option<[usize; 2]> {
    let (thread_pointer, distance);
    // SAFETY: by the ABI of descriptors, the call takes the descriptor in x0 and returns the distance there. It should keep
    // most registers, but counts as a usual call, as above.
    unsafe {
        std::arch::asm!(
            hidden!("adrp x0, :tlsdesc:", ""),
            hidden!("ldr x1, [x0, :tlsdesc_lo12:", "]"),
            hidden!("add x0, x0, :tlsdesc_lo12:", ""),
            hidden!(".tlsdesccall ", ""),
            "blr x1",
            "mrs x1, tpidr_el0",
            out("x0") distance,
            out("x1") thread_pointer,
            clobber_abi("C"),
        );
    }
    Some([thread_pointer, distance])
}

#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(miri)
)))]
fn place() -> Option<[usize; 2]> {
    None
}

#[cfg(test)]
mod tests {
    use std::ptr;
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn each_thread_has_its_own() {
        let Some(own) = own() else {
            // Miri knows no assembly.
            assert_eq!(std::env::consts::OS == "linux", cfg!(miri), "it is missing");
            return;
        };
        let mut record = 0_u8;
        own.store(&raw mut record, Ordering::Relaxed);
        let others = std::thread::spawn(|| {
            super::own().map(|other| (ptr::from_ref(other) as usize, other.load(Ordering::Relaxed).is_null()))
        });
        let (address, is_null) = others.join().expect("no panic").expect("as here");
        assert!(is_null && address != ptr::from_ref(own) as usize);
        assert_eq!(own.load(Ordering::Relaxed), &raw mut record);
        own.store(ptr::null_mut(), Ordering::Relaxed);
    }
}
