//! The layer: turns `tracing`'s callbacks into span state, probes and datagrams.
//!
//! `usdt_layer` is the layer's type, and `callbacks` implements `tracing_subscriber::Layer` for it. Each
//! callback first checks whether it is active: a socket is set, its probe has a consumer, or a span is tracked
//! already. If not, it returns.
//!
//! `new_span`, `enter` and `close` handle the creation, the enters and exits, and the close of a span. Each has a short way
//! for *plain* spans, which are sent and have nothing but what all spans have, while no probe has a consumer; and one for
//! all.
//! `identities` gives spans their ids, and `span_identity` returns them. `trace_state` and `baggage` pass on W3C's
//! headers of these names, and `opentelemetry` takes over the ids of another layer. `span_ext` is the trait by which a
//! program changes a span itself, through `access` and `span_changes`. `logged` has the ids for the lines of a log, for
//! which `last_closed` keeps those of a closing span. `handle` is for the layer as a whole.
//!
//! Three rules, each learned from another layer's bug reports:
//!
//! * No lock is held while a user's `Debug`, or any other code outside of this crate, runs.
//! * A span or a state that is missing is skipped, never expected.
//! * User code may make spans wherever it runs.

mod access;
mod baggage;
mod callbacks;
mod close;
mod enter;
mod handle;
mod identities;
#[cfg(feature = "fmt")]
mod last_closed;
#[cfg(feature = "fmt")]
mod logged;
mod new_span;
mod opentelemetry;
mod span_changes;
mod span_ext;
mod span_identity;
mod trace_state;
mod usdt_layer;

#[cfg(feature = "fmt")]
pub(crate) use access::{ReadExtensions, extensions_of, ids_of};
pub(crate) use access::{access_of, span_id};
pub use handle::Handle;
pub(crate) use identities::Identities;
#[cfg(feature = "fmt")]
pub(crate) use last_closed::prepare_to_log;
#[cfg(feature = "fmt")]
pub(crate) use logged::Logged;
pub use span_ext::{SpanExt, Status};
pub(crate) use usdt_layer::BaggageSettings;
pub use usdt_layer::UsdtLayer;
pub(crate) use usdt_layer::owner;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::propagation::{SpanContext, SpanId, TraceId};
    use tracing_core::Dispatch;

    use tracing_subscriber::filter::LevelFilter;
    use tracing_subscriber::prelude::*;

    /// The layer does not see the close of spans that a filter hides.
    #[test]
    fn asking_for_a_context_leaves_no_entry_in_the_table() {
        let layer = crate::builder().without_socket().build().with_filter(LevelFilter::INFO);
        let fmt = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
        let dispatch = Dispatch::new(tracing_subscriber::registry().with(fmt).with(layer));
        tracing::dispatcher::with_default(&dispatch, || {
            let hidden = tracing::debug_span!("hidden");
            assert!(hidden.trace_context().is_some() && hidden.trace_context() == hidden.trace_context());
            let shown = tracing::info_span!("shown");
            assert!(shown.trace_context().is_some() && shown.trace_context() == shown.trace_context());
            hidden.set_remote_parent(SpanContext::new(TraceId::random(), SpanId::random(), true));
        });
        let layer = dispatch.downcast_ref::<UsdtLayer>().expect("the subscriber's layer");
        assert!(layer.spans.is_empty());
    }
}
