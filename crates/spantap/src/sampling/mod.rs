//! Tail sampling: which traces are forwarded, decided for each trace as a whole once enough of it has arrived.
//!
//! ```text
//! spans --> Sampler --> waiting: spans of traces that are not decided yet
//!              |    \--> decided: what became of a trace, for its later spans
//!              v
//!            kept: spans of kept traces, with the rule and the weight --> Chunks
//! ```
//!
//! A `rule` is one `--keep`: a query, a `ratio`, a `rate`, or a query with one of the two. `rules` decides by all of them.
//! `positions` holds back the senders' progress while their spans wait, `counters` has the counts for the user.
//!
//! # Weights
//!
//! A weight is how many traces a kept one stands for, so that sums at the backend can be corrected. It is the inverse of
//! the probability with which the trace was kept (Horvitz and Thompson's estimator):
//!
//! * A query alone keeps all that it chooses: 1. A query that chooses a span wins over all ratios and rates.
//! * Ratios read the same bits of the trace id, so the traces of a smaller one are among those of a larger one. With several
//!   that apply to a trace, the largest decides alone.
//! * A rate keeps what its bucket has room for. A kept trace stands for itself and for those that were refused since the last
//!   one. If both a ratio and a rate apply, what the ratio keeps stands for itself, and the rate for all others.
//!
//! So the sum of the weights is the number of traces: on average with ratios, and exactly with rates, together with those that
//! were refused since a rate last kept one (`Counts::unrepresented_traces`). A trace that a rate has refused, and that a late
//! span revives, counts twice.

mod counters;
mod decided;
mod kept;
mod positions;
mod rate;
mod ratio;
mod rule;
mod rules;
mod sampler;
#[cfg(test)]
mod tests;
mod waiting;

pub use counters::{Counters, Counts, OfRule};
pub use rule::Rule;
pub use rules::Rules;
pub use sampler::{Limits, Sampler};
pub use waiting::Wait;
