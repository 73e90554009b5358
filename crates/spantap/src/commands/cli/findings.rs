//! The option of `view` for findings.

use clap::Args;

/// Whether findings are shown.
#[derive(Args, Debug)]
pub(in crate::commands) struct FindingsOption {
    /// Show what is wrong in the traces, and not the traces
    ///
    /// Looks at all traces that match, or at the last N with --limit. The findings are few: N+1 calls, calls one after the other that
    /// could be at the same time, waits that no span explains, spans that hold a worker thread, spans that wait for another's lock,
    /// and errors that did not occur before. The manual says when there is one.
    #[arg(long, conflicts_with_all = ["sort", "speed", "follow", "lines", "critical_path"])]
    pub(in crate::commands) findings: bool,
}
