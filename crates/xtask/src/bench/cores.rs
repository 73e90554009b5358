//! Pins processes to cores.

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The cores of sender and receiver, which differ if there are two.
#[derive(Clone, Copy)]
pub(crate) struct Cores {
    pub(crate) sender: usize,
    pub(crate) receiver: usize,
}

impl Cores {
    pub(crate) fn of_this_machine() -> Result<Self> {
        let allowed = allowed()?;
        let mut cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core) == Ok(true));
        let sender = cores.next().context("this process may run on no core")?;
        Ok(Self { sender, receiver: cores.next().unwrap_or(sender) })
    }
}

/// Pins this thread to a core until it is dropped. Processes that the thread starts meanwhile stay on that core.
pub(crate) struct Pinned {
    before: CpuSet,
}

impl Pinned {
    pub(crate) fn to(core: usize) -> Result<Self> {
        let before = allowed()?;
        let mut cores = CpuSet::new();
        cores.set(core)?;
        sched_setaffinity(this_thread(), &cores)
            .with_context(|| format!("can't pin a process to core {core}"))?;
        Ok(Self { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = sched_setaffinity(this_thread(), &self.before);
    }
}

fn allowed() -> Result<CpuSet> {
    sched_getaffinity(this_thread()).context("can't get the cores of this process")
}

fn this_thread() -> Pid {
    Pid::from_raw(0)
}
