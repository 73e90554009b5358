//! Makes the kernel take memory from a process, and write it to a disk.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::libc;

use crate::need::{need, note};

/// Enough for the processes of the tests.
const BYTES: usize = 64 << 20;

/// A file to which memory is written. Dropping the value takes all of it back. Only one can be in use by a process.
pub struct Swap {
    path: PathBuf,
}

impl Swap {
    /// Starts to use a file in `folder`, which must be on a disk.
    ///
    /// `None` if this machine can't: then the test has to return. That is reported as by `need`, and a kernel that was
    /// built without swap is only noted.
    pub fn on(folder: &Path) -> Option<Self> {
        if !Path::new("/proc/swaps").exists() {
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            note(&format!("SKIPPED {test}: this kernel was built without swap"));
            return None;
        }
        if !need(&["root", "mkswap", "swapon", "swapoff"]) {
            return None;
        }
        let path = folder.join(format!("swap-of-test-{}", std::process::id()));
        // Without holes.
        fs::write(&path, vec![0; BYTES]).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        let swap = Self { path };
        let ran = |program: &str| {
            let ran = Command::new(program).arg(&swap.path).output().unwrap();
            if !ran.status.success() {
                eprintln!("{program}: {}", String::from_utf8_lossy(&ran.stderr));
            }
            ran.status.success()
        };
        fs::set_permissions(&swap.path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        assert!(ran("mkswap"), "mkswap {}", swap.path.display());
        // Containers may not, and not every file system can.
        if ran("swapon") || need(&["swap"]) { Some(swap) } else { None }
    }

    /// Takes all memory that process `pid` may write from it. It gets each page back when it touches it. Returns how much is
    /// on the disk then, in bytes.
    #[allow(unsafe_code)]
    pub fn page_out(&self, pid: u32) -> u64 {
        let none = 0;
        // SAFETY: the call takes two numbers.
        let process = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, none) };
        let process = Errno::result(process).unwrap_or_else(|error| panic!("process {pid}: {error}"));
        // SAFETY: it is a new descriptor, and nothing else owns it.
        let process = unsafe { OwnedFd::from_raw_fd(i32::try_from(process).unwrap()) };
        for line in fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().lines() {
            let mut words = line.split(' ');
            let (place, rights) = (words.next().unwrap(), words.next().unwrap());
            if !rights.starts_with("rw") {
                continue;
            }
            let (start, end) = place.split_once('-').unwrap();
            let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16).unwrap());
            let memory = libc::iovec { iov_base: start as *mut _, iov_len: end - start };
            // Some kinds of memory can't be taken, and some may be gone: the sum shows what was.
            // SAFETY: the call reads one `iovec`. Its memory is the other process', and keeps its content.
            unsafe {
                let one = 1usize;
                let (process, advice) = (process.as_raw_fd(), libc::MADV_PAGEOUT);
                libc::syscall(libc::SYS_process_madvise, process, &raw const memory, one, advice, none)
            };
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmSwap:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        let _ = Command::new("swapoff").arg(&self.path).output();
        let _ = fs::remove_file(&self.path);
    }
}
