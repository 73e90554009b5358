//! Takes over the ids that `tracing-opentelemetry`, another layer of the subscriber, gives a span.
//!
//! OpenTelemetry draws the ids when it starts a span: at the first enter, at the first child, when its
//! context is asked for, or at the close. Asking for the ids therefore starts the span, and after that it can
//! get no other parent. So our layer asks once, at a point where the span would be started anyway. Until then
//! the span has ids of our own; `new_span` waits for the final ones.
//!
//! OpenTelemetry starts a span under that span's lock, and runs the user's sampler and span processors there.
//! Asking takes the same lock. To avoid a deadlock, our layer does not ask on a thread that is starting a
//! span, and asks for the current span only at its enter: before that, it may be the one that is being
//! started.
//!
//! `ask` asks for the ids (`ask_none` replaces it without the cargo feature), and `answer` is what comes back.
//! `tracer` is a tracer that records the parent of each span, and whether this thread is starting one.
//!
//! All this happens only with `Builder::with_opentelemetry_ids`. The cargo feature alone changes nothing:
//! another crate may have turned it on.
#![cfg_attr(not(feature = "tracing-opentelemetry"), allow(dead_code))]

mod answer;
#[cfg_attr(not(feature = "tracing-opentelemetry"), path = "ask_none.rs")]
mod ask;
#[cfg(feature = "tracing-opentelemetry")]
mod tracer;

pub(crate) use answer::Answer;
pub(crate) use ask::OpenTelemetry;
#[cfg(feature = "tracing-opentelemetry")]
pub use tracer::{OtelSpan, OtelTracer};
