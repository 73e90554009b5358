//! What the probes and tracepoints could not report.

/// A kind of thing that could not be reported, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Missed {
    /// The label in Prometheus.
    pub label: &'static str,
    /// The text that follows the count.
    pub words: &'static str,
}

pub(super) const NO_PROCESS: Missed = Missed {
    label: "no_process",
    words: "spans made by spantap: their process is unknown, or too many waited",
};
