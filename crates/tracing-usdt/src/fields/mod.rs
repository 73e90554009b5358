//! Fields of spans and events: recorded with their types, bounded in size, and kept in a binary form until
//! the encoder reads them.
//!
//! `recorder` is the visitor that `tracing` calls, `text` writes texts of bounded length, and `buffer` holds the
//! recorded values. `view` reads them, each as a `value`. `attribute_value` is a value that the application sets
//! by name. `limits` and `vocabulary` are the application's choice of what to keep and what to add.

mod attribute_value;
mod buffer;
mod limits;
mod recorder;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod value;
mod view;
mod vocabulary;

pub use attribute_value::AttributeValue;
pub(crate) use buffer::{DroppedFields, Fields};
pub(crate) use limits::{Limits, Owner};
pub(crate) use value::{List, Value};
pub(crate) use view::{Entry, FieldsView};
pub(crate) use vocabulary::{BEGAN_BEFORE, LAYER_ATTRIBUTES, UNFINISHED, Vocabulary, ZIPKIN_TAGS};
