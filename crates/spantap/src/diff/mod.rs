//! Compares two sides, such as the files from before and after a change: which spans take longer, and why.
//!
//! ```text
//! files ─ survey ─> Survey: names, percentiles, blocks of time   (first pass, on several threads)
//!       ─ tally ──> Tallies: sums for each block                 (second pass, trace by trace)
//! two Tallies ─ judge ─> what has changed: ratio, student
//!             ─ cause ─> Findings: the reasons apart from what only follows
//!                └─ draw
//! ```
//!
//! A name is a service and a name of its spans; `names` numbers those of both sides. `blocks` divides the spans of a name by
//! time, `ratio` finds whether a difference may be chance, and `student` has its distribution, and the correction for many names.
//! `survey` finds what has to be known before the sums of `tally`, and `sides` what is compared. `measured` has what is compared of a name, `finding`
//! is the result, `condition` what a user calls a failure, and `draw` writes the result as a table or as JSON.
//!
//! No random numbers: the same files give the same result.

mod blocks;
mod cause;
mod compare;
mod condition;
mod draw;
mod finding;
mod judge;
mod measured;
mod names;
#[cfg(test)]
mod random;
mod ratio;
mod sides;
mod student;
mod survey;
mod tally;

pub use compare::compare;
pub use condition::{Condition, ConditionError, Names as NamesOf};
pub use draw::{json, sentence, short, table};
pub use finding::{
    CalledMore, Cause, Change, ChangeOf, Diff, Figures, Finding, NotJudged, OneSided, SideOf, TooFew, Why,
};
pub use measured::Measured;
pub use names::Name;
pub use sides::{Choice, Sides};
