//! The span of another process that root spans of this thread continue for the moment.
//!
//! Two cells, since all that a root span asks in the usual case is whether there is one.

use std::cell::{Cell, RefCell};

use crate::context::{Ids, SpanContext};
use crate::identity;
use crate::trace_state::TraceState;

thread_local! {
    static IDS: Cell<Option<Ids>> = const { Cell::new(None) };
    static TRACE_STATE: RefCell<TraceState> = const { RefCell::new(TraceState::NONE) };
}

/// Its ids.
#[inline]
pub(crate) fn ids() -> Option<Ids> {
    // A plain load, where a thread's own cell takes a call.
    if identity::may_be_told_at_once() { IDS.get() } else { None }
}

/// Its trace state.
pub(crate) fn trace_state() -> TraceState {
    // Gone where the thread is being torn down.
    TRACE_STATE.try_with(|state| state.borrow().clone()).unwrap_or_default()
}

/// Both.
#[cfg(feature = "tower")]
pub(crate) fn context() -> Option<SpanContext> {
    Some(SpanContext { ids: ids()?, trace_state: trace_state() })
}

/// See [`SpanContext::in_scope`].
pub(crate) fn within<T>(context: &SpanContext, f: impl FnOnce() -> T) -> T {
    /// Puts back what was there before, also where `f` panics.
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
    identity::is_told_at_once();
    let _restore = Restore(IDS.replace(Some(context.ids)), set(context.trace_state.clone()));
    f()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_before_comes_back() {
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
