//! Writes spans of files in formats that other programs open.
//!
//! ```text
//! files ─ pass ─┬─> spans, as they are in the files ─> otlp_json, clickhouse                   ─> Output
//!               └─> whole traces ─> Stacks ─> folded, flamegraph                               ─> Output
//!                               ─> Perfetto                                                    ─> Output
//!                               ─> Parquet                                                     ─> Output
//!                               ─> html::Report, with a table, a graph and the slowest traces  ─> Output
//! ```
//!
//! `target` is what the user asks for: a format and a file. `pass` reads the files, for all targets together that need the same, and
//! `output` is a file that is written. Each other file is a format, or what two formats share: `stacks` adds up times by the path of
//! names from the root.
//!
//! Text from senders is escaped twice where people look at it: first by `text::safe`, which shows control characters and those that
//! change the direction of writing, then by the rules of the format. Formats for programs keep it as it is.

mod clickhouse;
mod flamegraph;
mod folded;
mod html;
#[cfg(test)]
mod made;
mod otlp_json;
mod output;
mod parquet;
mod pass;
mod perfetto;
mod stacks;
mod target;

pub use output::Output;
pub use pass::{Exported, export};
pub use target::{Format, Target};
