//! The probes' semaphores: a counter per probe, which the kernel or a debugger increments for each attached
//! consumer.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Probe;

/// Twelve 16-bit counters, of which ten are in use. A probe's counter is at twice the probe's number in bytes. They
/// lie side by side, so that three 64-bit loads show whether any probe has a consumer.
#[repr(C, align(32))]
pub(super) struct Semaphores([AtomicU64; 3]);

// SAFETY: the section contains only this static and `OWN_PAGE`, which needs the same section flags.
#[allow(unsafe_code)]
#[cfg_attr(any(target_os = "linux", target_os = "android"), unsafe(link_section = ".probes"))]
pub(super) static SEMAPHORES: Semaphores = Semaphores([const { AtomicU64::new(0) }; 3]);

/// Gives the semaphores a page of their own.
///
/// `.probes` otherwise follows the read-only-after-relocation segment directly. With rust-lld both can share
/// a page. If a process starts after a consumer has attached, the kernel then increments the semaphores in a
/// mapping that is replaced afterwards: they stay 0, and the probes never fire. A page-aligned object in the
/// same section moves the section to the start of a page. Other processors than x86 have pages of up
/// to 64 KiB.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[cfg_attr(target_arch = "x86_64", repr(C, align(4096)))]
#[cfg_attr(not(target_arch = "x86_64"), repr(C, align(65536)))]
struct OwnPage([AtomicU64; 0]); // an atomic makes the section writable, as for the semaphores

// SAFETY: as for `SEMAPHORES`.
#[allow(unsafe_code)]
#[cfg(any(target_os = "linux", target_os = "android"))]
#[used]
#[unsafe(link_section = ".probes")]
static OWN_PAGE: OwnPage = OwnPage([]);

/// Whether a consumer is attached to `probe`.
#[inline]
pub(crate) fn attached(probe: Probe) -> bool {
    attached_to_one([probe])
}

/// Whether a consumer is attached to one of these probes, whose counters are in the same word.
#[inline]
pub(crate) fn attached_to_one<const N: usize>(probes: [Probe; N]) -> bool {
    let word = probes[0] as usize / 4;
    assert!(probes.iter().all(|probe| *probe as usize / 4 == word), "counters in two words");
    let mask = probes.iter().fold(0, |mask, probe| mask | 0xffff_u64 << (*probe as usize % 4 * 16));
    SEMAPHORES.0[word].load(Ordering::Relaxed).to_le() & mask != 0
}

/// Counts the layer itself as a consumer of `probe`, for good. (The kernel reads, adds and writes a counter in three steps. If
/// that happens within the same few nanoseconds, this count is lost, and the layer stops when that consumer detaches.)
pub(crate) fn ask(probe: Probe) {
    let (word, one) = (probe as usize / 4, 1_u64 << (probe as usize % 4 * 16));
    SEMAPHORES.0[word].fetch_add(one.to_le(), Ordering::Relaxed);
}

/// Whether a consumer is attached to any probe.
#[inline]
pub(crate) fn any_attached() -> bool {
    SEMAPHORES.0.iter().fold(0, |all, word| all | word.load(Ordering::Relaxed)) != 0
}
