//! Encodes spans. `otlp` is the format that sinks store and that most backends accept; `zipkin` is Zipkin's.

mod otlp;
pub(crate) mod zipkin;

pub use otlp::{Chunk, request};
pub(crate) use otlp::{encode_scope, encode_summarised};
