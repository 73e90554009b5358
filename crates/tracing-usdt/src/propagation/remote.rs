//! The remote parent of this thread: inside [`SpanContext::in_scope`], root spans become children of a span
//! of another process.
//!
//! Ids and trace state are kept apart, because a root span normally needs to know only whether there are ids.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};

use super::context::SpanContext;
use super::ids::Ids;
use super::trace_state::TraceState;

/// Set once a span may have a remote parent or a `sampling.priority`. Both can be read only at the span's
/// creation.
static INSPECT_NEW_SPANS: AtomicBool = AtomicBool::new(false);

/// Whether new spans must be inspected even while nobody listens.
#[inline]
pub(crate) fn inspects_new_spans() -> bool {
    INSPECT_NEW_SPANS.load(Ordering::Relaxed)
}

/// Makes the layer inspect every new span. Never undone.
pub(crate) fn inspect_new_spans() {
    INSPECT_NEW_SPANS.store(true, Ordering::Relaxed);
}

thread_local! {
    static IDS: Cell<Option<Ids>> = const { Cell::new(None) };
    static TRACE_STATE: RefCell<TraceState> = const { RefCell::new(TraceState::NONE) };
}

/// The ids of the remote parent, if there is one.
#[inline]
pub(crate) fn ids() -> Option<Ids> {
    // Reads the flag first: a plain load is cheaper than the thread-local, whose access may be a call.
    if inspects_new_spans() { IDS.get() } else { None }
}

/// The trace state of the remote parent.
pub(crate) fn trace_state() -> TraceState {
    // The cell no longer exists while the thread is being destroyed.
    TRACE_STATE.try_with(|state| state.borrow().clone()).unwrap_or_default()
}

impl SpanContext {
    /// The context of the innermost [`in_scope`](Self::in_scope) that this thread is in: the parent of root
    /// spans created here. `None` outside of `in_scope`.
    ///
    /// With this function, code that sends requests can pass on its caller's context even if a filter
    /// disables all spans of the program:
    ///
    /// ```
    /// use tracing_usdt::{SpanContext, SpanExt};
    ///
    /// fn outgoing() -> Option<SpanContext> {
    ///     tracing::Span::current().trace_context().or_else(SpanContext::current_remote)
    /// }
    ///
    /// let caller = SpanContext::from_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    /// let caller = caller.expect("a traceparent");
    /// assert_eq!(caller.in_scope(outgoing), Some(caller.clone()));
    /// assert_eq!(outgoing(), None);
    /// ```
    pub fn current_remote() -> Option<Self> {
        Some(Self { ids: ids()?, trace_state: trace_state() })
    }

    /// Runs `f` with this context as the parent of all spans that `f` creates on this thread and that would
    /// be roots otherwise.
    ///
    /// Prefer this to [`set_remote_parent`](crate::SpanExt::set_remote_parent) after the creation of a span:
    /// the sampler already knows the parent when it decides, and the probe `new_span` carries the right trace
    /// id.
    pub fn in_scope<T>(&self, f: impl FnOnce() -> T) -> T {
        /// Restores the outer context, even if `f` panics.
        struct Restore(Option<Ids>, TraceState);
        impl Drop for Restore {
            fn drop(&mut self) {
                IDS.set(self.0);
                set(std::mem::take(&mut self.1));
            }
        }
        fn set(state: TraceState) -> TraceState {
            TRACE_STATE.try_with(|cell| cell.replace(state)).unwrap_or_default()
        }
        inspect_new_spans();
        let _restore = Restore(IDS.replace(Some(self.ids)), set(self.trace_state.clone()));
        f()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_scope_restores_the_outer_context_after_a_panic() {
        let context = |text| SpanContext::from_traceparent(text).expect("a traceparent");
        let outer = context("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let inner = context("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00");
        let outer = outer.with_trace_state(TraceState::parse(["a=1"]).expect("a tracestate"));
        outer.in_scope(|| {
            let caught = std::panic::catch_unwind(|| {
                inner.in_scope(|| {
                    assert_eq!((ids(), trace_state().as_str()), (Some(inner.ids), ""));
                    std::panic::resume_unwind(Box::new(()));
                });
            });
            assert!(caught.is_err());
            assert_eq!((ids(), trace_state().as_str()), (Some(outer.ids), "a=1"));
        });
        assert_eq!((ids(), trace_state().as_str()), (None, ""));
    }
}
