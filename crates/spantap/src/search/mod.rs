//! Finds traces in files of spans.
//!
//! Reads the files twice: `choose` finds which traces are wanted, and keeps no span; `load` assembles these traces. `best`
//! keeps the first of many. So the memory depends on the traces that are shown, not on the size of the files. `files` reads
//! several files as one, and collects what could not be read of them.

mod best;
mod choose;
mod files;
mod load;

pub use choose::{Choice, Order, Wanted, choose};
pub use files::{Files, Unread};
pub use load::load;
