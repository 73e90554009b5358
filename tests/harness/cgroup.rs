//! A control group with limited CPU time.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A control group of version 1 or 2. Dropping the value removes it, if its processes have ended.
pub struct Cgroup {
    folder: PathBuf,
    is_first_version: bool,
}

impl Cgroup {
    /// The folder where groups with a limit can be created, and whether they are of version 1.
    pub(crate) fn root() -> Option<(&'static Path, bool)> {
        let (first, second) = (Path::new("/sys/fs/cgroup/cpu"), Path::new("/sys/fs/cgroup"));
        let controllers = fs::read_to_string(second.join("cgroup.subtree_control")).unwrap_or_default();
        if first.join("cpu.cfs_quota_us").exists() || first.join("cgroup.procs").exists() {
            Some((first, true))
        } else {
            controllers.split_whitespace().any(|name| name == "cpu").then_some((second, false))
        }
    }

    /// Creates a group that gets `milliseconds` of CPU time in each 100 ms.
    pub fn with_quota(milliseconds: u64) -> Self {
        let (root, is_first_version) = Self::root().unwrap();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = root.join(format!("spantap-test-{}-{count}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let cgroup = Self { folder, is_first_version };
        let quota_us = milliseconds * 1000;
        if is_first_version {
            cgroup.write("cpu.cfs_period_us", "100000");
            cgroup.write("cpu.cfs_quota_us", &quota_us.to_string());
        } else {
            cgroup.write("cpu.max", &format!("{quota_us} 100000"));
        }
        cgroup
    }

    /// Moves a process into the group.
    pub fn take(&self, pid: &str) {
        self.write("cgroup.procs", pid);
    }

    /// The time for which the group was throttled, in nanoseconds.
    pub fn throttled_ns(&self) -> u64 {
        let (name, unit) =
            if self.is_first_version { ("throttled_time ", 1) } else { ("throttled_usec ", 1000) };
        let text = fs::read_to_string(self.folder.join("cpu.stat")).unwrap();
        let number = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        number.parse::<u64>().unwrap() * unit
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.folder.join(file), text).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}
