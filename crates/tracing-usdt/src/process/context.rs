//! Tells other programs about the process, in a mapping that they find by its name: OpenTelemetry's OTEP 4719, which its
//! eBPF profiler reads.

use std::io;

/// Publishes an encoded `ProcessContext` of OpenTelemetry for as long as the process runs the same program. Children do
/// not inherit it.
#[cfg(target_os = "linux")]
pub(crate) fn publish(context: &[u8]) -> io::Result<()> {
    use std::fs::File;
    use std::num::NonZeroUsize;
    use std::os::unix::fs::FileExt;

    use nix::sys::memfd::{MFdFlags, memfd_create};
    use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap};
    use nix::sys::prctl::set_vma_anon_name;
    use nix::time::{ClockId, clock_gettime};

    let file = File::from(memfd_create(NAME, MFdFlags::MFD_CLOEXEC)?);
    let length = HEADER_BYTES + context.len();
    file.set_len(length as u64)?;
    let length = NonZeroUsize::new(length).unwrap_or(NonZeroUsize::MIN);
    // SAFETY: a new mapping at an address that the kernel chooses. Nobody in this process reads it.
    #[allow(unsafe_code)]
    let address = unsafe {
        let address = mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, &file, 0)?;
        madvise(address, length.get(), MmapAdvise::MADV_DONTFORK)?;
        address
    };
    let size = u32::try_from(context.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let payload = address.as_ptr() as u64 + HEADER_BYTES as u64;
    file.write_all_at(context, HEADER_BYTES as u64)?;
    file.write_all_at(&VERSION.to_ne_bytes(), 8)?;
    file.write_all_at(&size.to_ne_bytes(), 12)?;
    file.write_all_at(&payload.to_ne_bytes(), 24)?;
    file.write_all_at(SIGNATURE, 0)?;
    // Readers take the context for complete once it has a time.
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
    let now_ns = now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64;
    file.write_all_at(&now_ns.max(1).to_ne_bytes(), 16)?;
    // Fails for a mapping of a file, but some readers watch for the call.
    let _ = set_vma_anon_name(address, length, Some(NAME));
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn publish(_: &[u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The signature, the version, the size of the context, the time of its publication (`CLOCK_BOOTTIME`), and its address.
#[cfg(target_os = "linux")]
const HEADER_BYTES: usize = 32;
#[cfg(target_os = "linux")]
const SIGNATURE: &[u8] = b"OTEL_CTX";
#[cfg(target_os = "linux")]
const VERSION: u32 = 2;
#[cfg(target_os = "linux")]
const NAME: &std::ffi::CStr = c"OTEL_CTX";
