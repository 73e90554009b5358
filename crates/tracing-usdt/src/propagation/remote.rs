//! What the root spans of this thread get from another process: inside [`SpanContext::in_scope`], a parent with its
//! trace state and baggage; inside [`Baggage::in_scope`], baggage only.
//!
//! The parent's ids are kept apart from the rest. Most root spans have none, and then need not look for a trace state.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};

use super::baggage::Baggage;
use super::context::SpanContext;
use super::ids::Ids;
use super::trace_state::TraceState;

/// Set once a span may have a remote parent, baggage from another process, or a `sampling.priority`. They can be read
/// only at the span's creation.
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
    static EXTRAS: RefCell<Extras> = const { RefCell::new(Extras::NONE) };
}

/// What a remote parent has besides its ids.
#[derive(Clone, Default)]
pub(crate) struct Extras {
    pub(crate) trace_state: TraceState,
    /// `None` outside of all scopes: root spans then have the baggage of the process.
    pub(crate) baggage: Option<Baggage>,
}

impl Extras {
    const NONE: Self = Self { trace_state: TraceState::NONE, baggage: None };
}

/// The ids of the remote parent, if there is one.
#[inline]
pub(crate) fn ids() -> Option<Ids> {
    // Reads the flag first: a plain load is cheaper than the thread-local, whose access may be a call.
    if inspects_new_spans() { IDS.get() } else { None }
}

/// The trace state and the baggage of the remote parent. There may be baggage without a parent.
pub(crate) fn extras() -> Extras {
    // The cell no longer exists while the thread is being destroyed.
    EXTRAS.try_with(|extras| extras.borrow().clone()).unwrap_or_default()
}

/// Runs `f` with this remote parent. Restores the outer one, even if `f` panics.
fn with_remote<T>(ids: Option<Ids>, extras: Extras, f: impl FnOnce() -> T) -> T {
    struct Restore(Option<Ids>, Extras);
    impl Drop for Restore {
        fn drop(&mut self) {
            IDS.set(self.0);
            replace(std::mem::take(&mut self.1));
        }
    }
    fn replace(extras: Extras) -> Extras {
        EXTRAS.try_with(|cell| cell.replace(extras)).unwrap_or_default()
    }
    inspect_new_spans();
    let _restore = Restore(IDS.replace(ids), replace(extras));
    f()
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
        let (ids, Extras { trace_state, baggage }) = (ids()?, extras());
        Some(Self { ids, trace_state, baggage: baggage.unwrap_or_default() })
    }

    /// Runs `f` with this context as the parent of all spans that `f` creates on this thread and that would
    /// be roots otherwise.
    ///
    /// Prefer this to [`set_remote_parent`](crate::SpanExt::set_remote_parent) after the creation of a span:
    /// the sampler already knows the parent when it decides, and the probe `new_span` carries the right trace
    /// id.
    pub fn in_scope<T>(&self, f: impl FnOnce() -> T) -> T {
        let extras = Extras { trace_state: self.trace_state.clone(), baggage: Some(self.baggage.clone()) };
        with_remote(Some(self.ids), extras, f)
    }
}

impl Baggage {
    /// The baggage of the innermost [`SpanContext::in_scope`] or [`Baggage::in_scope`] that this thread is in.
    pub fn current_remote() -> Self {
        let baggage = if inspects_new_spans() { extras().baggage } else { None };
        baggage.unwrap_or_default()
    }

    /// Runs `f` with this as the baggage of all spans that `f` creates on this thread and that are roots, in place of
    /// that of the process. If this is empty, they have none.
    ///
    /// This is for baggage that came without a context. [`SpanContext::in_scope`] does the same for the baggage of
    /// a context, and inside of it, this only replaces that baggage.
    ///
    /// ```
    /// use tracing_usdt::Baggage;
    ///
    /// let baggage = Baggage::parse(["user.id=7"]);
    /// let _span = baggage.in_scope(|| tracing::info_span!("request"));
    /// assert_eq!(baggage.in_scope(Baggage::current_remote), baggage);
    /// ```
    pub fn in_scope<T>(&self, f: impl FnOnce() -> T) -> T {
        let extras = Extras { baggage: Some(self.clone()), ..extras() };
        with_remote(IDS.get(), extras, f)
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
                    assert_eq!((ids(), extras().trace_state.as_str()), (Some(inner.ids), ""));
                    std::panic::resume_unwind(Box::new(()));
                });
            });
            assert!(caught.is_err());
            assert_eq!((ids(), extras().trace_state.as_str()), (Some(outer.ids), "a=1"));
        });
        assert_eq!((ids(), extras().trace_state.as_str()), (None, ""));
    }

    #[test]
    fn baggage_is_in_scope_with_and_without_a_parent() {
        let baggage = |text| Baggage::parse([text]);
        let parent = SpanContext::from_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let parent = parent.expect("a traceparent").with_baggage(baggage("a=1"));
        let seen = || (SpanContext::current_remote().is_some(), Baggage::current_remote().to_string());
        assert_eq!(seen(), (false, String::new()));
        baggage("b=2").in_scope(|| {
            assert_eq!(seen(), (false, "b=2".to_owned()));
            parent.in_scope(|| {
                assert_eq!(SpanContext::current_remote(), Some(parent.clone()));
                baggage("c=3").in_scope(|| assert_eq!(seen(), (true, "c=3".to_owned())));
                assert_eq!(seen(), (true, "a=1".to_owned()));
            });
            assert_eq!(seen(), (false, "b=2".to_owned()));
        });
        assert_eq!(seen(), (false, String::new()));
    }
}
