//! Finds who calls whom in files of spans, and draws it.
//!
//! ```text
//! files ─ read ─> Batches (on several threads) ─> Calls: joins children with parents ─> CallGraph ─> draw
//! ```
//!
//! A span with a parent is a call, from the node of the parent to the node of the span. A [`Node`] is a service, or a name
//! of a service's spans. `batch` is what has to be known of spans, `names` numbers the nodes. `calls` finds the parents:
//! children often come first, and `recent` bounds the memory for those that wait. `measure` has the count, the errors and
//! the durations of an edge. `growing` does the same with spans that come one by one. `call_graph` is the result, and `draw` writes
//! it as a table, as JSON, or as a picture.

mod batch;
mod call_graph;
mod calls;
mod draw;
mod growing;
mod measure;
mod names;
mod read;
mod recent;
#[cfg(test)]
mod tests;

pub use call_graph::{CallGraph, Edge, Uncounted};
pub use draw::{dot, json, mermaid, svg, table};
pub use growing::Growing;
pub(crate) use measure::Measure;
pub(crate) use names::cut_name;
pub use names::{By, Node};
pub use read::{Found, read};
