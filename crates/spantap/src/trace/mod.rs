//! Assembles spans into traces.
//!
//! `assembly` collects the spans, which stay `encoded` until their trace is shown. `assembled` is the trace that it
//! returns, `parents` finds the parent of each span, and `tree` puts the spans in the order in which they are drawn.
//! `self_time` finds how long each span was open without a child.

mod assembled;
mod assembly;
mod encoded;
mod parents;
mod self_time;
pub mod tree;

pub use assembled::{Shown, Trace, TraceSpan};
pub use assembly::{Assembly, Limits};
pub use encoded::EncodedSpan;
pub use self_time::self_times_ns;
