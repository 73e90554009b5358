//! Encodes spans. `otlp` is the format that sinks store and that most backends accept, and `otlp_json` the same as a line of JSON;
//! `zipkin` is Zipkin's.

mod otlp;
mod otlp_json;
pub(crate) mod zipkin;

pub use otlp::{Chunk, request};
pub(crate) use otlp::{encode_scope, encode_summarised};
pub(crate) use otlp_json::write_line;
