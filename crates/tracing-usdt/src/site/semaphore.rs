//! The counters of the consumers that are attached to the probes of a callsite.
//!
//! They are symbols that the assembler makes. Their names have the version of their layout, and a number for the provider
//! and name. So callsites of one name have the same counters, wherever they are in the program: bpftrace and bcc take the
//! counter of the first location for all locations of a probe.

use super::Site;
use super::note::Names;

/// How many consumers are attached to the probes of a callsite.
#[derive(Clone, Copy, Debug)]
pub struct Consumers(u32);

impl Consumers {
    /// Nobody.
    pub const NONE: Self = Self(0);

    /// Whether someone looks at a probe of this callsite.
    #[inline(always)]
    pub fn any(self) -> bool {
        self.0 != 0
    }

    /// Whether someone looks at the exits.
    #[inline(always)]
    pub fn of_exit(self) -> bool {
        self.0 >> 16 != 0
    }
}

/// The load of the counters, which `hash` names, into the register `counters`.
#[cfg(target_arch = "x86_64")]
macro_rules! load {
    () => {
        "mov {counters:e}, dword ptr [rip + tracing_usdt_1_{hash}]"
    };
}
#[cfg(target_arch = "aarch64")]
macro_rules! load {
    () => {
        "adrp {counters}, tracing_usdt_1_{hash}\nldr {counters:w}, [{counters}, :lo12:tracing_usdt_1_{hash}]"
    };
}
#[cfg(target_arch = "riscv64")]
macro_rules! load {
    () => {
        "lla {counters}, tracing_usdt_1_{hash}\nlwu {counters}, 0({counters})"
    };
}

/// The consumers of a callsite: one load.
///
/// The two counters, of the entry and of the exit, have 16 bits each and are side by side.
#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"),
    target_pointer_width = "64",
    not(miri),
))]
#[inline(always)]
#[allow(unsafe_code, named_asm_labels)] // a label with a name: the probe's note, in another block, refers to it
pub fn consumers<S: Site>() -> Consumers {
    let counters: u64;
    // SAFETY: reads four bytes that this block defines. They may change at any time, so the block is not `pure`.
    unsafe {
        std::arch::asm!(
            load!(),
            ".ifndef tracing_usdt_1_{hash}",
            // All object files have a copy, of which the linker keeps one.
            ".pushsection .probes, \"awG\", @progbits, tracing_usdt_1_{hash}, comdat",
            ".weak tracing_usdt_1_{hash}",
            ".hidden tracing_usdt_1_{hash}",
            ".balign 4",
            "tracing_usdt_1_{hash}: .4byte 0",
            ".type tracing_usdt_1_{hash}, @object",
            ".size tracing_usdt_1_{hash}, 4",
            ".popsection",
            ".endif",
            counters = out(reg) counters,
            hash = const Names::<S>::HASH,
            options(nostack, preserves_flags, readonly),
        );
    }
    Consumers(counters as u32)
}

/// Nothing reads probes on this platform.
#[cfg(not(all(
    any(target_os = "linux", target_os = "android"),
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"),
    target_pointer_width = "64",
    not(miri),
)))]
#[inline(always)]
pub fn consumers<S: Site>() -> Consumers {
    let _ = Names::<S>::HASH;
    Consumers(0)
}
