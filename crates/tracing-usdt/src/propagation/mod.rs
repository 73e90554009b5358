//! Ids of spans, W3C trace contexts, and the carriers that pass a context from process to process.
//!
//! `ids` defines the ids, which `random` draws. `context` is what other processes see of a span, and `trace_state`
//! what tracing systems add to it. A `carrier` passes both on, such as the headers of a request. `remote` is the
//! parent from another process that a thread has set.

mod carrier;
mod context;
mod ids;
pub(crate) mod random;
pub(crate) mod remote;
mod trace_state;

pub use carrier::{Extract, Inject};
pub use context::SpanContext;
pub(crate) use ids::Ids;
pub use ids::{SpanId, TraceId};
pub use trace_state::TraceState;
