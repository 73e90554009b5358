//! Assembles spans into traces.
//!
//! `assembly` collects spans that arrive, and `gathering` those that are there, such as in a file; both keep what they have
//! `collected` of a trace, in which spans stay `encoded` until it is shown. `assembled` is the trace that it
//! returns, `parents` finds the parent of each span, and `tree` puts the spans in the order in which they are drawn.
//! `self_time` finds how long each span was open without a child, `breakdown` what its threads did in that time, and
//! `critical_path` what the trace waited for.

mod assembled;
mod assembly;
mod breakdown;
mod collected;
mod critical_path;
mod encoded;
mod gathering;
mod parents;
mod self_time;
#[cfg(test)]
mod timed;
pub mod tree;

pub use assembled::{Shown, Trace, TraceSpan};
pub use assembly::Assembly;
pub(crate) use breakdown::{Breakdown, Part, breakdowns, call_times, finder};
pub use collected::Limits;
pub(crate) use critical_path::path_below;
pub use critical_path::{Segment, critical_path};
pub use encoded::EncodedSpan;
pub use gathering::Gathering;
pub(crate) use self_time::Timed;
pub use self_time::self_times_ns;
