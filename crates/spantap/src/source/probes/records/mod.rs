//! The records of the programs in the kernel, and the spans made from them.
//!
//! `record` reads the records, and `program` identifies their process. `kernel_span` makes spans of kernel
//! activity.

pub(super) mod kernel_span;
mod program;
mod record;

pub(super) use program::{NameAt, Program, running};
pub(super) use record::{Record, TimeRecord, UnseenRecord, last_ns_of_summary};
