//! The probes of a process, read through eBPF: each span that ends, as the program describes it, and what the
//! kernel did in it.
//!
//! `binary` finds the file that has the probes, and `foreign` what a process without the layer says about its spans.
//! `lifetime` waits for the end of the target. `load` loads the programs of `src/bpf`
//! into the kernel and attaches them to the probes and to those `tracepoints` that the kernel has. `losses` lists what
//! the programs may lose, and `libbpf` explains why the kernel refuses them. `reader` is the thread that reads their
//! `records`, makes spans of them, with the kernel's `clock`, and has the program's own spans completed by `join`.
//! `waits` sums up which spans waited for which.

mod binary;
mod clock;
mod foreign;
mod join;
mod libbpf;
mod lifetime;
mod load;
mod losses;
mod reader;
mod records;
mod tracepoints;
mod waits;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;

pub use binary::Target;
pub use lifetime::Lifetime;
pub use tracepoints::check_kernel;

use crate::notes::Pattern;
use crate::pipeline::Intake;
use crate::source::kernel::Kernel;
use crate::stats::Stats;
use load::Loaded;

/// Probes with programs attached to them.
pub struct Probes {
    loaded: Loaded,
    has_times: bool,
    stopped: Arc<AtomicBool>,
}

/// Detaches the programs, from any thread.
#[derive(Clone, Debug)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(super) fn stop(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Probes {
    /// Attaches to the probes of `target`, and to the tracepoints for `kernel`. Kernel spans shorter than `min` are
    /// aggregated per span. Spans of `callsites` are made whatever the program's log level.
    ///
    /// # Errors
    ///
    /// Rights are missing, or the kernel lacks a feature.
    pub fn attach(target: Target, kernel: &[Kernel], min: Duration, callsites: Vec<Pattern>) -> Result<Self> {
        let has_times = kernel.contains(&Kernel::Sched);
        Ok(Self {
            loaded: Loaded::attach(target, kernel, min, callsites)?,
            has_times,
            stopped: Arc::default(),
        })
    }

    /// Whether its spans have what threads did during them.
    pub(super) fn has_times(&self) -> bool {
        self.has_times
    }

    pub(super) fn stop(&self) -> Stop {
        Stop(Arc::clone(&self.stopped))
    }

    pub(super) fn take_in(self, intake: &mut Intake<'_>, stats: &Stats) -> Result<()> {
        reader::read(self.loaded, intake, stats, &self.stopped)
    }
}
