//! Encodes spans. `otlp` is the format that sinks store and that most backends accept; `zipkin` is Zipkin's.

mod otlp;
pub(crate) mod zipkin;

pub use otlp::{Chunk, request};
