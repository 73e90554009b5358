//! Ids of spans, W3C trace contexts, and the carriers that pass a context from process to process.
//!
//! `ids` defines the ids, which `random` draws. `context` is what other processes see of a span, `trace_state` what
//! tracing systems add to it, and `baggage` what programs add to it. A `carrier` passes all of it on, such as the
//! headers of a request. `remote` is the parent from another process that a thread has set.

mod baggage;
mod carrier;
mod context;
mod ids;
pub(crate) mod random;
pub(crate) mod remote;
mod trace_state;

pub use baggage::Baggage;
pub(crate) use baggage::is_token;
pub use carrier::{Extract, Inject};
pub use context::SpanContext;
pub(crate) use ids::Ids;
pub use ids::{SpanId, TraceId};
pub use trace_state::TraceState;
