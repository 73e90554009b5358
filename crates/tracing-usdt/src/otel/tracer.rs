//! A tracer that records the parent of each span, and whether this thread is starting one.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};
use std::time::SystemTime;

use opentelemetry::trace::{Span, SpanBuilder, SpanContext, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};

use super::answer::Parent;
use crate::process;
use crate::propagation::SpanId;

/// An OpenTelemetry tracer that records the parent of each span for the layer.
///
/// `tracing-opentelemetry` gives other layers the ids of a span, but not those of its parent. Without this
/// tracer the layer does not know a parent outside of the subscriber: a span of another process, set with
/// `OpenTelemetrySpanExt::set_parent`, or a span that was made without `tracing`. See [the crate
/// documentation](crate#beside-tracing-opentelemetry) for an example.
#[derive(Clone, Debug)]
pub struct OtelTracer<T> {
    inner: T,
}

impl<T> OtelTracer<T> {
    /// Wraps a tracer.
    pub fn new(tracer: T) -> Self {
        Self { inner: tracer }
    }
}

impl<T: Tracer> Tracer for OtelTracer<T> {
    type Span = OtelSpan<T::Span>;

    fn build_with_context(&self, builder: SpanBuilder, parent_cx: &Context) -> Self::Span {
        let inner = while_starting(|| self.inner.build_with_context(builder, parent_cx));
        let id = span_id(inner.span_context());
        if let Some(id) = id {
            let parent = parent_cx.span();
            let parent = parent.span_context();
            let remote = parent.is_valid() && parent.is_remote();
            let parent = Parent { id: span_id(parent).filter(|_| parent.is_valid()), remote };
            if let Some(mut parents) = process::lock_for_a_moment(&PARENTS) {
                parents.insert(id.get(), parent);
            }
        }
        OtelSpan { inner, id }
    }
}

/// The parents of open spans, by span id. OpenTelemetry's context does not keep the parent once it has the
/// child.
static PARENTS: LazyLock<Mutex<HashMap<u64, Parent>>> = LazyLock::new(Mutex::default);

pub(super) fn parent(span_id: SpanId) -> Option<Parent> {
    process::lock_for_a_moment(&PARENTS)?.get(&span_id.get()).copied()
}

/// A span that an [`OtelTracer`] started.
#[derive(Debug)]
pub struct OtelSpan<S> {
    inner: S,
    id: Option<SpanId>,
}

impl<S> Drop for OtelSpan<S> {
    fn drop(&mut self) {
        if let (Some(id), Some(mut parents)) = (self.id, process::lock_for_a_moment(&PARENTS)) {
            parents.remove(&id.get());
        }
    }
}

impl<S: Span> Span for OtelSpan<S> {
    fn add_event_with_timestamp<T: Into<Cow<'static, str>>>(
        &mut self,
        name: T,
        timestamp: SystemTime,
        attributes: Vec<KeyValue>,
    ) {
        self.inner.add_event_with_timestamp(name, timestamp, attributes);
    }

    fn span_context(&self) -> &SpanContext {
        self.inner.span_context()
    }

    fn is_recording(&self) -> bool {
        self.inner.is_recording()
    }

    fn set_attribute(&mut self, attribute: KeyValue) {
        self.inner.set_attribute(attribute);
    }

    fn set_status(&mut self, status: Status) {
        self.inner.set_status(status);
    }

    fn update_name<T: Into<Cow<'static, str>>>(&mut self, new_name: T) {
        self.inner.update_name(new_name);
    }

    fn add_link(&mut self, span_context: SpanContext, attributes: Vec<KeyValue>) {
        self.inner.add_link(span_context, attributes);
    }

    fn end_with_timestamp(&mut self, timestamp: SystemTime) {
        self.inner.end_with_timestamp(timestamp);
    }
}

thread_local! {
    /// Set while this thread starts a span.
    static STARTING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is starting a span.
pub(super) fn is_starting() -> bool {
    STARTING.get()
}

/// Runs `f`, which starts a span.
pub(super) fn while_starting<T>(f: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            STARTING.set(self.0);
        }
    }
    let _restore = Restore(STARTING.replace(true));
    f()
}

pub(super) fn span_id(context: &SpanContext) -> Option<SpanId> {
    SpanId::new(u64::from_be_bytes(context.span_id().to_bytes()))
}
