//! Identifies one execution of a program, even if the process and the file stay the same.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Identifies an execution: two executions of the same file by the same process have different images.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Image {
    /// When the process started, in clock ticks since boot: another process may get its pid later.
    start_time: u64,
    /// The device and inode of the executable.
    file: (u64, u64),
    /// The start of the stack, which the kernel chooses at random.
    stack: u64,
}

impl Image {
    /// The image of the process whose folder in `/proc` is `process`; `None` if the folder can't be read.
    pub(crate) fn of(process: &Path) -> Option<Self> {
        let stat = fs::read_to_string(process.join("stat")).ok()?;
        let file = fs::metadata(process.join("exe")).ok()?;
        // The name is in brackets and may hold any character. proc_pid_stat(5) counts fields from 1; the third follows
        // the name.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse().ok();
        // 0 while the process is executing a program.
        let stack = field(28).filter(|stack| *stack != 0)?;
        Some(Self { start_time: field(22)?, file: (file.dev(), file.ino()), stack })
    }

    /// Whether both belong to the same process, which may have executed another program in between.
    pub(super) fn is_same_process(&self, other: &Self) -> bool {
        self.start_time == other.start_time
    }
}
