//! Which cores a program may run on.

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Who sends and who receives, each with a core of its own where there are two.
#[derive(Clone, Copy)]
pub(crate) struct Cores {
    pub(crate) sender: usize,
    pub(crate) receiver: usize,
}

impl Cores {
    pub(crate) fn of_this_machine() -> Result<Self> {
        let allowed = allowed()?;
        let mut cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core) == Ok(true));
        let sender = cores.next().context("we may run on no core")?;
        Ok(Self { sender, receiver: cores.next().unwrap_or(sender) })
    }
}

/// While it lives, what this thread starts runs on one core, with all its threads.
pub(crate) struct Pinned {
    before: CpuSet,
}

impl Pinned {
    pub(crate) fn to(core: usize) -> Result<Self> {
        let before = allowed()?;
        let mut cores = CpuSet::new();
        cores.set(core)?;
        sched_setaffinity(this_thread(), &cores).with_context(|| format!("can't keep to core {core}"))?;
        Ok(Self { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = sched_setaffinity(this_thread(), &self.before);
    }
}

fn allowed() -> Result<CpuSet> {
    sched_getaffinity(this_thread()).context("can't ask for our cores")
}

fn this_thread() -> Pid {
    Pid::from_raw(0)
}
