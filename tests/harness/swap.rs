//! Makes the kernel take memory from a process, and write it to a disk.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::need::{need, note, skip};

/// Enough for the processes of the tests.
const BYTES: usize = 64 << 20;

/// Of the names of the files; the id of the test's process follows.
const PREFIX: &str = "swap-of-test-";

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
        forget_leftovers(folder);
        let path = folder.join(format!("{PREFIX}{}", std::process::id()));
        // Without holes.
        fs::write(&path, vec![0; BYTES]).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        run("mkswap", &path).unwrap_or_else(|error| panic!("{error}"));
        // Containers may not, and not every file system can.
        if let Err(error) = run("swapon", &path) {
            eprintln!("{error}");
            let _ = fs::remove_file(&path);
            skip(&["swap"]);
            return None;
        }
        Some(Self { path })
    }

    /// Takes all memory that process `pid` may write from it. It gets each page back when it touches it.
    ///
    /// The kernel does not find a page that a processor has just given to the process: each keeps a few of these for
    /// itself. It gives them up if it is the one that takes the memory.
    pub fn page_out(&self, pid: u32) -> Pages {
        let (this, ranges) = (Pid::from_raw(0), writable(pid));
        let all = sched_getaffinity(this).unwrap();
        for number in (0..CpuSet::count()).filter(|number| all.is_set(*number).unwrap()) {
            let mut one = CpuSet::new();
            one.set(number).unwrap();
            sched_setaffinity(this, &one).unwrap();
            take(pid, &ranges);
        }
        sched_setaffinity(this, &all).unwrap();
        Pages::of(pid, &ranges)
    }

    /// Gives the process all of its memory back, though it does not touch it.
    pub fn bring_back(&self, pid: u32) {
        let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
        for (start, end) in writable(pid) {
            let mut bytes = vec![0; end - start];
            // Not all of it can be read.
            let _ = memory.read_at(&mut bytes, start as u64);
        }
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        match run("swapoff", &self.path) {
            Ok(()) => _ = fs::remove_file(&self.path),
            Err(error) if std::thread::panicking() => eprintln!("{error}"),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Where the pages that a process may write are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pages {
    /// They were taken.
    pub on_disk: usize,
    /// Some are its own, and some still those of a file.
    pub in_memory: usize,
}

impl Pages {
    /// By `Documentation/admin-guide/mm/pagemap.rst` of Linux.
    fn of(pid: u32, ranges: &[(usize, usize)]) -> Self {
        const SWAPPED: u64 = 1 << 62;
        const PRESENT: u64 = 1 << 63;
        let mut pages = Self::default();
        let map = File::open(format!("/proc/{pid}/pagemap")).unwrap();
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).unwrap().unwrap() as usize;
        for (start, end) in ranges {
            let mut entries = vec![0; (end - start) / page * 8];
            map.read_exact_at(&mut entries, (start / page * 8) as u64).unwrap();
            for entry in entries.chunks_exact(8) {
                let entry = u64::from_ne_bytes(entry.try_into().unwrap());
                pages.on_disk += usize::from(entry & SWAPPED != 0);
                pages.in_memory += usize::from(entry & PRESENT != 0);
            }
        }
        pages
    }
}

#[allow(unsafe_code)]
fn take(pid: u32, ranges: &[(usize, usize)]) {
    let none = 0;
    // SAFETY: the call takes two numbers.
    let process = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, none) };
    let process = Errno::result(process).unwrap_or_else(|error| panic!("process {pid}: {error}"));
    // SAFETY: it is a new descriptor, and nothing else owns it.
    let process = unsafe { OwnedFd::from_raw_fd(i32::try_from(process).unwrap()) };
    for (start, end) in ranges {
        let memory = libc::iovec { iov_base: *start as *mut _, iov_len: end - start };
        // SAFETY: the call reads one `iovec`. Its memory is the other process', and keeps its content.
        let taken = unsafe {
            let one = 1usize;
            let (process, advice) = (process.as_raw_fd(), libc::MADV_PAGEOUT);
            libc::syscall(libc::SYS_process_madvise, process, &raw const memory, one, advice, none)
        };
        match Errno::result(taken) {
            // Some kinds of memory can't be taken, and some may be gone.
            Ok(_) | Err(Errno::EINVAL | Errno::ENOMEM) => {}
            Err(error) => panic!("process_madvise: {error}"),
        }
    }
}

/// The addresses of the private memory that a process may write.
fn writable(pid: u32) -> Vec<(usize, usize)> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let range = |line: &str| {
        let mut words = line.split(' ');
        let (place, rights) = (words.next().unwrap(), words.next().unwrap());
        let (start, end) = place.split_once('-').unwrap();
        let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16).unwrap());
        (rights.starts_with("rw") && rights.ends_with('p')).then_some((start, end))
    };
    maps.lines().filter_map(range).collect()
}

/// A test that was killed can't clean up.
fn forget_leftovers(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap().map_while(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix(PREFIX) else { continue };
        if pid != std::process::id().to_string() && Path::new(&format!("/proc/{pid}")).exists() {
            continue;
        }
        // It fails for a file that is not in use any more.
        if let Err(error) = run("swapoff", &entry.path()) {
            eprintln!("{error}");
        }
        let _ = fs::remove_file(entry.path());
    }
}

fn run(program: &str, path: &Path) -> Result<(), String> {
    let ran = Command::new(program).arg(path).output().unwrap();
    let error = String::from_utf8_lossy(&ran.stderr);
    if ran.status.success() { Ok(()) } else { Err(format!("{program} {}: {error}", path.display())) }
}
