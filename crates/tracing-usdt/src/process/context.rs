//! Tells other programs about the process, in a mapping that they find by its name: OpenTelemetry's OTEP 4719, which its
//! eBPF profiler reads.

use std::io;

/// Publishes an encoded `ProcessContext` of OpenTelemetry for as long as the process runs the same program. Children do
/// not inherit it.
#[cfg(target_os = "linux")]
pub(crate) fn publish(context: &[u8]) -> io::Result<()> {
    use std::num::NonZeroUsize;
    use std::ptr::NonNull;
    use std::sync::atomic::{AtomicU64, Ordering};

    use nix::sys::mman::{MmapAdvise, madvise, munmap};
    use nix::sys::prctl::set_vma_anon_name;
    use nix::time::{ClockId, clock_gettime};

    let size = u32::try_from(context.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
    let now_ns = now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64;
    let length = NonZeroUsize::new(HEADER_BYTES + context.len()).unwrap_or(NonZeroUsize::MIN);
    let (mapping, is_named) = map(length)?;
    let bytes: NonNull<u8> = mapping.cast();
    // SAFETY: the mapping is new, writable, aligned to a page, and has room for the header and the context. Only this
    // function knows it.
    #[allow(unsafe_code)]
    unsafe {
        if let Err(error) = madvise(mapping, length.get(), MmapAdvise::MADV_DONTFORK) {
            _ = munmap(mapping, length.get());
            return Err(error.into());
        }
        let payload = bytes.add(HEADER_BYTES);
        payload.copy_from_nonoverlapping(NonNull::from(context).cast(), context.len());
        bytes.copy_from_nonoverlapping(NonNull::from(b"OTEL_CTX").cast(), 8);
        bytes.add(8).cast().write(VERSION);
        bytes.add(12).cast().write(size);
        bytes.add(24).cast().write(payload.as_ptr() as u64);
        // Readers take the rest for complete once there is a time.
        bytes.add(16).cast::<AtomicU64>().as_ref().store(now_ns.max(1), Ordering::Release);
    }
    // Some readers watch for the call, so it is made for a file as well.
    match set_vma_anon_name(mapping, length, Some(NAME)) {
        Err(error) if !is_named => {
            // SAFETY: nobody has found the mapping.
            #[allow(unsafe_code)]
            unsafe {
                _ = munmap(mapping, length.get());
            }
            Err(error.into())
        }
        _ => Ok(()),
    }
}

/// A new mapping, of a file with the name if that is allowed. Returns whether it is.
#[cfg(target_os = "linux")]
fn map(length: std::num::NonZeroUsize) -> nix::Result<(std::ptr::NonNull<nix::libc::c_void>, bool)> {
    use std::os::fd::OwnedFd;

    use nix::errno::Errno;
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous};
    use nix::sys::resource::{Resource, getrlimit};
    use nix::unistd::ftruncate;

    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let file = || -> nix::Result<OwnedFd> {
        // Beyond this limit, the kernel ends a program that sets the size of a file.
        if getrlimit(Resource::RLIMIT_FSIZE)?.0 < length.get() as u64 {
            return Err(Errno::EFBIG);
        }
        // A system may demand the flag, and one before Linux 6.3 does not know it.
        let no_exec = MFdFlags::MFD_CLOEXEC | MFdFlags::from_bits_retain(nix::libc::MFD_NOEXEC_SEAL);
        let file = memfd_create(NAME, no_exec).or_else(|_| memfd_create(NAME, MFdFlags::MFD_CLOEXEC))?;
        ftruncate(&file, length.get() as i64)?;
        Ok(file)
    };
    // SAFETY: new mappings, at addresses that the kernel chooses.
    #[allow(unsafe_code)]
    unsafe {
        match file() {
            Ok(file) => Ok((mmap(None, length, access, MapFlags::MAP_SHARED, &file, 0)?, true)),
            Err(_) => Ok((mmap_anonymous(None, length, access, MapFlags::MAP_PRIVATE)?, false)),
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn publish(_: &[u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The signature, the version, the size of the context, the time of its publication (`CLOCK_BOOTTIME`), and its address.
#[cfg(target_os = "linux")]
const HEADER_BYTES: usize = 32;
#[cfg(target_os = "linux")]
const VERSION: u32 = 2;
#[cfg(target_os = "linux")]
const NAME: &std::ffi::CStr = c"OTEL_CTX";
