//! Whether a process still runs.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The life of a process.
#[derive(Debug)]
pub(crate) struct Life {
    /// The open file stays this process's, even if another process gets its pid.
    stat: File,
}

impl Life {
    /// The life of the process with this pid.
    ///
    /// # Errors
    ///
    /// `NotFound` if the process has ended.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        Ok(Self { stat: File::open(format!("/proc/{pid}/stat"))? })
    }

    /// Whether the process has ended, although its parent may not have noticed.
    pub(crate) fn has_ended(&self) -> bool {
        let mut bytes = [0; 512];
        let read = self.stat.read_at(&mut bytes, 0).unwrap_or(0);
        let stat = String::from_utf8_lossy(&bytes[..read]);
        // pid (name) state ... threads ...: the name may contain anything; the state follows the last parenthesis.
        let mut words = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
        let has_ended = words.next().is_none_or(|state| matches!(state, "Z" | "X" | "x"));
        // The first thread may end before others. The number of threads is the 20th field.
        let others = words.nth(16).and_then(|threads| threads.parse::<u32>().ok()).is_some_and(|n| n > 1);
        has_ended && !others
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_has_ended_even_if_its_parent_has_not_noticed() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let life = Life::of(child.id()).unwrap();
        assert!(!life.has_ended());
        child.kill().unwrap();
        while !life.has_ended() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(life.has_ended());
        assert_eq!(Life::of(child.id()).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
