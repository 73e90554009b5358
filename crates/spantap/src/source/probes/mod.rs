//! The probes of a process, through eBPF: each span that ends, as the program describes it, and what the
//! kernel did in it.
//!
//! `target` finds the file that has the probes: `build` is that file, `elf` knows its format, `mapped` which process runs
//! it, and `place` where the next build will be, to which a `way` leads. `load` brings the programs of `src/bpf` into the kernel and
//! attaches them, `record` knows what they write into the ring buffer, `kernel_span` makes spans of that,
//! and `reader` is the thread that does so.

mod build;
mod elf;
mod kernel_span;
mod lifetime;
mod load;
mod mapped;
mod place;
mod reader;
mod record;
mod target;
mod way;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;

pub use lifetime::Lifetime;
pub use load::check_kernel;
pub use target::Target;

use crate::cli::Kernel;
use crate::figures::Figures;
use crate::intake::Intake;
use load::Loaded;

/// Attached ones.
pub struct Probes {
    loaded: Loaded,
    stopped: Arc<AtomicBool>,
}

/// Ends them, from any thread.
#[derive(Clone, Debug)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(super) fn stop(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Probes {
    /// Attaches to the probes of `target`, and to what of the kernel `kernel` names. What it does for less
    /// than `min` is only added up.
    ///
    /// # Errors
    ///
    /// When rights are missing, or the kernel lacks what this takes.
    pub fn attach(target: Target, kernel: &[Kernel], min: Duration) -> Result<Self> {
        Ok(Self { loaded: Loaded::attach(target, kernel, min)?, stopped: Arc::default() })
    }

    pub(super) fn stop(&self) -> Stop {
        Stop(Arc::clone(&self.stopped))
    }

    pub(super) fn take_in(self, intake: &mut Intake<'_>, figures: &Figures) -> Result<()> {
        reader::read(self.loaded, intake, figures, &self.stopped)
    }
}
