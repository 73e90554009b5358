//! Writes the result of a comparison: `table` for people, `json` for scripts.

mod json;
mod table;

pub use json::json;
pub use table::{sentence, short, table};
