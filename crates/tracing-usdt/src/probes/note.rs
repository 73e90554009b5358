//! What a probe is made of: a `nop`, a note that tells where it is, and a semaphore.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Probe;

/// Eight 16-bit counters, which the kernel or a debugger increments as it attaches. Side by side,
/// so that two loads tell whether anybody is there; each lies at twice its number.
#[repr(C, align(16))]
pub(super) struct Semaphores([AtomicU64; 2]);

// SAFETY: nothing but this and `OWN_PAGE`, of the same flags, is in the section.
#[allow(unsafe_code)]
#[unsafe(link_section = ".probes")]
pub(super) static SEMAPHORES: Semaphores = Semaphores([AtomicU64::new(0), AtomicU64::new(0)]);

/// Gives the semaphores a page of their own.
///
/// `.probes` otherwise follows the read-only-after-relocation segment directly. With rust-lld both
/// can share a page, and for a process that starts after the attach the kernel then increments the
/// semaphores in the mapping that is about to be replaced: they stay 0 and the probes stay silent.
/// A page-aligned object in the same section moves the section to a page start. Pages are up to
/// 64 KiB outside of x86.
#[cfg_attr(target_arch = "x86_64", repr(C, align(4096)))]
#[cfg_attr(not(target_arch = "x86_64"), repr(C, align(65536)))]
struct OwnPage([AtomicU64; 0]); // an atomic, for a writable section like the semaphores'

// SAFETY: as for `SEMAPHORES`.
#[allow(unsafe_code)]
#[used]
#[unsafe(link_section = ".probes")]
static OWN_PAGE: OwnPage = OwnPage([]);

/// Whether a consumer is attached to `probe`.
#[inline]
pub(crate) fn attached(probe: Probe) -> bool {
    let at = probe as usize;
    SEMAPHORES.0[at / 4].load(Ordering::Relaxed) >> (at % 4 * 16) & 0xffff != 0
}

/// Whether any of the eight has a consumer.
#[inline]
pub(crate) fn any_attached() -> bool {
    SEMAPHORES.0[0].load(Ordering::Relaxed) | SEMAPHORES.0[1].load(Ordering::Relaxed) != 0
}

/// Makes the function of a probe, which fires whether or not a consumer is attached. The note's form
/// is that of <https://sourceware.org/systemtap/wiki/UserSpaceProbeImplementation>: the addresses of
/// the instruction, of `_.stapsdt.base` (which tells how far the image was moved after linking) and
/// of the semaphore; then provider, name and what the arguments are in.
///
/// The `nop` has one byte: the kernel turns one of five into a call that overwrites the red zone.
macro_rules! usdt {
    ($(#[$doc:meta])* $name:ident[$probe:ident]($a:ident: $args:ty) => $first:expr $(, $rest:expr)*) => {
        $(#[$doc])*
        #[inline(never)]
        pub(crate) fn $name($a: &$args) {
            // SAFETY: one `nop`; all else is data in sections of its own, which the program neither
            // runs nor reads.
            #[allow(unsafe_code)]
            unsafe {
                std::arch::asm!(
                    "990: nop",
                    ".pushsection .note.stapsdt, \"?\", \"note\"",
                    ".balign 4",
                    ".4byte 992f - 991f, 994f - 993f, 3",
                    "991: .asciz \"stapsdt\"",
                    "992: .balign 4",
                    "993: .8byte 990b, _.stapsdt.base, {semaphores} + {offset}",
                    ".asciz \"tracing\"",
                    concat!(".asciz \"", stringify!($name), "\""),
                    concat!(".asciz \"", usdt!(@operand $first), $(" ", usdt!(@operand $rest),)* "\""),
                    "994: .balign 4",
                    ".popsection",
                    ".ifndef _.stapsdt.base",
                    ".pushsection .stapsdt.base, \"aGR\", \"progbits\", .stapsdt.base, comdat",
                    ".weak _.stapsdt.base",
                    ".hidden _.stapsdt.base",
                    "_.stapsdt.base: .space 1",
                    ".size _.stapsdt.base, 1",
                    ".popsection",
                    ".endif",
                    in(reg) $first as u64,
                    $(in(reg) $rest as u64,)*
                    semaphores = sym $crate::probes::note::SEMAPHORES,
                    offset = const 2 * $crate::probes::Probe::$probe as usize,
                    options(readonly, nostack, preserves_flags),
                );
            }
        }
    };
    // Eight bytes, signed as systemtap's own macro has them, in a register.
    (@operand $argument:expr) => { $crate::probes::note::usdt_operand!() };
}

#[cfg(target_arch = "x86_64")]
macro_rules! usdt_operand {
    () => {
        "-8@%{}"
    };
}

#[cfg(not(target_arch = "x86_64"))]
macro_rules! usdt_operand {
    () => {
        "-8@{}"
    };
}

pub(super) use usdt;
pub(crate) use usdt_operand;
