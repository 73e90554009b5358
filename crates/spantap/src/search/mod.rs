//! Finds traces in files of spans.
//!
//! `choose` reads the files once and finds which traces are wanted, without keeping any span. `load` reads the spans of these
//! traces: in one more pass, unless they take more memory than it may use. So the memory does not depend on the size of
//! the files, except that the ids of all traces that match are kept. `best` keeps the first of many. `files` reads several
//! files as one, and collects what could not be read of them. `replay` has their spans in the order in which they arrived, and
//! `tail` those that are added to files. `processes` gives the spans of a process one description of it.

mod best;
mod choose;
mod files;
mod load;
mod processes;
mod replay;
mod tail;

pub use choose::{Choice, Order, Wanted, choose, is_chosen};
pub use files::{Files, Read, Unread};
pub use load::load;
pub use replay::{Arrived, Replay};
pub use tail::{BEFORE, Tail};
