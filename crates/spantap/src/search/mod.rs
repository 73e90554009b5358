//! Finds traces in files of spans.
//!
//! `choose` reads the files once and finds which traces are wanted, without keeping any span. `load` reads the spans of these
//! traces: in one more pass, unless they take more memory than it may use. So the memory does not depend on the size of
//! the files, except that the ids of all traces that match are kept. `best` keeps the first of many. `files` reads several
//! files as one, and collects what could not be read of them.

mod best;
mod choose;
mod files;
mod load;

pub use choose::{Choice, Order, Wanted, choose};
pub use files::{Files, Read, Unread};
pub use load::load;
