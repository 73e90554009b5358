//! Writes a graph: [`table`] for the terminal, [`json()`] for scripts, [`dot`] for Graphviz, [`mermaid`] for Markdown, and [`svg`]
//! as a picture.
//!
//! `words` has what they all say about nodes and edges, and `severity` the classes of edges by their share of errors, with
//! a colour for each. `layout` finds places for nodes and edges.
//!
//! In all of them but JSON, text from senders is escaped twice: first by `text::safe`, which shows control characters and those that change the
//! direction of writing, then by the rules of the format.

mod dot;
mod json;
mod layout;
mod mermaid;
mod severity;
mod svg;
mod table;
mod words;

pub use dot::dot;
pub use json::json;
pub use mermaid::mermaid;
pub use svg::svg;
pub use table::table;
