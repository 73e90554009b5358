//! The kinds of kernel activity that `attach` can record.

use std::fmt;

use clap::ValueEnum;

/// A kind of kernel activity.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kernel {
    /// Time off the CPU.
    Sched,
    /// Block I/O.
    Block,
    /// TCP.
    Net,
    /// Child processes.
    Exec,
    /// System calls.
    Syscall,
    /// Nothing.
    None,
}

impl Kernel {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Sched, Self::Block, Self::Net, Self::Exec, Self::Syscall];
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sched => "sched",
            Self::Block => "block",
            Self::Net => "net",
            Self::Exec => "exec",
            Self::Syscall => "syscall",
            Self::None => "none",
        })
    }
}
